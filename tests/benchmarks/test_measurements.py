"""benchmarks/measurements.py: its scores by hand, rivals' draws, tables, and a run of one step a model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

import measurements
from comparison import data_sets
from comparison.data_sets import RawData
from comparison.workspace import Workspace
from helpers.nnunet_samples import threads_for_processes
from helpers.segment_samples import write_model
from intervals import report, rivals, scores
from intervals.cohorts import Cohort
from nnunetv2_diffusion import measures
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.nnunet_names import CONTROL, samples_file
from nnunetv2_diffusion.pipeline.steps import Runner
from phantom_truth import plain_slice


def test_crps_by_hand():
    values = np.array([[0.0, 5.0, 1.0], [2.0, 5.0, 1.0], [np.nan, 5.0, 1.0]])
    # E|x - y| = 1 and E|x - x'| = 1; a certain answer's score is its error; samples that agree with the truth have none
    assert scores.crps(values, np.array([1.0, 3.0, 1.0])) == pytest.approx([0.5, 2.0, 0.0])


def test_pixels_are_drawn_by_their_probabilities():
    probabilities = torch.tensor([0.7, 0.2, 0.1])[:, None, None, None].expand(3, 1, 100, 100)
    drawn = rivals.draw_pixels(probabilities, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 1, 100, 100) and (drawn.sum(dim=0) == 1).all()
    assert drawn.mean(dim=(1, 2, 3)).numpy() == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def rows(rival: str, patients: int, error: float, half: float) -> pd.DataFrame:
    """Heights whose samples' interval is 8 ± half and whose truth lies `error` times a standard normal from 8."""
    rng = np.random.default_rng(3)
    table = []
    for patient in range(patients):
        cells = ("scan", "L4/L5", measures.DISC, measures.MEAN_HEIGHT, 8.0, 8.0 - half, 8.0 + half, 16, "mm", "")
        reference = 8.0 + error * rng.normal()
        about = {"reference": reference, "drawn": 16, "crps": error, "patient": patient, "case": str(patient)}
        table.append({**dict(zip(measures.COLUMNS, cells, strict=True)), **about, "rival": rival})
    return pd.DataFrame(table)


def test_summary_and_verdicts():
    table = scores.summary(pd.concat([rows("samples", 200, 1.0, 0.5), rows("folds", 200, 2.0, 0.1)]))
    samples, folds = (table[table["rival"] == name].iloc[0] for name in ("samples", "folds"))
    # a normal's share within half a standard deviation
    assert samples["coverage"] == pytest.approx(0.383, abs=0.08) and samples["width"] == pytest.approx(1.0)
    assert folds["coverage"] < 0.1 and samples["count"] == 200
    assert 0.85 < samples["calibrated_coverage"] < 0.95
    assert samples["calibrated_width"] == pytest.approx(2 * 1.645, rel=0.2)
    said = report.verdicts(table)
    assert said[0] == "Samples against folds: a lower score in 1 of 1 measurements; not in none."
    assert "within 85% to 95% in 1 of 1 measurements" in said[-1]
    few = scores.summary(rows("samples", 10, 1.0, 0.5))
    assert few["calibrated_coverage"].isna().all() and "needs 18 patients" in report.verdicts(few)[-1]
    assert report.verdicts(scores.summary(pd.DataFrame())) == ["Nothing could be measured."]


