"""How far any two of many label maps of one image agree: IoU and Dice of every pair, structure by structure.

One rule for what is absent holds in all measures of distributions: two masks without a structure agree on it (IoU and
Dice 1, distance 0), and a mean over structures takes those that at least one of the maps at hand shows, the same for
every pair. So the mean distance is of negative type, as the generalised energy distance needs to be at least 0
(Sejdinovic et al. 2013); a mean over other structures for every pair would not be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunetv2_diffusion.scoring.labels import LabelScheme

# So many voxels at a time: bounds the memory, and a product of that many ones is exact in float32.
VOXELS_AT_A_TIME = 2**20


@dataclass(frozen=True)
class Overlaps:
    """Voxels that each pair of N label maps has in common.

    Attributes:
        shared: float64 [K, N, N], a matrix a structure in the label scheme's order; on the diagonal the maps' sizes.
    """

    shared: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """Voxels of each structure in each map, [K, N]."""
        return np.diagonal(self.shared, axis1=1, axis2=2)

    @property
    def present(self) -> np.ndarray:
        """Which structures at least one of the maps shows, boolean [K]."""
        return self.sizes.any(axis=1)

    def __add__(self, other: Overlaps) -> Overlaps:
        """Those of the same maps' next part, such as another slice."""
        return Overlaps(self.shared + other.shared)

    def of(self, maps: slice) -> Overlaps:
        """Those among some of the maps alone."""
        return Overlaps(self.shared[:, maps, maps])

    def iou(self) -> np.ndarray:
        """|A ∩ B| / |A ∪ B| [K, N, N]; 1 where both are empty."""
        return self._ratio(self.shared, self._totals - self.shared)

    def dice(self) -> np.ndarray:
        """2 |A ∩ B| / (|A| + |B|) [K, N, N]; 1 where both are empty."""
        return self._ratio(2 * self.shared, self._totals)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over the structures that are present of values [K, ...]; NaN where none is."""
        return values[self.present].mean(axis=0) if self.present.any() else np.full(values.shape[1:], np.nan)

    @property
    def _totals(self) -> np.ndarray:
        return self.sizes[:, :, None] + self.sizes[:, None, :]

    @staticmethod
    def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def overlaps_of(maps: np.ndarray, labels: LabelScheme, valid: np.ndarray | None = None) -> Overlaps:
    """Compare every pair of label maps.

    Args:
        maps: [N, ...], label values.
        labels: the structures compared.
        valid: boolean, of one map's shape: where to compare; None is everywhere.
    """
    flat = maps.reshape(len(maps), -1) if valid is None else maps[:, valid]
    shared = np.zeros((len(labels.structures), len(maps), len(maps)))
    for start in range(0, flat.shape[1], VOXELS_AT_A_TIME):
        part = flat[:, start : start + VOXELS_AT_A_TIME]
        for number, structure in enumerate(labels.structures):
            masks = labels.mask(part, structure)
            masks = masks[:, masks.any(axis=0)].astype(np.float32)
            shared[number] += masks @ masks.T
    return Overlaps(shared)


def distinct_mean(pairs: np.ndarray) -> float:
    """The mean of a matrix [N, N] off its diagonal: over pairs of two different masks; NaN for N = 1."""
    count = len(pairs)
    return float((pairs.sum() - np.trace(pairs)) / (count * (count - 1))) if count > 1 else float("nan")


def pairwise_dice(samples: Overlaps) -> float:
    """Mean Dice of two different samples, which tells a failed case without a reference (Zenk et al. 2024).

    1 where no sample shows anything: they agree; NaN for a single sample.
    """
    if not samples.present.any():
        return 1.0 if samples.shared.shape[1] > 1 else float("nan")
    return distinct_mean(samples.mean(samples.dice()))
