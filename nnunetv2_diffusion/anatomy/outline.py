"""The outline of a structure in a frame of its own: where its field crosses 0.5, to a fraction of a pixel.

A frame's x runs to anterior and its y upwards along the spine. Between pixels the field is interpolated linearly, so
that the outline is the one of scikit-image's `find_contours` at 0.5. Masks are not smoothed: that thins narrow discs.
Staircases are evened out by means and straight lines over many columns or rows instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.segmentation import expand_labels

from nnunetv2_diffusion.measures import ANTERIOR_STRIP, POSTERIOR_STRIP, WAIST_STRIP

STEP = 0.2  # mm between the samples of a field
_ROUNDS = 6  # of turning a frame until it lies along the endplates
_TURNED = 1e-3  # radians
_LEAST = 8  # pixels
_TERRITORY = 3.0  # mm around a mask that its field may reach


@dataclass(frozen=True)
class Frame:
    """A place (s, a) in mm, and by how many radians its x axis, to anterior, is turned upwards."""

    origin: np.ndarray
    angle: float

    @property
    def axes(self) -> np.ndarray:
        """[2, 2]: the unit vectors (s, a) of x and y."""
        sine, cosine = np.sin(self.angle), np.cos(self.angle)
        return np.array([[sine, cosine], [cosine, -sine]])

    def points(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """(s, a) in mm, [..., 2], of places in the frame."""
        x, y = np.asarray(x, float)[..., None], np.asarray(y, float)[..., None]
        return self.origin + x * self.axes[0] + y * self.axes[1]

    def local(self, points: np.ndarray) -> np.ndarray:
        """(x, y) in the frame, [..., 2], of points (s, a)."""
        return (np.asarray(points) - self.origin) @ self.axes.T


@dataclass(frozen=True)
class Outline:
    """A structure seen in a frame, sampled every `STEP` mm.

    Attributes:
        frame: in whose middle the structure lies.
        x, y: the samples' places in the frame, mm.
        inside: bool [y, x].
    """

    frame: Frame
    x: np.ndarray
    y: np.ndarray
    inside: np.ndarray

    @cached_property
    def area(self) -> float:
        """mm2."""
        return float(self.inside.sum() * STEP**2)

    @cached_property
    def walls(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the posterior and the anterior wall lie on each line y: x in mm, [y] each, NaN where nothing is."""
        return _ends(self.inside, self.x)

    @cached_property
    def endplates(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the lower and the upper endplate lie on each line x: y in mm, [x] each, NaN where nothing is."""
        return _ends(self.inside.T, self.y)

    @cached_property
    def waist(self) -> tuple[float, float]:
        """Posterior and anterior end in mm along x: the mean over the middle quarter of the usual height."""
        lower, upper = self.endplates
        if not self.inside.any():
            return float("nan"), float("nan")
        half, middle = np.nanmedian(upper - lower) / 2, np.nanmedian((upper + lower) / 2)
        rows = np.abs(self.y - middle) <= max(WAIST_STRIP * half, STEP)
        return tuple(_mean(wall[rows]) for wall in self.walls)

    def columns(self, strip: tuple[float, float], ends: tuple[float, float] | None = None) -> np.ndarray:
        """bool [x]: the lines x within a strip of the depth, counted in shares from its anterior end."""
        back, front = ends or self.waist
        share = (front - self.x) / (front - back)
        return (share >= strip[0]) & (share <= strip[1])

    def thickness(self, strip: tuple[float, float], ends: tuple[float, float] | None = None) -> float:
        """Mean extent along y over a strip of the depth, mm; holes do not count. NaN where the strip is empty."""
        columns = self.columns(strip, ends)
        return float(self.inside[:, columns].sum(axis=0).mean() * STEP) if columns.any() else float("nan")

    def chord(self, side: int) -> tuple[float, float]:
        """The lower (0) or upper (1) endplate as a straight line y = a + b x: (a, b), through its two outer strips."""
        plate = self.endplates[side]
        (x0, y0), (x1, y1) = (
            (_mean(self.x[columns]), _mean(plate[columns]))
            for columns in map(self.columns, (POSTERIOR_STRIP, ANTERIOR_STRIP))
        )
        slope = (y1 - y0) / (x1 - x0)
        return float(y0 - slope * x0), float(slope)


def _mean(values: np.ndarray) -> float:
    """The mean of the numbers among `values`; NaN where there are none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _ends(inside: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last place inside on each line of the first axis, half a step outwards; NaN on empty lines."""
    found = inside.any(axis=1)
    first = np.where(found, places[inside.argmax(axis=1)] - STEP / 2, np.nan)
    last = np.where(found, places[inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)] + STEP / 2, np.nan)
    return first, last


def territories(masks: dict[int, np.ndarray], spacing: tuple[float, float]) -> dict[int, np.ndarray]:
    """Number -> the pixels [z, y] nearest to each mask, out to a few mm: where a common field is this structure's."""
    labels = np.zeros(next(iter(masks.values())).shape, np.int32)
    for number, mask in masks.items():
        labels[mask] = number
    reach = max(2, round(_TERRITORY / min(spacing)))
    grown = expand_labels(labels, reach)
    return {number: grown == number for number in masks}


def sample(field: np.ndarray, spacing: tuple[float, float], points: np.ndarray) -> np.ndarray:
    """A field [z, y] at points (s, a) in mm, [..., 2]; 0 outside of it."""
    return _interpolated(field, np.moveaxis(points / np.asarray(spacing), -1, 0))


def _interpolated(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    return map_coordinates(field, places, order=1, mode="constant", cval=0.0, prefilter=False)


def outline_in(field: np.ndarray, spacing: tuple[float, float], frame: Frame, half: tuple[float, float]) -> Outline:
    """The outline of a field in a frame, out to `half` (x, y) mm from its origin."""
    x, y = (np.arange(-extent, extent + STEP / 2, STEP) for extent in half)
    places = np.empty((2, len(y), len(x)))
    for axis in (0, 1):
        along_x = (frame.origin[axis] + x * frame.axes[0, axis]) / spacing[axis]
        np.add(along_x, y[:, None] * (frame.axes[1, axis] / spacing[axis]), out=places[axis])
    return Outline(frame, x, y, _interpolated(field, places) > 0.5)


def outline_about(
    field: np.ndarray, spacing: tuple[float, float], frame: Frame, inside: np.ndarray, reach: float
) -> Outline:
    """The outline of a field in a frame, out to where the structure ends: what lies beyond is empty and costs time.

    Args:
        field, spacing, frame: as `outline_in`.
        inside: the places (s, a) of the field's pixels above one half, [n, 2].
        reach: mm from the frame's origin; the samples lie at whole steps from there, whatever is left out.
    """
    needed = np.abs(frame.local(inside)).max(axis=0) + float(np.hypot(*spacing)) + 2 * STEP
    return outline_in(field, spacing, frame, tuple(reach - np.floor((reach - needed) / STEP) * STEP))


def reach_of(inside: np.ndarray) -> float:
    """How far in mm a structure may reach from its middle, given the places of its pixels [n, 2]."""
    return float(np.linalg.norm(np.ptp(inside, axis=0))) / 2 + 4.0


def pixels_inside(field: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """The places (s, a) in mm, [n, 2], of a field's pixels above one half.

    Raises:
        ValueError: they are too few for an outline.
    """
    inside = np.argwhere(field > 0.5) * spacing
    if len(inside) < _LEAST:
        raise ValueError("too small to be measured")
    return inside


def fitted_outline(field: np.ndarray, spacing: tuple[float, float], angle: float) -> Outline:
    """The outline of a body or disc in the frame that lies along the mean of its endplates, in their middle.

    Args:
        field: [z, y] in [0, 1], of this structure alone.
        spacing: (z, y) in mm.
        angle: about where its depth runs, see `Frame`.

    Raises:
        ValueError: it has no two endplates, so that nothing can be measured.
    """
    inside = pixels_inside(field, spacing)
    frame, reach = Frame(inside.mean(axis=0), angle), reach_of(inside)
    for _ in range(_ROUNDS):
        outline = outline_about(field, spacing, frame, inside, reach)
        (low, low_slope), (high, high_slope) = outline.chord(0), outline.chord(1)
        turn = (np.arctan(low_slope) + np.arctan(high_slope)) / 2
        if not np.isfinite(turn):
            raise ValueError("too small to be measured")
        middle = np.mean(outline.waist)
        centre = frame.points(middle, (low + high + (low_slope + high_slope) * middle) / 2)
        frame = Frame(centre, frame.angle + float(turn))
        if abs(turn) < _TURNED:
            break
    return outline_about(field, spacing, frame, inside, reach)
