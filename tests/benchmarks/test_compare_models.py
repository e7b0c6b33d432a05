"""benchmarks/compare_models.py: its data sets, pictures and tables, and a run of one step a model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from matplotlib.colors import to_rgb

import compare_models
from comparison import data_sets, models, pictures, probe, tables
from comparison.measuring import Measured, annotated_structures
from comparison.workspace import Workspace
from helpers.nnunet_samples import threads_for_processes
from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.pipeline.steps import Runner
from nnunetv2_diffusion.scoring.labels import label_scheme

SIDE = 64


def write_slices(folder: Path, cases: int = 5) -> None:
    """Slices in PIR orientation, 4 mm apart, with discs (1) and vertebrae (2); the last one lacks vertebrae."""
    generator = np.random.default_rng(0)
    for case in range(cases):
        mask = np.zeros((1, SIDE, SIDE), np.uint8)
        mask[0, 8:56, 20:40] = 2
        mask[0, 16 + case : 56 : 12, 20:40] = mask[0, 17 + case : 56 : 12, 20:40] = 1
        if case == cases - 1:
            mask[mask == 2] = 0
        for part, array in (("images", 40 * mask + generator.integers(0, 60, mask.shape)), ("labels", mask)):
            image = sitk.GetImageFromArray(array.astype(np.uint8))
            image.SetSpacing((1, 1, 4))
            image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
            (folder / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(folder / part / f"spine_{case:02d}.nii.gz"))


def test_slices_become_a_raw_dataset(tmp_path: Path):
    write_slices(tmp_path / "mri" / data_sets.DISCS_AND_VERTEBRAE)
    data = data_sets.write_raw(data_sets.DISCS_AND_VERTEBRAE, tmp_path / "mri", tmp_path / "raw", size=32, folds=2)
    raw = tmp_path / "raw" / data.name
    assert "spine_04" in data.notes[0]
    splits = json.loads((raw / "splits_final.json").read_text())
    held_out = sorted(itertools.chain(*(split["val"] for split in splits)))
    assert held_out == [f"spine_{case:02d}" for case in range(4)]
    assert all(not set(split["train"]) & set(split["val"]) for split in splits)
    label = sitk.ReadImage(str(raw / "labelsTr" / "spine_00.nii.gz"))
    assert label.GetSize() == (1, 32, 32)
    assert label.GetSpacing() == pytest.approx((4, 2, 2))  # nnU-Net slices along the axis of largest spacing
    source = sitk.GetArrayFromImage(
        sitk.ReadImage(str(tmp_path / "mri" / data_sets.DISCS_AND_VERTEBRAE / "labels" / "spine_00.nii.gz"))
    )
    share = [(sitk.GetArrayFromImage(label) == value).mean() for value in (0, 1, 2)]
    assert share == pytest.approx([(source == value).mean() for value in (0, 1, 2)], abs=0.03)


def test_only_scans_with_vertebrae_are_taken_from_spiders_layout(real_mri: Path, tmp_path: Path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)
    for part, patient in itertools.product(("images", "masks"), (1, 8, 102, 211)):
        (tmp_path / data_sets.SPIDER_LAYOUT / part).mkdir(parents=True, exist_ok=True)
        file = f"{part}/{patient}_t2.mha"
        (tmp_path / data_sets.SPIDER_LAYOUT / file).symlink_to(real_mri.resolve() / "spider_layout" / file)
    data = data_sets.write_raw(data_sets.SPIDER_LAYOUT, tmp_path, tmp_path / "raw", size=128, folds=3)
    raw = tmp_path / "raw" / data.name
    splits = json.loads((raw / "splits_final.json").read_text())
    assert [len(split["val"]) for split in splits] == [1, 1, 1]
    assert "SPIDER_211_t2" in data.notes[0]
    assert not (raw / "labelsTr" / "SPIDER_211_t2.nii.gz").exists()
    assert sitk.ReadImage(str(raw / "labelsTr" / "SPIDER_008_t2.nii.gz")).GetSpacing()[1:] == (2.5, 2.5)


def test_folds_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="--folds 4 does not fit 3 patients"):
        data_sets.patient_splits({"a": 1, "b": 2, "c": 3, "d": 3}, 4)
    splits = data_sets.patient_splits({"a": 1, "b": 2, "c": 3, "d": 3}, 3)
    assert sorted(split["val"] for split in splits) == [["a"], ["b"], ["c", "d"]]


def measured(name: str, kind: str, scores: list[float], seconds: float, stage: int | None = None, seed=0, **facts):
    model = models.ComparedModel(name, kind, "trainer", "2d", timesteps=stage)
    common = {"fold": 0, "structure": "discs"}
    dice = pd.DataFrame(
        [{"case": f"c{i}", **common, "dice": score, "dice_expected": score + 0.01} for i, score in enumerate(scores)]
        + [{"case": "c0", "fold": 0, "structure": "spinal_canal", "dice": float("nan"), "dice_expected": float("nan")}]
    )
    costs = {"seconds_per_slice": seconds, "network_evaluations_per_slice": 4.0, "optimiser_steps": 10}
    costs |= {"batch_size": 4, "training_seconds_per_step": 0.1}
    quality = pd.DataFrame({"case": ["c0", "c1"], "fold": 0, "auroc": [0.8, 0.9], "aurc": [0.02, 0.04]})
    # two of three pixels of 0.9 right in one case, one of one in the other: 3 of 4 against 0.9
    bins = pd.DataFrame({"bin": 13, "count": [3, 1], "confidence_sum": [2.7, 0.9], "correct_sum": [2.0, 1.0]})
    return Measured(model, dice, {**costs, **facts}, quality, bins, seed=seed)


def sampled(name: str, kind: str, scores: list[float], seconds: float, sampling_steps: int, stage=None, seed=0):
    shares = {f"changed_{where}_{third}": 0.01 for where in ("pixels", "foreground") for third in probe.THIRDS}
    variances = {"sample_variance": 2e-4, "sample_variance_unmirrored": 1e-4, "probed_slices": 3.0}
    settings = {"samples": 3, "sampling_steps": sampling_steps, "timesteps": stage or 1000}
    return measured(name, kind, scores, seconds, stage, seed, **settings, **shares, **variances)


@pytest.mark.parametrize(
    ("short", "seconds", "words"),
    [([0.796, 0.796], 0.1, ["met", "met", "met"]), ([0.79, 0.79], 0.3, ["MISSED", "MISSED", "MISSED"])],
)
def test_targets_are_judged_by_what_was_measured(short, seconds, words):
    results = [
        measured("nnU-Net", "nnunet", [0.7, 0.9], 0.02),
        sampled("SpineSegDiff", "spinesegdiff", [0.8, 0.85], 0.5, 10),
        sampled("T30", "preseg", short, seconds, 5, 30),
        sampled("T1000", "preseg", [0.8, 0.8], 1.0, 50, 1000),
    ]
    lines = tables.verdicts(results, tables.summarise(results))
    assert [line.partition(":")[0] for line in lines[:3]] == words
    assert "the control was not run" in lines[3]


def test_models_are_compared_with_the_control_patient_by_patient():
    """Two seeds: differences are of each case's mean; their interval holds what a bootstrap by hand gives."""
    control = {seed: measured("U-Net", "control", [0.7, 0.8, 0.9, 0.6], 0.1, seed=seed) for seed in (0, 1)}
    ours = [[0.74, 0.80, 0.93, 0.65], [0.72, 0.78, 0.93, 0.67]]
    diffusion = [sampled("SpineSegDiff", "spinesegdiff", ours[seed], 0.5, 5, seed=seed) for seed in (0, 1)]
    summary = tables.summarise([*control.values(), *diffusion])
    row = summary[(summary["model"] == "SpineSegDiff") & (summary["structure"] == "mean")].iloc[0]
    paired = np.mean(ours, axis=0) - [0.7, 0.8, 0.9, 0.6]
    assert row["difference"] == pytest.approx(paired.mean())
    drawn = np.random.default_rng(1).choice(paired, (20_000, 4)).mean(axis=1)
    assert [row["difference_low"], row["difference_high"]] == pytest.approx(
        np.quantile(drawn, [0.025, 0.975]), abs=8e-3
    )
    assert row["dice_seeds"] == pytest.approx(np.std([np.mean(scores) for scores in ours], ddof=1))
    assert row["dice_expected_mean"] == pytest.approx(np.mean(ours) + 0.01)
    assert (row["auroc"], row["aurc"], row["ece"]) == pytest.approx((0.85, 0.03, 0.15))
    lines = tables.verdicts([*control.values(), *diffusion], summary)
    assert lines[1].startswith("met: SpineSegDiff, mean: Dice +0.0275") and "4 patients, 2 seeds" in lines[1]
    assert "calibration error 0.1500 against 0.1500 (met)" in lines[-1]
    worse = [measured("U-Net", "control", [0.9] * 3, 0.1), sampled("S", "spinesegdiff", [0.8] * 3, 0.5, 5)]
    assert tables.verdicts(worse, tables.summarise(worse))[1].startswith("MISSED")


