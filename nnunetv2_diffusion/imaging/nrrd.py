"""NRRD files (.nrrd, .nhdr): whether their voxels are whole. ITK does not notice all damage in a compressed one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_diffusion.imaging.body import GZIP, NO_IMAGE, check_compressed, check_raw, promised_bytes
from nnunetv2_diffusion.imaging.orientation import unrecorded

_HEADER_LIMIT = 1 << 20
_LONGEST_FIELD = 255  # a much longer one ends the process in ITK
_BYTES = {
    **dict.fromkeys(("char", "int8"), 1),
    **dict.fromkeys(("short", "short int", "int16"), 2),
    **dict.fromkeys(("int", "int32"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64"), 8),
    "float": 4,
    "double": 8,
}


def check(path: Path) -> None:
    """ValueError where the voxels are damaged or not all there."""
    header, end = _header(path)
    try:
        size = [int(n) for n in header["sizes"].split()]
        kind = re.sub(r"^(unsigned |signed |u(?=char|short|int|longlong))", "", header["type"]).removesuffix("_t")
        bytes_per_voxel = _BYTES[kind]
        skips = [int(header.get(name, 0)) for name in ("lineskip", "byteskip")]
        encoding = header["encoding"].lower()
    except (KeyError, ValueError) as error:
        raise ValueError(f"its header lacks a field or has a wrong one ({error})") from error
    length = promised_bytes(size, bytes_per_voxel)
    data = header.get("datafile")
    compressed = encoding in ("gzip", "gz")
    if data is not None and (data.startswith("LIST") or "%" in data):
        if compressed:
            raise ValueError("its voxels are compressed in several files, which cannot be checked: save it as one file")
        return  # ITK itself notices a short one of them
    file = path if data is None else path.parent / data
    if not os.path.isfile(file):
        raise ValueError(f"the file of its voxels, {file}, is missing")
    offset = end if data is None else 0
    if encoding == "raw":
        check_raw(file, offset + max(skips[1], 0), length)
    elif compressed:
        if any(skips):
            raise ValueError("its compressed voxels lie behind a skip, which cannot be checked: write it again")
        check_compressed(file, offset, length, window_bits=GZIP)


def doubts(path: Path, image: sitk.Image) -> list[str]:
    """What there is to say about the place of `image` in the patient; mostly nothing."""
    told = "spacedirections" in _header(path)[0]
    return [] if told or image.GetDimension() < 3 else [unrecorded(image)]


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, their names without spaces, and where the header ends: at an empty line, or with the file."""
    with path.open("rb") as stream:
        start = stream.read(_HEADER_LIMIT)
    if not start.startswith(b"NRRD000"):
        raise ValueError(NO_IMAGE)
    header, end = {}, 0
    for line in start.splitlines(keepends=True):
        end += len(line)
        text = line.decode("latin-1")
        if not text.strip():
            break
        if end == len(line) or text.startswith("#") or ":=" in text:
            continue
        name, separator, value = text.partition(": ")
        if not separator or len(text) > _LONGEST_FIELD:
            raise ValueError(f"its header has a line that is no field ({text[:20].strip()} …)")
        header[name.lower().replace(" ", "")] = value.strip()
    return header, end
