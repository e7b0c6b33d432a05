"""Zip files from anywhere, taken apart safely: nothing outside of the folder, no links, nothing without an end."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

MOST_MEMBERS = 100_000
_CHUNK = 1 << 20


@contextmanager
def opened_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """`with opened_zip(archive) as opened`: an archive whose members are all safe to write.

    Raises:
        ValueError: it is no zip file, is damaged, has too many members, or one that `check_member` refuses; also
            for damage that is met inside of the `with`.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > MOST_MEMBERS:
                raise ValueError(f"it has {len(members)} members, more than {MOST_MEMBERS}")
            if min((member.header_offset for member in members), default=0):
                raise ValueError("it is no whole zip file (its beginning or its end is missing)")
            for member in members:
                check_member(member)
            yield opened
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
        raise ValueError(f"it is no whole zip file ({error})") from error


def check_member(member: zipfile.ZipInfo) -> None:
    """ValueError for a member that could be written outside of the folder, or is a link, or cannot be read."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    fault = None
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
        fault = "would be written outside of the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device, not a file"
    elif member.flag_bits & 1:
        fault = "is encrypted"
    elif not member.filename.isprintable() or not path.parts:
        fault = "has no proper name"
    if fault:
        raise ValueError(f"its member {member.filename!r} {fault}")


def write_members(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path, most_bytes: int) -> None:
    """Write members into an empty folder, whatever their headers promise at most `most_bytes` in all.

    Raises:
        ValueError: they are more, or two of them have one name (also on disks that do not tell capitals).
        OSError: the disk refused.
    """
    names = [member.filename.casefold() for member in members]
    if len(set(names)) < len(names):
        raise ValueError("it holds two members of one name")
    left = most_bytes
    if sum(member.file_size for member in members) > left:
        raise _too_large(most_bytes)
    for member in members:
        path = folder / member.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as source, path.open("xb") as target:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _too_large(most_bytes)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())


def _too_large(most_bytes: int) -> ValueError:
    return ValueError(f"it would fill more than {most_bytes >> 30} GiB")
