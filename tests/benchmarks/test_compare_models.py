"""benchmarks/compare_models.py: its data sets, trainers, probe of x_t and tables, and a run of one step a model."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import math
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
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from torch import nn

import compare_models
from comparison import data_sets, models, probe, tables, training
from comparison.measuring import Measured, annotated_structures
from comparison.trainers import fixed_length
from comparison.workspace import TRAINERS_FOLDER, Workspace
from helpers.command_recorder import Recorder
from helpers.nnunet_samples import threads_for_processes
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.pipeline.steps import Runner
from nnunetv2_diffusion.settings import Settings

SIDE = 64


class CopyingDenoiser(nn.Module):
    """Answers with x_t, or without it: with the image's first channel as the foreground's logit."""

    def __init__(self, copies: bool, heads: int = 2):
        super().__init__()
        self.copies = copies
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList([nn.Conv2d(1, heads, 1)])

    def encode_image(self, image):
        return []

    def forward(self, image, x_t, timestep, image_features=None):
        return x_t.clone() if self.copies else torch.cat([torch.zeros_like(image[:, :1]), image[:, :1]], dim=1)


def network(copies: bool, **settings) -> DiffusionNetwork:
    return DiffusionNetwork(CopyingDenoiser(copies), Settings().updated(settings)).eval()


def mask_of(share: float) -> torch.Tensor:
    """x_0 [1, 2, H, W] whose upper rows are foreground."""
    foreground = torch.zeros(SIDE, SIDE)
    foreground[: int(SIDE * share)] = 1
    return torch.stack([1 - foreground, foreground])[None] * 2 - 1


def test_a_denoiser_without_x_t_changes_nothing_and_its_samples_agree():
    image = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    blind = network(copies=False, samples=3)
    shares = probe.changed_by_noise(blind, image, mask_of(0.25), torch.Generator().manual_seed(0))
    assert {third: values["pixels"] for third, values in shares.items()} == {"early": 0, "middle": 0, "late": 0}
    assert probe.sample_variance(blind, image, mirrored=False) == pytest.approx(0, abs=1e-12)


def test_mirrored_samples_differ_by_their_mirroring():
    """The foreground's logit is a ramp over columns: mirrored along them it is the ramp's reverse."""
    ramp = torch.linspace(-2, 2, SIDE).expand(1, 1, SIDE, SIDE)
    blind = network(copies=False, samples=4)
    p = 1 / (1 + np.exp(-np.linspace(-2, 2, SIDE)))
    expected = np.var([p, p, p, p], axis=0).mean()
    assert probe.sample_variance(blind, ramp, mirrored=True) == pytest.approx(expected, abs=1e-9)
    # an answer that does not turn with the image, as one of a network with padding may be
    blind.denoiser.forward = lambda image, x_t, t, features=None: torch.cat([0 * ramp, ramp], dim=1)
    expected = np.var([p, p, p[::-1], p[::-1]], axis=0).mean()
    assert probe.sample_variance(blind, ramp, mirrored=True) == pytest.approx(expected, rel=1e-4)
    assert blind.sampling.samples == 4 and blind.sampling.mirror_samples


def test_a_denoiser_that_copies_x_t_changes_as_the_normal_distribution_says():
    """At t near 0, x_t is the mask; the noise calls a pixel foreground with Φ((2f - 1) / sqrt(2 f (1 - f)))."""
    share = 0.25
    late = probe.changed_by_noise(
        network(copies=True, timesteps=30, schedule_timesteps=100_000, beta_start=1e-7, beta_end=1e-6),
        torch.zeros(1, 1, SIDE, SIDE),
        mask_of(share),
        torch.Generator().manual_seed(0),
    )["late"]
    called = 0.5 * (1 + math.erf((2 * share - 1) / math.sqrt(2 * share * (1 - share)) / math.sqrt(2)))
    changed = share * (1 - called) + (1 - share) * called
    assert late["pixels"] == pytest.approx(changed, abs=0.02)
    assert late["foreground"] == pytest.approx(changed / (share + (1 - share) * called), abs=0.03)


def test_answers_are_judged_by_the_x_start_that_they_imply():
    """A v of x_t itself implies x_0 = x_t (sqrt(ᾱ) - sqrt(1 - ᾱ)), whose argmax is x_t's while ᾱ is above a half.

    An ε of x_t itself implies x_0 = x_t (1 - sqrt(1 - ᾱ)) / sqrt(ᾱ), whose argmax is always x_t's.
    """
    arguments = torch.zeros(1, 1, SIDE, SIDE), mask_of(0.5)
    as_mask, as_velocity, as_noise = (
        probe.changed_by_noise(
            network(copies=True, timesteps=100, prediction=prediction), *arguments, torch.Generator().manual_seed(0)
        )
        for prediction in ("x_start", "velocity", "noise")
    )
    assert as_mask["middle"]["pixels"] > 0.1
    assert as_velocity["middle"]["pixels"] == pytest.approx(as_mask["middle"]["pixels"], abs=0.02)
    assert as_noise["middle"]["pixels"] == pytest.approx(as_mask["middle"]["pixels"], abs=0.02)


def test_variance_over_samples_agrees_with_the_ensembles_own():
    settings = {"timesteps": 50, "samples": 8, "sampling_steps": 1, "ensemble_steps": 1, "mirror_samples": False}
    copying, image = network(copies=True, **settings), torch.zeros(1, 1, SIDE, SIDE)
    own = copying.predict(image, disagreement=True).variance.mean()  # of two heads, whose variances are one
    assert probe.sample_variance(copying, image, mirrored=False) == pytest.approx(float(own), rel=0.05)


def test_steps_are_epochs_times_iterations():
    assert fixed_length.length_of(500) == (5, 100)
    assert all(np.prod(fixed_length.length_of(steps)) == steps for steps in range(1, 60))


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("steps", [None, 1, 500])
def test_nnunet_finds_a_trainer_of_any_length(kind, steps, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(TRAINERS_FOLDER))
    name = models.trainer_name(kind, steps)
    with contextlib.redirect_stdout(None):
        trainer = recursive_find_trainer_class_by_name(name)
    assert (trainer.__name__, trainer.steps) == (name, steps)
    assert models.TRAINERS[kind] in [base.__name__ for base in trainer.__mro__]
    validates = trainer.perform_actual_validation is nnUNetTrainer.perform_actual_validation
    assert validates == (kind == models.NNUNET)


@pytest.mark.parametrize("name", ["nnUNetTrainer_5epochs", "nnUNetTrainerOther_5steps", "x_full_length", "steps"])
def test_other_names_are_left_to_others(name):
    assert not hasattr(fixed_length, name)


def workspace_with_plans(root: Path, recorder: Recorder, monkeypatch) -> tuple[Workspace, data_sets.RawData]:
    """Two folds of one case each, planned for two pre-segmentation stages; the commands are recorded."""
    monkeypatch.setattr(Workspace, "runner", lambda self: Runner(self.root, {}, recorder))
    workspace, data = Workspace(root, "cpu", 5, 1), data_sets.RawData(602, "Dataset602_x")
    folder = workspace.preprocessed / data.name
    folder.mkdir(parents=True)
    folds = [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]
    (folder / "splits_final.json").write_text(json.dumps(folds))
    stages = {"2d_small": {"next_stage": ["2d_small_preseg_T4", "2d_small_preseg_T9"]}}
    (folder / "nnUNetPlans.json").write_text(json.dumps({"configurations": stages}))
    return workspace, data


def test_folds_are_trained_once_and_validated_again_for_a_new_stage(tmp_path: Path, monkeypatch):
    """The files are those that nnU-Net leaves: checkpoint, validation masks, masks for the next stages."""
    recorder = Recorder()
    workspace, data = workspace_with_plans(tmp_path, recorder, monkeypatch)
    (baseline,) = models.chosen_models(["nnunet"], [], "2d_small", 5, 2)

    def commands() -> list[str]:
        recorder.calls.clear()
        training.train_all(workspace, data, [baseline])
        return [" ".join(command) for command, _, _ in recorder.calls]

    train = "nnUNetv2_train 602 2d_small {} -tr nnUNetTrainer_5steps -device cpu"
    assert commands() == [train.format(0), train.format(1)]
    folder = tmp_path / "results" / data.name / "nnUNetTrainer_5steps__nnUNetPlans__2d_small"
    for fold, case in enumerate("ab"):
        (folder / f"fold_{fold}" / "validation").mkdir(parents=True)
        (folder / f"fold_{fold}" / "checkpoint_final.pth").touch()
        (folder / f"fold_{fold}" / "validation" / f"{case}.nii.gz").touch()
        for timesteps in (4, 9):
            stage = folder / "predicted_next_stage" / f"2d_small_preseg_T{timesteps}"
            stage.mkdir(parents=True, exist_ok=True)
            (stage / f"{case}.b2nd").touch()
    assert commands() == []
    (stage / "b.b2nd").unlink()
    assert commands() == [train.format(1) + " --val"]


def test_stage_sampling_steps_are_the_targets():
    assert [models.stage_sampling_steps(T) for T in (1, 3, 30, 100, 1000)] == [1, 3, 5, 5, 50]


def test_pre_segmentation_brings_nnunet_and_follows_it():
    chosen = models.chosen_models(["preseg"], [1000, 30], "2d_small", 20, 100)
    assert [(model.kind, model.configuration) for model in chosen] == [
        ("nnunet", "2d_small"),
        ("preseg", "2d_small_preseg_T30"),
        ("preseg", "2d_small_preseg_T1000"),
    ]
    assert {model.trainer for model in chosen} == {"nnUNetTrainer_20steps", "nnUNetTrainerSpineSegDiffPreSeg_20steps"}
    full = models.chosen_models(["nnunet", "spinesegdiff"], [30], "2d_spinesegdiff", None, 1000)
    assert [model.configuration for model in full] == ["2d", "2d_spinesegdiff"]
    _, refined = models.chosen_models(["preseg"], [30], "2d_spinesegdiff", None, 1000)
    assert refined.configuration == "2d_preseg_T30"  # whatever it inherits from, it refines nnU-Net's 2d


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


def measured(name: str, kind: str, scores: list[float], seconds: float, stage: int | None = None, **facts):
    model = models.ComparedModel(name, kind, "trainer", "2d", timesteps=stage)
    dice = pd.DataFrame(
        [{"case": f"c{i}", "fold": 0, "structure": "discs", "dice": score} for i, score in enumerate(scores)]
        + [{"case": "c0", "fold": 0, "structure": "spinal_canal", "dice": float("nan")}]
    )
    common = {"seconds_per_slice": seconds, "network_evaluations_per_slice": 4.0, "optimiser_steps": 10}
    return Measured(model, dice, {**common, "batch_size": 4, "training_seconds_per_step": 0.1, **facts})


def sampled(name: str, kind: str, scores: list[float], seconds: float, sampling_steps: int, stage=None):
    shares = {f"changed_{where}_{third}": 0.01 for where in ("pixels", "foreground") for third in probe.THIRDS}
    variances = {"sample_variance": 2e-4, "sample_variance_unmirrored": 1e-4, "probed_slices": 3.0}
    settings = {"samples": 3, "sampling_steps": sampling_steps, "timesteps": stage or 1000}
    return measured(name, kind, scores, seconds, stage, **settings, **shares, **variances)


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
    assert "better than nnU-Net on discs: mean difference +0.0250" in lines[3] and "1 of 2 cases" in lines[3]


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
