"""Reads the headers of DICOM files, once each and no pixel, and tells what is damaged from what holds no image."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
)
from tqdm import tqdm

from nnunetv2_diffusion.scans.dicom.deflated import check_deflated
from nnunetv2_diffusion.scans.dicom.folders import is_marked
from nnunetv2_diffusion.scans.dicom.frames import FRAME_KEYWORDS, Frame, frames_of, number_of_frames, text
from nnunetv2_diffusion.scans.dicom.identifiers import IDENTIFIERS, identifying_words

_KEYWORDS = ("SpecificCharacterSet", "SOPClassUID", "Modality", "SeriesNumber", "SeriesDescription")
_TAGS = [Tag(keyword) for keyword in (*_KEYWORDS, *FRAME_KEYWORDS, *IDENTIFIERS)]
# Part of the names of all SOP classes whose objects must hold pixels.
_IMAGE_CLASS = "Image Storage"
# Pixels that are no image of a scanner, by modality or SOP class: drawn structures, doses and maps.
_NO_IMAGES = ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", ParametricMapStorage)
# No image of a scanner is larger: what promises more is damaged, and its memory is not asked for.
_MAX_PIXELS = 1 << 26
_ELEMENT_HEADER = 12
_BAR_AFTER_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says of its series, and its images; `whole` is False where its pixels are cut off."""

    file: Path
    series: str
    study: str
    number: str
    description: str
    modality: str
    identifiers: tuple[str, ...]
    frames: tuple[Frame, ...]
    whole: bool


def read_headers(files: Iterable[Path], progress: bool = False) -> tuple[list[Header], list[Path]]:
    """The headers of all files that hold images, and the files that are damaged; a bar where it takes long."""
    headers, damaged = [], []
    hidden = None if progress else True  # None: shown in a terminal only
    bar = tqdm(files, "DICOM headers", leave=False, unit="file", disable=hidden, delay=_BAR_AFTER_SECONDS)
    with quiet_pydicom():
        for file in bar:
            try:
                header = read_header(file)
            except ValueError:
                damaged += [file] if is_marked(file) else []
                continue
            if header is not None:
                headers.append(header)
    return headers, damaged


def read_header(file: Path) -> Header | None:
    """One file's header; None where it is sound but holds no image of a scanner (a report, an index, a drawing).

    Raises:
        ValueError: it is damaged, or no DICOM.
    """
    try:
        check_deflated(file)
        with file.open("rb") as stream:
            found = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            return _header(found, file, stream.tell(), os.fstat(stream.fileno()).st_size)
    # pydicom and the conversions of values raise all kinds of errors on damaged bytes
    except Exception as error:
        raise ValueError(f"{file} cannot be read: it is damaged, truncated or no DICOM file") from error


def transfer_syntax(data_set: Dataset) -> UID:
    """How the pixels are stored; without a file header, what the data set itself was found to be written in."""
    named = data_set.file_meta.get("TransferSyntaxUID") if hasattr(data_set, "file_meta") else None
    if named:
        return UID(named)
    implicit, _ = data_set.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's and highdicom's warnings: they repeat values of the header, which may be a patient's name."""
    levels = {logger: logger.level for logger in map(logging.getLogger, ("pydicom", "highdicom"))}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _header(found: Dataset, file: Path, pixels_at: int, size: int) -> Header | None:
    kind = UID(text([found, found.file_meta], "SOPClassUID", "MediaStorageSOPClassUID"))
    modality = text([found], "Modality")
    has_pixels = bool(found.get("Rows") and found.get("Columns"))
    if {modality, kind} & {*_NO_IMAGES} or (kind and not has_pixels and _IMAGE_CLASS not in kind.name):
        return None
    if not has_pixels or int(found.Rows) * int(found.Columns) > _MAX_PIXELS:
        raise ValueError
    # without UIDs only the folder tells what belongs together
    folder = str(file.parent)
    return Header(
        file=file,
        series=text([found], "SeriesInstanceUID") or folder,
        study=text([found], "StudyInstanceUID") or folder,
        number=text([found], "SeriesNumber"),
        description=text([found], "SeriesDescription"),
        modality=modality,
        identifiers=identifying_words((keyword, text([found], keyword)) for keyword in IDENTIFIERS),
        frames=frames_of(found, str(file)),
        whole=_is_whole(found, size - pixels_at),
    )


def _is_whole(found: Dataset, left: int) -> bool:
    """Whether the `left` bytes after the header are as many as uncompressed pixels need; compressed ones: any."""
    syntax = transfer_syntax(found)
    if syntax == DeflatedExplicitVRLittleEndian:
        return True
    if syntax.is_private or not syntax.is_transfer_syntax or syntax.is_compressed:
        return left > _ELEMENT_HEADER
    bits = int(found.get("BitsAllocated") or 0) * int(found.get("SamplesPerPixel") or 1)
    return left >= number_of_frames(found) * int(found.Rows) * int(found.Columns) * bits / 8
