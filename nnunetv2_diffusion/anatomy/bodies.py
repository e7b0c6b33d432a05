"""A vertebral body measured: its four corners, its heights and depth, and its slip on the body below."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunetv2_diffusion.anatomy.outline import Outline, fitted_outline
from nnunetv2_diffusion.measures import MIDDLE_STRIP, WALL_STRIP

# A body's area over that between its four corners is about 1; where the frame lies along its diagonal, or it is no
# vertebra with two endplates, half of it.
_LEAST_FILL = 0.85
_STARTS = tuple(np.deg2rad([0.0, -30.0, 30.0]))  # lower bodies are tilted forwards


@dataclass(frozen=True)
class BodyShape:
    """The six points of vertebral morphometry (Eastell et al. 1991), as four corners and the height in the middle.

    An endplate is the straight line through its mean places at 5 to 25 % and at 75 to 95 % of the depth, a wall near an
    endplate the straight line through its outer half, from 35 to 85 % of half the height; a corner is where they meet.
    So the roundness of real corners and single spurs count little.

    Attributes:
        lower, upper: [2, 2], the posterior and the anterior corner of an endplate, (s, a) in mm.
        middle_height: mean height between 40 and 60 % of the depth, mm.
        depth: from wall to wall in the middle of the height, mm.
    """

    lower: np.ndarray
    upper: np.ndarray
    middle_height: float
    depth: float

    @property
    def posterior_height(self) -> float:
        """Distance of the posterior corners, mm."""
        return float(np.linalg.norm(self.upper[0] - self.lower[0]))

    @property
    def anterior_height(self) -> float:
        """Distance of the anterior corners, mm."""
        return float(np.linalg.norm(self.upper[1] - self.lower[1]))

    @property
    def mean_height(self) -> float:
        """Mean of the anterior, middle and posterior height, mm."""
        return (self.anterior_height + self.middle_height + self.posterior_height) / 3

    @property
    def wedge_ratio(self) -> float:
        """Anterior over posterior height (Eastell et al. 1991, doi 10.1002/jbmr.5650060302)."""
        return self.anterior_height / self.posterior_height

    @property
    def biconcavity_ratio(self) -> float:
        """Middle over posterior height (Eastell et al. 1991)."""
        return self.middle_height / self.posterior_height


def body_shape(outline: Outline) -> BodyShape:
    """The shape of a body from its outline.

    Raises:
        ValueError: it has no four corners, or they are not those of its area.
    """
    corners = np.array([[_corner(outline, side, wall) for wall in (0, 1)] for side in (0, 1)])
    back, front = outline.waist
    if not np.isfinite(corners).all() or front <= back:
        raise ValueError("its corners cannot be found")
    if _between(corners) < _LEAST_FILL * outline.area:
        raise ValueError("its corners cannot be found: it is no body with two endplates")
    return BodyShape(corners[0], corners[1], outline.thickness(MIDDLE_STRIP), front - back)


def fitted_body(field: np.ndarray, spacing: tuple[float, float], angle: float) -> BodyShape:
    """The shape of a body whose depth runs about at `angle`, or where that leads nowhere 30 degrees to either side.

    Args:
        field, spacing, angle: see `outline.fitted_outline`.

    Raises:
        ValueError: see `body_shape`.
    """
    for start in _STARTS:
        try:
            return body_shape(fitted_outline(field, spacing, angle + start))
        except ValueError as error:
            fault = error
    raise fault


def _between(corners: np.ndarray) -> float:
    """The area in mm2 between four corners [2, 2, 2], lower and upper, posterior and anterior ones."""
    (s0, a0), (s1, a1) = corners[1, 1] - corners[0, 0], corners[1, 0] - corners[0, 1]
    return abs(s0 * a1 - s1 * a0) / 2


def _corner(outline: Outline, side: int, wall: int) -> np.ndarray:
    """Where the lower (0) or upper (1) endplate's line meets the posterior (0) or anterior (1) wall's, (s, a) in mm."""
    offset, slope = outline.chord(side)
    half = abs(offset)
    share = outline.y / half if side else -outline.y / half
    rows = (share >= WALL_STRIP[0]) & (share <= WALL_STRIP[1]) & np.isfinite(outline.walls[wall])
    if rows.sum() < 3:
        return np.full(2, np.nan)
    # x = base + lean * y on the wall, y = offset + slope * x on the endplate
    lean, base = np.polyfit(outline.y[rows], outline.walls[wall][rows], 1)
    x = (base + lean * offset) / (1 - lean * slope)
    return outline.frame.points(x, offset + slope * x)


def slip(upper: BodyShape, lower: BodyShape) -> tuple[float, float]:
    """How far a body stands before the one below: mm, and % of the depth of the endplate that it stands on.

    From the posterior corner of the upper body's lower endplate to the posterior corner of the lower body's upper
    endplate, along the latter; forwards is positive. Quarters of it are Meyerding's grades (1932).
    """
    back, front = lower.upper
    depth = float(np.linalg.norm(front - back))
    shift = float((upper.lower[0] - back) @ (front - back) / depth)
    return shift, 100.0 * shift / depth


def endplate_angle(corners: np.ndarray) -> float:
    """By how many degrees an endplate's line, from its posterior corner to its anterior one, rises."""
    s, a = corners[1] - corners[0]
    return float(np.degrees(np.arctan2(s, a)))
