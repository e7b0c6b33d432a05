"""Pictures of how far probabilities and maps can be trusted: reliability diagram and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import AXIS, INK, colour


@styled
def reliability_diagram(points: pd.DataFrame) -> Figure:
    """Accuracy over confidence, a panel a modality, a line a model, marker area by the share of voxels.

    Args:
        points: `tables.reliability` of one crop, with the columns modality and model.
    """
    modalities, models = (list(dict.fromkeys(points[column])) for column in ("modality", "model"))
    figure, axes = panels(1, len(modalities), (3.6 * len(modalities) + 0.4, 4.5), sharey=True)
    for panel, modality in zip(axes[0], modalities, strict=True):
        panel.plot([0, 1], [0, 1], color=AXIS, linewidth=1, linestyle=":")
        for model, part in points[points["modality"] == modality].groupby("model", sort=False):
            tint = colour(models.index(model))
            panel.plot(part["confidence"], part["accuracy"], color=tint, linewidth=1.4)
            share = part["count"] / part["count"].sum()
            panel.scatter(
                part["confidence"], part["accuracy"], s=8 + 160 * np.sqrt(share), color=tint, alpha=0.5, linewidths=0
            )
        panel.set(title=modality, xlabel="Confidence", xlim=(0, 1.02), ylim=(0, 1.02), box_aspect=1)
    axes[0][0].set_ylabel("Accuracy")
    legend(figure, [(model, colour(index)) for index, model in enumerate(models)])
    return figure


@styled
def risk_coverage_curves(curves: pd.DataFrame) -> Figure:
    """Share of wrong voxels among the most certain ones, mean over cases: a panel a modality, a line a model.

    Args:
        curves: `Scores.curves` of one crop.
    """
    modalities, models = (list(dict.fromkeys(curves[column])) for column in ("modality", "model"))
    figure, axes = panels(1, len(modalities), (3.6 * len(modalities) + 0.4, 3.7), sharey=True)
    means = curves.groupby(["modality", "model", "coverage"], sort=False)["risk"].mean().reset_index()
    for panel, modality in zip(axes[0], modalities, strict=True):
        for model, part in means[means["modality"] == modality].groupby("model", sort=False):
            panel.plot(part["coverage"], 100 * part["risk"], color=colour(models.index(model)))
        panel.set(title=modality, xlabel="Coverage: share of voxels kept", xlim=(0, 1.01))
        panel.set_ylim(bottom=0)
    axes[0][0].set_ylabel("Wrong among them (%)")
    legend(figure, [(model, colour(index)) for index, model in enumerate(models)])
    return figure


def legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """A legend above all panels; `entries` are (text, colour)."""
    handles = [figure.axes[0].scatter([], [], color=tint, s=40, label=text) for text, tint in entries]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(entries), 4), labelcolor=INK)
