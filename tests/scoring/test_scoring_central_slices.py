"""`spinesegdiff evaluate --central-slice`: volumes scored on the one slice that the 2D reference shows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion.cli import main

LABELS = {"background": 0, "canal": 1, "discs": 2}
SLICE = 3


def volume() -> np.ndarray:
    """[z, y, x] with x the slices: each holds other structures, slice 3 alone a disc of 6 x 4 pixels."""
    array = np.zeros((12, 10, 7), np.uint8)
    for x in range(7):
        array[1 : 2 + x % 3, 2:5, x] = 1
    array[4:10, 3:7, SLICE] = 2
    return array


def write(array: np.ndarray, path: Path, origin=(-8.0, 5.0, 30.0), spacing=(4.0, 1.0, 1.0)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    path.parent.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A reference slice, padded by two pixels along y and z, and the volume that it is slice 3 of, with a map."""
    references, predictions = tmp_path / "ref", tmp_path / "pred"
    padded = np.pad(volume()[:, :, SLICE : SLICE + 1], ((2, 2), (2, 2), (0, 0)))
    write(padded, references / "case.nii.gz", origin=(-8.0 + 4.0 * SLICE, 3.0, 28.0))
    write(volume(), predictions / "case.nii.gz")
    slices = np.broadcast_to(np.arange(7) / 10, (12, 10, 7)).astype(np.float32)
    (predictions / "uncertainty").mkdir()
    write(slices, predictions / "uncertainty" / "case_uncertainty.nii.gz")
    (references / "dataset.json").write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    return references, predictions


def evaluate(folders: tuple[Path, Path], out: Path, *flags: str) -> int:
    return main(["evaluate", "-ref", str(folders[0]), "-pred", str(folders[1]), "-o", str(out), "-np", "1", *flags])


def test_the_very_slice_is_scored_and_written(folders, tmp_path):
    assert evaluate(folders, tmp_path / "out", "--central-slice") == 0
    cases = pd.read_csv(tmp_path / "out" / "cases.csv").set_index("structure")
    assert cases["dice"].to_dict() == {"canal": 1, "discs": 1}
    assert cases.loc["discs", "predicted_voxels"] == 24
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "central_slices" / "case.nii.gz")))
    np.testing.assert_array_equal(written[2:-2, 2:-2, 0], volume()[:, :, SLICE])
    written = tmp_path / "out" / "central_slices" / "uncertainty" / "case_uncertainty.nii.gz"
    maps = sitk.GetArrayFromImage(sitk.ReadImage(str(written)))
    assert set(np.unique(maps)) == {np.float32(0), np.float32(SLICE / 10)}  # 0: the padding


def test_a_wrong_pixel_of_that_slice_counts_and_one_of_another_does_not(folders, tmp_path):
    array = volume()
    array[4, 3, SLICE] = 0
    array[:, :, SLICE + 1] = 2
    write(array, folders[1] / "case.nii.gz")
    assert evaluate(folders, tmp_path / "out", "--central-slice") == 0
    cases = pd.read_csv(tmp_path / "out" / "cases.csv").set_index("structure")
    assert cases.loc["discs", "dice"] == pytest.approx(2 * 23 / (23 + 24))


def test_without_the_flag_the_grids_are_refused(folders, tmp_path, capsys):
    assert evaluate(folders, tmp_path / "out") == 2
    assert "case.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize("moved", [(40.0, 5.0, 30.0), (-8.0, 105.0, 30.0)])
def test_a_volume_from_elsewhere_is_refused(folders, tmp_path, capsys, moved):
    write(volume(), folders[1] / "case.nii.gz", origin=moved)
    assert evaluate(folders, tmp_path / "out", "--central-slice") == 2
    error = capsys.readouterr().err
    assert "voxels outside of" in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "cases.csv").exists()


def test_a_reference_of_several_slices_is_refused(folders, tmp_path, capsys):
    write(volume(), folders[0] / "case.nii.gz")
    assert evaluate(folders, tmp_path / "out", "--central-slice") == 2
    assert "a single slice is expected" in capsys.readouterr().err
