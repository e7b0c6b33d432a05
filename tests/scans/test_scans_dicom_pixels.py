"""From stored values to grey values: scaling, sign, bits, inversion, compression; and what is refused by name."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from helpers.dicom_samples import noise_volume, setting, write_enhanced, write_series
from helpers.segment_samples import same_geometry
from nnunetv2_diffusion.scans.dicom import find_series, pixels, read_series


@pytest.fixture(scope="module")
def volume() -> sitk.Image:
    return noise_volume((24, 20, 5))


def read_only_series(folder: Path) -> tuple[np.ndarray, list[str]]:
    series = find_series(folder)
    assert len(series) == 1
    image, warnings = read_series(series[0])
    return sitk.GetArrayFromImage(image), warnings


def by_gdcm(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


@pytest.mark.parametrize(("slope", "intercept"), [(2, 0), (1, -1024), (0.37, 12.5)])
def test_rescale_slope_and_intercept(tmp_path, volume, slope, intercept):
    write_series(tmp_path, volume, setting(RescaleSlope=slope, RescaleIntercept=intercept))
    found, _ = read_only_series(tmp_path)
    assert np.array_equal(found, sitk.GetArrayFromImage(volume).astype(float) * slope + intercept)
    assert np.allclose(found, by_gdcm(tmp_path), rtol=1e-6)


def test_each_slice_has_its_own_slope(tmp_path, volume):
    write_series(tmp_path, volume, setting(RescaleSlope=lambda k: 1 + k, RescaleIntercept=0))
    expected = sitk.GetArrayFromImage(volume) * np.arange(1.0, 6)[:, None, None]
    assert np.array_equal(read_only_series(tmp_path)[0], expected)


@pytest.mark.parametrize(
    ("dtype", "stored", "signed"), [("u1", 8, 0), ("u2", 16, 0), ("u2", 12, 0), ("i2", 12, 1), ("i2", 16, 1)]
)
def test_bits_and_sign(tmp_path, volume, dtype, stored, signed):
    """Bits above the stored ones may hold anything; GDCM reads the same."""
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    values = np.random.default_rng(2).integers(low, high, (5, 20, 24)).astype(dtype)

    def change(header: Dataset, k: int) -> None:
        header.BitsAllocated, header.BitsStored, header.HighBit = 8 * values.itemsize, stored, stored - 1
        header.PixelRepresentation = signed
        data = values[k].astype(f"<{dtype}")
        header.PixelData = (data.view(f"<u{values.itemsize}") & (2**stored - 1)).tobytes() if signed else data.tobytes()

    write_series(tmp_path, volume, change)
    found, _ = read_only_series(tmp_path)
    assert np.array_equal(found, values) and np.array_equal(found, by_gdcm(tmp_path)) and found.dtype == values.dtype


@pytest.mark.parametrize("signed", [0, 1])
def test_monochrome1_is_turned_round(tmp_path, volume, signed):
    """One maximum for all slices, so that what was the darkest becomes zero."""
    stored = sitk.GetArrayFromImage(volume).view(np.int16 if signed else np.uint16)
    stored[0, 0, 0] = np.iinfo(stored.dtype).min
    stored[0, 0, 1] = np.iinfo(stored.dtype).max

    def change(header: Dataset, k: int) -> None:
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME1", signed
        header.PixelData = stored[k].tobytes()

    found, warnings = read_only_series(write_series(tmp_path, volume, change))
    assert np.array_equal(found, stored.max().astype(np.int64) - stored.astype(np.int64))
    assert warnings == ["grey values are stored inverted (MONOCHROME1), and were turned round"]


def test_colour_is_refused(tmp_path, volume):
    def colour(header: Dataset, k: int) -> None:
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", k % 2
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
        header.PixelData = bytes(3 * 24 * 20)

    write_series(tmp_path, volume, colour)
    with pytest.raises(ValueError, match="images are in colour, expected one grey value a pixel"):
        read_only_series(tmp_path)


def compressed_by_gdcm(folder: Path, volume: sitk.Image, compressor: str, tmp_path: Path) -> Path:
    """The series of `write_series`, each frame compressed without loss by SimpleITK."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    for file in sorted(write_series(tmp_path / "plain", volume).iterdir()):
        header = pydicom.dcmread(file)
        writer.SetFileName(str(tmp_path / "one.dcm"))
        writer.Execute(sitk.GetImageFromArray(header.pixel_array))
        coded = pydicom.dcmread(tmp_path / "one.dcm")
        assert coded.file_meta.TransferSyntaxUID.is_compressed
        header.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
        header.PixelData = coded.PixelData
        header["PixelData"].VR = "OB"
        header["PixelData"].is_undefined_length = True
        header.save_as(folder / file.name, enforce_file_format=True)
    return folder


