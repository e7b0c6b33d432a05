"""The compared trainers, of one length and seeded: `nnUNetTrainer_500steps`, `nnUNetTrainerIISDM_full_length`.

A class is made when nnU-Net looks for its name here. compare_models.py says in the environment how many threads PyTorch
may have and what the trainings are seeded with.
"""

from __future__ import annotations

import os
import random
import re

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_diffusion.trainers.every_trainer import OF_ANY_LENGTH

THREADS, SEED = "COMPARE_MODELS_THREADS", "COMPARE_MODELS_SEED"
MOST_EPOCHS = 5
VALIDATION_ITERATIONS = 2
FULL_LENGTH = "full_length"


def length_of(steps: int) -> tuple[int, int]:
    """(epochs, iterations an epoch) whose product is `steps`: as many epochs as divide it, at most 5."""
    epochs = max(number for number in range(1, MOST_EPOCHS + 1) if steps % number == 0)
    return epochs, steps // epochs


class FixedLength:
    """Goes before a trainer: `steps` optimiser steps (None: the trainer's own length), seeded by fold."""

    steps: int | None = None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        torch.set_num_threads(int(os.environ[THREADS]))
        if self.steps is not None:
            self.num_epochs, self.num_iterations_per_epoch = length_of(self.steps)
            self.num_val_iterations_per_epoch = VALIDATION_ITERATIONS

    def initialize(self) -> None:
        """nnU-Net's own, after seeding."""
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(1000 * int(os.environ[SEED]) + int(self.fold))
        super().initialize()


class PredictedLater(FixedLength):
    """Of our trainers, whose validation cases compare_models.py predicts with the settings that it measures."""

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing."""


BASES = {
    nnUNetTrainer.__name__: (FixedLength, nnUNetTrainer),
    **{trainer.__name__: (PredictedLater, trainer) for trainer in OF_ANY_LENGTH},
}


def __getattr__(name: str) -> type[nnUNetTrainer]:
    """The trainer of that name; AttributeError for any other, as nnU-Net's search expects."""
    match = re.fullmatch(rf"(?P<trainer>\w+?)_(?:(?P<steps>\d+)steps|{FULL_LENGTH})", name)
    if match is None or match["trainer"] not in BASES:
        raise AttributeError(f"{__name__} has no trainer {name}")
    return type(name, BASES[match["trainer"]], {"steps": int(match["steps"]) if match["steps"] else None})
