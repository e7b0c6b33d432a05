"""What compare_models.py trains: which models, by which trainers, and what an earlier run leaves to do."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from comparison import data_sets, models, training
from comparison.trainers import fixed_length
from comparison.workspace import TRAINERS_FOLDER, Workspace
from helpers.command_recorder import Recorder
from nnunetv2_diffusion.pipeline.steps import Runner


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
        training.train_all(workspace, data, [baseline], [0, 1])
        return [" ".join(command) for command, _, _ in recorder.calls]

    train = "nnUNetv2_train 602 2d_small {} -tr nnUNetTrainer_5steps -device cpu"
    assert commands() == [train.format(0), train.format(1)]
    folder = tmp_path / "results" / "seed_0" / data.name / "nnUNetTrainer_5steps__nnUNetPlans__2d_small"
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
    (control,) = models.chosen_models(["control"], [], "2d_small", 5, 2)
    checkpoint = training.fold_folder(workspace.model_folder(data, control), 0) / "checkpoint_final.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    recorder.calls.clear()
    training.train_all(workspace, data, [control], [0])
    assert recorder.calls == []  # of the control no stage reads masks


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
