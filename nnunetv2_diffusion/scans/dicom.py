"""DICOM folders: the series in them, which of them to segment, and reading one without anything but its voxels.

Tags serve to choose a series; none of them reaches what is written.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import as_scan

_SUFFIXES = (".dcm", ".ima")
_MAGIC, _MAGIC_OFFSET = b"DICM", 128
_PLANES = ("sagittal", "coronal", "axial")
# Spin-echo limits in ms that tell T1 from T2 weighting where the description does not say.
_SHORT_ECHO, _LONG_ECHO, _SHORT_REPETITION = 30, 60, 1200
_AUXILIARY = re.compile(r"loc|scout|survey|smartbrain|stir|dixon|\bfs\b|fat|dwi|diff|adc|flair|myelo|\bmip\b", re.I)
_UNEVEN = 1.5
_TAGS = {
    "study": "0020|000d",
    "number": "0020|0011",
    "description": "0008|103e",
    "orientation": "0020|0037",
    "echo": "0018|0081",
    "repetition": "0018|0080",
}
# Patient's name, ID, birth date and other IDs, accession number, study ID; UIDs of study, series, frame and image.
_IDENTIFIERS = (
    "0010|0010",
    "0010|0020",
    "0010|0030",
    "0010|1000",
    "0008|0050",
    "0020|0010",
    "0020|000d",
    "0020|000e",
    "0020|0052",
    "0008|0018",
)


@dataclass(frozen=True)
class Series:
    """One DICOM series: what chooses among several, its files in order along the slices, and words never to repeat.

    `unread` counts DICOM files beside it that hold no image, or are damaged.
    """

    folder: Path
    uid: str
    study: str
    number: str
    description: str
    plane: str
    contrast: str
    files: tuple[str, ...]
    identifiers: tuple[str, ...]
    unread: int = 0

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.plane, self.contrast)))
        return f"{self.number or '-'}: {self.description or 'no description'} ({what}, {len(self.files)} images)"

    @property
    def preference(self) -> tuple:
        """Larger is better: sagittal T1 or T2 first, no localizers or fat-suppressed series, T2, many images."""
        return (
            self.plane == "sagittal",
            bool(self.contrast),
            not _AUXILIARY.search(self.description),
            self.contrast == "T2",
            len(self.files),
        )


def find_series(folder: Path) -> list[Series]:
    """All series in a folder and the folders below, in the order of their folders and numbers."""
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        dicom_files = [name for name in names if _is_dicom(Path(place, name))]
        if dicom_files:
            uids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(place)
            files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(place, uid) for uid in uids}
            unread = len(dicom_files) - sum(map(len, files.values()))
            listed = [_describe(uid, files[uid], Path(place), max(0, unread)) for uid in uids]
            found += sorted(listed, key=lambda s: (s.number.zfill(6), s.uid))
    return found


def series_of_file(path: Path) -> Series | None:
    """A single DICOM file as a series of its own; None for a file that is no DICOM."""
    return _describe("", [str(path)], path.parent) if _is_dicom(path) else None


def _is_dicom(path: Path) -> bool:
    if path.name == "DICOMDIR":
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(_MAGIC_OFFSET + len(_MAGIC))[_MAGIC_OFFSET:] == _MAGIC
    except OSError:
        return False


def _describe(uid: str, files: Sequence[str], folder: Path, unread: int = 0) -> Series:
    reader = _tags(files[0])

    def tag(key: str) -> str:
        return reader.GetMetaData(key).strip("\0 ") if reader is not None and reader.HasMetaDataKey(key) else ""

    values = {name: tag(key) for name, key in _TAGS.items()}
    parts = [part for key in _IDENTIFIERS for part in (tag(key), *re.split(r"[\^\s_=]+", tag(key)))]
    return Series(
        folder=folder,
        uid=uid,
        study=values["study"],
        number=values["number"],
        description=values["description"],
        plane=_plane(values["orientation"]),
        contrast=_contrast(values["description"], values["echo"], values["repetition"]),
        files=tuple(files),
        identifiers=tuple(sorted({part for part in parts if len(part) > 2})),
        unread=unread,
    )


def _tags(file: str) -> sitk.ImageFileReader | None:
    """A reader with the file's tags; None for a damaged file, which is told of when it is read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _plane(orientation: str) -> str:
    try:
        row, column = np.reshape([float(value) for value in orientation.split("\\")], (2, 3))
    except ValueError:
        return "unknown orientation"
    return _PLANES[int(np.argmax(np.abs(np.cross(row, column))))]


