"""Some held-out cases: the image, the reference, and every model's mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from comparison.measuring import Measured
from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.volumes import read_volume

COLOURS = np.array([[0, 0, 0], [0.95, 0.75, 0.2], [0.85, 0.25, 0.2], [0.2, 0.6, 0.9]])
OPACITY = 0.5


def draw(results: Sequence[Measured], raw: Path, path: Path, cases: int = 3) -> None:
    """Write a PNG with a row for each of `cases` cases, spread evenly over those that were held out.

    Args:
        results: of every model.
        raw: the raw dataset.
        path: of the PNG.
        cases: how many.
    """
    names = sorted(results[0].masks)
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(cases, len(names))).round().astype(int)]
    titles = ["image", "reference", *(result.model.name for result in results)]
    figure = Figure(figsize=(2.2 * len(titles), 2.4 * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, case in zip(figure.subplots(len(chosen), len(titles), squeeze=False), chosen, strict=True):
        image = _plane(raw / "imagesTr" / f"{case}_0000.nii.gz")
        files = [raw / "labelsTr" / f"{case}.nii.gz", *(result.masks[case] for result in results)]
        for axis, title, mask in zip(axes, titles, [None, *map(_plane, files)], strict=True):
            axis.imshow(_overlay(image, mask), origin="lower")
            axis.set_title(title.replace(", ", "\n"), fontsize=7)
            axis.set_axis_off()
        axes[0].text(0, 0, case, color="white", fontsize=6, va="bottom")
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def _plane(path: Path) -> np.ndarray:
    """The slice [rows, columns] of a one-slice RAS+ file, inferior row first."""
    return read_volume(path).array[:, :, 0]


def _overlay(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    grey = np.repeat((image / max(float(image.max()), 1.0))[..., None], 3, axis=-1).clip(0, 1)
    if mask is None:
        return grey
    labelled = (mask > 0)[..., None]
    return np.where(labelled, (1 - OPACITY) * grey + OPACITY * COLOURS[mask.astype(int) % len(COLOURS)], grey)
