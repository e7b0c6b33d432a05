"""Which files of a folder are DICOM: by their content, through links, and past what archives and macOS leave beside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".ima")
INDEX = "DICOMDIR"
_MAGIC, _MAGIC_OFFSET = b"DICM", 128
# A file without the magic starts with its first element: group 0002 or 0008, in either byte order, a low element
# number, then a value representation or (implicit) a length below 64 KiB.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_EXPLICIT = (b"UL", b"UI", b"CS", b"OB", b"DA", b"TM", b"SH", b"LO")


def dicom_files(folder: Path) -> list[Path]:
    """Every DICOM file in a folder and the folders below, by name; no index (DICOMDIR) and no hidden file."""
    return [path for path in _entries(folder) if is_dicom(path)]


def dangling_links(folder: Path) -> list[Path]:
    """Links in a folder and the folders below to files that do not exist."""
    return [path for path in _entries(folder) if os.path.islink(path) and not os.path.exists(path)]


def is_dicom(path: Path) -> bool:
    """Whether a file says or seems to be DICOM; an index of files (DICOMDIR) is none."""
    if path.name.upper() == INDEX or not os.path.isfile(path):
        return False
    return is_marked(path) or _starts_as_data_set(_start(path))


def is_marked(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its ending or by the letters DICM after its preamble."""
    return path.suffix.lower() in DICOM_SUFFIXES or _start(path)[_MAGIC_OFFSET:] == _MAGIC


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAGIC_OFFSET + len(_MAGIC))
    except OSError:
        return b""


def _starts_as_data_set(start: bytes) -> bool:
    group, element, rest = start[:2], start[2:4], start[4:8]
    if group not in _FIRST_GROUPS or len(rest) < 4 or b"\x00" not in element:
        return False
    return rest[:2] in _EXPLICIT or rest[2:] == b"\x00\x00"


def _entries(folder: Path) -> Iterator[Path]:
    """All files and links to files that are not hidden; linked folders are followed, and none is entered twice."""
    entered = {_identity(parent) for parent in folder.resolve().parents}
    for place, folders, names in os.walk(folder, followlinks=True):
        identity = _identity(Path(place))
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))
        # real folders before links to them, so that a series is found where it lies
        folders.sort(key=lambda name: (os.path.islink(os.path.join(place, name)), name))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