def _contrast(description: str, echo: str, repetition: str) -> str:
    named = re.search(r"t([12])(?!\d)", description, re.I)
    if named:
        return f"T{named[1]}"
    try:
        echo_time, repetition_time = float(echo), float(repetition)
    except ValueError:
        return ""
    if echo_time >= _LONG_ECHO:
        return "T2"
    return "T1" if echo_time <= _SHORT_ECHO and repetition_time <= _SHORT_REPETITION else ""


def choose_series(series: Sequence[Series], wanted: str | None) -> tuple[list[Series], list[str]]:
    """One series of each study, or those that were asked for, and what there is to say about the choice.

    Args:
        series: all that were found.
        wanted: a series' number, part of its description or its UID; "all" takes every series.

    Raises:
        ValueError: none of them is meant by `wanted`.
    """
    if wanted == "all":
        return list(series), []
    if wanted is not None:
        chosen = [s for s in series if wanted in (s.number, s.uid)]
        chosen = chosen or [s for s in series if wanted.lower() in s.description.lower()]
        if not chosen:
            listed = "; ".join(map(str, series))
            raise ValueError(f"--series {wanted} is none of the series {listed}; give a number, part of a name, or all")
        return chosen, []
    chosen, remarks = [], []
    for study in dict.fromkeys(s.study for s in series):
        members = [s for s in series if s.study == study]
        best = max(members, key=lambda s: s.preference)
        chosen.append(best)
        if len(members) > 1:
            remarks += [f"{len(members)} series in {_common_folder(members)}:", *(f"  {s}" for s in members)]
            remarks.append(f"  segmenting {best.number or best.description}; choose with --series")
    return chosen, remarks


def _common_folder(series: Iterable[Series]) -> str:
    return os.path.commonpath([s.folder for s in series])


def read_series(series: Series) -> tuple[sitk.Image, list[str]]:
    """The volume without any tag, and warnings.

    Raises:
        ValueError: files are damaged, or do not make one scalar volume.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # missing slices are told of below
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(
            f"the DICOM series {series.number} in {series.folder} cannot be read: a file of it is damaged, truncated "
            "or of another size than the others"
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    gap = _gap(series.files)
    if gap and series.unread:
        raise ValueError(
            f"{gap} in the DICOM series {series.number}, and {series.unread} files in {series.folder} are damaged"
        )
    volume = as_scan(image, f"the DICOM series {series.number} in {series.folder}")
    for key in volume.GetMetaDataKeys():
        volume.EraseMetaData(key)
    unread = f"{series.unread} DICOM files beside the series hold no image or are damaged" if series.unread else ""
    return volume, [warning for warning in (gap, unread) if warning]


def _gap(files: Sequence[str]) -> str:
    """What to say where slices are missing, so that the volume is not as long as the body it shows; empty if not."""
    readers = [_tags(file) for file in files]
    positions = [r.GetOrigin() for r in readers if r is not None]
    steps = [math.dist(a, b) for a, b in itertools.pairwise(positions)]
    if len(steps) > 1 and max(steps) > _UNEVEN * float(np.median(steps)):
        return f"slices are missing: gaps of up to {max(steps):.1f} mm among slices {np.median(steps):.1f} mm apart"
    return ""


def names_a_patient(name: str, series: Series) -> bool:
    """Whether a file or folder name contains one of the series' identifiers."""
    return any(word.lower() in name.lower() for word in series.identifiers)
