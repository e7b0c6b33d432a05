"""The demo's pictures: image, reference, masks and uncertainty of a case, and single samples beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.report.slices import choose_slice
from nnunetv2_diffusion.scoring.labels import LabelScheme, display_name

UNCERTAINTY_MAP = "viridis"
PANEL_WIDTH = 2.1  # inches
DPI = 150


@styled
def draw_case(
    image: Path,
    reference: Path,
    masks: Mapping[str, Path],
    uncertainty: Mapping[str, Path],
    labels: LabelScheme,
    title: str,
) -> Figure:
    """Image and reference, then above each other every model's mask and its uncertainty.

    Args:
        image, reference: files of one case.
        masks, uncertainty: a file a model, keyed by the model's name.
        labels: the structures to outline.
        title: over the figure.
    """
    volumes = {name: read_volume(path) for name, path in masks.items()}
    truth, scan = read_volume(reference), read_volume(image)
    cut = choose_slice(truth, list(volumes.values()), scan)
    picture = cut.cut(scan).astype(float)
    maps = {name: cut.cut(read_volume(path)).astype(float) for name, path in uncertainty.items()}
    highest = max((float(np.percentile(values, 99.5)) for values in maps.values()), default=1.0)

    columns = 2 + len(volumes)
    figure, axes = canvas(2, columns, picture)
    for column, (name, shown) in enumerate(
        [("Image", None), ("Reference", cut.cut(truth)), *((name, cut.cut(mask)) for name, mask in volumes.items())]
    ):
        show(axes[0, column], picture, name)
        if shown is not None:
            outline(axes[0, column], shown, labels)
    drawn = None
    for column, name in enumerate(volumes, start=2):
        if name in maps:
            axes[1, column].set_title("Uncertainty", fontweight="normal")
            drawn = axes[1, column].imshow(maps[name], cmap=UNCERTAINTY_MAP, vmin=0, vmax=max(highest, 1e-6))
    if drawn is not None:
        figure.colorbar(drawn, ax=axes[1, 1], location="right", label="uncertainty, 0 to 1", fraction=0.3)
    axes[1, 0].legend(handles=handles(labels), loc="upper left", borderaxespad=0)
    figure.suptitle(title)
    return figure


@styled
def draw_samples(
    image: Path, reference: Path, samples: Mapping[str, Sequence[Path]], labels: LabelScheme, title: str
) -> Figure:
    """A row a model: the image with the reference, then single samples of the model, outlined.

    Args:
        image, reference: files of one case.
        samples: masks of single samples, as many for every model, keyed by the model's name.
        labels: the structures to outline.
        title: over the figure.
    """
    truth, scan = read_volume(reference), read_volume(image)
    drawn = {name: [read_volume(path) for path in paths] for name, paths in samples.items()}
    cut = choose_slice(truth, [mask for masks in drawn.values() for mask in masks], scan)
    picture = cut.cut(scan).astype(float)
    figure, axes = canvas(len(drawn), 1 + max(len(masks) for masks in drawn.values()), picture)
    for row, (name, masks) in enumerate(drawn.items()):
        outlines = [("Reference", truth), *((f"{name}, sample {n}", mask) for n, mask in enumerate(masks, start=1))]
        for column, (heading, mask) in enumerate(outlines):
            show(axes[row, column], picture, heading)
            outline(axes[row, column], cut.cut(mask), labels)
    figure.suptitle(title)
    figure.legend(handles=handles(labels), loc="outside lower center", ncols=len(labels.structures))
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure whole or not at all."""
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=DPI))


def canvas(rows: int, columns: int, picture: np.ndarray) -> tuple[Figure, np.ndarray]:
    """A figure and its empty axes [rows, columns], each of the picture's shape."""
    height = PANEL_WIDTH * picture.shape[0] / picture.shape[1]
    figure, axes = panels(rows, columns, (PANEL_WIDTH * columns, (height + 0.35) * rows + 0.4))
    for axis in axes.flat:
        axis.set_axis_off()
        axis.grid(False)
    return figure, axes


def show(axis: Axes, picture: np.ndarray, title: str) -> None:
    """Draw a slice of an image in grey under a title."""
    low, high = np.percentile(picture, (1, 99.5))
    axis.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    axis.set_title(title.replace(" + ", "\n+ "), fontsize=mpl.rcParams["axes.titlesize"] - 2 * (len(title) > 20))


def outline(axis: Axes, mask: np.ndarray, labels: LabelScheme) -> None:
    """Draw the outlines of a mask's structures over an image."""
    for structure, tint in structure_colours(labels.structures).items():
        inside = labels.mask(mask, structure)
        if inside.any() and not inside.all():
            axis.contour(inside.astype(float), levels=[0.5], colors=[tint], linewidths=1.1)


def handles(labels: LabelScheme) -> list[Line2D]:
    """The entries of a legend of the structures' outlines."""
    return [
        Line2D([], [], color=tint, label=display_name(structure))
        for structure, tint in structure_colours(labels.structures).items()
    ]
