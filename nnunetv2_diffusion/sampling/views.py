"""Which mirroring of the image each sample sees, and the way back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from nnunetv2_diffusion.diffusion import to_probabilities

# The axes of [B, C, H, W] that an image is mirrored along, counted from the end; none for the image as it lies.
View = tuple[int, ...]


def views_of_samples(samples: int, mirror_axes: Sequence[bool]) -> list[View]:
    """The view of each sample, cycling through all combinations of the axes (rows, columns) that may be mirrored."""
    axes = [axis - 2 for axis, allowed in enumerate(mirror_axes) if allowed]
    combinations = [c for size in range(len(axes) + 1) for c in itertools.combinations(axes, size)]
    return [combinations[sample % len(combinations)] for sample in range(samples)]


class ViewedImages:
    """A batch of images as S samples see them; sample s of image b is row s * B + b of everything that is sampled.

    Args:
        images: [B, C, H, W].
        views: of each sample.

    Attributes:
        distinct: each view of the images once, [V * B, C, H, W].
        seen: what each sample sees, [S * B, C, H, W].
    """

    def __init__(self, images: torch.Tensor, views: Sequence[View]):
        batch, distinct = len(images), list(dict.fromkeys(views))
        self.distinct = torch.cat([torch.flip(images, view) for view in distinct])
        self._positions = [distinct.index(view) * batch + item for view in views for item in range(batch)]
        self._index = torch.tensor(self._positions, device=images.device)
        self.seen = self.distinct[self._index]

    def of_samples(self, per_view: Sequence[torch.Tensor], chunk: slice) -> list[torch.Tensor]:
        """Of tensors [V * B, ...], one row for each of the distinct views, the rows of a chunk of the samples."""
        positions = self._positions[chunk]
        first, count = positions[0], len(positions)
        if positions == list(range(first, first + count)):  # no copy is needed
            return [tensor[first : first + count] for tensor in per_view]
        return [tensor[self._index[chunk]] for tensor in per_view]


def unmirrored_probabilities(samples: torch.Tensor, views: Sequence[View]) -> torch.Tensor:
    """x_0 [S * B, K, H, W], sample s mirrored by `views[s]`, -> probabilities [S, B, K, H, W] as the image lies."""
    per_sample = samples.unflatten(0, (len(views), -1))
    return torch.stack([torch.flip(to_probabilities(x), view) for x, view in zip(per_sample, views, strict=True)])
