"""The canal measured: its width square to its middle line, and its area between two levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from nnunetv2_diffusion.anatomy.centreline import Centreline
from nnunetv2_diffusion.anatomy.outline import STEP, sample
from nnunetv2_diffusion.measures import CANAL_WINDOW

_REACH = 25.0  # mm to both sides of the middle line
_ALONG = 0.5  # mm between widths


@dataclass(frozen=True)
class Canal:
    """The canal's anteroposterior width all along it.

    Attributes:
        line: its middle.
        along: mm along the line, where the widths were taken.
        width: mm, [along], of the canal that the line runs through, square to it; 0 where there is none or the image's
            edge cuts it.
    """

    line: Centreline
    along: np.ndarray
    width: np.ndarray

    def width_at(self, point: np.ndarray) -> float:
        """Mean width in mm over 5 mm of the canal about the place nearest to a point (s, a); NaN where there is none.

        The midsagittal diameter, whose shortness Verbiest (1954) described, of what is labelled canal: a disc's bulge
        narrows it.
        """
        along = float(self.line.coordinates(point)[0])
        return float(np.interp(along, self.along, self.evened, left=np.nan, right=np.nan))

    @property
    def evened(self) -> np.ndarray:
        """The width averaged over 5 mm along the canal, NaN where part of that has none."""
        evened = uniform_filter1d(self.width, 1 + 2 * round(CANAL_WINDOW / 2 / _ALONG))
        gap = uniform_filter1d((self.width <= 0).astype(float), 1 + 2 * round(CANAL_WINDOW / 2 / _ALONG)) > 1e-6
        return np.where(gap, np.nan, evened)

    def narrowest(self, low: float, high: float) -> tuple[float, float]:
        """(width, along) in mm of the narrowest place between two places along the line; NaN where there is none."""
        within = (self.along >= low) & (self.along <= high) & np.isfinite(self.evened)
        if not within.any():
            return float("nan"), float("nan")
        index = np.flatnonzero(within)[self.evened[within].argmin()]
        return float(self.evened[index]), float(self.along[index])

    def area(self, low: float, high: float) -> float:
        """mm2 of the canal between two places along the line: its width summed up along it."""
        within = (self.along >= low) & (self.along <= high)
        return float(self.width[within].sum() * _ALONG)


def measure_canal(field: np.ndarray, spacing: tuple[float, float], line: Centreline) -> Canal:
    """Widths of the canal's field [z, y] square to its middle line, every half millimetre."""
    along = np.arange(line.start, line.end, _ALONG)
    across = np.arange(-_REACH, _REACH + STEP / 2, STEP)
    points = line.point(along)[:, None] + across[:, None] * line.normal(along)[:, None]
    inside = sample(field, spacing, points) > 0.5
    last = (np.array(field.shape) - 1) * spacing
    beyond = ((points < 0) | (points > last)).any(axis=-1)
    return Canal(line, along, _run_through_middle(inside, beyond) * STEP)


def _run_through_middle(inside: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Number of samples of each row that are joined to the one nearest to the row's middle, [rows].

    0 where they end at the image's edge, `beyond` it: what is wider than the image shows has no width.
    """
    columns = np.arange(inside.shape[1])
    distance = np.abs(columns - inside.shape[1] // 2)
    nearest = np.where(inside, distance, inside.shape[1]).argmin(axis=1)[:, None]
    low = np.where(inside | (columns > nearest), -1, columns).max(axis=1)
    high = np.where(inside | (columns < nearest), len(columns), columns).min(axis=1)
    rows = np.arange(len(inside))
    cut = beyond[rows, np.maximum(low, 0)] | beyond[rows, np.minimum(high, len(columns) - 1)]
    return np.where(inside.any(axis=1) & ~cut, high - low - 1, 0)
