"""What a study asks of its trainings through the environment: checkpoints as often as it says, and one seed."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_diffusion.nnunet_names import SAVE_EVERY_VARIABLE, SEED_VARIABLE


class StudyRuns(nnUNetTrainer):
    """Mixed into a trainer before nnU-Net's own; without the two variables everything is as nnU-Net has it.

    A job that is cut off loses the epochs since its last checkpoint, 50 of nnU-Net's own accord. With a seed every
    epoch draws the same numbers whether the training was cut off before it or not, where nnU-Net's loader works in
    the training's own process (nnUNet_n_proc_DA=0); its worker processes hand their batches over in any order.
    """

    # None for nnU-Net's own 250; of a trial a few, with a single one of validation.
    steps_an_epoch: int | None = None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.save_every = _number(SAVE_EVERY_VARIABLE, lowest=1) or self.save_every
        if self.steps_an_epoch is not None:
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = self.steps_an_epoch, 1
        self.training_seed = _number(SEED_VARIABLE, lowest=0)

    def initialize(self) -> None:
        """As nnU-Net, the first weights drawn with the seed."""
        self._seed(0)
        super().initialize()

    def on_train_epoch_start(self) -> None:
        """As nnU-Net, the epoch's numbers drawn with the seed."""
        self._seed(self.current_epoch + 1)
        super().on_train_epoch_start()

    def _seed(self, stage: int) -> None:
        if self.training_seed is None:
            return
        fold = self.fold if isinstance(self.fold, int) else -1
        sequence = np.random.SeedSequence([self.training_seed, fold + 1, stage, self.local_rank])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def _number(variable: str, lowest: int) -> int | None:
    """The whole number in an environment variable; None where it is not set.

    Raises:
        ValueError: it holds something else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) < lowest:
        raise ValueError(f"{variable} must be a whole number of at least {lowest}, not {text!r}; unset or correct it")
    return int(text)
