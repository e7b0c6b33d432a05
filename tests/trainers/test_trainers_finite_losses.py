"""A training whose loss is no number stops with one sentence and leaves good checkpoints; a single step may fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.nnunet_samples import TinyProject, threads_for_processes
from helpers.trainer_samples import trainer_of
from nnunetv2_diffusion.trainers.finite_losses import LAST_STEPS
from nnunetv2_diffusion.trainers.nnUNetTrainerDiceLoss_250epochs import nnUNetTrainerDiceLoss_250epochs
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(params=[nnUNetTrainerSpineSegDiff, nnUNetTrainerDiceLoss_250epochs], ids=lambda kind: kind.__name__)
def trainer(request: pytest.FixtureRequest, tiny: TinyProject, tmp_path: Path):
    trainer = trainer_of(tiny, trainer_class=request.param)
    trainer.output_folder, trainer.log_file = str(tmp_path), str(tmp_path / "training_log.txt")
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 3, 2, 1
    return trainer


def spoil_weights(trainer) -> None:
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(torch.nan)


def spoil_in_epoch(trainer, epoch: int, step: int, spoil: Callable) -> None:
    """Call `spoil` before a training step."""
    own, seen = trainer.train_step, iter(range(1000))

    def train_step(batch: dict) -> dict:
        if next(seen) == epoch * trainer.num_iterations_per_epoch + step:
            spoil(trainer)
        return own(batch)

    trainer.train_step = train_step


@pytest.mark.parametrize("step", [0, 1])
def test_weights_that_are_no_numbers_stop_the_training_and_reach_no_checkpoint(trainer, tmp_path: Path, step: int):
    spoil_in_epoch(trainer, 1, step, spoil_weights)
    trainer.save_every = 1
    with (
        threads_for_processes(),
        pytest.raises(RuntimeError, match=r"of epoch 1 is not finite.*Lower the learning rate"),
    ):
        trainer.run_training()
    assert "of epoch 1 is not finite" in (tmp_path / "training_log.txt").read_text()
    checkpoints = sorted(tmp_path.glob("*.pth"))
    assert [path.name for path in checkpoints] == ["checkpoint_best.pth", "checkpoint_latest.pth"]
    for path in checkpoints:
        checkpoint = torch.load(path, weights_only=False)
        assert checkpoint["current_epoch"] == 1
        assert all(value.isfinite().all() for value in checkpoint["network_weights"].values())


def test_a_last_step_that_spoils_the_weights_shows_in_validation(trainer, tmp_path: Path):
    own, seen = trainer.train_step, iter(range(1000))

    def train_step(batch: dict) -> dict:
        output = own(batch)
        if next(seen) == 1:  # the loss was computed before the weights changed
            spoil_weights(trainer)
        return output

    trainer.train_step = train_step
    with threads_for_processes(), pytest.raises(RuntimeError, match="the validation loss of epoch 0 is not finite"):
        trainer.run_training()
    assert not list(tmp_path.glob("*.pth"))


def outputs(*losses: float) -> list[dict]:
    return [{"loss": np.array(loss, np.float32)} for loss in losses]


@pytest.mark.parametrize("lost", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("bad", "stops"),
    [((LAST_STEPS, 3), False), ((LAST_STEPS - 1, 0), False), ((LAST_STEPS, 0), True), ((2 * LAST_STEPS, 0), True)],
    ids=["recovered", "a few", "last steps", "all along"],
)
def test_steps_that_the_gradient_scaler_skips_do_not_stop_it(trainer, lost: float, bad: tuple[int, int], stops: bool):
    """On a GPU a step may overflow half precision; the next one, unscaled, does not."""
    count, after = bad
    losses = [1.0] * 5 + [lost] * count + [1.0] * after
    if stops:
        with pytest.raises(RuntimeError, match="not finite"):
            trainer.on_train_epoch_end(outputs(*losses))
    else:
        trainer.on_train_epoch_end(outputs(*losses))


RANK = """
import sys
from datetime import timedelta
import numpy as np
import torch
from nnunetv2_diffusion.trainers.finite_losses import LAST_STEPS, FiniteLosses

class Logger:
    def log(self, key, value, step):
        self.value = value
    def get_value(self, key, step):
        return self.value

torch.set_num_threads(1)
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=30)
)
trainer = object.__new__(FiniteLosses)
trainer.is_ddp, trainer.current_epoch, trainer.output_folder, trainer.logger = True, 0, "results", Logger()
trainer.print_to_log_file = print

def end(*lost):
    try:
        trainer.on_train_epoch_end([{"loss": np.array(np.nan if lost[rank] else 1.0)}] * LAST_STEPS)
    except RuntimeError:
        return "stopped"
    return "went on"

print(end(False, False), end(True, False), end(True, True), sep=", ")
"""


def test_all_ranks_stop_together_or_none(tmp_path: Path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for rank in range(2)
    ]
    told = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [text.splitlines()[-1] for text in told] == ["went on, went on, stopped"] * 2, told
