"""`spinesegdiff convert` on a small SPIDER folder of known geometry: what it writes, and how it is resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import (
    GRADIENT,
    MIDDLE_VALUE,
    SAGITTAL,
    files_of,
    make_mask,
    make_scan,
    physical_points,
    read,
    rotation,
    run,
)
from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import convert


def nearest_spider_values(points: np.ndarray, scan: sitk.Image, mask: sitk.Image) -> np.ndarray:
    """The mask's value at each point by numpy: the voxel whose centre is nearest, 0 outside."""
    index = (points - scan.GetOrigin()) @ np.reshape(scan.GetDirection(), (3, 3)) / scan.GetSpacing()
    index = np.rint(index).astype(int)
    inside = np.all((index >= 0) & (index < scan.GetSize()), axis=-1)
    x, y, z = np.where(inside[..., None], index, 0).transpose(2, 0, 1)
    return np.where(inside, sitk.GetArrayFromImage(mask)[z, y, x], 0)


class TestWrittenDataset:
    @pytest.mark.parametrize("degrees", [(0, 0, 0), (12, -8, 20), (-25, 15, -30)])
    @pytest.mark.parametrize("dimension", ["2d", "3d"])
    def test_image_and_label_lie_where_the_scan_has_them(self, spider_folder, tmp_path, degrees, dimension):
        scan = make_scan(direction=rotation(degrees) @ SAGITTAL)
        root = spider_folder("1_t2", scan=scan)
        folder = convert(root, "T2w", out=tmp_path, dimension=dimension, size=(64, 48), processes=1).folder
        image = sitk.ReadImage(str(folder / "imagesTr" / "SPIDER_001_t2_0000.nii.gz"))
        label = sitk.ReadImage(str(folder / "labelsTr" / "SPIDER_001_t2.nii.gz"))
        slices = 1 if dimension == "2d" else 5
        assert image.GetSize() == label.GetSize() == (slices, 48, 64)
        np.testing.assert_allclose(image.GetSpacing(), (4, 1, 1), rtol=1e-6)
        points = physical_points(image)
        percentile = np.percentile(sitk.GetArrayFromImage(scan), 98)
        centre = physical_points(scan).reshape(-1, 3).mean(axis=0)
        expected = ((points - centre) @ GRADIENT + MIDDLE_VALUE) * 255 / percentile
        index = (points - scan.GetOrigin()) @ np.reshape(scan.GetDirection(), (3, 3)) / scan.GetSpacing()
        if dimension == "2d":
            np.testing.assert_allclose(index[..., 2], 2, atol=1e-4)  # exactly on the central one of five slices
        inside = np.all((index >= -1e-4) & (index <= np.array(scan.GetSize()) - 1 + 1e-4), axis=-1)
        inside &= expected < 250  # away from the values that the percentile clips
        assert inside.sum() > 100
        np.testing.assert_allclose(sitk.GetArrayFromImage(image)[inside], expected[inside], atol=0.05)
        to_label = np.zeros(256, dtype=int)
        to_label[[100, 3, 101, 203]] = 1, 2, 2, 3
        nearest = np.stack([nearest_spider_values(plane, scan, make_mask(scan)) for plane in points])
        midway = np.any(np.abs(index - np.floor(index) - 0.5) < 0.01, axis=-1)  # there no neighbour is nearer
        assert midway.mean() < 0.5
        np.testing.assert_array_equal(sitk.GetArrayFromImage(label)[~midway], to_label[nearest][~midway])
        assert sorted(np.unique(sitk.GetArrayFromImage(label))) == [0, 1, 2, 3]

    def test_files_and_dataset_json(self, spider_folder, tmp_path):
        root = spider_folder("1_t1", "1_t2", "41_t2_SPACE", "7_t1")
        result = convert(root, "T1wT2w", out=tmp_path / "raw", processes=1)
        cases = ["SPIDER_001_t1", "SPIDER_001_t2", "SPIDER_007_t1", "SPIDER_041_t2"]
        assert result.folder == tmp_path / "raw" / "Dataset503_SPIDER_T1wT2w"
        expected = [f"imagesTr/{case}_0000.nii.gz" for case in cases] + [f"labelsTr/{case}.nii.gz" for case in cases]
        assert files_of(result.folder) == sorted([*expected, "cases.csv", "dataset.json", "splits_final.json"])
        description = json.loads((result.folder / "dataset.json").read_text())
        assert description["channel_names"] == {"0": "MRI"}
        assert description["labels"] == {"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3}
        assert (description["numTraining"], description["file_ending"]) == (4, ".nii.gz")
        assert description["spinesegdiff_conversion"]["size"] == [320, 320]
        with (result.folder / "cases.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0] == {
            "case": "SPIDER_001_t1",
            "patient": "1",
            "series": "t1",
            "source_file": "images/1_t1.mha",
            "oblique": "yes",
            "foreground_voxels_lost": "0",
        }
        assert [row["case"] for row in rows] == cases
        assert [row["oblique"] for row in rows] == ["yes", "yes", "no", "no"]
        assert rows[3]["series"] == "t2_SPACE"

    @pytest.mark.parametrize(
        ("modality", "dimension", "name"),
        [
            ("T1w", "2d", "Dataset501_SPIDER_T1w"),
            ("T2w", "2d", "Dataset502_SPIDER_T2w"),
            ("T2w", "3d", "Dataset512_SPIDER_T2w_3D"),
            ("T1wT2w", "3d", "Dataset513_SPIDER_T1wT2w_3D"),
        ],
    )
    def test_names(self, spider_folder, tmp_path, modality, dimension, name):
        root = spider_folder("1_t1", "1_t2")
        assert convert(root, modality, dimension=dimension, out=tmp_path, processes=1).folder.name == name

    def test_2d_and_3d_have_the_same_cases_and_folds_and_share_pixels(self, spider_folder, tmp_path):
        root = spider_folder(*(f"{patient}_t2" for patient in range(1, 7)))
        flat = convert(root, "T2w", out=tmp_path, size=(24, 20), processes=1).folder
        volume = convert(root, "T2w", out=tmp_path, dimension="3d", processes=1).folder
        assert (flat / "splits_final.json").read_text() == (volume / "splits_final.json").read_text()
        rows = [(folder / "cases.csv").read_text().splitlines() for folder in (flat, volume)]
        without_lost = [[row.rsplit(",", 1)[0] for row in lines] for lines in rows]
        assert without_lost[0] == without_lost[1]
        assert len(rows[0]) == 7
        image = read(flat / "imagesTr" / "SPIDER_001_t2_0000.nii.gz")
        whole = read(volume / "imagesTr" / "SPIDER_001_t2_0000.nii.gz")
        top, left = (whole.shape[0] - 24) // 2, (whole.shape[1] - 20) // 2
        np.testing.assert_allclose(image[:, :, 0], whole[top : top + 24, left : left + 20, 2], atol=1e-3)

    def test_foreground_lost_by_cropping_is_counted_and_warned_about(self, spider_folder, tmp_path, capsys):
        scan = make_scan(spacing=(1.0, 1.0, 4.0))
        root = spider_folder("1_t2", "2_t2", scan=scan)
        assert run(root, "--modality", "T2w", "--out", tmp_path, "--size", 16, 12) == 0
        with (tmp_path / "Dataset502_SPIDER_T2w" / "cases.csv").open() as stream:
            lost = {int(row["foreground_voxels_lost"]) for row in csv.DictReader(stream)}
        # The structures take 17 rows (4-7, 9-13, 15-17, 19-23) x 10 columns (5-14) of a slice. Of its 30 rows and 24
        # columns the centred crop keeps rows 7-22 and columns 6-17, so 13 rows x 9 columns of structures are left.
        assert lost == {17 * 10 - 13 * 9}
        assert "warning: cropping to 16 x 12 pixels lost foreground voxels in SPIDER_001_t2" in capsys.readouterr().out

    def test_several_processes_write_the_same_files(self, spider_folder, tmp_path):
        root = spider_folder("1_t1", "1_t2", "2_t2")
        one = convert(root, "T1wT2w", out=tmp_path / "one", size=(32, 32), processes=1)
        two = convert(root, "T1wT2w", out=tmp_path / "two", size=(32, 32), processes=2)
        assert one.records == two.records
        for name in files_of(one.folder):
            assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name

    def test_as_a_script(self, spider_folder, tmp_path):
        script = Path(__file__).parents[2] / "dataset_conversion" / "Dataset501_SPIDER.py"
        command = [sys.executable, script, spider_folder("1_t2"), "--modality", "T2w", "--out", tmp_path]
        assert subprocess.run(command, check=False).returncode == 0
        assert (tmp_path / "Dataset502_SPIDER_T2w" / "dataset.json").is_file()
        refused = subprocess.run([*command, "--size", "0"], check=False, capture_output=True, encoding="utf-8")
        assert refused.returncode == 2
        assert "--size 0 is not" in refused.stderr


class TestNnunetFolders:
    def test_folds_also_go_to_nnunet_preprocessed(self, spider_folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        root = spider_folder("1_t2", "2_t2")
        assert run(root, "--modality", "T2w") == 0
        written = tmp_path / "raw" / "Dataset502_SPIDER_T2w" / "splits_final.json"
        copy = tmp_path / "preprocessed" / "Dataset502_SPIDER_T2w" / "splits_final.json"
        assert copy.read_text() == written.read_text()
        output = capsys.readouterr().out
        assert f"folds: {written}" in output
        assert f"folds: {copy}\n" in output
        copy.write_text("[]")
        assert run(root, "--modality", "T2w") == 0
        assert copy.read_text() == written.read_text()
        assert "replaced other folds" in capsys.readouterr().out

    def test_folds_stay_out_of_a_foreign_nnunet_preprocessed(self, spider_folder, tmp_path, monkeypatch):
        monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        assert run(spider_folder("1_t2", "2_t2"), "--modality", "T2w", "--out", tmp_path / "elsewhere") == 0
        assert (tmp_path / "elsewhere" / "Dataset502_SPIDER_T2w" / "splits_final.json").is_file()
        assert not (tmp_path / "preprocessed").exists()

    def test_given_splits_are_used(self, spider_folder, tmp_path):
        given = [{"train": ["SPIDER_001_t2"], "val": ["SPIDER_002_t2"]}]
        (tmp_path / "mine.json").write_text(json.dumps(given))
        root = spider_folder("1_t2", "2_t2", "3_t2")
        assert run(root, "--modality", "T2w", "--out", tmp_path, "--splits", tmp_path / "mine.json") == 0
        assert json.loads((tmp_path / "Dataset502_SPIDER_T2w" / "splits_final.json").read_text()) == given


class TestResume:
    def test_finished_cases_are_skipped_and_changed_ones_redone(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2", "3_t2")
        first = convert(root, "T2w", out=tmp_path, processes=1)
        times = {name: (first.folder / name).stat().st_mtime_ns for name in files_of(first.folder)}
        later = time.time() + 5
        os.utime(root / "masks" / "2_t2.mha", (later, later))
        again = convert(root, "T2w", out=tmp_path, processes=1)
        assert (first.skipped, again.skipped) == (0, 2)
        assert again.records == first.records
        changed = {name for name in times if (again.folder / name).stat().st_mtime_ns != times[name]}
        assert {name for name in changed if "SPIDER_" in name} == {
            "imagesTr/SPIDER_002_t2_0000.nii.gz",
            "labelsTr/SPIDER_002_t2.nii.gz",
        }

    def test_what_a_killed_run_left_half_written_is_cleared(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2")
        folder = convert(root, "T2w", out=tmp_path, processes=1).folder
        before = files_of(folder)
        (folder / ".partial").mkdir()
        for leftover in (".partial_123_cases.csv", ".partial/.partial_123_SPIDER_002_t2.nii.gz"):
            (folder / leftover).write_text("half")
        convert(root, "T2w", out=tmp_path, processes=1)
        assert files_of(folder) == before

    def test_more_patients_may_be_added_but_none_dropped(self, spider_folder, tmp_path, capsys):
        root = spider_folder("1_t2", "2_t2", "3_t2")
        arguments = (root, "--modality", "T2w", "--out", tmp_path, "--patients")
        assert run(*arguments, "1-2") == 0
        assert run(*arguments, "1-3") == 0
        assert "3 cases (2 of them from an earlier run)" in capsys.readouterr().out
        assert run(*arguments, "3") == 2
        assert "already holds cases that are not asked for now (SPIDER_001_t2" in capsys.readouterr().err

    def test_other_settings_are_refused(self, spider_folder, tmp_path, capsys):
        root = spider_folder("1_t2")
        assert run(root, "--modality", "T2w", "--out", tmp_path) == 0
        before = files_of(tmp_path)
        assert run(root, "--modality", "T2w", "--out", tmp_path, "--size", 128) == 2
        assert "was converted with size [320, 320] instead of [128, 128]" in capsys.readouterr().err
        assert files_of(tmp_path) == before

    def test_a_killed_run_leaves_no_half_file_and_is_taken_up(self, spider_folder, tmp_path):
        scan = make_scan(size=(200, 200, 15))
        names = [f"{patient}_t2" for patient in range(1, 13)]
        root = spider_folder(*names, scan=scan)
        folder = tmp_path / "out" / "Dataset502_SPIDER_T2w"
        command = [sys.executable, "-m", "nnunetv2_diffusion.cli", "convert", str(root), "--modality", "T2w"]
        process = subprocess.Popen([*command, "--out", str(tmp_path / "out"), "-np", "1"], cwd="/")
        while process.poll() is None and len(list(folder.glob("imagesTr/*"))) < 2:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in [*folder.glob("imagesTr/*"), *folder.glob("labelsTr/*")]:
            assert read(path).shape == (320, 320, 1)
        resumed = convert(root, "T2w", out=tmp_path / "out", processes=1)
        fresh = convert(root, "T2w", out=tmp_path / "fresh", processes=1)
        assert resumed.skipped >= 1
        assert files_of(resumed.folder) == files_of(fresh.folder)
        for name in files_of(fresh.folder):
            assert (resumed.folder / name).read_bytes() == (fresh.folder / name).read_bytes(), name
