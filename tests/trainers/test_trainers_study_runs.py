"""What a study asks of its trainings: checkpoints as often as it says, and numbers that a cut-off does not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from helpers.nnunet_samples import TinyProject, nnunet_environment
from nnunetv2_diffusion.trainers.study_runs import StudyRuns

FOLD = 3


class CutOff(Exception):  # noqa: N818 -- it is no error
    """Raised in the place of a cluster's signal."""


def train(tiny: TinyProject, name: str, *, go_on: bool = False, cut_at: int | None = None) -> StudyRuns:
    """Two epochs of two steps, without the final validation; before the step `cut_at` (from 0) it is cut off."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    with nnunet_environment(tiny.root):
        trainer = get_trainer_from_args(str(tiny.dataset()), "2d", FOLD, name, device=torch.device("cpu"))
        trainer.num_iterations_per_epoch = 2
        maybe_load_checkpoint(trainer, go_on, False)
        train_step, seen = trainer.train_step, iter(range(100))

        def step(batch: dict) -> dict:
            if next(seen) == cut_at:
                raise CutOff
            return train_step(batch)

        trainer.train_step = step
        if cut_at is None:
            trainer.run_training()
        else:
            with pytest.raises(CutOff):
                trainer.run_training()
    return trainer


def final(trainer: StudyRuns) -> dict:
    """The last checkpoint; the fold's folder is removed."""
    checkpoint = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    shutil.rmtree(trainer.output_folder)
    return checkpoint


@pytest.mark.parametrize("name", ["nnUNetTrainerSpineSegDiff_10steps", "nnUNetTrainerDiceLoss_10steps"])
def test_a_training_that_was_cut_off_ends_as_one_that_was_not(
    tiny: TinyProject, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SPINESEGDIFF_SAVE_EVERY", "1")
    monkeypatch.setenv("SPINESEGDIFF_TRAINING_SEED", "7")
    whole = final(train(tiny, name))
    train(tiny, name, cut_at=3)
    resumed = final(train(tiny, name, go_on=True))
    assert resumed["current_epoch"] == whole["current_epoch"] == 2
    weights = whole["network_weights"]
    assert all(torch.equal(value, resumed["network_weights"][key]) for key, value in weights.items())
    assert resumed["logging"]["train_losses"] == whole["logging"]["train_losses"]


@pytest.mark.parametrize(
    ("variable", "value", "lowest"),
    [
        ("SPINESEGDIFF_SAVE_EVERY", "0", 1),
        ("SPINESEGDIFF_SAVE_EVERY", "often", 1),
        ("SPINESEGDIFF_TRAINING_SEED", "-1", 0),
    ],
)
def test_values_that_are_no_numbers(
    tiny: TinyProject, variable: str, value: str, lowest: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} must be a whole number of at least {lowest}, not '{value}'"):
        train(tiny, "TinyDiffusionTrainer")


def test_the_seed_decides_and_without_the_variables_everything_is_nnunets(
    tiny: TinyProject, monkeypatch: pytest.MonkeyPatch
):
    from nnunetv2.run.run_training import get_trainer_from_args

    def first_weights() -> torch.Tensor:
        trainer = get_trainer_from_args(
            str(tiny.dataset()), "2d", FOLD, "TinyDiffusionTrainer", device=torch.device("cpu")
        )
        assert trainer.save_every == 50
        trainer.initialize()
        return torch.cat([parameter.flatten() for parameter in trainer.network.parameters()])

    with nnunet_environment(tiny.root):
        assert not torch.equal(first_weights(), first_weights())
        monkeypatch.setenv("SPINESEGDIFF_TRAINING_SEED", "7")
        assert torch.equal(first_weights(), first_weights())
