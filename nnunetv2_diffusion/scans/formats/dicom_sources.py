"""The images of a stack as highdicom wants its sources, one a slice, and the references to them put right again.

highdicom takes either classic images or all frames of one file. A stack may be some frames of some files, so each of
its slices is handed over as an image of its own under a made-up UID, which then gives way to the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, MRImageStorage, generate_uid

from nnunetv2_diffusion.scans.dicom import Series
from nnunetv2_diffusion.scans.dicom.frames import Frame, number_of_frames
from nnunetv2_diffusion.scans.dicom.headers import quiet_pydicom

# What every DICOM object must have, be it empty (type 2).
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_SEXES = ("M", "F", "O")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
_CARRIED = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BodyPartExamined")


@dataclass(frozen=True)
class SourceImages:
    """A stack's slices, each as an image of its own.

    Attributes:
        images: one a slice, in the stack's order, with made-up UIDs.
        frames: what each of them stands for.
        multi_frame: whether references need a frame's number.
        sop_class: of the real files.
        series: number of their series; None where it has none.
    """

    images: list[Dataset]
    frames: list[Frame]
    multi_frame: bool
    sop_class: UID
    series: int | None


def check_series(series: Series) -> Dataset:
    """The header of a stack's first image; ValueError where it lacks a name that references need."""
    first = series.slices[0][0]
    with quiet_pydicom():
        header = pydicom.dcmread(first.file, stop_before_pixels=True, force=True)
    missing = [keyword for keyword in _UIDS if not header.get(keyword)]
    if missing or not all(place[0].instance for place in series.slices):
        named = " and no ".join(missing or _UIDS[-1:])
        raise ValueError(
            f"its images have no {named}, so that no DICOM object can refer to them: export the series again, or take "
            "another --format"
        )
    return header


def source_images(series: Series) -> SourceImages:
    """A stack's slices as sources; ValueError as `check_series`."""
    header = check_series(series)
    frames = [place[0] for place in series.slices]
    number = str(header.get("SeriesNumber") or "")
    sop_class = UID(header.get("SOPClassUID") or MRImageStorage)
    multi_frame = number_of_frames(header) > 1
    images = [_image(header, frame, frames[0]) for frame in frames]
    return SourceImages(images, frames, multi_frame, sop_class, int(number) if number.isdecimal() else None)


def _image(header: Dataset, frame: Frame, first: Frame) -> Dataset:
    """One slice as a classic image: patient and study of the file, place of the frame, directions of the stack."""
    image = Dataset()
    for element in header:
        if element.tag.group == 0x0010 or element.keyword in (*_MAY_BE_EMPTY, *_UIDS[:-1], *_CARRIED):
            image.add(deepcopy(element))
    for keyword in _MAY_BE_EMPTY:
        if not image.get(keyword):
            setattr(image, keyword, None)
    if image.PatientSex not in _SEXES:
        image.PatientSex = None
    if "SpecificCharacterSet" in header:
        image.SpecificCharacterSet = header.SpecificCharacterSet
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, generate_uid()
    image.Modality = header.get("Modality") or "MR"
    image.Rows, image.Columns = frame.size
    image.ImagePositionPatient, image.ImageOrientationPatient = [*frame.position], [*first.orientation]
    image.PixelSpacing, image.SliceThickness = [*first.spacing], first.thickness or 1.0
    return image


def refer(made: Dataset, sources: SourceImages) -> None:
    """Replace the made-up UIDs in an object that was made of these sources by the files' and the numbers of frames."""
    meant = {str(image.SOPInstanceUID): frame for image, frame in zip(sources.images, sources.frames, strict=True)}
    made.SourceImageSequence = _instances(made.SourceImageSequence, meant, sources)
    for series in made.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = _instances(series.ReferencedInstanceSequence, meant, sources)
    derivations = [d for group in made.PerFrameFunctionalGroupsSequence for d in group.DerivationImageSequence]
    # the frames of one slice share their references
    references = {id(r): r for derivation in derivations for r in derivation.SourceImageSequence}
    for reference in references.values():
        frame = meant[reference.ReferencedSOPInstanceUID]
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sources.sop_class, frame.instance
        if sources.multi_frame:
            reference.ReferencedFrameNumber = frame.number + 1


def _instances(references: Sequence[Dataset], meant: dict[str, Frame], sources: SourceImages) -> list[Dataset]:
    """One reference a file, in their order."""
    found = []
    for instance in dict.fromkeys(meant[reference.ReferencedSOPInstanceUID].instance for reference in references):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sources.sop_class, instance
        found.append(reference)
    return found
