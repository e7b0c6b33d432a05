"""`spinesegdiff evaluate` on two plain folders, with good and bad input."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import SimpleITK

from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.scoring.case_files import find_map
from nnunetv2_diffusion.scoring.folders import evaluate_folders
from nnunetv2_diffusion.scoring.labels import LabelScheme, label_scheme

NAMES = {"background": 0, "left_lung": 1, "heart": 2}


def write_image(array: np.ndarray, path, spacing=(1.0, 1.0, 4.0)) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(path))


def mask(shift: int = 0) -> np.ndarray:
    array = np.zeros((1, 40, 40), dtype=np.uint8)
    array[0, 5:15, 5 + shift : 15 + shift] = 1
    array[0, 20:30, 20:30] = 2
    return array


@pytest.fixture
def folders(tmp_path):
    """Six cases with shifts 0 ... 5 of the first structure, maps that grow with the shift, and probabilities."""
    reference, prediction = tmp_path / "ref", tmp_path / "pred"
    reference.mkdir()
    (prediction / "uncertainty").mkdir(parents=True)
    (prediction / "dataset.json").write_text(json.dumps({"labels": NAMES, "file_ending": ".nii.gz"}))
    for case in range(6):
        predicted = mask(case)
        write_image(mask(), reference / f"case{case}.nii.gz")
        write_image(predicted, prediction / f"case{case}.nii.gz")
        wrong = (predicted != mask()).astype(np.float32)
        write_image(0.1 + 0.5 * wrong, prediction / "uncertainty" / f"case{case}_uncertainty.nii.gz")
        winner = np.eye(3, dtype=np.float32)[predicted].transpose(3, 0, 1, 2)
        np.savez_compressed(prediction / f"case{case}.npz", probabilities=0.7 * winner + 0.1)
    write_image(mask(), reference / "not_predicted.nii.gz")
    return reference, prediction


def test_command_writes_the_tables(folders, tmp_path, capsys):
    reference, prediction = folders
    out = tmp_path / "out"
    assert main(["evaluate", "-ref", str(reference), "-pred", str(prediction), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "6 cases" in printed and "Left lung" in printed and "1 references have no prediction" in printed
    left_lung = next(line for line in printed.splitlines() if line.startswith("Left lung"))
    assert re.fullmatch(r"Left lung +\d\.\d{3} ± \d\.\d{3}( +\d+\.\d\d ± \d+\.\d\d){2}.*", left_lung)
    figures = [f"{name}_{region}" for name in ("reliability", "risk_coverage") for region in ("foreground", "image")]
    assert all((out / f"{name}{suffix}").stat().st_size > 1000 for name in figures for suffix in (".png", ".pdf"))
    cases = pd.read_csv(out / "cases.csv").set_index(["case", "structure"])
    expected = {f"case{shift}": (10 - shift) / 10 for shift in range(6)}
    assert cases["dice"].xs("left_lung", level="structure").to_dict() == pytest.approx(expected)
    summary = pd.read_csv(out / "summary.csv").set_index("structure")
    values = np.array(list(expected.values()))
    assert summary.loc["left_lung", "dice_mean"] == pytest.approx(values.mean())
    assert summary.loc["left_lung", "dice_std"] == pytest.approx(values.std(ddof=1), rel=1e-5)
    assert summary.loc["heart", ["dice_mean", "hd95_mean"]].tolist() == [1, 0]
    assert summary.loc["mean", "dice_mean"] == pytest.approx((values.mean() + 1) / 2)


def test_uncertainty_of_the_folder(folders):
    """The map marks exactly the wrong voxels; every voxel is stated to be right with 0.8."""
    result = evaluate_folders(*folders, progress=False)
    row = result.uncertainty.iloc[0]
    assert row["maps"] == row["probabilities"] == 6
    assert row["image_auroc"] == row["foreground_auroc"] == 1
    assert row["image_aurc"] == pytest.approx(row["image_aurc_best"])
    assert row["spearman"] == pytest.approx(-1)
    wrong = np.mean([2 * 10 * shift / 1600 for shift in range(6)])
    assert row["image_error_rate"] == pytest.approx(wrong)
    assert row["image_ece"] == pytest.approx(1 - wrong - 0.8)


def test_maps_in_another_folder(folders, tmp_path):
    reference, prediction = folders
    maps = (prediction / "uncertainty").rename(tmp_path / "maps")
    assert evaluate_folders(reference, prediction, progress=False).scores.uncertainty.empty
    assert evaluate_folders(reference, prediction, maps, progress=False).uncertainty["maps"].item() == 6


def bad_shape(reference, prediction):
    write_image(np.zeros((1, 41, 40), np.uint8), prediction / "case3.nii.gz")
    return "case3.nii.gz has shape (1, 41, 40), but"


def bad_spacing(reference, prediction):
    write_image(mask(), prediction / "case3.nii.gz", (1.0, 1.2, 4.0))
    return "has spacing (4.0, 1.2, 1.0) mm, but"


def bad_orientation(reference, prediction):
    image = SimpleITK.GetImageFromArray(mask())
    image.SetSpacing((1.0, 1.0, 4.0))
    image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(prediction / "case3.nii.gz"))
    return "has orientation RPS, but"


def foreign_case(reference, prediction):
    write_image(mask(), prediction / "other.nii.gz")
    return "other.nii.gz; are these results of another dataset?"


def foreign_label(reference, prediction):
    write_image(mask() * 100, prediction / "case1.nii.gz")
    return "holds the values 100, 200, which dataset.json does not name"


def bad_map(reference, prediction):
    write_image(np.full((1, 40, 40), 3, np.float32), prediction / "uncertainty" / "case2_uncertainty.nii.gz")
    return "case2_uncertainty.nii.gz holds values outside [0, 1]"


def bad_probabilities(reference, prediction):
    np.savez_compressed(prediction / "case2.npz", probabilities=np.zeros((2, 1, 40, 40)))
    return "case2.npz: 2 probability maps, but the labels call for 3"


def broken_file(reference, prediction):
    path = prediction / "case0.nii.gz"
    path.write_bytes(path.read_bytes()[:40])
    return "case0.nii.gz cannot be read as an image"


def no_predictions(reference, prediction):
    for path in prediction.glob("*.nii.gz"):
        path.unlink()
    return "no mask (*.nii.gz) in"


def no_labels(reference, prediction):
    (prediction / "dataset.json").unlink()
    return "no dataset.json in"


def wrong_labels(reference, prediction):
    (prediction / "dataset.json").write_text('{"labels": {"a": "one"}}')
    return "a whole number or a list of them is expected"


@pytest.mark.parametrize(
    "spoil",
    [
        bad_shape,
        bad_spacing,
        bad_orientation,
        foreign_case,
        foreign_label,
        bad_map,
        bad_probabilities,
        broken_file,
        no_predictions,
        no_labels,
        wrong_labels,
    ],
)
def test_bad_input_is_one_sentence(folders, tmp_path, capsys, spoil):
    expected = spoil(*folders)
    out = tmp_path / "out"
    assert main(["evaluate", "-ref", str(folders[0]), "-pred", str(folders[1]), "-o", str(out)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("spinesegdiff evaluate: error:") and expected in error
    assert not out.exists()


def test_where_a_map_lies(tmp_path):
    """NIfTI first, as our commands write it; else of the dataset's own ending; another case's does not count."""
    assert find_map(tmp_path, "a", ".mha") is None
    (tmp_path / "ab_uncertainty.mha").touch()
    assert find_map(tmp_path, "a", ".mha") is None and find_map(tmp_path, "ab", ".nii.gz") is None
    assert find_map(tmp_path, "ab", ".mha") == tmp_path / "ab_uncertainty.mha"
    (tmp_path / "ab_uncertainty.nii.gz").touch()
    assert find_map(tmp_path, "ab", ".mha") == tmp_path / "ab_uncertainty.nii.gz"


def test_a_structure_of_two_labels_is_a_region():
    assert label_scheme({"background": 0, "spine": [1, 2], "disc": [2]}).has_regions
    assert not label_scheme({"background": 0, "spine": [1], "disc": 2}).has_regions
    assert not LabelScheme({"disc": (2,)}).has_regions


def test_where_a_reference_is_annotated():
    scheme = LabelScheme({"disc": (1,)}, ignore=2)
    assert scheme.valid(np.array([0, 1])) is None
    assert scheme.valid(np.array([0, 2])).tolist() == [True, False]
    assert scheme.valid(np.array([2, 2])).tolist() == [False, False]
    assert LabelScheme({"disc": (1,)}).valid(np.array([2, 2])) is None


def test_the_bar_counts_the_cases(folders, capsys):
    evaluate_folders(*folders, processes=1, progress=True)
    assert " 6/6 " in capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
