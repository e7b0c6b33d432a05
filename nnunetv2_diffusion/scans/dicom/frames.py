"""What a header says of each of its images: where it lies, what kind it is, how its values are scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# Each name is what messages call it. KINDS always keep frames apart; RUNS only where the same place is shown again.
KINDS = {
    "echo": ("EchoNumbers",),
    "echo time": ("EchoTime", "EffectiveEchoTime"),
    "image type": ("FrameType", "ImageType"),
    "complex component": ("ComplexImageComponent",),
    "temporal position": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "stack": ("StackID",),
}
RUNS = {
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "diffusion weighting": ("DiffusionBValue",),
    "sequence": ("SequenceName",),
    "trigger time": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "frame of reference": ("FrameOfReferenceUID",),
    "acquisition time": ("AcquisitionTime",),
}
# Enhanced objects keep these a frame or shared, each in a sequence of one item (DICOM PS3.3, C.7.6.16 and C.8.13.5).
_FUNCTIONAL_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "FrameContentSequence",
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
    "PixelValueTransformationSequence",
)
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_THICKNESS = ("SpacingBetweenSlices", "SliceThickness")
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_IMAGE = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated")
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
FRAME_KEYWORDS = (
    *(keyword for names in (*KINDS.values(), *RUNS.values()) for keyword in names),
    *_GEOMETRY,
    *_THICKNESS,
    *_RESCALE,
    *_IMAGE,
    *_GROUPS,
    "RepetitionTime",
)
_INVERTED = "MONOCHROME1"
_GREY = (_INVERTED, "MONOCHROME2", "")
# How far direction cosines may be from unit length and from a right angle: beyond it they are no directions.
_NO_DIRECTIONS = 0.02


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a DICOM file, without its pixels.

    Attributes:
        file, number: the file, and which frame of it, from 0.
        instance: SOP instance UID; frames of one instance and number are copies.
        size: (rows, columns).
        position, orientation: of the first pixel in mm, and the directions of a row and of a column (LPS); None where
            the header does not say, or says no such thing.
        spacing: (between rows, between columns) in mm, or None.
        thickness: spacing between slices, or thickness of the slice, in mm; for a stack of one.
        kinds, runs: values of KINDS and RUNS as text, in their order, empty where the header does not say.
        rescale: (slope, intercept) from stored values to grey values.
        grey, inverted: one value a pixel; small values are the bright ones (MONOCHROME1).
        echo_time, repetition_time: ms, or None.
    """

    file: str
    number: int
    instance: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    kinds: tuple[str, ...]
    runs: tuple[str, ...]
    rescale: tuple[float, float]
    grey: bool
    inverted: bool
    echo_time: float | None
    repetition_time: float | None

    @property
    def placed(self) -> bool:
        """Whether its place in the body is known."""
        return None not in (self.position, self.orientation, self.spacing)


def frames_of(header: Dataset, file: str) -> tuple[Frame, ...]:
    """The images of a file from its header; a multi-frame file without a group for each frame counts as one unplaced.

    Raises:
        Exception: whatever pydicom raises for values that it cannot read.
    """
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared = _items((header.get("SharedFunctionalGroupsSequence") or (Dataset(),))[0])
    if number_of_frames(header) == 1:
        own = _items(per_frame[0]) if per_frame else []
        return (_frame((*own, *shared, header), file, 0),)
    if len(per_frame) != number_of_frames(header):
        return (_frame((Dataset(), header), file, 0, unplaced=True),)
    return tuple(_frame((*_items(group), *shared, header), file, number) for number, group in enumerate(per_frame))


def number_of_frames(header: Dataset) -> int:
    """How many images a file promises."""
    return max(1, int(header.get("NumberOfFrames") or 1))


def text(places: Sequence[Dataset], *keywords: str) -> str:
    """The first value that is not empty, as text, its parts joined by a backslash; empty where there is none."""
    value = _value(places, keywords)
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return "" if value is None else "\\".join(str(part).strip("\0 ") for part in parts)


def numbers(places: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where the header does not hold them."""
    value = _value(places, (keyword,))
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _value(places: Sequence[Dataset], keywords: Sequence[str]) -> object:
    for place in places:
        for keyword in keywords:
            # by tag: a look-up by keyword takes pydicom several times as long
            tag = _tag(keyword)
            if tag in place and not place[tag].is_empty:
                return place[tag].value
    return None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(tag_for_keyword(keyword))


def _plain(value: str) -> str:
    """A number in one spelling: 100 and 100.0 are one echo time."""
    try:
        return f"{float(value):.7g}"
    except ValueError:
        return value


def _items(groups: Dataset) -> list[Dataset]:
    """The single item of each functional group."""
    return [groups[name][0] for name in _FUNCTIONAL_GROUPS if groups.get(name)]


def _frame(places: Sequence[Dataset], file: str, number: int, unplaced: bool = False) -> Frame:
    header = places[-1]
    position, orientation = numbers(places, "ImagePositionPatient", 3), numbers(places, "ImageOrientationPatient", 6)
    thickness = [numbers(places, keyword, 1) for keyword in _THICKNESS]
    slope, intercept = numbers(places, "RescaleSlope", 1), numbers(places, "RescaleIntercept", 1)
    spacing = numbers(places, "PixelSpacing", 2)
    echo = numbers(places, "EffectiveEchoTime", 1) or numbers(places, "EchoTime", 1)
    repetition = numbers(places, "RepetitionTime", 1)
    return Frame(
        file=file,
        number=number,
        instance=text([header], "SOPInstanceUID"),
        size=(int(header.Rows), int(header.Columns)),
        position=None if unplaced else position,
        orientation=orientation if orientation and _are_directions(orientation) else None,
        spacing=spacing if spacing and min(spacing) > 0 else None,
        thickness=next((value[0] for value in thickness if value and value[0] > 0), None),
        kinds=tuple(_plain(text(places, *keywords)) for keywords in KINDS.values()),
        runs=tuple(_plain(text(places, *keywords)) for keywords in RUNS.values()),
        rescale=(slope[0] if slope else 1.0, intercept[0] if intercept else 0.0),
        grey=int(header.get("SamplesPerPixel") or 1) == 1 and text([header], "PhotometricInterpretation") in _GREY,
        inverted=text([header], "PhotometricInterpretation") == _INVERTED,
        echo_time=echo[0] if echo else None,
        repetition_time=repetition[0] if repetition else None,
    )


def _are_directions(orientation: tuple[float, ...]) -> bool:
    row, column = np.reshape(orientation, (2, 3))
    products = np.array([row @ row - 1, column @ column - 1, row @ column])
    return bool(np.abs(products).max() <= _NO_DIRECTIONS)
