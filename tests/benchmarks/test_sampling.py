"""benchmarks/sampling.py: the rows of the sweep, and a sweep of a tiny trained model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import SimpleITK as sitk
import torch

import sampling
from comparison.sweep import ValidationCases, sweep_rows
from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.inference.validation import predict_validation
from nnunetv2_diffusion.scoring.metrics import dice
from nnunetv2_diffusion.settings import Process, Sampling


def test_rows_vary_one_setting_and_leave_out_what_cannot_be():
    default = Sampling(sampling_steps=10, ensemble_steps=5)
    rows = sweep_rows(
        default,
        Process(timesteps=20),
        steps=[1, 10, 50],
        samples=[2],
        ensemble_steps=[5, 11],
        start_timesteps=[3],
        early_stops=[0.01, 1],
    )
    assert rows == [
        ("default", {}),
        ("sampling_steps", {"sampling_steps": 1}),
        ("sampling_steps", {"sampling_steps": 10}),
        ("samples", {"samples": 2}),
        ("ensemble_steps", {"ensemble_steps": 5}),
        ("start_timestep", {"start_timestep": 3}),
        ("early_stop", {"early_stop": 0.01}),
    ]


def test_a_sweep_of_a_trained_model(tiny: TinyProject, tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = ["--model", str(tiny.model()), "--name", "tiny", "--results", str(tmp_path), "--threads", "1"]
    arguments += ["--steps", "1", "3", "--samples", "2", "--ensemble-steps", "2", "--early-stops"]
    assert sampling.main(arguments) == 0
    table = pd.read_csv(tmp_path / "sampling_tiny.csv")
    assert table["sweep"].tolist() == ["default", "sampling_steps", "sampling_steps", "samples", "ensemble_steps"]
    tiles = table["evaluations"] / (table["samples"] * table["sampling_steps"])
    assert tiles[0] > 1  # the tiny patch is smaller than its images
    assert tiles.tolist() == pytest.approx([tiles[0]] * 5, rel=1e-4)
    assert table.loc[0, ["dice_difference", "standard_error"]].tolist() == [0, 0]
    assert table["dice"].between(0, 1).all() and table["ece"].between(0, 1).all() and (table["seconds"] > 0).all()
    for suffix in ("md", "png", "pdf"):
        assert (tmp_path / f"sampling_tiny.{suffix}").stat().st_size > 500
    assert "sampling.py --model" in capsys.readouterr().out


def test_dice_of_the_sweep_is_that_of_the_masks_that_validate_writes(tiny: TinyProject):
    """`spinesegdiff validate`'s masks, read from their files."""
    cases = ValidationCases(tiny.model(), [0], torch.device("cpu"))
    measured = cases.measure([("default", {})])["dice"].iloc[0]
    predictor, items = cases.jobs[0]
    folder = predict_validation(predictor, tiny.model(), 0)
    scores = []
    for item in items:
        case = Path(item["ofile"]).name
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}.nii.gz")))
        reference = cases.references[case]
        scores.append(sum(dice(reference == label, mask == label) for label in (1, 2)) / 2)
    assert measured == pytest.approx(sum(scores) / len(scores))


def test_a_start_that_the_model_cannot_take_is_refused_before_anything_is_measured(tiny: TinyProject):
    cases = ValidationCases(tiny.model(), [0], torch.device("cpu"))
    with pytest.raises(ValueError, match="start_timestep is 500, but without a pre-segmentation"):
        cases.measure([("default", {}), ("start_timestep", {"start_timestep": 500})])
    assert cases.jobs[0][0].slices == 0


def test_a_model_without_folds_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert sampling.main(["--model", str(tmp_path), "--name", "none"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sampling.py: error: ") and error.count("\n") == 1
