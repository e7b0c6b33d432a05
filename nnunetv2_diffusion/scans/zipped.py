"""Scans in a zip file, as archives and portals hand them out: unpacked safely for as long as they are read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_diffusion.archives import opened_zip, write_members

MOST_BYTES = 16 * 2**30  # a spine examination of many series stays well below
_SUFFIX = ".zip"


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """`with unzipped(path) as folder`: what a zip file holds; any other path as it is.

    The folder has the zip file's name, lies where `tempfile` puts things, and goes afterwards.

    Raises:
        ValueError: the zip file is damaged, encrypted or too large, or holds what could be written elsewhere.
        OSError: the disk is full.
    """
    if path.suffix.lower() != _SUFFIX or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="spinesegdiff_", ignore_cleanup_errors=True) as place:
        folder = Path(place, path.stem)
        folder.mkdir()
        try:
            with opened_zip(path) as opened:
                members = [member for member in opened.infolist() if not member.is_dir()]
                write_members(opened, members, folder, MOST_BYTES)
        except ValueError as error:
            raise ValueError(f"{path} cannot be unpacked: {error}") from error
        except OSError as error:
            raise OSError(
                f"{path} cannot be unpacked into {place} ({error.strerror}): name another disk with TMPDIR"
            ) from error
        yield folder