def test_structures_that_no_reference_holds_are_not_scored():
    """A disc predicted where the data set annotates none is no score; one missing in a single case is."""
    rows = [("c0", "discs", 0.0, 0), ("c1", "discs", 0.0, 0), ("c0", "vertebrae", 0.0, 0), ("c1", "vertebrae", 0.9, 7)]
    kept = annotated_structures(pd.DataFrame(rows, columns=["case", "structure", "dice", "reference_voxels"]))
    assert kept.to_numpy().tolist() == [["c0", "vertebrae", 0.0], ["c1", "vertebrae", 0.9]]


def test_tables_hold_means_over_cases_and_the_very_command(tmp_path: Path):
    results = [
        measured("nnU-Net", "nnunet", [0.7, 0.9], 0.02),
        sampled("T30", "preseg", [0.8, 0.8], 0.1, 5, 30),
    ]
    text = tables.write_tables(results, tmp_path, "compare_models_x", "cpu", "python compare --work w", ["A note."])
    row = next(line for line in text.splitlines() if line.startswith("| nnU-Net"))
    assert "0.800 ± 0.141" in row and row.count("0.800 ± 0.141") == 2  # the canal was in no mask
    assert "| 0.120 | 8 | 2.0e-04 (1.0e-04) | 1.00, 1.00, 1.00 |" in text
    assert "    python compare --work w" in text and "A note." in text and "longer T was not run" in text
    table = pd.read_csv(tmp_path / "compare_models_x.csv")
    assert list(table["structure"]) == ["discs", "mean"] * 2
    assert table["dice_std"].iloc[0] == pytest.approx(np.std([0.7, 0.9], ddof=1), rel=1e-5)
    assert set(table["command"]) == {"python compare --work w"} and torch.__version__ in table["machine"].iloc[0]


