"""Datasets of colour pictures: one .png file with three channels a case, as nnU-Net's own reader takes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from skimage import io

from helpers.nnunet_samples import SHAPES, TinyProject, blobs, nnunet_environment, threads_for_processes
from helpers.prediction_samples import predict, stock_masks
from nnunetv2_diffusion.cli import main

NUMBER = 191


def write_picture(file: Path, mask: np.ndarray, seed: int, channels: int = 3) -> None:
    """The mask's colours and noise."""
    noise = np.random.default_rng(seed).normal(0, 10, (*mask.shape, channels))
    picture = 100 + 40 * mask[..., None] * np.array([1, -1, 0.5, 0])[:channels] + noise
    file.parent.mkdir(parents=True, exist_ok=True)
    io.imsave(file, picture.round().clip(0, 255).astype(np.uint8), check_contrast=False)


@pytest.fixture(scope="module")
def trained(tiny_project: TinyProject) -> TinyProject:
    """The project with a model of colour pictures, planned by nnU-Net and trained for two steps."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

    raw = tiny_project.root / "raw" / f"Dataset{NUMBER}_Tiny"
    (raw / "labelsTr").mkdir(parents=True)
    for case, shape in enumerate(SHAPES):
        write_picture(raw / "imagesTr" / f"case_{case}_0000.png", blobs(case, shape), case)
        io.imsave(raw / "labelsTr" / f"case_{case}.png", blobs(case, shape), check_contrast=False)
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "vertebra": 1, "disc": 2},
        "numTraining": len(SHAPES),
        "file_ending": ".png",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    with nnunet_environment(tiny_project.root, 1), threads_for_processes():
        extract_fingerprints([NUMBER], num_processes=1, verbose=False, show_progress_bar=False)
    tiny_project.plan(NUMBER)
    tiny_project.train(NUMBER, 0)
    return tiny_project


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    for seed, shape in enumerate([(32, 32), (48, 40)]):
        write_picture(tmp_path / "images" / f"unseen_{seed}_0000.png", blobs(seed, shape), 10 + seed)
    return tmp_path / "images"


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {file.name: io.imread(file) for file in sorted(folder.glob("*.png"))}


def test_colour_pictures_are_predicted_and_evaluated(trained: TinyProject, tiny: TinyProject, unseen, tmp_path):
    model = tiny.root / "results" / f"Dataset{NUMBER}_Tiny" / "TinyDiffusionTrainer__nnUNetPlans__2d"
    out = tmp_path / "out"
    assert predict(unseen, out, "--uncertainty", "--save-samples", dataset=NUMBER) == 0
    stock = masks(stock_masks(model, unseen, tmp_path / "stock"))
    assert list(stock) == ["unseen_0.png", "unseen_1.png"]
    for name, mask in masks(out).items():
        np.testing.assert_array_equal(mask, stock[name])
        uncertainty = sitk.ReadImage(str(out / "uncertainty" / f"{Path(name).stem}_uncertainty.nii.gz"))
        assert uncertainty.GetSize() == (*mask.shape[::-1], 1) and uncertainty.GetSpacing() == (1, 1, 1)
        values = sitk.GetArrayFromImage(uncertainty)
        assert 0 <= values.min() < values.max() <= 1
    references = tmp_path / "references"
    for seed, shape in enumerate([(32, 32), (48, 40)]):
        references.mkdir(exist_ok=True)
        io.imsave(references / f"unseen_{seed}.png", blobs(seed, shape), check_contrast=False)
    for name in ("dataset.json", "plans.json"):
        shutil.copy(out / name, references / name)
    folders = ["-ref", str(references), "-pred", str(out), "-o", str(tmp_path / "scores")]
    assert main(["evaluate", *folders, "-np", "1"]) == 0
    found = pd.read_csv(tmp_path / "scores" / "uncertainty_cases.csv")
    assert set(found["case"]) == {"unseen_0", "unseen_1"}
    assert (tmp_path / "scores" / "distributions.csv").is_file()


def test_continuing_reads_the_masks_that_are_there(trained: TinyProject, tiny: TinyProject, unseen, tmp_path):
    out = tmp_path / "out"
    assert predict(unseen, out, dataset=NUMBER) == 0
    first = masks(out)
    kept = (out / "unseen_0.png").stat().st_mtime_ns
    (out / "unseen_1.png").write_bytes((out / "unseen_1.png").read_bytes()[:-30])
    assert predict(unseen, out, "--continue_prediction", dataset=NUMBER) == 0
    assert (out / "unseen_0.png").stat().st_mtime_ns == kept
    np.testing.assert_array_equal(io.imread(out / "unseen_1.png"), first["unseen_1.png"])


@pytest.mark.parametrize("kind", ["grey", "damaged", "link"])
def test_pictures_that_the_model_cannot_take(trained: TinyProject, tiny: TinyProject, unseen, tmp_path, capsys, kind):
    file = unseen / "unseen_2_0000.png"
    messages = {
        "grey": f"{file}: 1 channels, but the model takes 3 a case",
        "damaged": f"{file} cannot be read as an image",
        "link": f"{file} is a link to nowhere.png, which does not exist",
    }
    if kind == "grey":
        io.imsave(file, blobs(2, (32, 32)), check_contrast=False)
    elif kind == "damaged":
        file.write_bytes((unseen / "unseen_0_0000.png").read_bytes()[:100])
    else:
        file.symlink_to("nowhere.png")
    assert predict(unseen, tmp_path / "out", dataset=NUMBER) == 2
    assert messages[kind] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
