"""Some held-out cases: the image, the reference, and every model's mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from comparison.measuring import Measured
from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.nnunet_names import DATASET_FILE
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_labels

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
    labels = read_labels(raw / DATASET_FILE)
    figure = Figure(figsize=(2.2 * len(titles), 2.4 * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, case in zip(figure.subplots(len(chosen), len(titles), squeeze=False), chosen, strict=True):
        image = _plane(raw / "imagesTr" / f"{case}_0000.nii.gz")
        files = [raw / "labelsTr" / f"{case}.nii.gz", *(result.masks[case] for result in results)]
        for axis, title, mask in zip(axes, titles, [None, *map(_plane, files)], strict=True):
            axis.imshow(overlay(image, mask, labels), origin="lower")
            axis.set_title(title.replace(", ", "\n"), fontsize=7)
            axis.set_axis_off()
        axes[0].text(0, 0, case, color="white", fontsize=6, va="bottom")
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=110))


def overlay(image: np.ndarray, mask: np.ndarray | None, labels: LabelScheme) -> np.ndarray:
    """An image [rows, columns] in grey under its structures' colours.

    Args:
        image: of any range from 0.
        mask: of its shape; None shows the image alone.
        labels: the structures that the mask may hold.

    Returns:
        [rows, columns, 3] from 0 to 1.
    """
    picture = np.repeat((image / max(float(image.max()), 1.0))[..., None], 3, axis=-1).clip(0, 1)
    if mask is None:
        return picture
    for structure, colour in structure_colours(labels.structures).items():
        inside = labels.mask(mask, structure)
        picture[inside] = (1 - OPACITY) * picture[inside] + OPACITY * np.array(to_rgb(colour))
    return picture


def _plane(path: Path) -> np.ndarray:
    """The slice [rows, columns] of a one-slice RAS+ file, inferior row first."""
    return read_volume(path).array[:, :, 0]
