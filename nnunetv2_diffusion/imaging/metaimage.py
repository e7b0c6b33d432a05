"""MetaImage files (.mha, .mhd): whether their voxels are whole. ITK only prints where a compressed one is damaged."""

from __future__ import annotations

import os
import re
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_diffusion.imaging.body import NO_IMAGE, ZLIB_OR_GZIP, check_compressed, check_raw, promised_bytes
from nnunetv2_diffusion.imaging.orientation import unrecorded

_HEADER_LIMIT = 1 << 20
# MetaIO formats a pattern of names as C does, whatever it holds: only numbers may stand in it.
_SEVERAL_FILES = re.compile(r"LIST( \d)?|[^%\s]*%\d*d[^%\s]*( \d+){0,3}")
_FIELD = re.compile(rb"\s*(\w+)\s*[=:]\s*(.*?)\s*$")
_MOST_DIMENSIONS = 5  # of ITK; more than ten end the process in MetaIO
_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


def check(path: Path) -> None:
    """ValueError where the voxels are damaged or not all there."""
    header, end = _header(path)
    try:
        channels = int(header.get("ElementNumberOfChannels", 1))
        dimensions, size = int(header["NDims"]), [int(n) for n in header["DimSize"].split()]
        skipped = int(header.get("HeaderSize", 0))
        stored = int(header["CompressedDataSize"]) if "CompressedDataSize" in header else None
        kind = header["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        bytes_per_voxel = _BYTES[re.sub(r"^U(?=CHAR|SHORT|INT|LONG)", "", kind)] * channels
    except (KeyError, ValueError) as error:
        raise ValueError(f"its header lacks a field or has a wrong one ({error})") from error
    if not dimensions == len(size) <= _MOST_DIMENSIONS:
        raise ValueError(f"its header gives {dimensions} dimensions and {len(size)} sizes")
    length = promised_bytes(size, bytes_per_voxel)
    data = header["ElementDataFile"]
    compressed = header.get("CompressedData", "")[:1] in ("T", "t", "1")
    if _SEVERAL_FILES.fullmatch(data):
        if compressed:
            raise ValueError("its voxels are compressed in several files, which cannot be checked: save it as one file")
        return  # ITK itself notices a short one of them
    local = data.upper() == "LOCAL"
    file = path if local else path.parent / data
    if "%" in data or not os.path.isfile(file):
        raise ValueError(f"the file of its voxels, {file}, is missing or has a % in its name")
    offset = (end if local else 0) + max(skipped, 0)
    if not compressed:
        check_raw(file, offset, length)
    elif stored is None or skipped < 0:
        raise ValueError("its header does not say where its compressed voxels begin and end: write it again")
    else:
        check_compressed(file, offset, length, stored=stored, window_bits=ZLIB_OR_GZIP)


def doubts(path: Path, image: sitk.Image) -> list[str]:
    """What there is to say about the place of `image` in the patient; mostly nothing."""
    told = {"TransformMatrix", "Rotation", "Orientation"} & _header(path)[0].keys()
    return [] if told or image.GetDimension() < 3 else [unrecorded(image)]


def _header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, and where the header ends; ElementDataFile is its last one."""
    with path.open("rb") as stream:
        start = stream.read(_HEADER_LIMIT)
    header, end = {}, 0
    for line in start.splitlines(keepends=True):
        end += len(line)
        field = _FIELD.match(line)
        if not field:
            continue
        name = field[1].decode("latin-1")
        if name in header and name != "Comment":
            raise ValueError(f"its header gives {name} twice")
        header[name] = field[2].decode("latin-1")
        if name == "ElementDataFile":
            return header, end
    raise ValueError(NO_IMAGE)
