"""A DICOMDIR, the index of a disc: which files it lists (DICOM PS3.3, annex F), wherever the disc is mounted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pydicom

from nnunetv2_diffusion.scans.dicom.folders import INDEX
from nnunetv2_diffusion.scans.dicom.headers import quiet_pydicom


def is_index(path: Path) -> bool:
    """Whether a file is named as an index of DICOM files is."""
    return path.name.upper() == INDEX and path.is_file()


def indexed_files(index: Path) -> tuple[list[Path], int]:
    """The files that an index lists and that are there, and how many more it lists.

    Names are found whatever their capitals: discs have capitals alone, and systems show them as they like.

    Raises:
        ValueError: the index is damaged, or lists a file outside of its folder.
    """
    try:
        with quiet_pydicom():
            records = pydicom.dcmread(index, specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
            listed = [_parts(record.ReferencedFileID) for record in records if record.get("ReferencedFileID")]
    # pydicom and the conversions of values raise all kinds of errors on damaged bytes
    except Exception as error:
        raise ValueError(f"{index} cannot be read: it is damaged, or no index of DICOM files") from error
    if any(part in ("", ".", "..") or "/" in part or "\\" in part for parts in listed for part in parts):
        raise ValueError(f"{index} lists files outside of its folder: name the folder of the DICOM files instead")
    found = [_find(index.parent, parts) for parts in dict.fromkeys(listed)]
    there = [path for path in found if path is not None]
    return there, len(found) - len(there)


def _parts(name: object) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else tuple(map(str, name))


def _find(folder: Path, parts: Sequence[str]) -> Path | None:
    path = folder
    for part in parts:
        if not (path / part).exists():
            names = os.listdir(path) if path.is_dir() else []
            part = next((name for name in names if name.upper() == part.upper()), part)
        path = path / part
    return path if path.is_file() else None
