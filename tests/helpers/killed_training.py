"""A tiny training of three epochs in a process of its own, killed at a chosen moment."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from helpers.nnunet_samples import TRAINER, nnunet_environment, threads_for_processes
from helpers.warm_process import ensure_server

EPOCHS = 3
_CONTEXT = multiprocessing.get_context("forkserver")


class Moment(NamedTuple):
    """Before the training step of this number, or in the write of this number (both from 0), at a share of its bytes.

    A share of 1 is a file that is written, but not yet in its place.
    """

    step: int | None = None
    write: int | None = None
    share: float = 0.0

    def __str__(self) -> str:
        return f"step {self.step}" if self.write is None else f"{self.share:.0%} of checkpoint {self.write}"


def train(root: Path, number: int, fold: int, go_on: bool, kill: Moment | None = None) -> int | None:
    """The exit code of a training that saves `checkpoint_latest.pth` after every epoch; -9 where it was killed."""
    ensure_server()
    process = _CONTEXT.Process(target=_train, args=(root, number, fold, go_on, kill))
    process.start()
    process.join(300)
    return process.exitcode


def _train(root: Path, number: int, fold: int, go_on: bool, kill: Moment | None) -> None:
    from nnunetv2.run import run_training as nnunets

    torch.set_num_threads(1)
    with nnunet_environment(root), threads_for_processes():
        trainer = nnunets.get_trainer_from_args(str(number), "2d", fold, TRAINER, device=torch.device("cpu"))
        trainer.num_epochs, trainer.save_every = EPOCHS, 1
        nnunets.maybe_load_checkpoint(trainer, go_on, False)
        if kill is not None:
            trainer.train_step = _killed_at(kill.step, trainer.train_step)
            torch.save = _killed_writing(kill)
        trainer.run_training()
        trainer.perform_actual_validation()


def _killed_at(number: int | None, step: Callable) -> Callable:
    seen = iter(range(1_000_000))
    return lambda batch: _die() if next(seen) == number else step(batch)


def _killed_writing(kill: Moment) -> Callable:
    save, seen = torch.save, iter(range(1_000_000))

    def write(content: object, path: str) -> None:
        if next(seen) != kill.write:
            save(content, path)
            return
        whole = io.BytesIO()
        save(content, whole)
        Path(path).write_bytes(whole.getvalue()[: int(kill.share * whole.tell())])
        _die()

    return write


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
