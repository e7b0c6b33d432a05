"""Deflated DICOM files, looked through before pydicom inflates them whole: a small file can hold what fills memory."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

# Images deflate to a half or a third, black ones to a thousandth: that much of black is allowed to any file.
_TIMES, _AT_LEAST = 32, 1 << 24
_FILE_HEADER = 0x0002
_CHUNK = 1 << 20


def check_deflated(file: str | Path) -> None:
    """ValueError where a file of the deflated transfer syntax holds far more than its size lets expect; others pass.

    Raises:
        ValueError: as above.
        Exception: whatever pydicom and zlib raise for damaged bytes.
    """
    with Path(file).open("rb") as stream:
        read_preamble(stream, force=True)
        header = read_dataset(
            stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != _FILE_HEADER
        )
        if header.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        limit = max(_AT_LEAST, _TIMES * Path(file).stat().st_size)
        decoder, found = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not decoder.eof and (waiting := decoder.unconsumed_tail or stream.read(_CHUNK)):
            found += len(decoder.decompress(waiting, _CHUNK))
            if found > limit:
                raise ValueError(f"it inflates to more than {limit} bytes")
