"""Is the uncertainty worth anything: calibration, error detection, risk-coverage, and what a map tells of the Dice."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import colour
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.scoring.crops import CROPS, FOREGROUND_MARGIN
from nnunetv2_diffusion.scoring.figures import legend, reliability_diagram, risk_coverage_curves
from nnunetv2_diffusion.scoring.tables import TRAINING, reliability, summarise_uncertainty

CSV_FILES = ("uncertainty.csv", "uncertainty_cases.csv", "reliability.csv", "risk_coverage.csv")


def section(context: Context) -> Section:
    """The worth of every training's maps and probabilities; a sentence where no training has any."""
    scores = context.evaluated
    summary, points, curves = summarise_uncertainty(scores, TRAINING), reliability(scores.bins, TRAINING), scores.curves
    figures = {}
    for crop in CROPS:
        if not points.empty:
            figures[f"reliability_{crop}"] = reliability_diagram(points[points["region"] == crop])
        if not curves.empty:
            figures[f"risk_coverage_{crop}"] = risk_coverage_curves(curves[curves["region"] == crop])
    if not scores.uncertainty.empty:
        figures["uncertainty_and_dice"] = uncertainty_and_dice(scores.uncertainty, summary)
    return Section(
        id="uncertainty",
        title="Uncertainty",
        template="uncertainty.html.j2",
        tables={
            "uncertainty": summary,
            "uncertainty_cases": context.scores.uncertainty,
            "reliability": points,
            "risk_coverage": mean_risk(curves),
        },
        figures=figures,
        variables={"uncertainty": summary.to_dict("records"), "margin": FOREGROUND_MARGIN},
    )


def mean_risk(curves: pd.DataFrame) -> pd.DataFrame:
    """`Scores.curves` as the mean risk over the cases of each training, crop (column region) and coverage."""
    if curves.empty:
        return curves
    return curves.groupby([*TRAINING, "region", "coverage"], sort=False)["risk"].mean().reset_index()


@styled
def uncertainty_and_dice(cases: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Mean uncertainty of a case against its Dice: a row a model, a column a modality, Spearman's rho in it.

    Args:
        cases: `Scores.uncertainty`.
        summary: `tables.summarise_uncertainty`, with modality, model and spearman.
    """
    modalities, models = (list(dict.fromkeys(cases[column])) for column in ("modality", "model"))
    size = (3.4 * len(modalities) + 0.4, 2.4 * len(models) + 0.5)
    figure, axes = panels(len(models), len(modalities), size, sharex=True, sharey=True)
    rho = summary.set_index(["model", "modality"])["spearman"]
    for row, model in enumerate(models):
        for column, modality in enumerate(modalities):
            panel = axes[row][column]
            part = cases[(cases["model"] == model) & (cases["modality"] == modality)]
            dots = {"s": 11, "color": colour(row), "alpha": 0.5, "linewidths": 0, "rasterized": True}
            panel.scatter(part["mean_uncertainty"], part["dice"], **dots)
            value = rho.get((model, modality), float("nan"))
            verdict = "no maps" if part.empty else "too few cases" if pd.isna(value) else f"ρ = {value:.2f}"
            panel.text(0.97, 0.95, verdict.replace("-", "−"), transform=panel.transAxes, ha="right", va="top")
            if row == 0:
                panel.set_title(modality)
    figure.supxlabel("Mean uncertainty of the case", fontsize=9.5)
    figure.supylabel("Mean Dice of the case", fontsize=9.5)
    legend(figure, [(model, colour(index)) for index, model in enumerate(models)])
    return figure
