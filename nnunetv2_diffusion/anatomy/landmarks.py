"""Where a picture marks what was measured: names of levels, heights, and the narrowest place of the canal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnunetv2_diffusion.anatomy.levels import Levels
from nnunetv2_diffusion.anatomy.measurements import Shapes, canal_ends
from nnunetv2_diffusion.measures import disc_name, vertebra_name


@dataclass(frozen=True)
class Landmarks:
    """Places (s, a) in mm from the centre of a slice's lowest, most posterior pixel.

    Attributes:
        names: level's name -> its structure's centre, [2].
        heights: [2, 2] each, from below to above: posterior and anterior of bodies, in the middle of discs.
        narrowest: [2, 2], across the canal where it is narrowest; None where that is not measured.
    """

    names: dict[str, np.ndarray] = field(default_factory=dict)
    heights: list[np.ndarray] = field(default_factory=list)
    narrowest: np.ndarray | None = None


def find_landmarks(levels: Levels, shapes: Shapes, spacing: tuple[float, float]) -> Landmarks:
    """The landmarks of a slice of pixels (z, y) of `spacing` mm."""
    names = {vertebra_name(n): _centre(mask, spacing) for n, mask in levels.bodies.items()}
    names |= {disc_name(n): _centre(mask, spacing) for n, mask in levels.discs.items()}
    heights = [np.stack([body.lower[wall], body.upper[wall]]) for body in shapes.bodies.values() for wall in range(2)]
    for n, disc in shapes.discs.items():
        centre = names[disc_name(n)]
        along = levels.line.normal(levels.line.coordinates(centre)[0])
        upwards = np.array([along[1], -along[0]])
        heights.append(centre + np.outer([-0.5, 0.5], upwards) * disc.middle_height)
    return Landmarks(names, heights, _narrowest(levels, shapes))


def _centre(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0) * spacing


def _narrowest(levels: Levels, shapes: Shapes) -> np.ndarray | None:
    ends = canal_ends(levels, shapes)
    if shapes.canal is None or ends is None:
        return None
    width, along = shapes.canal.narrowest(*ends)
    if not np.isfinite(width):
        return None
    return levels.line.point(along) + np.outer([-0.5, 0.5], levels.line.normal(along)) * width
