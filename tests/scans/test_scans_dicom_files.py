"""Which files are DICOM: by content, through links, past what is no image; and what is said of damaged ones."""

from __future__ import annotations

import os
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from helpers.dicom_samples import bare_header, classic, noise_volume, setting, write_series
from helpers.segment_samples import (
    one_thread,  # noqa: F401
    predict_by_threshold,
    same_geometry,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans.dicom import choose_series, find_series, read_series
from nnunetv2_diffusion.scans.dicom.headers import read_header
from nnunetv2_diffusion.scans.dicom.pixels import PixelFile
from nnunetv2_diffusion.scans.sources import find_scans


@pytest.fixture(scope="module")
def volume() -> sitk.Image:
    return noise_volume()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


def read_only_series(folder: Path) -> tuple[sitk.Image, list[str]]:
    sources, _ = find_scans(folder)
    assert len(sources) == 1
    scan = sources[0].read()
    return scan.volume, scan.warnings


def equal(found: sitk.Image, volume: sitk.Image) -> bool:
    return same_geometry(found, volume) and np.array_equal(*map(sitk.GetArrayFromImage, (found, volume)))


class TestWithoutPreambleOrEnding:
    @pytest.mark.parametrize("file_header", [True, False])
    @pytest.mark.parametrize("implicit", [True, False])
    def test_is_read(self, tmp_path, volume, file_header, implicit):
        for k in range(7):
            header = classic(volume, k)
            if implicit:
                header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            file = tmp_path / f"IM{k}"
            header.save_as(file, enforce_file_format=True)
            content = file.read_bytes()
            group_length = pydicom.dcmread(file).file_meta.FileMetaInformationGroupLength
            file.write_bytes(content[132:] if file_header else content[132 + 12 + group_length :])
        found, warnings = read_only_series(tmp_path)
        assert equal(found, volume) and warnings == []

    def test_other_files_are_none(self, tmp_path, volume):
        write_series(tmp_path, volume, name="IM{}".format)
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "numbers").write_bytes(b"\x08\x00\x05\x00CS" + bytes(range(256)) * 4)
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "zeros").write_bytes(bytes(1000))
        found, warnings = read_only_series(tmp_path)
        assert equal(found, volume) and warnings == []


def test_big_endian_and_deflated(tmp_path, volume):
    def big(header: Dataset, k: int) -> None:
        header.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        header.PixelData = sitk.GetArrayFromImage(volume)[k].astype(">i2").tobytes()

    assert equal(read_only_series(write_series(tmp_path / "big", volume, big))[0], volume)
    (tmp_path / "deflated").mkdir()
    for file in write_series(tmp_path / "plain", volume).iterdir():
        header = pydicom.dcmread(file)
        header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        header.save_as(tmp_path / "deflated" / file.name, enforce_file_format=True)
    assert equal(read_only_series(tmp_path / "deflated")[0], volume)


def test_a_deflated_file_that_would_fill_the_memory(tmp_path, volume):
    """300 MiB of zeros deflate to 0.3; a black image of 8 MiB does, too, and is read."""
    file = write_series(tmp_path / "deflated", volume, slices=[0]) / "000.dcm"
    header = pydicom.dcmread(file)
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    header.save_as(file, enforce_file_format=True)
    whole = file.read_bytes()
    at = 144 + int.from_bytes(whole[140:144], "little")  # behind the file's header, whose first element is its length
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = (packer.compress(bytes(1 << 20)) for _ in range(300))
    bomb = packer.compress(zlib.decompress(whole[at:], -zlib.MAX_WBITS)) + b"".join(zeros) + packer.flush()
    file.write_bytes(whole[:at] + bomb)
    tracemalloc.start()
    for read in (read_header, PixelFile):
        with pytest.raises(ValueError, match="cannot be read"):
            read(file)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    header.Rows = header.Columns = 2048
    header.PixelData = bytes(2 * 2048 * 2048)
    header.save_as(file, enforce_file_format=True)
    assert file.stat().st_size < 1 << 14
    assert read_header(file).whole and not PixelFile(str(file)).frame(0).any()


