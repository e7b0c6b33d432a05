"""Scans as archives and discs hand them out: a zip file, unpacked safely, and the index of a disc."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.fileset import FileSet

from helpers.dicom_samples import noise_volume, setting, write_series
from helpers.segment_samples import (
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans import load_model, segment, zipped
from nnunetv2_diffusion.scans.sources import find_scans
from nnunetv2_diffusion.scans.zipped import unzipped

SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def zip_of(folder: Path, archive: Path, **more: bytes) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            target.write(file, file.relative_to(folder.parent))
        for name, content in more.items():
            target.writestr(name, content)
    return archive


def disc_of(folder: Path, root: Path) -> Path:
    """A disc with an index of all files in a folder, as pydicom writes it."""
    files = FileSet()
    for file in sorted(folder.rglob("*.dcm")):
        data_set = pydicom.dcmread(file)
        data_set.StudyDate, data_set.StudyTime, data_set.StudyID = "20240102", "101112", "7"
        data_set.AccessionNumber = ""
        files.add(data_set)
    files.write(root)
    return root / "DICOMDIR"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "examination", phantom(SAGITTAL, (60, 52, 6), (1.0, 1.0, 4.0))[0])


def test_a_zip_file_is_its_folder(folder, series, tmp_path, capsys, monkeypatch):
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    archive = zip_of(series, tmp_path / "exam.zip", **{"__MACOSX/._001.dcm": b"x", "read me.txt": b"hello"})
    out = tmp_path / "out"
    assert run(series, out, "--model", folder) == 0 and run(archive, out, "--model", folder) == 0
    masks = [sitk.ReadImage(str(out / f"{name}.mha")) for name in ("examination", "exam")]
    assert sitk.Hash(masks[0]) == sitk.Hash(masks[1]) and sitk.GetArrayViewFromImage(masks[0]).any()
    capsys.readouterr()
    assert run(archive, out, "--model", folder) == 0
    assert capsys.readouterr().out.strip().startswith("1 of 1 scans were finished already")
    model = load_model(folder)
    assert sitk.Hash(segment(archive, model).mask) == sitk.Hash(masks[0])
    assert list((tmp_path / "unpacked").iterdir()) == []


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../outside.dcm", "would be written outside of the folder"),
        ("/tmp/outside.dcm", "would be written outside of the folder"),
        ("a/../../outside.dcm", "would be written outside of the folder"),
        (link("link.dcm"), "is a link or a device"),
        ("EXAMINATION/000.dcm", "two members of one name"),
    ],
)
def test_a_suspicious_zip_file_is_refused_whole(series, tmp_path, name, message, monkeypatch):
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "unpacked"))
    archive = zip_of(series, tmp_path / "exam.zip")
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(name, b"../outside.dcm")
    with pytest.raises(ValueError, match=rf"exam.zip cannot be unpacked: .*{message}"), unzipped(archive):
        pass
    assert list((tmp_path / "unpacked").iterdir()) == [] and not list(tmp_path.rglob("outside.dcm"))


def test_a_zip_file_without_an_end_or_with_damage(folder, series, tmp_path, monkeypatch, capsys):
    archive = zip_of(series, tmp_path / "exam.zip", zeros=bytes(1 << 20))
    whole = archive.read_bytes()
    monkeypatch.setattr(zipped, "MOST_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="would fill more than"), unzipped(archive):
        pass
    monkeypatch.undo()
    for content, message in (
        (whole[: len(whole) // 2], "no whole zip file"),
        (b"not a zip", "no whole zip file"),
        (whole[:200] + bytes(40) + whole[240:], "no whole zip file"),
    ):
        archive.write_bytes(content)
        assert run(archive, tmp_path / "out", "--model", folder) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "exam.zip cannot be unpacked" in line and message in line


class TestIndex:
    def test_what_it_lists_and_nothing_else(self, tmp_path):
        volume = noise_volume()
        listed = write_series(tmp_path / "files", volume)
        index = disc_of(listed, tmp_path / "disc")
        other = setting(SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2.4")
        write_series(tmp_path / "disc" / "stray", volume, other)
        (source,), remarks = find_scans(index)
        assert source.name == "disc" and remarks == []
        assert np.array_equal(sitk.GetArrayFromImage(source.read().volume), sitk.GetArrayFromImage(volume))
        assert len(find_scans(tmp_path / "disc")[0]) == 2  # the folder has the stray one, too

    def test_small_letters_and_missing_files(self, tmp_path):
        index = disc_of(write_series(tmp_path / "files", noise_volume()), tmp_path / "disc")
        for path in sorted(index.parent.rglob("*"), reverse=True):
            if path != index:
                path.rename(path.with_name(path.name.lower()))
        images = sorted(path for path in index.parent.rglob("*") if path.is_file() and path != index)
        images[0].unlink()
        (source,), remarks = find_scans(index)
        assert len(source.files) == 6 and remarks == [f"of the files that {index} lists, 1 are missing"]
        for image in images[1:]:
            image.unlink()
        with pytest.raises(
            FileNotFoundError, match=r"no scan in .*DICOMDIR: .*; of those that it lists, 7 are missing"
        ):
            find_scans(index)

    def test_damaged_or_leading_elsewhere(self, tmp_path):
        index = disc_of(write_series(tmp_path / "files", noise_volume()), tmp_path / "disc")
        whole = index.read_bytes()
        index.write_bytes(whole[:150])
        with pytest.raises(ValueError, match="DICOMDIR cannot be read: it is damaged"):
            find_scans(index)
        index.write_bytes(whole)
        catalogue = pydicom.dcmread(index)
        for record in catalogue.DirectoryRecordSequence:
            if "ReferencedFileID" in record:
                record.ReferencedFileID = ["..", "files", "000.dcm"]
        catalogue.save_as(index)
        with pytest.raises(ValueError, match="lists files outside of its folder"):
            find_scans(index)
