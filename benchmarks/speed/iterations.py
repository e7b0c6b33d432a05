"""Training iterations of nnU-Net's own trainers, timed part by part without touching their code."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PLANS, make_trainers_known
from speed.measuring import peak_memory_mib, synchronize
from speed.planned import quietly

PARTS = ("loader", "forward", "loss", "backward", "optimiser")


def start_trainer(
    name: str, preprocessed: Path, configuration: str, batch_size: int | None, device: torch.device
) -> nnUNetTrainer:
    """The trainer `name` on all cases of a preprocessed dataset, at the start of its first epoch.

    Args:
        name: of the class.
        preprocessed: the dataset's folder below nnUNet_preprocessed.
        configuration: of its plans.
        batch_size: in place of the planned one.
        device: to train on.
    """
    make_trainers_known()
    plans = read_json(preprocessed / f"{PLANS}.json")
    if batch_size is not None:
        plans["configurations"][configuration]["batch_size"] = batch_size
    dataset = read_json(preprocessed / DATASET_FILE)
    # This process alone loads and augments, so that the loader's time is seen.
    os.environ["nnUNet_n_proc_DA"] = "0"
    with quietly():
        trainer_class = recursive_find_trainer_class_by_name(name)
        trainer = trainer_class({**plans, "continue_training": False}, configuration, "all", dataset, device)
        trainer.on_train_start()
        trainer.on_train_epoch_start()
    return trainer


class TimedIterations:
    """Runs a trainer's iterations and notes when each part of one ends.

    The network, the loss and the optimiser tell by hooks; what lies between the loss and the optimiser is the backward
    pass (and the clipping of gradients).
    """

    def __init__(self, trainer: nnUNetTrainer):
        self.trainer = trainer
        self.times: list[dict[str, float]] = []
        self._marks: dict[str, float] = {}
        trainer.network.register_forward_pre_hook(lambda module, args: self._mark("network called"))
        trainer.network.register_forward_hook(lambda module, args, output: self._mark("forward"))
        trainer.loss.register_forward_hook(lambda module, args, output: self._mark("loss"))
        trainer.optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: self._mark("backward"))
        trainer.optimizer.register_step_post_hook(lambda optimizer, args, kwargs: self._mark("optimiser"))

    def _mark(self, name: str) -> None:
        synchronize()
        self._marks.setdefault(name, time.perf_counter())

    def __call__(self) -> None:
        """One iteration."""
        self._marks.clear()
        self._mark("start")
        batch = next(self.trainer.dataloader_train)
        self._mark("loader")
        with quietly():
            self.trainer.train_step(batch)
        self._mark("end")
        marks, parts = self._marks, {}
        for name, since in zip(PARTS, ("start", "network called", "forward", "loss", "backward"), strict=True):
            parts[name] = marks[name] - marks[since]
        total = marks["end"] - marks["start"]
        self.times.append({"seconds": total, **parts, "rest": total - sum(parts.values())})


def memory_of(task: dict[str, Any]) -> dict[str, float | None]:
    """Iterations of one trainer in this process, and the peak since it started."""
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    trainer = start_trainer(
        task["trainer"], Path(task["preprocessed"]), task["configuration"], task["batch_size"], device
    )
    iterations = TimedIterations(trainer)
    for _ in range(2):
        iterations()
    return {"peak_memory_mib": peak_memory_mib(device)}
