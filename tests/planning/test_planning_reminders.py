"""Whether users learn which folds must validate again: against masks that nnU-Net's own validation writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nnunetv2_diffusion.planning.planner import add_configurations, plan_dataset
from nnunetv2_diffusion.planning.reminders import validation_reminders


def trained(nnunet: Path, identifier: str, *folds: int) -> Path:
    """A results folder whose folds look trained, without predictions."""
    folder = nnunet / "results" / "Dataset501_Tiny2D" / identifier
    for fold in folds:
        (folder / f"fold_{fold}").mkdir(parents=True)
        (folder / f"fold_{fold}" / "checkpoint_final.pth").touch()
    return folder


def test_no_reminder_before_the_baseline_is_trained(nnunet: Path, flat: Path) -> None:
    folder = trained(nnunet, "nnUNetTrainer__nnUNetPlans__2d")
    (folder / "fold_0").mkdir(parents=True)
    assert not any("--val" in sentence for sentence in plan_dataset(501, timesteps=[30]))


def test_folds_trained_earlier_are_named_until_their_masks_exist(nnunet: Path, flat: Path) -> None:
    folder = trained(nnunet, "nnUNetTrainer__nnUNetPlans__2d", 0, 3)
    reminder = plan_dataset(501, timesteps=[30, 100])[-1]
    assert "folds 0, 3" in reminder
    assert "2d_preseg_T30, 2d_preseg_T100" in reminder
    assert reminder.endswith("nnUNetv2_train 501 2d 0 --val; nnUNetv2_train 501 2d 3 --val")
    for stage, case in (("2d_preseg_T30", 0), ("2d_preseg_T30", 3), ("2d_preseg_T100", 0)):
        (folder / "predicted_next_stage" / stage).mkdir(parents=True, exist_ok=True)
        (folder / "predicted_next_stage" / stage / f"case_{case}.b2nd").touch()
    (reminder,) = validation_reminders(flat / "nnUNetPlans.json")
    assert "fold 3, finished training without writing all masks for 2d_preseg_T100;" in reminder
    (folder / "predicted_next_stage" / "2d_preseg_T100" / "case_3.npz").touch()
    assert validation_reminders(flat / "nnUNetPlans.json") == []


def test_a_fold_with_one_of_two_masks_is_named(nnunet: Path, flat: Path) -> None:
    folder = trained(nnunet, "nnUNetTrainer__nnUNetPlans__2d", 0)
    (flat / "splits_final.json").write_text(json.dumps([{"train": ["case_2"], "val": ["case_0", "case_1"]}]))
    (folder / "predicted_next_stage" / "2d_preseg_T30").mkdir(parents=True)
    (folder / "predicted_next_stage" / "2d_preseg_T30" / "case_0.b2nd").touch()
    assert plan_dataset(501, timesteps=[30])[-1].endswith("nnUNetv2_train 501 2d 0 --val")


def test_trainer_plans_and_baseline_appear_in_the_command(nnunet: Path, flat: Path) -> None:
    trained(nnunet, "nnUNetTrainer_5epochs__nnUNetResEncUNetMPlans__2d_small", 1)
    choices = {"timesteps": [30], "base": "2d_small", "previous_trainer": "nnUNetTrainer_5epochs"}
    reminder = plan_dataset("Dataset501_Tiny2D", "nnUNetResEncUNetMPlans", **choices)[-1]
    command = "nnUNetv2_train 501 2d_small 1 -tr nnUNetTrainer_5epochs -p nnUNetResEncUNetMPlans --val"
    assert reminder.endswith(command)


@pytest.mark.parametrize("missing", ["results", "splits"])
def test_without_results_or_splits_there_is_nothing_to_say(
    nnunet: Path, flat: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    trained(nnunet, "nnUNetTrainer__nnUNetPlans__2d", 0)
    add_configurations(flat / "nnUNetPlans.json", timesteps=[30])
    if missing == "results":
        monkeypatch.delenv("nnUNet_results")
    else:
        (flat / "splits_final.json").unlink()
    assert validation_reminders(flat / "nnUNetPlans.json") == []


def test_nnunets_own_validation_silences_the_reminder(nnunet: Path, flat: Path) -> None:
    from nnunetv2.run.run_training import get_trainer_from_args

    plan_dataset(501, timesteps=[30], base="2d_small")
    trainer = get_trainer_from_args("501", "2d_small", 1, "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu"))
    trainer.initialize()
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    (reminder,) = validation_reminders(flat / "nnUNetPlans.json")
    assert reminder.endswith("nnUNetv2_train 501 2d_small 1 --val")
    trainer.perform_actual_validation(save_probabilities=False)
    assert validation_reminders(flat / "nnUNetPlans.json") == []
