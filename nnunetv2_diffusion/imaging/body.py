"""The voxels of an image file, checked before ITK reads them: it takes some damaged or short ones for whole.

What a check finds wrong is the text of its ValueError, to be read after "… cannot be read as an image: ".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

NO_IMAGE = "it is damaged, truncated or not an image file"
# A lumbar spine has some ten million voxels, a whole body a few hundred: beyond it a header is wrong, or a trap.
MAX_VOXELS = 2**30
ZLIB_OR_GZIP, GZIP = 47, 31  # zlib's window bits
_CHUNK = 1 << 20


def promised_bytes(size: Sequence[int], bytes_per_voxel: int) -> int:
    """The bytes that the voxels of an image take; ValueError for a size that no image has."""
    if not size or min(size) < 1:
        raise ValueError(f"its header gives the size {_times(size)}, expected positive numbers of voxels")
    if math.prod(size) > MAX_VOXELS:
        raise ValueError(
            f"its header gives the size {_times(size)}, and more than {MAX_VOXELS} voxels are not read: crop it, or "
            "restore the file where that is not its size"
        )
    return math.prod(size) * bytes_per_voxel


def check_raw(file: Path, offset: int, length: int) -> None:
    """ValueError where a file has less than `length` bytes from `offset` on."""
    check_length(file.stat().st_size - offset, length)


def check_length(found: int, length: int) -> None:
    """ValueError where fewer bytes were found than the header promises."""
    if found < length:
        raise ValueError(f"it is truncated ({max(found, 0)} of {length} bytes of its voxels are there), copy it again")


def check_compressed(file: Path, offset: int, length: int, *, stored: int | None = None, window_bits: int) -> None:
    """ValueError where the stream at `offset` is damaged or does not hold exactly `length` bytes.

    Args:
        file: the file.
        offset: where the stream begins.
        length: of what it holds.
        stored: its own length; None for the rest of the file.
        window_bits: ZLIB_OR_GZIP or GZIP.
    """
    with file.open("rb") as stream:
        stream.seek(offset)
        try:
            found = _inflated_length(stream, stored, window_bits, limit=length)
        except zlib.error as error:
            raise ValueError(f"its compressed voxels are damaged ({error}), copy it again") from error
    check_length(found, length)
    if found > length:
        raise ValueError(f"its compressed voxels are more than the {length} bytes of its header, write it again")


def _inflated_length(stream: BinaryIO, stored: int | None, window_bits: int, limit: int) -> int:
    """The length of what a stream holds, in little memory; given up as soon as it is above the limit."""
    decoder = zlib.decompressobj(window_bits)
    left = math.inf if stored is None else stored
    found = 0
    while not decoder.eof and found <= limit:
        chunk = decoder.unconsumed_tail
        if not chunk:
            chunk = stream.read(int(min(_CHUNK, left)))
            left -= len(chunk)
        found += len(decoder.decompress(chunk, _CHUNK) if chunk else decoder.flush())
        if not chunk and not decoder.eof:
            raise zlib.error("they end early")
    return found


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size)) or "of no dimension"
