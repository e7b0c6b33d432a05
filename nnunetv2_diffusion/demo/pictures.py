"""A picture of every unseen case: image, reference, and each model's mask and uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_diffusion.demo.models import Model

# Okabe and Ito's colours, told apart by colour-blind people: spinal canal, vertebrae, discs.
COLOURS = {1: "#56b4e9", 2: "#e69f00", 3: "#cc79a7"}
NAMES = {1: "spinal canal", 2: "vertebrae", 3: "discs"}


def draw_cases(out: Path, images: Path, references: Path, models: Sequence[Model]) -> Path:
    """Write `out/pictures/<case>.png` for every reference; returns the folder."""
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    for reference in sorted(references.glob("*.nii.gz")):
        case = reference.name.removesuffix(".nii.gz")
        predictions = {
            model.name: out / "predictions" / f"{model.trainer}__{model.configuration}" / case for model in models
        }
        figure = draw_case(images / f"{case}_0000.nii.gz", reference, predictions)
        figure.savefig(folder / f"{case}.png", dpi=110)
    return folder


def draw_case(image: Path, reference: Path, predictions: dict[str, Path]) -> Figure:
    """Upper row: image with reference, then each model's mask; lower row: the image alone, then the uncertainties.

    Args:
        image, reference: one-slice sagittal files.
        predictions: by model name, the path of its mask without `.nii.gz`.
    """
    columns = len(predictions) + 1
    figure = Figure(figsize=(3.2 * columns, 6.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, columns, squeeze=False)
    picture = _upright(image)
    _show(axes[0, 0], picture, _upright(reference), "reference")
    _show(axes[1, 0], picture, None, "image")
    for column, (name, stem) in enumerate(predictions.items(), start=1):
        _show(axes[0, column], picture, _upright(stem.with_name(f"{stem.name}.nii.gz")), name)
        axes[1, column].set_title("uncertainty", fontsize=9)
        uncertainty = _upright(stem.with_name(f"{stem.name}_uncertainty.nii.gz"))
        drawn = axes[1, column].imshow(uncertainty, cmap="viridis", vmin=0, vmax=1)
        axes[1, column].set_axis_off()
    figure.colorbar(drawn, ax=axes[1, 1:], orientation="horizontal", shrink=0.5, label="entropy of the mean (0 to 1)")
    handles = [mpl.lines.Line2D([], [], color=COLOURS[label], label=NAMES[label]) for label in COLOURS]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(reference.name.removesuffix(".nii.gz"), fontsize=11)
    return figure


def _upright(file: Path) -> np.ndarray:
    """The slice as a radiologist looks at it: superior up, anterior to the left; [rows, columns]."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(file)), "RPI")
    return sitk.GetArrayFromImage(image)[:, :, 0]


def _show(axis: mpl.axes.Axes, picture: np.ndarray, mask: np.ndarray | None, title: str) -> None:
    axis.imshow(picture, cmap="gray")
    if mask is not None:
        for label, colour in COLOURS.items():
            if (mask == label).any():
                axis.contour(mask == label, levels=[0.5], colors=[colour], linewidths=1.0)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()