def test_what_archives_and_macos_leave_beside(tmp_path, volume):
    write_series(tmp_path, volume)
    for k in range(7):
        (tmp_path / f"._{k:03d}.dcm").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    index = Dataset()
    index.file_meta = pydicom.dataset.FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.9"
    index.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    index.DirectoryRecordSequence = []
    for name in ("DICOMDIR", "dicomdir", "index.dcm"):
        index.save_as(tmp_path / name, enforce_file_format=True)
    found, warnings = read_only_series(tmp_path)
    assert equal(found, volume) and warnings == []


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [("SR", "1.2.840.10008.5.1.4.1.1.88.11"), ("PR", "1.2.840.10008.5.1.4.1.1.11.1"), ("SEG", None)],
)
def test_reports_and_drawings_are_no_images(tmp_path, volume, modality, sop_class):
    write_series(tmp_path, volume)
    other = bare_header(volume, "99", sop_class or "1.2.840.10008.5.1.4.1.1.66.4")
    other.Modality = modality
    if sop_class:
        del other.Rows, other.Columns
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    found, warnings = read_only_series(tmp_path)
    assert equal(found, volume) and warnings == []


class TestLinks:
    def test_linked_series_folder(self, tmp_path, volume):
        write_series(tmp_path / "real", volume)
        (tmp_path / "study").mkdir()
        (tmp_path / "study" / "s").symlink_to(tmp_path / "real")
        found, warnings = read_only_series(tmp_path / "study")
        assert equal(found, volume) and warnings == []

    def test_no_folder_is_read_twice(self, tmp_path, volume):
        study = tmp_path / "study"
        write_series(study / "deep" / "real", volume)
        (study / "a").symlink_to(study / "deep" / "real")
        (study / "deep" / "loop").symlink_to(study)
        (study / "deep" / "real" / "up").symlink_to(tmp_path)
        series = find_series(study)
        assert len(series) == 1 and series[0].folder == study / "deep" / "real" and len(series[0].files) == 7
        assert equal(*[read_series(series[0])[0], volume])

    def test_linked_files(self, tmp_path, volume):
        (tmp_path / "links").mkdir()
        for file in write_series(tmp_path / "real", volume).iterdir():
            (tmp_path / "links" / file.name).symlink_to(file)
        assert equal(read_only_series(tmp_path / "links")[0], volume)

    def test_dangling_links_are_named_and_the_others_done(self, tmp_path, volume, model, monkeypatch, capsys):
        monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)
        scans = tmp_path / "scans"
        write_series(scans / "mri", volume)
        sitk.WriteImage(volume, str(scans / "good.mha"))
        for link in ("b.nii.gz", "mri/x1.dcm", "mri/x2.dcm", "notes"):
            (scans / link).symlink_to("/nowhere/b")
        assert cli.main(["segment", str(scans), str(tmp_path / "out"), "--model", str(model)]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 2
        assert "b.nii.gz was not segmented: " in errors[0] and "is a link to a file that does not exist" in errors[0]
        assert "x1.dcm (and 1 more in its folder) is a link to a file that does not exist" in errors[1]
        assert {"good.mha", "scans.mha"} <= {path.name for path in (tmp_path / "out").iterdir()}

    def test_nothing_but_links(self, tmp_path):
        (tmp_path / "series").symlink_to("/nowhere/series")
        with pytest.raises(FileNotFoundError, match=r"there is no scan in .*series is a link to nothing"):
            find_scans(tmp_path)


class TestDamage:
    @pytest.mark.parametrize("length", [100, 140, 400, 600, -40])
    def test_cut_off_file(self, tmp_path, volume, length):
        """Wherever it is cut: in the middle it is a gap, and the error says so; at the end there is a warning."""
        for k in (3, 6):
            folder = write_series(tmp_path / str(k), volume)
            file = folder / f"{k:03d}.dcm"
            file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(ValueError, match=r"gaps of up to 8\.0 mm .* and 1 files in .* are damaged"):
            read_only_series(tmp_path / "3")
        found, warnings = read_only_series(tmp_path / "6")
        assert found.GetSize()[2] == 6 and warnings == ["1 DICOM files of the series or beside it are damaged"]

    def test_lost_file_behind_a_link(self, tmp_path, volume):
        folder = write_series(tmp_path, volume)
        (folder / "003.dcm").unlink()
        (folder / "003.dcm").symlink_to("/nowhere/003.dcm")
        series, _ = choose_series(find_series(folder), None)
        with pytest.raises(ValueError, match=r"gaps of up to 8\.0 mm .* and 1 files in .* are damaged"):
            read_series(series[0])

    def test_random_bytes_raise_nothing_else(self, tmp_path, volume):
        """A seeded mutator of one file: a volume, or one sentence."""
        file = write_series(tmp_path, volume, slices=[0]) / "000.dcm"
        whole = file.read_bytes()
        random = np.random.default_rng(5)
        outcomes = set()
        for _ in range(300):
            content = bytearray(whole[: random.integers(1, len(whole) + 1)] if random.random() < 0.3 else whole)
            for place in random.integers(0, len(content), random.integers(1, 20)):
                content[place] = random.integers(0, 256)
            file.write_bytes(content)
            try:
                read_only_series(tmp_path)
            except (ValueError, FileNotFoundError) as error:
                assert "\n" not in str(error)
                outcomes.add(type(error))
            else:
                outcomes.add(None)
        assert outcomes == {None, ValueError, FileNotFoundError}

    def test_header_that_promises_too_much(self, tmp_path, volume):
        for name, change in {"rows": {"Rows": 65535, "Columns": 65535}, "frames": {"NumberOfFrames": 10**9}}.items():
            write_series(tmp_path / name, volume, setting(**change), slices=[0])
            with pytest.raises(FileNotFoundError, match="no scan"):
                find_scans(tmp_path / name)
            with pytest.raises(ValueError, match="cannot be read"):
                find_scans(tmp_path / name / "000.dcm")


def test_headers_are_read_once_and_no_pixels(tmp_path, volume, monkeypatch):
    write_series(tmp_path, volume)
    read, calls = pydicom.dcmread, []

    def counting(file, **options):
        calls.append((str(getattr(file, "name", file)), options.get("stop_before_pixels")))
        return read(file, **options)

    monkeypatch.setattr(pydicom, "dcmread", counting)
    series = find_series(tmp_path)
    assert sorted(calls) == [(str(tmp_path / f"{k:03d}.dcm"), True) for k in range(7)]
    calls.clear()
    read_series(series[0])
    assert sorted(calls) == [(str(tmp_path / f"{k:03d}.dcm"), None) for k in range(7)]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_where_it_takes_long(tmp_path, volume, monkeypatch, capsys, terminal):
    write_series(tmp_path, volume)
    monkeypatch.setattr("nnunetv2_diffusion.scans.dicom.headers._BAR_AFTER_SECONDS", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    find_series(tmp_path, progress=True)
    assert ("DICOM headers" in capsys.readouterr().err) == terminal
    find_series(tmp_path)
    assert capsys.readouterr().err == ""


def test_folder_whose_name_is_no_utf8(tmp_path, volume):
    write_series(tmp_path / "plain", volume)
    strange = os.fsencode(tmp_path) + b"/sc\xe4n"
    os.rename(tmp_path / "plain", strange)
    folder = Path(os.fsdecode(strange))
    sources, _ = find_scans(folder)
    assert [source.name for source in sources] == ["sc_n"] and equal(sources[0].read().volume, volume)
    assert find_scans(folder / "003.dcm")[0][0].read().volume.GetSize() == (11, 9, 1)