class TestCompressed:
    @pytest.mark.parametrize(("compressor", "name"), [("JPEG", "JPEG Lossless"), ("JPEG2000", "JPEG 2000")])
    def test_lossless(self, tmp_path, volume, compressor, name):
        folder = compressed_by_gdcm(tmp_path / "s", volume, compressor, tmp_path)
        assert name in pydicom.dcmread(folder / "000.dcm").file_meta.TransferSyntaxUID.name
        found, warnings = read_only_series(folder)
        assert np.array_equal(found, sitk.GetArrayFromImage(volume)) and warnings == []

    def test_run_lengths(self, tmp_path, volume):
        for file in write_series(tmp_path, volume).iterdir():
            header = pydicom.dcmread(file)
            header.compress(RLELossless, generate_instance_uid=False)
            header.save_as(file)
        assert np.array_equal(read_only_series(tmp_path)[0], sitk.GetArrayFromImage(volume))

    @pytest.mark.parametrize("name", ["RLE", "jp2klossless", "jpeg_ls_lossless"])
    def test_what_other_programs_compressed(self, tmp_path, name):
        """pydicom's samples of one MR image: plain, and compressed by other programs."""
        shutil.copy(pydicom.data.get_testdata_file(f"MR_small_{name}.dcm"), tmp_path / "compressed.dcm")
        plain = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small.dcm"))
        found, _ = read_only_series(tmp_path)
        assert np.array_equal(found, np.frombuffer(plain.PixelData, "<i2").reshape(1, plain.Rows, plain.Columns))

    @pytest.mark.parametrize("name", ["MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "JPEG-lossy"])
    def test_a_frame_that_promises_other_pixels_than_its_header(self, tmp_path, monkeypatch, name):
        """No decoder sees it: it would ask for the frame's memory, 16 GiB."""
        header = pydicom.dcmread(pydicom.data.get_testdata_file(f"{name}.dcm"))
        frame = pydicom.encaps.get_frame(header.PixelData, 0, number_of_frames=1)
        rows, columns, huge = (number.to_bytes(4, "big") for number in (header.Rows, header.Columns, 65535))
        for there, promised in ((columns + rows, huge + huge), (rows[2:] + columns[2:], b"\xff\xff" * 2)):
            frame = frame.replace(there, promised, 1)
        header.PixelData = encapsulate([frame])
        header.save_as(tmp_path / "bomb.dcm")
        monkeypatch.setattr(pixels.sitk, "ReadImage", lambda *_: pytest.fail("a decoder was asked"))
        with pytest.raises(ValueError, match=r"bomb\.dcm cannot be read: its pixels are damaged"):
            pixels.PixelFile(str(tmp_path / "bomb.dcm")).frame(0)

    def test_multi_frame_out_of_order(self, tmp_path, volume):
        folder = compressed_by_gdcm(tmp_path / "s", volume, "JPEG", tmp_path)
        frames = [pydicom.encaps.get_frame(pydicom.dcmread(folder / f"00{k}.dcm").PixelData, 0) for k in range(5)]
        order = [3, 1, 4, 0, 2]
        file = write_enhanced(tmp_path / "enhanced" / "e.dcm", volume, order)
        header = pydicom.dcmread(file)
        header.file_meta.TransferSyntaxUID = pydicom.dcmread(folder / "000.dcm").file_meta.TransferSyntaxUID
        header.PixelData = encapsulate([frames[k] for k in order])
        header["PixelData"].VR = "OB"
        header.save_as(file)
        assert np.array_equal(read_only_series(file.parent)[0], sitk.GetArrayFromImage(volume))

    def test_damaged_bytes(self, tmp_path, volume):
        folder = compressed_by_gdcm(tmp_path / "s", volume, "JPEG", tmp_path)
        file = folder / "002.dcm"
        header = pydicom.dcmread(file)
        header.PixelData = encapsulate([b"\xff\xd8 no picture " * 9])
        header.save_as(file)
        with pytest.raises(ValueError, match=r"002\.dcm cannot be read: its pixels are damaged"):
            read_only_series(folder)

    @pytest.mark.parametrize(
        ("syntax", "message"),
        [
            (
                "1.2.840.10008.1.2.4.201",
                r"compressed with High-Throughput JPEG 2000 .*, which needs `pip install pylibjpeg pylibjpeg-openjpeg`",
            ),
            ("1.2.840.10008.1.2.4.102", r"compressed with MPEG-4 AVC/H\.264 High Profile .*, which cannot be read"),
            ("1.2.3.4.5", "compressed with a transfer syntax that DICOM does not define"),
        ],
    )
    def test_unknown_ways_are_named(self, tmp_path, volume, monkeypatch, syntax, message):
        get_decoder = pixels.get_decoder

        def without_plugins(name):
            decoder = get_decoder(name)
            monkeypatch.setattr(type(decoder), "is_available", False)
            return decoder

        monkeypatch.setattr(pixels, "get_decoder", without_plugins)

        for file in write_series(tmp_path, volume).iterdir():
            header = pydicom.dcmread(file)
            header.file_meta.TransferSyntaxUID = syntax
            header.PixelData = encapsulate([b"anything"])
            header["PixelData"].VR = "OB"
            header["PixelData"].is_undefined_length = True
            header.save_as(file, implicit_vr=False, little_endian=True)
        with pytest.raises(ValueError, match=message) as caught:
            read_only_series(tmp_path)
        assert "damaged" not in str(caught.value)

    def test_nothing_of_the_header_is_written_for_the_decoder(self, tmp_path, volume, monkeypatch):
        folder = compressed_by_gdcm(tmp_path / "s", volume, "JPEG", tmp_path)
        written = []
        read = sitk.ReadImage

        def spy(file, **options):
            written.append(Path(file).read_bytes())
            return read(file, **options)

        monkeypatch.setattr(pixels.sitk, "ReadImage", spy)
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        read_only_series(folder)
        assert len(written) == 5
        assert not [word for word in (b"Mustermann", b"PATID", b"T2 TSE", b"2.1125.77") if word in b"".join(written)]
        assert not list((tmp_path / "temporary").iterdir())


def test_real_scan_compressed(real_mri, tmp_path):
    scan = sitk.Cast(sitk.ReadImage(str(real_mri / "spider_layout" / "images" / "112_t2.mha")), sitk.sitkInt16)
    folder = compressed_by_gdcm(tmp_path / "s", scan[:, :, 8:11], "JPEG", tmp_path)
    image, _ = read_series(find_series(folder)[0])
    plain, _ = read_series(find_series(tmp_path / "plain")[0])
    assert same_geometry(image, plain)
    assert np.array_equal(*map(sitk.GetArrayFromImage, (image, plain)))
