"""MetaImage and NRRD files with damaged or short voxels, which ITK itself reads as garbage: refused by name."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import make_scan
from nnunetv2_diffusion.imaging.reading import read_image

HEADER_END = {".mha": b"ElementDataFile = LOCAL\n", ".nrrd": b"\n\n"}
SHAPE = (5, 30, 24)


def noise() -> sitk.Image:
    return sitk.GetImageFromArray(np.random.default_rng(3).integers(0, 900, SHAPE).astype(np.int16))


def written(path: Path, compressed: bool = True) -> Path:
    sitk.WriteImage(noise(), str(path), useCompression=compressed)
    return path


def body_of(path: Path) -> tuple[Path, int]:
    """The file that holds the voxels, and where in it they begin."""
    for beside in (path.with_suffix(".zraw"), path.with_suffix(".raw"), Path(f"{path.with_suffix('')}.raw.gz")):
        if beside != path and beside.is_file():
            return beside, 0
    end = HEADER_END[path.suffix]
    return path, path.read_bytes().index(end) + len(end)


def overwrite(path: Path, share: float, length: int) -> None:
    """Zero some bytes at a share of the way through the voxels."""
    body, start = body_of(path)
    content = bytearray(body.read_bytes())
    place = start + int((len(content) - start) * share)
    content[place : place + length] = bytes(length)
    body.write_bytes(content)


def edit(path: Path, old: bytes, new: bytes, body: bytes | None = None) -> Path:
    """Change the header, and the voxels where they are given."""
    content = path.read_bytes()
    start = content.index(HEADER_END[path.suffix]) + len(HEADER_END[path.suffix])
    header = re.sub(old, new, content[:start])
    path.write_bytes(header + (content[start:] if body is None else body))
    return path


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)} cannot be read as an image: .*{reason}"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
def test_whole_files_are_read_bit_by_bit(tmp_path, name, compressed):
    image = read_image(written(tmp_path / name, compressed)).image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(noise()))


@pytest.mark.parametrize("pixel", [sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt32, sitk.sitkUInt32,
                                   sitk.sitkInt64, sitk.sitkUInt64, sitk.sitkFloat32, sitk.sitkFloat64])  # fmt: skip
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_every_type_of_voxel(tmp_path, name, pixel):
    image = sitk.Cast(sitk.GetImageFromArray(sitk.GetArrayFromImage(noise()) % 100), pixel)
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    found = read_image(tmp_path / name).image
    assert found.GetPixelID() == pixel
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_several_channels(tmp_path, name):
    sitk.WriteImage(sitk.Compose([noise()] * 3), str(tmp_path / name), useCompression=True)
    assert read_image(tmp_path / name).image.GetNumberOfComponentsPerPixel() == 3


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd"])
@pytest.mark.parametrize(("share", "length"), [(0.0, 2), (0.1, 1), (0.5, 40), (0.9, 3), (1.0, 1)])
def test_damage_inside(tmp_path, name, share, length):
    path = written(tmp_path / name)
    body, _ = body_of(path)
    before = body.read_bytes()
    if share == 1.0:  # the last byte, of the checksum
        body.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    else:
        overwrite(path, share, length)
    assert body.read_bytes() != before
    refused(path, "damaged|truncated")


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_flipped_bit_never_changes_an_image_in_silence(tmp_path, name, seed):
    path = written(tmp_path / name)
    _, start = body_of(path)
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    content[rng.integers(start, len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    try:
        image = read_image(path).image
    except ValueError:
        return
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(noise()))


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("missing", [1, 4, 500])
def test_truncated(tmp_path, name, compressed, missing):
    path = written(tmp_path / name, compressed)
    body, _ = body_of(path)
    body.write_bytes(body.read_bytes()[:-missing])
    refused(path, "truncated|damaged")


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_voxels_missing(tmp_path, name):
    path = written(tmp_path / name)
    body_of(path)[0].unlink()
    refused(path, "the file of its voxels, .*, is missing")


@pytest.mark.parametrize(("planes", "reason"), [(4, "truncated"), (6, "more than the 7200 bytes of its header")])
def test_a_stream_of_another_length_than_the_header_says(tmp_path, planes, reason):
    voxels = np.resize(sitk.GetArrayFromImage(noise()), (planes, *SHAPE[1:])).astype("<i2").tobytes()
    stream = zlib.compress(voxels)
    path = written(tmp_path / "a.mha")
    edit(path, rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % len(stream), stream)
    refused(path, reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (rb"CompressedDataSize = \d+\n", b"", "does not say where"),
        (rb"CompressedDataSize = \d+", b"CompressedDataSize = 900", "damaged .they end early."),
        (rb"ElementType = \w+", b"ElementType = MET_QUARK", "lacks a field or has a wrong one .'QUARK'."),
        (rb"DimSize = .*\n", b"", "lacks a field or has a wrong one .'DimSize'."),
        (rb"DimSize = .*\n", b"DimSize = 24 x 5\n", "lacks a field or has a wrong one"),
        (rb"DimSize = .*\n", b"DimSize = 24 -30 5\n", "the size 24 x -30 x 5, expected positive"),
        (rb"DimSize = .*\n", b"DimSize = 24 0 5\n", "the size 24 x 0 x 5, expected positive"),
        (rb"DimSize = .*\n", b"DimSize = 10000 10000 10000\n", "10000 x 10000 x 10000, and more than"),
        (rb"NDims = 3", b"NDims = 399999", "gives 399999 dimensions and 3 sizes"),
        (rb"NDims = 3", b"NDims = 399999\nNDims = 3", "gives NDims twice"),
        (rb"LOCAL", b"%s%n", "missing or has a % in its name"),
        (rb"LOCAL", b"x" * 5000, "missing"),
        (rb"LOCAL", b"LIST", "compressed in several files"),
        (rb"LOCAL", b"slice%03d.zraw 1 5 1", "compressed in several files"),
        (rb"(?s).*", b"not an image", "not an image file"),
    ],
)
def test_headers_of_mha(tmp_path, old, new, reason):
    refused(edit(written(tmp_path / "a.mha"), old, new), reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (rb"type: \w+", b"type: quark", "lacks a field or has a wrong one .'quark'."),
        (rb"sizes: .*\n", b"", "lacks a field or has a wrong one .'sizes'."),
        (rb"sizes: .*\n", b"sizes: 24 x 5\n", "lacks a field or has a wrong one"),
        (rb"sizes: .*\n", b"sizes: 10000 10000 10000\n", "and more than"),
        (rb"encoding: gzip", b"encoding: gzip\nbyte skip: 12", "behind a skip"),
        (rb"\n\n", b"\ndata file: LIST\n\n", "compressed in several files"),
        (rb"NRRD", b"NARD", "not an image file"),
        (rb"\nkinds", b"\nanything at all\nkinds", "a line that is no field .anything at all"),
        (rb"kinds: ", b"kinds: " + b"x" * 5000, "a line that is no field .kinds: x"),
    ],
)
def test_headers_of_nrrd(tmp_path, old, new, reason):
    refused(edit(written(tmp_path / "a.nrrd"), old, new), reason)


def test_raw_voxels_at_the_end_of_the_file(tmp_path):
    path = written(tmp_path / "a.mha", compressed=False)
    voxels = sitk.GetArrayFromImage(noise()).astype("<i2").tobytes()
    edit(path, rb"ElementType", b"HeaderSize = -1\nElementType", b"something of its own" + voxels)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(path).image), sitk.GetArrayFromImage(noise()))


def test_slices_in_files_of_their_own(tmp_path):
    for number, plane in enumerate(sitk.GetArrayFromImage(noise())):
        (tmp_path / f"{number}.raw").write_bytes(plane.astype("<i2").tobytes())
    header = "NDims = 3\nDimSize = 24 30 5\nElementType = MET_SHORT\nElementDataFile = %d.raw 0 4 1\n"
    (tmp_path / "a.mhd").write_text(header)
    image = read_image(tmp_path / "a.mhd").image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(noise()))
    (tmp_path / "3.raw").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"a\.mhd cannot be read as an image"):
        read_image(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("name", "field"), [("a.mha", rb"TransformMatrix = .*\n"), ("a.nrrd", rb"space directions: .*\n")]
)
def test_without_an_orientation(tmp_path, name, field):
    path = written(tmp_path / name)
    assert read_image(path).warnings == []
    assert read_image(edit(path, field, b"")).warnings == [
        "the file records no orientation: its axes are taken to run to left, posterior, superior; check that left is "
        "left"
    ]


def test_checking_keeps_memory_flat(tmp_path):
    """A stream of zeros a thousand times as long as its file is counted, not held."""
    import tracemalloc

    stream = zlib.compress(bytes(100_000_000))
    header = b"NDims = 3\nDimSize = 1000 1000 99\nElementType = MET_UCHAR\nCompressedData = True\n"
    header += b"CompressedDataSize = %d\nElementDataFile = LOCAL\n" % len(stream)
    (tmp_path / "a.mha").write_bytes(header + stream)
    tracemalloc.start()
    refused(tmp_path / "a.mha", "more than the 99000000 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_scan_of_the_converter_is_whole(tmp_path):
    """Floats of a scan as SPIDER stores it survive the check."""
    sitk.WriteImage(make_scan(), str(tmp_path / "1_t2.mha"), useCompression=True)
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(read_image(tmp_path / "1_t2.mha").image), sitk.GetArrayFromImage(make_scan())
    )
