"""nnU-Net's commands for models that are trained: the best configuration, and models in zip files, with ours."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.nnunet_samples import TRAINER, TinyProject, threads_for_processes
from helpers.prediction_samples import assert_same, predict, volumes, write_unseen
from nnunetv2_diffusion.cli import main


def run(monkeypatch: pytest.MonkeyPatch, command: str, *arguments: object) -> None:
    """One of nnU-Net's commands in this process."""
    (entry,) = entry_points(group="console_scripts", name=command)
    monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
    with threads_for_processes():
        entry.load()()


@pytest.fixture
def results(tiny: TinyProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a dataset's results: two folds, with the maps of their validation cases."""
    for fold in (0, 1):
        model = tiny.model(fold=fold)
    copy = tmp_path / "results" / model.parent.name / model.name
    for name in ("fold_0", "fold_1"):
        shutil.copytree(model / name, copy / name)
    for file in model.glob("*.json"):
        shutil.copy(file, copy)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    arguments = ["-d", str(tiny.dataset()), "-c", "2d", "-tr", TRAINER, "-device", "cpu", "-f", "0", "1"]
    assert main(["validate", *arguments]) == 0
    assert all((copy / f"fold_{fold}" / "validation_uncertainty" / "uncertainty").is_dir() for fold in (0, 1))
    return tmp_path / "results"


def segmented(model: Path, scan: Path, output: Path) -> dict[str, np.ndarray]:
    """Every image that `spinesegdiff segment` writes."""
    assert main(["segment", str(scan), str(output), "--model", str(model), "-device", "cpu"]) == 0
    files = sorted(output.glob("*.nii.gz"))
    return {file.name: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files}


def test_the_best_configuration_and_a_model_that_moves(
    tiny: TinyProject, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    number, fold_flags = tiny.dataset(), ("-f", 0, 1)
    (dataset,) = results.iterdir()
    model = dataset / f"{TRAINER}__nnUNetPlans__2d"
    validated = [path.name for fold in (0, 1) for path in (model / f"fold_{fold}/validation").glob("*.nii.gz")]
    named = ("-tr", TRAINER, "-c", "2d", *fold_flags)
    run(monkeypatch, "nnUNetv2_find_best_configuration", number, *named, "-np", 1)
    merged = model / "crossval_results_folds_0_1"
    assert sorted(path.name for path in merged.glob("*.nii.gz")) == sorted(validated)
    told = json.loads((dataset / "inference_information.json").read_text())["best_model_or_ensemble"]
    chosen = {"configuration": "2d", "trainer": TRAINER, "plans_identifier": "nnUNetPlans"}
    assert told["selected_model_or_models"] == [chosen]

    write_unseen(tmp_path / "images")
    assert predict(tmp_path / "images", tmp_path / "before", "--uncertainty", *fold_flags, dataset=number) == 0
    run(
        monkeypatch,
        "nnUNetv2_apply_postprocessing",
        *("-i", tmp_path / "before", "-o", tmp_path / "cleaned", "-np", 1),
        *("-pp_pkl_file", told["postprocessing_file"], "-plans_json", told["some_plans_file"]),
    )
    assert volumes(tmp_path / "cleaned").keys() == volumes(tmp_path / "before").keys()

    run(monkeypatch, "nnUNetv2_export_model_to_zip", "-d", number, "-o", tmp_path / "model.zip", *named)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "installed"))
    (tmp_path / "installed").mkdir()
    run(monkeypatch, "nnUNetv2_install_pretrained_model_from_zip", tmp_path / "model.zip")
    assert predict(tmp_path / "images", tmp_path / "after", "--uncertainty", *fold_flags, dataset=number) == 0
    for maps in ("", "uncertainty"):
        assert_same(volumes(tmp_path / "after", maps), volumes(tmp_path / "before", maps))
    installed = tmp_path / "installed" / dataset.name / model.name
    scan = tmp_path / "images" / "larger_0000.nii.gz"
    assert_same(segmented(installed, scan, tmp_path / "moved"), segmented(model, scan, tmp_path / "stayed"))
