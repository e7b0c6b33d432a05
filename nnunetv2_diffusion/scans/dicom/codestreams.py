"""The size that a JPEG, JPEG-LS or JPEG 2000 frame gives, looked up before a decoder asks for that much memory."""

from __future__ import annotations

import struct

_JPEG_START, _JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
# Markers of JPEG's frame headers; C4, C8 and CC among them are others. JPEG-LS has one of its own.
_FRAME_HEADERS = (*(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)), 0xF7)
_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a segment
_FILL = 0xFF


def check_size(frame: bytes, rows: int, columns: int) -> None:
    """ValueError where a compressed frame is of another size than the header says, or gives none."""
    found = _jpeg_2000_size(frame) if frame.startswith(_JPEG_2000_START) else _jpeg_size(frame)
    if found != (rows, columns):
        raise ValueError(f"a frame of {found} pixels in a file of {rows, columns}")


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """ISO/IEC 15444-1 A.5.1: the extent of the reference grid, and the image's offset in it."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """ISO/IEC 10918-1 B.2.2: lines and samples a line in the frame header."""
    if not frame.startswith(_JPEG_START):
        return None
    at = len(_JPEG_START)
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAME_HEADERS:
            return struct.unpack_from(">2H", frame, at + 5)
        if marker == _FILL:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return None
