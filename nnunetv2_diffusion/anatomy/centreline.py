"""The line along which levels are counted: the canal's middle, or a curve behind the bodies where there is no canal.

Points are (s, a) in mm: upwards and to anterior, from the centre of the slice's first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import center_of_mass, gaussian_filter1d, label
from scipy.spatial import KDTree

_STEP = 0.5  # mm between the line's points
_BEYOND = 120.0  # mm by which it is continued straight at both ends
_SMOOTHING = 10.0  # mm, standard deviation: more than a bulge is high, less than the spine bends
_END = 20.0  # mm of an end from which its direction is taken
_STRAY = 0.1  # share of the largest piece below which another one is no part of the canal
_BODY = 0.4  # likewise of vertebrae: a body, not a process or a scrap
_WELL_BEFORE = 1.05  # depths from a process' centre to its body's, at least
_BEHIND = 0.7  # of a body's depth: from its centre to the line that stands in for the canal


@dataclass(frozen=True)
class Centreline:
    """A smooth curve from below upwards.

    Attributes:
        points: [n, 2], (s, a) in mm, `_STEP` apart.
        start: where in mm along the line, counted from `points[0]`, it is no longer a continuation.
        end: where it is a continuation again.
        of_canal: whether it is the canal's own.
    """

    points: np.ndarray
    start: float
    end: float
    of_canal: bool

    @property
    def tangents(self) -> np.ndarray:
        """[n, 2] unit vectors, upwards."""
        steps = np.gradient(self.points, axis=0)
        return steps / np.linalg.norm(steps, axis=1, keepdims=True)

    def coordinates(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of points [..., 2]: mm along the line, and mm before it (anterior; negative behind it)."""
        points = np.asarray(points, float)
        _, nearest = KDTree(self.points).query(points)
        offset, tangent = points - self.points[nearest], self.tangents[nearest]
        along = nearest * _STEP + (offset * tangent).sum(-1)
        return along, offset[..., 1] * tangent[..., 0] - offset[..., 0] * tangent[..., 1]

    def point(self, along: np.ndarray | float) -> np.ndarray:
        """The line's points [..., 2] at mm along it."""
        place = np.arange(len(self.points)) * _STEP
        return np.stack([np.interp(along, place, self.points[:, axis]) for axis in (0, 1)], axis=-1)

    def normal(self, along: np.ndarray | float) -> np.ndarray:
        """Unit vectors [..., 2] to anterior, square to the line, at mm along it."""
        place = np.arange(len(self.points)) * _STEP
        tangent = np.stack([np.interp(along, place, self.tangents[:, axis]) for axis in (0, 1)], axis=-1)
        return np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)


def centreline(canal: np.ndarray, vertebrae: np.ndarray, discs: np.ndarray, spacing: tuple[float, float]) -> Centreline:
    """The canal's middle, row by row and smoothed; without a canal a curve behind the bodies.

    Args:
        canal, vertebrae, discs: bool [z, y].
        spacing: (z, y) in mm.

    Raises:
        ValueError: the canal is wider than high, so that it is none.
    """
    pieces, count = label(canal)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    if not count or sizes.sum() * spacing[0] * spacing[1] < 100.0:
        return _behind_bodies(vertebrae, discs, spacing)
    kept = np.isin(pieces, 1 + np.flatnonzero(sizes >= _STRAY * sizes.max()))
    rows = np.flatnonzero(kept.any(axis=1))
    largest = (pieces == 1 + sizes.argmax()).sum(axis=1)
    height, width = (largest > 0).sum() * spacing[0], np.median(largest[largest > 0]) * spacing[1]
    if height < 1.5 * width:
        raise ValueError(
            f"the canal's largest piece is {height:.0f} mm high and {width:.0f} mm wide: expected the canal's own "
            "label, and a sagittal slice"
        )
    columns = (kept * np.arange(kept.shape[1])).sum(axis=1)[rows] / kept.sum(axis=1)[rows]
    return _smooth(np.column_stack([rows * spacing[0], columns * spacing[1]]), of_canal=True)


