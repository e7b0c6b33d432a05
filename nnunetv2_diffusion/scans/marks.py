"""What was measured, marked in a preview: names of levels, heights, and the narrowest place of the canal."""

from __future__ import annotations

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes

from nnunetv2_diffusion.anatomy.landmarks import Landmarks
from nnunetv2_diffusion.imaging.palette import INK, PAPER, WITH


def draw_landmarks(axes: Axes, landmarks: Landmarks, spacing: tuple[float, float], width: float) -> None:
    """Mark a slice that is drawn as it is read: anterior to the left, in mm from the picture's lower left corner.

    Args:
        axes: with the slice.
        landmarks: of the slice as it lies.
        spacing: of its pixels, mm (z, y).
        width: of the picture in mm.
    """
    halo = [patheffects.withStroke(linewidth=2.0, foreground=INK)]

    def shown(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return width - places[..., 1] - spacing[1] / 2, places[..., 0] + spacing[0] / 2

    for name, centre in landmarks.names.items():
        x, y = shown(centre)
        small = "xx-small" if "/" in name else "x-small"
        axes.text(x, y, name, color=PAPER, size=small, ha="center", va="center", path_effects=halo, clip_on=True)
    for ends in landmarks.heights:
        axes.plot(*shown(ends), color=PAPER, linewidth=0.8, marker="_", markersize=3, path_effects=halo)
    if landmarks.narrowest is not None:
        axes.plot(*shown(landmarks.narrowest), color=WITH, linewidth=1.6, path_effects=halo)