def test_pictures_show_structures_in_their_own_colours():
    labels = label_scheme({"background": 0, "discs": 1, "vertebrae": 2})
    mask = np.array([[0, 1, 2]])
    shown = pictures.overlay(np.array([[200.0, 200.0, 0.0]]), mask, labels)
    tints = [np.array(to_rgb(tint)) for tint in structure_colours(["discs", "vertebrae"]).values()]
    np.testing.assert_allclose(shown[0], [[1, 1, 1], 0.5 + tints[0] / 2, tints[1] / 2])
    np.testing.assert_allclose(pictures.overlay(np.array([[50.0, 200.0]]), None, labels)[0, :, 0], [0.25, 1])


def test_a_bad_request_is_one_line(tmp_path: Path, capsys, restored_environment: None):
    arguments = ["--work", str(tmp_path / "work"), "--mri", str(tmp_path), "--results", str(tmp_path)]
    assert compare_models.main(arguments) == 2
    assert "--mri" in capsys.readouterr().err
    assert compare_models.main([*arguments, "--steps", "0"]) == 2
    assert "--steps must be at least 1" in capsys.readouterr().err
    assert compare_models.main([*arguments, "--folds", "2"]) == 2
    assert "folds 3, not 2" in capsys.readouterr().err


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


def test_one_step_of_the_whole_comparison(tmp_path: Path, monkeypatch, capsys, restored_environment: None):
    """nnU-Net, IISDM and pre-segmentation at two lengths; a second run trains nothing again."""
    write_slices(tmp_path / "mri" / data_sets.DISCS_AND_VERTEBRAE)
    monkeypatch.setattr(Workspace, "runner", lambda self: Runner(self.root, os.environ, in_this_process))
    arguments = f"--work {tmp_path}/work --mri {tmp_path}/mri --results {tmp_path}/results --steps 1 --threads 1"
    arguments += " --datasets discs_and_vertebrae_2d --size 32 --folds 2 --probe-slices 1 --iisdm-sampling-steps 2"
    arguments += " --models nnunet iisdm preseg --timesteps 4"
    with threads_for_processes():
        assert compare_models.main(arguments.split()) == 0, capsys.readouterr().err
        printed = capsys.readouterr().out
        assert compare_models.main([*arguments.split(), "--models", "iisdm"]) == 0
    assert len(re.findall(r"^\[\d/6\] .*, fold \d\n\$ nnUNetv2_train .*\n  done in \d+ s", printed, re.M)) == 6
    assert len(re.findall(r"^\[\d/2\] .*\n\$ .*\n  kept from an earlier run", capsys.readouterr().out, re.M)) == 2
    table = pd.read_csv(tmp_path / "results" / "compare_models_discs_and_vertebrae_2d.csv")
    assert set(table["model"]) == {"IISDM"} and (table["optimiser_steps"] == 1).all()
    assert list(table["structure"]) == ["discs", "vertebrae", "mean"] and (table["cases"] == 4).all()
    assert table["network_evaluations_per_slice"].unique() == 10  # 5 samples of 2 steps
    assert "T = 4 has a mean Dice" in printed and "nnU-Net" in printed
    assert (tmp_path / "work" / "compare_models_discs_and_vertebrae_2d.png").stat().st_size > 10_000