def image_of(labels: np.ndarray) -> sitk.Image:
    merged = np.select([labels == 0, labels == 100, labels > 200], [0, 1, 3], 2).astype(np.uint8)
    image = sitk.GetImageFromArray(np.ascontiguousarray(merged[..., None]))
    image.SetSpacing((4.0, 1.5, 1.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def test_a_case_against_the_truth(tmp_path: Path):
    """Its reference as mask and samples, and a truth of one millimetre more."""
    image = image_of(plain_slice(2, 1.5)[1][:110])
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "samples").mkdir()
    case = "SPIDER_002_t2"
    for folder in (tmp_path, tmp_path / "labelsTr"):
        sitk.WriteImage(image, str(folder / f"{case}.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([image] * 3), str(samples_file(tmp_path, case)))
    plain = scores.case_rows(Cohort("real", RawData(1, "x"), tmp_path), "samples", tmp_path, case)
    known = plain.dropna(subset="value")
    assert len(known) > 30 and (known["value"] - known["reference"]).abs().max() == 0 and known["crps"].max() == 0

    def truth(_: str) -> pd.DataFrame:
        return plain.assign(value=plain["value"] + 1)

    found = scores.case_rows(Cohort("phantoms", RawData(1, "x"), tmp_path, truth), "samples", tmp_path, case)
    known = found[found["measurement"] != measures.MEYERDING].dropna(subset="value")
    assert known["crps"].to_numpy() == pytest.approx(1.0) and set(found["patient"]) == {2}


def test_a_bad_request_is_one_line(tmp_path: Path, capsys, restored_environment: None):
    arguments = ["--work", str(tmp_path / "work"), "--results", str(tmp_path), "--cohorts", "spider_layout"]
    assert measurements.main([*arguments, "--mri", str(tmp_path)]) == 2
    assert "--mri" in capsys.readouterr().err
    assert measurements.main([*arguments, "--samples", "1"]) == 2
    assert "--samples must be at least 2" in capsys.readouterr().err
    assert measurements.main([*arguments, "--only-folds", "0"]) == 2
    assert "--only-folds is for --only-train" in capsys.readouterr().err
    assert measurements.main([*arguments, "--variant", "unscaled", "mask_scale=1"]) == 2
    assert "--variant unscaled: 'mask_scale=1' is no json" in capsys.readouterr().err


def in_this_process(command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> int:
    """In place of `execute_and_watch`: without the seconds that a new process takes to import PyTorch."""
    (entry_point,) = importlib.metadata.entry_points(group="console_scripts", name=command[0])
    with pytest.MonkeyPatch.context() as patch, threads_for_processes(), log.open("w") as output:
        patch.setattr(sys, "argv", command)
        for variable, value in environment.items():
            patch.setenv(variable, value)
        with contextlib.redirect_stdout(output):
            entry_point.load()()
    return 0


def masks_of(model: Path, images: Path, folds: list[int], mirroring: bool, out: Path) -> np.ndarray:
    """What nnU-Net's own prediction gives."""
    predictor = DiffusionPredictor(
        runtime=Runtime("cpu"), use_mirroring=mirroring, perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(model, folds)
    predictor.predict_from_files_sequential(str(images), str(out))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(out / "case.nii.gz")))


def test_every_rivals_masks(tmp_path: Path):
    """Of models of random weights: a fold's mask, and a mirroring's, are what nnU-Net's own prediction gives."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(size=(48, 40, 1)).astype(np.float32))
    image.SetSpacing((4.0, 1.0, 1.0))
    sitk.WriteImage(image, str(images / "case_0000.nii.gz"))
    shape = {"folds": (0, 1), "patch": (32, 32), "size": None}
    diffusion = write_model(tmp_path / "diffusion", **shape)
    control = write_model(tmp_path / "control", trainer=CONTROL, **shape)
    tested = rivals.Tested(images, tmp_path / "out", ["case"], "cpu", 4)
    seconds: dict[str, float] = {}
    rivals.predict_control(tested, control, [0, 1], seconds)
    rivals.predict_diffusion(tested, diffusion, [0, 1], seconds)
    assert set(seconds) == set(rivals.RIVALS)
    drawn = {
        rival: sitk.GetArrayFromImage(sitk.ReadImage(str(samples_file(tested.output / rival, "case"))))
        for rival in rivals.RIVALS
    }
    counts = {"samples": 4, "samples_folds": 4, "folds": 2, "mirrorings": 4, "pixels": 4}
    assert {rival: len(array) for rival, array in drawn.items()} == counts
    for fold in (0, 1):
        own = masks_of(control, images, [fold], True, tmp_path / f"fold{fold}")
        assert (drawn["folds"][fold] == own).mean() > 0.99
    plain = masks_of(control, images, [0], False, tmp_path / "plain")
    assert (drawn["mirrorings"][0] == plain).mean() > 0.99
    assert not np.array_equal(drawn["samples"][:2], drawn["samples_folds"][2:])
    assert np.array_equal(drawn["samples"][:2], drawn["samples_folds"][:2])
    assert tested.missing(rivals.RIVALS) == []


@pytest.mark.benchmark
def test_small(tmp_path: Path, monkeypatch, capsys, restored_environment: None):
    """Both models for one step, every rival's masks and a table; a second run predicts nothing again."""
    monkeypatch.setattr(Workspace, "runner", lambda self: Runner(self.root, os.environ, in_this_process))
    monkeypatch.setattr(data_sets, "convert", partial(data_sets.convert, processes=1))
    arguments = f"--work {tmp_path}/work --results {tmp_path}/results --small --threads 1".split()
    assert measurements.main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    masks = tmp_path / "work" / "phantoms" / "masks_2_1steps_2d_small_seed_0"
    for rival, count in {"samples": 2, "samples_folds": 2, "folds": 2, "mirrorings": 4, "pixels": 2}.items():
        cases = sorted((masks / rival).glob("*.nii.gz"))
        assert [case.name for case in cases] == ["SPIDER_005_t2.nii.gz", "SPIDER_006_t2.nii.gz"]
        drawn = sitk.ReadImage(str(samples_file(masks / rival, "SPIDER_005_t2")))
        assert drawn.GetSize() == (*sitk.ReadImage(str(cases[0])).GetSize(), count), rival
    assert measurements.main(arguments) == 0
    again = capsys.readouterr().out
    trained = r"^\[\d/4\] .*, fold \d\n\$ nnUNetv2_train .*\n  done in (?:\d+ min )?\d+ s"
    assert len(re.findall(trained, printed, re.M)) == 4
    assert len(re.findall("kept from an earlier run", again)) == 1 + 4 + 2
    text = (tmp_path / "results" / "measurements_phantoms.md").read_text(encoding="utf-8")
    assert "2 images of patients that no fold saw" in text and "Seconds a slice: folds" in text
    assert (tmp_path / "results" / "measurements_phantoms.csv").is_file()
