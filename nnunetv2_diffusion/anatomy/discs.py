"""A disc measured: heights, depth, area, and how far it bulges beyond the bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from nnunetv2_diffusion.anatomy.bodies import BodyShape, endplate_angle
from nnunetv2_diffusion.anatomy.outline import (
    STEP,
    Frame,
    Outline,
    fitted_outline,
    outline_about,
    outline_in,
    pixels_inside,
    reach_of,
)
from nnunetv2_diffusion.measures import ANTERIOR_STRIP, MIDDLE_STRIP, POSTERIOR_STRIP, WHOLE_STRIP

_BESIDE = 5.0  # mm by which the middle of a disc may lie off that of the bodies' corners
_SMOOTH = 2.0  # mm along the line over which the outline is evened before its farthest place is taken


@dataclass(frozen=True)
class DiscShape:
    """A disc, lengths in mm.

    Heights are means of the disc's thickness, square to the middle between its endplates, over 5 to 25, 40 to 60, 75 to
    95 and 5 to 95 % of the stretch from the anterior to the posterior corners of the neighbouring bodies, evened over
    strips where the two-point method of Dabbs takes single points (compared with others by Spahn et al. 2024, doi
    10.1055/a-1994-0879); of the disc's own depth where one of the bodies is missing. Depth is the disc's own from end
    to end in the middle of its height, bulges included.

    Attributes:
        posterior_end: (s, a) in mm, where the middle of its height ends behind.
    """

    anterior_height: float
    middle_height: float
    posterior_height: float
    mean_height: float
    depth: float
    area: float
    posterior_end: np.ndarray


def disc_outline(
    field: np.ndarray,
    spacing: tuple[float, float],
    angle: float,
    above: BodyShape | None,
    below: BodyShape | None,
) -> Outline:
    """A disc's outline in the frame midway between the endplates beside it; along its own where a body is missing.

    Args:
        field: [z, y], of the disc alone.
        spacing: (z, y) in mm.
        angle: about where its depth runs, see `Frame`.
        above, below: the bodies beside it.

    Raises:
        ValueError: it is too small to be measured.
    """
    if above is None or below is None:
        return fitted_outline(field, spacing, angle)
    angles = [np.radians(endplate_angle(plate)) for plate in (above.lower, below.upper)]
    frame = Frame(np.concatenate([above.lower, below.upper]).mean(axis=0), float(np.mean(angles)))
    inside = pixels_inside(field, spacing)
    reach = reach_of(inside)
    # whole steps from its lower end, as its own outline has them
    reach = STEP * np.floor(2 * reach / STEP + 0.5) - reach
    return outline_about(field, spacing, frame, inside, reach + _BESIDE)


def disc_shape(outline: Outline, above: BodyShape | None, below: BodyShape | None) -> DiscShape:
    """The shape of a disc from its outline and the bodies beside it."""
    ends = None
    if above is not None and below is not None:
        corners = outline.frame.local(np.stack([above.lower, below.upper]))[..., 0]
        ends = tuple(corners.mean(axis=0))
    strips = (ANTERIOR_STRIP, MIDDLE_STRIP, POSTERIOR_STRIP, WHOLE_STRIP)
    back, front = outline.waist
    return DiscShape(
        *(outline.thickness(strip, ends) for strip in strips),
        front - back,
        outline.area,
        outline.frame.points(back, 0.0),
    )


def bulges(field: np.ndarray, spacing: tuple[float, float], above: BodyShape, below: BodyShape) -> tuple[float, float]:
    """How far a disc reaches beyond the line between the corners of the endplates beside it: anterior, posterior, mm.

    Negative where it stays behind the line. The line joins the upper body's lower corner to the lower body's upper one
    (the protrusion's base in Fardon et al. 2014, doi 10.1016/j.spinee.2014.04.022, seen in the sagittal plane).

    Args:
        field: [z, y], of the disc alone.
        spacing: (z, y) in mm.
        above, below: the bodies beside it.
    """
    found = []
    for wall, outwards in ((1, 1.0), (0, -1.0)):
        lower, upper = below.upper[wall], above.lower[wall]
        rise = upper - lower
        half = float(np.linalg.norm(rise)) / 2
        # y of this frame runs along the line, upwards, so that x is the distance from it
        frame = Frame((lower + upper) / 2, float(np.arctan2(-rise[1], rise[0])))
        outline = outline_in(field, spacing, frame, (40.0, half + 6.0))
        ends = outline.walls[wall] * outwards
        evened = uniform_filter1d(np.where(np.isfinite(ends), ends, -40.0), max(1, round(_SMOOTH / STEP)))
        found.append(float(evened.max()))
    return found[0], found[1]
