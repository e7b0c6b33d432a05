"""Pictures of the demo with several raters: a case's raters and samples, and frequencies against the known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.demo.pictures import canvas, handles, outline, show
from nnunetv2_diffusion.demo.rater_scores import FREQUENCY, METHOD, SAMPLES, RatedCase
from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import INK, colour
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.phantoms.raters import SHARES
from nnunetv2_diffusion.report.slices import choose_slice
from nnunetv2_diffusion.scoring.labels import LabelScheme

OPTION_NAMES = {"endplates": "Endplates, vertebrae", "bulge": "Bulge, discs", "epidural_fat": "Epidural fat, canal"}


@styled
def draw_raters(
    image: Path, rated: RatedCase, rows: Sequence[Mapping[str, np.ndarray]], labels: LabelScheme, title: str
) -> Figure:
    """Outlines over the image: a row of masks by each mapping.

    Args:
        image: file of the case.
        rated: the case, on whose grid the masks are.
        rows: title -> label map, of raters, of samples and so on.
        labels: the structures to outline.
        title: over the figure.
    """
    scan = read_volume(image)
    cut = choose_slice(rated.first, [], scan)
    picture = cut.cut(scan).astype(float)
    figure, axes = canvas(len(rows), max(len(row) for row in rows), picture)
    for line, row in zip(axes, rows, strict=True):
        for axis, (name, mask) in zip(line, row.items(), strict=False):
            show(axis, picture, name)
            outline(axis, cut.cut(replace(rated.first, array=mask)), labels)
    figure.suptitle(title)
    figure.legend(handles=handles(labels), loc="outside lower center", ncols=len(labels.structures))
    return figure


@styled
def draw_frequencies(table: pd.DataFrame) -> Figure:
    """How often each method counts an option in, a panel an option, against the known frequency.

    Args:
        table: as `rater_scores.summarise` gives it.
    """
    figure, axes = panels(1, len(SHARES), (3.0 * len(SHARES), 0.36 * len(table) + 1.2), sharey=True)
    tints = [colour(1) if method == SAMPLES else colour(0) for method in table[METHOD]]
    for axis, (option, share) in zip(axes[0], SHARES.items(), strict=True):
        axis.barh(table[METHOD], table[f"{FREQUENCY}{option}"], color=tints, height=0.6)
        axis.axvline(share, color=INK, linewidth=1.2)
        axis.set(xlim=(0, 1), title=OPTION_NAMES[option], xlabel=f"frequency (line: known, {share:g})")
    axes[0, 0].invert_yaxis()
    return figure
