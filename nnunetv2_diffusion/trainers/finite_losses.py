"""A training whose loss is no number any longer stops, before a checkpoint holds weights that are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# Single steps may overflow half precision on a GPU: nnU-Net's gradient scaler skips them, and training goes on well.
LAST_STEPS = 10


class FiniteLosses(nnUNetTrainer):
    """Mixed into a trainer before nnU-Net's own: looks at the losses at the end of every epoch, all ranks together."""

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """As nnU-Net.

        Raises:
            RuntimeError: the last steps' losses are not finite.
        """
        super().on_train_epoch_end(train_outputs)
        self._stop_unless_finite("train_losses", "training", train_outputs[-LAST_STEPS:])

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """As nnU-Net.

        Raises:
            RuntimeError: none of the losses is finite.
        """
        super().on_validation_epoch_end(val_outputs)
        self._stop_unless_finite("val_losses", "validation", val_outputs)

    def _stop_unless_finite(self, logged: str, kind: str, outputs: Sequence[dict]) -> None:
        # The mean over all steps of all ranks, so that every rank takes the same way.
        if np.isfinite(self.logger.get_value(logged, step=-1)) or not self._all_ranks_lost(outputs):
            return
        message = (
            f"the {kind} loss of epoch {self.current_epoch} is not finite, step after step, and would stay so: "
            f"training stops; the checkpoints in {self.output_folder} are of earlier epochs and good. Lower the "
            "learning rate (`learning_rate` in the diffusion block of the plan's configuration) and look at the "
            "intensities of the images"
        )
        self.print_to_log_file(message)
        raise RuntimeError(message)

    def _all_ranks_lost(self, outputs: Sequence[dict]) -> bool:
        lost = not np.isfinite([output["loss"] for output in outputs]).any()
        if not self.is_ddp:
            return lost
        on_ranks = [lost] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(on_ranks, lost)
        return all(on_ranks)
