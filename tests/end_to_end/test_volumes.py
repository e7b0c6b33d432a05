"""nnU-Net's 3D baseline on volumes, scored on the central slices that 2D models see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from helpers.nnunet_samples import nnunet_environment, threads_for_processes
from helpers.prediction_samples import assert_same
from helpers.prediction_samples import volumes as volumes_of
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import convert
from nnunetv2_diffusion.phantoms.patients import Protocol, write_phantoms
from nnunetv2_diffusion.scoring.metrics import dice

NUMBER = 512
TRAINER = "TinyVolumes"
TRAINERS = """
from nnunetv2_diffusion.trainers.nnUNetTrainerDiceLoss_250epochs import nnUNetTrainerDiceLoss_250epochs


class TinyVolumes(nnUNetTrainerDiceLoss_250epochs):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
"""


def test_references_of_volumes_are_the_references_of_slices(real_mri: Path, tmp_path: Path):
    """On real MRI: whole volumes of reference labels score 1 against the 2D dataset's, patient by patient."""
    grid = {"out": tmp_path, "patients": "6,116,118", "processes": 1}
    flat = convert(real_mri / "spider_layout", "T2w", **grid).folder
    volumes = convert(real_mri / "spider_layout", "T2w", dimension="3d", **grid).folder
    folders = ["-ref", str(flat / "labelsTr"), "-pred", str(volumes / "labelsTr"), "-o", str(tmp_path / "scores")]
    assert main(["evaluate", *folders, "--central-slice", "-np", "1"]) == 0
    cases = pd.read_csv(tmp_path / "scores" / "cases.csv")
    vertebrae = cases[cases["structure"] == "vertebrae"]
    assert len(vertebrae) == 3
    assert (vertebrae["dice"] == 1).all() and (vertebrae["reference_voxels"] > 1000).all()


def plan_small(preprocessed: Path) -> None:
    """nnU-Net's own plan of the volumes, with patches that two steps of training take no time for."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    with threads_for_processes():
        extract_fingerprints([NUMBER], num_processes=1, verbose=False, show_progress_bar=False)
        plan_experiments([NUMBER])
        plans_file = preprocessed / "nnUNetPlans.json"
        plans = json.loads(plans_file.read_text())
        plans["configurations"]["3d_fullres"]["batch_size"] = 2
        arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
        arguments["features_per_stage"] = [4] * len(arguments["features_per_stage"])
        plans_file.write_text(json.dumps(plans))
        preprocess([NUMBER], configurations=("3d_fullres",), num_processes=(1,), show_progress_bar=False)


def test_the_papers_3d_baseline_trains_and_is_scored_on_the_central_slice(tmp_path: Path):
    for name in ("raw", "preprocessed", "results", "trainers"):
        (tmp_path / name).mkdir()
    (tmp_path / "trainers" / "tiny_volumes.py").write_text(TRAINERS)
    write_phantoms(tmp_path / "phantoms", range(1, 6), protocol=Protocol(4.0, 64, 56, 7, 4.0))
    grid = {"spacing": [4.0], "out": tmp_path / "raw", "processes": 1}
    flat = convert(tmp_path / "phantoms", "T2w", size=[64], **grid).folder
    volumes = convert(tmp_path / "phantoms", "T2w", dimension="3d", **grid).folder
    preprocessed = tmp_path / "preprocessed" / volumes.name
    with nnunet_environment(tmp_path, 1):
        plan_small(preprocessed)
    with nnunet_environment(tmp_path), threads_for_processes():
        from nnunetv2.run.run_training import run_training

        run_training(str(NUMBER), "3d_fullres", 0, TRAINER, device=torch.device("cpu"))
    with nnunet_environment(tmp_path), threads_for_processes():
        model = ["-d", str(NUMBER), "-c", "3d_fullres", "-tr", TRAINER, "-f", "0"]
        assert main(["validate", *model, "-device", "cpu"]) == 0
    validation = tmp_path / "results" / volumes.name / f"{TRAINER}__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
    folders = ["-ref", str(flat / "labelsTr"), "-pred", str(validation), "-o", str(tmp_path / "scores")]
    dataset = ["--dataset-json", str(volumes / "dataset.json")]
    assert main(["evaluate", *folders, *dataset, "--central-slice", "-np", "1"]) == 0
    cases = pd.read_csv(tmp_path / "scores" / "cases.csv").set_index(["case", "structure"])
    predicted = sorted(path for path in validation.glob("*.nii.gz"))
    assert predicted and set(cases.index.get_level_values("case")) == {p.name[: -len(".nii.gz")] for p in predicted}
    for path in predicted:
        mask, reference = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / path.name)))
            for folder in (validation, volumes / "labelsTr")
        )
        middle = mask.shape[2] // 2
        for label, structure in ((1, "spinal_canal"), (2, "vertebrae"), (3, "discs")):
            by_hand = dice(reference[:, :, middle] == label, mask[:, :, middle] == label)
            assert cases.loc[(path.name[: -len(".nii.gz")], structure), "dice"] == pytest.approx(by_hand, abs=1e-5)
    assert np.isfinite(cases["dice"]).all()
    ours = validation.with_name("validation_uncertainty")
    assert_same(volumes_of(ours), volumes_of(validation))
    assert all(0 < uncertainty.max() <= 1 for uncertainty in volumes_of(ours, "uncertainty").values())
