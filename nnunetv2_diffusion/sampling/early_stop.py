"""When a slice needs no further sampling steps: its mask has stopped changing."""

from __future__ import annotations

import torch


class EarlyStop:
    """Follows the samples of a batch of slices from step to step; a settled slice keeps its last answer.

    Args:
        tolerance: changed pixels over foreground pixels of the mean mask, below which a slice has settled.
        regions: heads are sigmoids, each a mask of its own, rather than a softmax over labels.
    """

    def __init__(self, tolerance: float, regions: bool):
        self.tolerance = tolerance
        self.regions = regions
        self._settled: torch.Tensor | None = None
        self._answer: torch.Tensor | None = None
        self._mask: torch.Tensor | None = None

    def __call__(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The next step's [S, B, K, H, W], and whether every slice has settled.

        Slices settle one by one, whatever others they are predicted with.
        """
        if self._answer is not None:
            probabilities = torch.where(self._settled[None, :, None, None, None], self._answer, probabilities)
        mask = self._masks(probabilities.mean(dim=0))
        if self._mask is None:
            self._settled = torch.zeros(mask.shape[0], dtype=torch.bool, device=mask.device)
        else:
            changed = (mask != self._mask).flatten(1).sum(dim=1)
            foreground = (mask > 0).flatten(1).sum(dim=1).clamp(min=1)
            self._settled = self._settled | (changed / foreground < self.tolerance)
        self._answer, self._mask = probabilities, mask
        return probabilities, bool(self._settled.all())

    def _masks(self, mean: torch.Tensor) -> torch.Tensor:
        """[B, K, H, W] -> labels [B, H, W], or each region's mask [B, K, H, W]."""
        return mean > 0.5 if self.regions else mean.argmax(dim=1)
