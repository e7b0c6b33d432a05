"""The stacks of a folder, each described as far as it takes to choose one: its plane, contrast, size and series."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_diffusion.scans.dicom.folders import dangling_links, dicom_files, is_dicom
from nnunetv2_diffusion.scans.dicom.frames import KINDS, RUNS, Frame
from nnunetv2_diffusion.scans.dicom.headers import Header, quiet_pydicom, read_header, read_headers
from nnunetv2_diffusion.scans.dicom.identifiers import without_identifiers
from nnunetv2_diffusion.scans.dicom.stacks import Stack, axes, stacks

_PLANES = ("sagittal", "coronal", "axial")
# Spin-echo limits in ms that tell T1 from T2 weighting where the description does not say.
_SHORT_ECHO, _LONG_ECHO, _SHORT_REPETITION = 30, 60, 1200


@dataclass(frozen=True)
class Series:
    """One stack of a DICOM series; most series are one stack.

    Attributes:
        folder: the lowest one that holds all its files.
        uid, study: of series and study; the folder's name where the files have none.
        number: the series', as a text.
        stack: of this one among the stacks of its series, from 1, the largest first; 0 for the only one.
        description: as the scanner has it; it may name the patient.
        detail: names and values of what tells it from the other stacks of its series.
        modality: "MR", "CT", …, or empty.
        plane, contrast: "sagittal", …; "T1", "T2" or empty.
        slices: the frames at each place, in order along the normal; more than one show the same slice.
        identifiers: words never to repeat.
        unread: damaged files, and links to nothing, that belong to the series or lie beside its files.
        fault: why no such stack can be segmented: where its images lie is unknown, or they are in colour.
        warnings: what its choice gives reason to say.
    """

    folder: Path
    uid: str
    study: str
    number: str
    stack: int
    description: str
    detail: tuple[tuple[str, str], ...]
    modality: str
    plane: str
    contrast: str
    slices: Stack
    identifiers: tuple[str, ...]
    unread: int = 0
    fault: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Its files, in the order of the slices."""
        return tuple(dict.fromkeys(frame.file for place in self.slices for frame in place))

    @property
    def label(self) -> str:
        """What it is called by: the series' number, and its own where the series has several stacks."""
        number = without_identifiers(self.number, self.identifiers) or "-"
        return f"{number}.{self.stack}" if self.stack else number

    @property
    def summary(self) -> str:
        """What it shows, in words and numbers alone: no text of a tag, so that it may be written with the results."""
        plain = [f"{name} {value}" for name, value in self.detail if value.replace(".", "", 1).isdigit()]
        apart = f" ({', '.join(plain)})" if plain else ""
        return without_identifiers(f"{len(self.slices)} {self._what} images{apart}", self.identifiers)

    @property
    def _what(self) -> str:
        return " ".join(filter(None, (self.plane, self.contrast)))

    def __str__(self) -> str:
        told = [*(f"{name} {value}" for name, value in self.detail), f"{len(self.slices)} images"]
        text = f"{self.description or 'no description'} ({', '.join((self._what, *told))})"
        return f"{self.label}: {without_identifiers(text, self.identifiers)}"


def find_series(folder: Path, progress: bool = False, files: Sequence[Path] | None = None) -> list[Series]:
    """All stacks in a folder and the folders below, in the order of their folders and numbers.

    Args:
        folder: links to folders are followed.
        progress: show a bar in a terminal where reading the headers takes long.
        files: those that count; None for all.
    """
    headers, damaged = read_headers(dicom_files(folder) if files is None else files, progress)
    unreadable = [*damaged, *dangling_links(folder)]
    by_series: dict[tuple[str, str], list[Header]] = {}
    for header in headers:
        by_series.setdefault((header.study, header.series), []).append(header)
    found = [series for members in by_series.values() for series in _series(members, unreadable)]
    return sorted(found, key=lambda s: (s.folder.parts, s.number.zfill(6), s.uid, s.stack))


def series_of_file(path: Path) -> list[Series]:
    """The stacks in a single DICOM file; none for a file that is no DICOM image.

    Raises:
        ValueError: it is DICOM, but damaged.
    """
    if not is_dicom(path):
        return []
    with quiet_pydicom():
        header = read_header(path)
    if header is not None and not header.whole:
        raise ValueError(f"{path} cannot be read: its pixels are damaged or truncated")
    return [] if header is None else _series([header], [])


def _series(headers: Sequence[Header], unreadable: Sequence[Path]) -> list[Series]:
    """The stacks of one series from the headers of its files."""
    found = stacks(frame for header in headers if header.whole for frame in header.frames)
    first = min(headers, key=lambda header: (header.frames[0].instance, header.file))
    folders = {header.file.parent for header in headers}
    unread = sum(not header.whole for header in headers) + sum(path.parent in folders for path in unreadable)
    by_echo = len({stack[0][0].echo_time for stack in found}) > 1
    return [
        Series(
            folder=common_folder(Path(frame.file).parent for place in stack for frame in place),
            uid=first.series,
            study=first.study,
            number=first.number,
            stack=number if len(found) > 1 else 0,
            description=first.description,
            detail=_detail(stack, found),
            modality=first.modality,
            plane=_plane(stack[0][0]),
            contrast=_contrast("" if by_echo else first.description, stack[0][0]),
            slices=stack,
            identifiers=first.identifiers,
            unread=unread,
            fault=_fault(stack[0][0]),
        )
        for number, stack in enumerate(found, start=1)
    ]


def common_folder(folders: Iterable[Path]) -> Path:
    """The lowest folder that holds all of them."""
    return Path(os.path.commonpath(list(folders)))


def _detail(stack: Stack, others: Sequence[Stack]) -> tuple[tuple[str, str], ...]:
    """The values that all frames of a stack share, and not all stacks of the series."""
    names = [*KINDS, *RUNS]

    def shared(of: Stack) -> list[str]:
        values = zip(*((*frame.kinds, *frame.runs) for place in of for frame in place), strict=True)
        return [value[0] if len(set(value)) == 1 else "" for value in values]

    own, all_of_them = shared(stack), zip(*map(shared, others), strict=True)
    telling = zip(names, own, all_of_them, strict=True)
    return tuple((name, value) for name, value, values in telling if value and len(set(values)) > 1)


def _fault(frame: Frame) -> str:
    if not frame.grey:
        return "its images are in colour, expected one grey value a pixel: name the series that they were made from"
    missing = {
        "position (ImagePositionPatient)": frame.position,
        "orientation (ImageOrientationPatient)": frame.orientation,
        "pixel spacing (PixelSpacing)": frame.spacing,
    }
    missing = [name for name, value in missing.items() if value is None]
    if not missing:
        return ""
    return (
        f"its images have no valid {' and no '.join(missing)}, so where they lie in the body is unknown: export the "
        "series from the scanner or archive again, with these tags kept"
    )


def _plane(frame: Frame) -> str:
    if frame.orientation is None:
        return "unknown orientation"
    return _PLANES[int(np.argmax(np.abs(axes(frame)[:, 2])))]


def _contrast(description: str, frame: Frame) -> str:
    named = re.search(r"t([12])(?!\d)", description, re.I)
    if named:
        return f"T{named[1]}"
    if frame.echo_time is None or frame.repetition_time is None:
        return ""
    if frame.echo_time >= _LONG_ECHO:
        return "T2"
    return "T1" if frame.echo_time <= _SHORT_ECHO and frame.repetition_time <= _SHORT_REPETITION else ""
