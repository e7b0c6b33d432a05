"""AdamW with nnU-Net's polynomial decay: the optimiser of every trainer that the paper's recipe is for."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

WEIGHT_DECAY = 1e-2


def adamw(trainer: nnUNetTrainer) -> tuple[torch.optim.AdamW, PolyLRScheduler]:
    """AdamW (paper, Table 4) over the trainer's network, at its learning rate and weight decay, and the decay."""
    optimizer = torch.optim.AdamW(trainer.network.parameters(), trainer.initial_lr, weight_decay=trainer.weight_decay)
    return optimizer, PolyLRScheduler(optimizer, trainer.initial_lr, trainer.num_epochs)
