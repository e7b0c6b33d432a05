"""Real lumbar MRI through the commands of the README: converted, planned, trained, predicted for unseen patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.console import run
from helpers.real_spine import MODEL, RealModel, seconds_per_slice

CASES = ["SPIDER_116_t2", "SPIDER_118_t2", "SPIDER_119_t2"]


def array(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.fixture(scope="module")
def stock(real_model: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks by nnU-Net's own command."""
    output = tmp_path_factory.mktemp("stock")
    arguments = ("-i", real_model.unseen_images, "-o", output, *MODEL, "-device", "cpu", "-npp", 1, "-nps", 1)
    run("nnUNetv2_predict", *arguments, **real_model.environment)
    return output


@pytest.fixture(scope="module")
def ours(real_model: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks and maps by our command, without nnUNet_extTrainer."""
    output = tmp_path_factory.mktemp("ours")
    arguments = ("-i", real_model.unseen_images, "-o", output, *MODEL, "--uncertainty", "-npp", 0, "-nps", 0)
    environment = {name: value for name, value in real_model.environment.items() if name != "nnUNet_extTrainer"}
    run("spinesegdiff", "predict", *arguments, **environment)
    return output


def test_training_learns_from_epoch_to_epoch(real_model: RealModel):
    pseudo_dice = real_model.pseudo_dice()
    assert len(pseudo_dice) == 5
    assert pseudo_dice[-1] > max(0.8, pseudo_dice[0])


def test_unseen_patients_vertebrae_are_found(real_model: RealModel, ours: Path):
    dice = {}
    for case in CASES:
        predicted, reference = (array(folder / f"{case}.nii.gz") == 2 for folder in (ours, real_model.unseen_masks))
        dice[case] = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
    print(f"vertebra Dice {dice}, {seconds_per_slice(ours):.2f} s a slice")
    assert np.mean(list(dice.values())) > 0.80


def test_nnunets_own_command_writes_the_same_masks(stock: Path, ours: Path):
    assert sorted(path.name for path in stock.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in CASES]
    for case in CASES:
        np.testing.assert_array_equal(array(stock / f"{case}.nii.gz"), array(ours / f"{case}.nii.gz"))


def test_uncertainty_lies_on_the_images_grid_and_is_higher_on_errors(real_model: RealModel, ours: Path):
    wrong, right = [], []
    for case in CASES:
        image = sitk.ReadImage(str(real_model.unseen_images / f"{case}_0000.nii.gz"))
        written = sitk.ReadImage(str(ours / "uncertainty" / f"{case}_uncertainty.nii.gz"))
        assert written.GetSize() == image.GetSize()
        for name in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(written, name)(), getattr(image, name)(), atol=1e-5)
        uncertainty = sitk.GetArrayFromImage(written)
        assert 0 <= uncertainty.min() < uncertainty.max() <= 1
        error = array(ours / f"{case}.nii.gz") != array(real_model.unseen_masks / f"{case}.nii.gz")
        wrong.append(uncertainty[error])
        right.append(uncertainty[~error])
    assert np.concatenate(wrong).mean() > 3 * np.concatenate(right).mean()


def test_the_training_validated_with_the_whole_ensemble(real_model: RealModel):
    masks = list((real_model.results / "fold_all" / "validation").glob("*.nii.gz"))
    assert len(masks) == 12
    assert (real_model.results / "fold_all" / "validation" / "summary.json").is_file()