def _behind_bodies(vertebrae: np.ndarray, discs: np.ndarray, spacing: tuple[float, float]) -> Centreline:
    """A curve through the large pieces' centres, moved back; discs stand in where there are no vertebrae."""
    structure = foremost(vertebrae if vertebrae.any() else discs)
    pieces, count = label(structure)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    large = 1 + np.flatnonzero(sizes >= _BODY * sizes.max())
    centres = np.array(center_of_mass(structure, pieces, large)) * spacing
    degree = min(3, len(centres) - 1) if len(centres) > 4 else min(1, len(centres) - 1)
    curve = np.polynomial.Polynomial.fit(centres[:, 0], centres[:, 1], degree) if degree else None
    extent = float(np.median([np.ptp(np.nonzero(pieces == piece)[1]) * spacing[1] for piece in large]))
    low, high = centres[:, 0].min() - 15.0, centres[:, 0].max() + 15.0
    s = np.arange(low, high, _STEP)
    a = curve(np.clip(s, low + 15.0, high - 15.0)) if degree else np.full(len(s), centres[0, 1])
    line = _smooth(np.column_stack([s, a]), of_canal=False)
    return _smooth(line.points - _BEHIND * extent * _normals(line.tangents), of_canal=False, beyond=0.0)


def foremost(structure: np.ndarray) -> np.ndarray:
    """bool [z, y]: the pieces of a structure that have no larger one well before them in the rows about their middle.

    Where no canal tells the two apart, these are the bodies, and the others their processes. A body from which the one
    above has slipped has that one before it too, but by less than its depth.
    """
    pieces, count = label(structure)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    centres = np.rint(center_of_mass(structure, pieces, range(1, count + 1))).astype(int).reshape(-1, 2)
    behind = []
    for n, (row, column) in enumerate(centres, start=1):
        for other in np.setdiff1d(pieces[max(0, row - 1) : row + 2, column:], (0, n)):
            depth = np.ptp(np.flatnonzero((pieces == other).any(axis=0))) + 1
            if sizes[other] > sizes[n] and centres[other - 1, 1] - column > _WELL_BEFORE * depth:
                behind.append(n)
    return structure & ~np.isin(pieces, behind)


def _normals(tangents: np.ndarray) -> np.ndarray:
    return np.column_stack([-tangents[:, 1], tangents[:, 0]])


def _smooth(points: np.ndarray, *, of_canal: bool, beyond: float = _BEYOND) -> Centreline:
    """A smoothed line through points ordered upwards, continued straight by `beyond` mm at both ends."""
    s = np.arange(points[0, 0], points[-1, 0] + _STEP / 2, _STEP)
    a = np.interp(s, points[:, 0], points[:, 1])
    # Extended by its own slope: a plain filter would bend an inclined line's ends upright.
    margin = int(3 * _SMOOTHING / _STEP)
    a = np.pad(a, margin, mode="reflect", reflect_type="odd") if len(a) > margin else np.pad(a, margin, mode="edge")
    a = gaussian_filter1d(a, _SMOOTHING / _STEP)[margin:-margin]
    line = np.column_stack([s, a])
    end = max(1, min(len(line) - 1, int(_END / _STEP)))
    lower, upper = line[end] - line[0], line[-1] - line[-1 - end]
    distance = np.arange(_STEP, beyond + _STEP / 2, _STEP)[:, None]
    below = line[0] - distance[::-1] * lower / np.linalg.norm(lower)
    above = line[-1] + distance * upper / np.linalg.norm(upper)
    whole = np.concatenate([below, line, above])
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(whole, axis=0), axis=1))])
    place = np.arange(0.0, travelled[-1], _STEP)
    even = np.column_stack([np.interp(place, travelled, whole[:, axis]) for axis in (0, 1)])
    return Centreline(even, float(travelled[len(below)]), float(travelled[len(below) + len(line) - 1]), of_canal)
