"""One picture of a segmentation: the slice, the outlines of its structures, and the uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.scans.review import of_structure

if TYPE_CHECKING:
    from nnunetv2_diffusion.anatomy.landmarks import Landmarks

_WHITE_PERCENTILE = 99.5
_HEIGHT_INCHES = 5.0
_PANEL_INCHES = (1.5, 10.0)
_DPI = 100


@dataclass(frozen=True)
class Picture:
    """A sagittal slice in RAS+ orientation: image, mask and uncertainty [z, y], and pixel spacing in mm (z, y).

    `landmarks` are marked, where it was measured.
    """

    image: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray
    spacing: tuple[float, float]
    landmarks: Landmarks | None = None


def write_picture(file: Path, picture: Picture, labels: Mapping[str, Any], title: str) -> None:
    """Draw a slice as it is read, superior above and anterior to the left.

    Args:
        file: the .png to write.
        picture: what to draw.
        labels: structures by name.
        title: above the picture.
    """
    # anterior is the end of y, and belongs to the left
    image, mask, uncertainty = (a[:, ::-1] for a in (picture.image, picture.mask, picture.uncertainty))
    spacing = picture.spacing
    height, width = image.shape[0] * spacing[0], image.shape[1] * spacing[1]
    panel = float(np.clip(_HEIGHT_INCHES * width / height, *_PANEL_INCHES))
    figure = Figure(figsize=(3 * panel + 1, _HEIGHT_INCHES + 0.8), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    placed = {"extent": (0.0, width, 0.0, height), "origin": "lower"}
    white = max(float(np.percentile(image, _WHITE_PERCENTILE)), float(image.min()) + 1e-6)
    for axis in axes[:2]:
        axis.imshow(image, cmap="gray", vmax=white, **placed)
    present = _draw_outlines(axes[1], mask, spacing, labels)
    if picture.landmarks is not None:
        from nnunetv2_diffusion.scans.marks import draw_landmarks  # here: a mask that is not measured has none

        draw_landmarks(axes[1], picture.landmarks, spacing, width)
    drawn = axes[2].imshow(uncertainty, cmap="magma", vmin=0.0, vmax=1.0, **placed)
    for axis in axes:
        axis.set_axis_off()
    figure.colorbar(drawn, ax=axes[2], shrink=0.8, label="uncertainty")
    figure.suptitle(title, fontsize="medium", parse_math=False)
    if present:
        figure.legend(handles=present, loc="outside lower center", ncols=len(present), frameon=False)
    figure.savefig(file, format="png")


def _draw_outlines(axis, mask: np.ndarray, spacing: tuple[float, float], labels: Mapping[str, Any]) -> list[Line2D]:
    """Outline every structure, also where it runs out of the image; returns the legend's entries."""
    present, colours = [], structure_colours(labels)
    for name, label in labels.items():
        found = np.pad(of_structure(mask, label), 1)
        if found.any():
            y, x = (((np.arange(n) - 0.5) * step) for n, step in zip(found.shape, spacing, strict=True))
            axis.contour(x, y, found.astype(float), levels=[0.5], colors=colours[name], linewidths=1.2)
            present.append(Line2D([], [], color=colours[name], label=name.replace("_", " ")))
    return present
