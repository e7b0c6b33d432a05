"""SpineSegDiff's loss (paper, B.2.1): MSE + Dice + BCE between the predicted and the true mask."""

from __future__ import annotations

import torch
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch.nn import functional as F

SMALLEST_PROBABILITY = 1e-6


class MaskTarget(nn.Module):
    """nnU-Net's target -> one-hot mask and the pixels that count.

    Args:
        heads: K. num_classes of labels, or number of regions.
        regions: the target is boolean [B, regions (+ 1 for the ignore label), H, W] instead of labels [B, 1, H, W].
        ignore_label: the dataset's ignore label, or None.
    """

    def __init__(self, heads: int, regions: bool, ignore_label: int | None):
        super().__init__()
        self.heads, self.regions, self.ignore_label = heads, regions, ignore_label

    def forward(self, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """mask float32 [B, K, H, W] in [0, 1]; valid bool [B, 1, H, W], or None where every pixel counts.

        An ignored pixel's mask is unknown: 1 / K a label, 1 / 2 a region.
        """
        if self.regions:
            mask = target[:, : self.heads].float()
            valid = None if self.ignore_label is None else ~target[:, -1:].bool()
            unknown = 0.5
        else:
            labels = target[:, 0].long()
            valid = None if self.ignore_label is None else (labels != self.ignore_label)[:, None]
            known = labels if valid is None else labels.masked_fill(~valid[:, 0], 0)
            mask = F.one_hot(known, self.heads).movedim(-1, 1).float()
            unknown = 1 / self.heads
        return (mask if valid is None else torch.where(valid, mask, unknown)), valid


class MSEDiceBCELoss(nn.Module):
    """L = L_MSE + w L_Dice + L_BCE, w = 1 in the paper, between x̂ = nonlinearity(logits) and the one-hot mask.

    Dice is nnU-Net's soft Dice (batch Dice and DDP as planned; background left out for labels). Called as nnU-Net calls
    a loss, with (logits [B, K, H, W], target); evaluated in float32.
    """

    def __init__(
        self,
        heads: int,
        regions: bool,
        ignore_label: int | None,
        batch_dice: bool,
        ddp: bool,
        dice_weight: float = 1.0,
    ):
        super().__init__()
        self.regions = regions
        self.dice_weight = dice_weight
        self.mask_target = MaskTarget(heads, regions, ignore_label)
        self.dice = MemoryEfficientSoftDiceLoss(batch_dice=batch_dice, do_bg=regions, smooth=1e-5, ddp=ddp)

    @classmethod
    def planned(cls, trainer: nnUNetTrainer, dice_weight: float) -> MSEDiceBCELoss:
        """The loss for a trainer's labels, batch Dice as its configuration plans it."""
        labels = trainer.label_manager
        return cls(
            heads=labels.num_segmentation_heads,
            regions=labels.has_regions,
            ignore_label=labels.ignore_label,
            batch_dice=trainer.configuration_manager.batch_dice,
            ddp=trainer.is_ddp,
            dice_weight=dice_weight,
        )

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.float()
            mask, valid = self.mask_target(target)
            probabilities = torch.sigmoid(logits) if self.regions else torch.softmax(logits, dim=1)
            mse = masked_mean((probabilities - mask) ** 2, valid)
            bce = masked_mean(self._binary_cross_entropy(logits, probabilities, mask), valid)
            known = mask if valid is None else mask * valid
            dice = 1 + self.dice(probabilities, known, loss_mask=None if valid is None else valid.float())
            return mse + self.dice_weight * dice + bce

    def _binary_cross_entropy(
        self, logits: torch.Tensor, probabilities: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Elementwise -[x log x̂ + (1 - x) log(1 - x̂)]; log x̂ from the logits, so a sure mistake keeps a gradient."""
        if self.regions:
            return F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        log_p = torch.log_softmax(logits, dim=1)
        log_not_p = torch.log1p(-probabilities.clamp(max=1 - SMALLEST_PROBABILITY))
        return -(mask * log_p + (1 - mask) * log_not_p)


def masked_mean(values: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """Mean over the valid pixels and all heads; 0 where no pixel is valid."""
    if valid is None:
        return values.mean()
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)
