"""The paper's nnU-Net baseline (Tables 5 and 6)."""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceLoss

from nnunetv2_diffusion.trainers.finite_losses import FiniteLosses
from nnunetv2_diffusion.trainers.study_runs import StudyRuns
from nnunetv2_diffusion.trainers.whole_checkpoints import WholeCheckpoints


class nnUNetTrainerDiceLoss_250epochs(FiniteLosses, WholeCheckpoints, StudyRuns, nnUNetTrainerDiceLoss):
    """nnU-Net with its Dice loss alone and SGD at 0.01, 250 epochs; for 2D and 3D configurations."""

    epochs = 250

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs
