"""The report's pictures: each function takes tables and returns a matplotlib figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import boxes, panels, styled
from nnunetv2_diffusion.imaging.palette import WITH, WITHOUT, colour
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.ablation import MISSING
from nnunetv2_diffusion.report.pathology import TESTED
from nnunetv2_diffusion.scoring.figures import legend
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import structure_names


@styled
def dice_by_model(structures: pd.DataFrame) -> Figure:
    """Dice of every case (`Scores.structures`): a panel a structure, a box a model and modality."""
    names = structure_names(structures["structure"])
    models, modalities = (list(dict.fromkeys(structures[column])) for column in ("model", "modality"))
    height = 0.8 / len(modalities)
    figure, axes = panels(
        1, len(names), (3.2 * len(names) + 2, 1.2 + 0.38 * len(models) * len(modalities)), sharey=True
    )
    for panel, name in zip(axes[0], names, strict=True):
        part = structures[structures["structure"] == name]
        values = {key: frame["dice"].dropna().to_numpy() for key, frame in part.groupby(["model", "modality"])}
        for index, modality in enumerate(modalities):
            positions = [row + (index - (len(modalities) - 1) / 2) * height for row in range(len(models))]
            groups = [values.get((model, modality), np.array([])) for model in models]
            boxes(panel, groups, positions, [colour(index)] * len(models), height)
        panel.set(title=display_name(name), xlabel="Dice", xlim=(_lower_limit(part["dice"]), 1.005))
        panel.set_yticks(range(len(models)), models)
        panel.grid(axis="y", visible=False)
    axes[0][0].invert_yaxis()
    if len(modalities) > 1:
        legend(figure, [(modality, colour(index)) for index, modality in enumerate(modalities)])
    return figure


@styled
def dice_by_pathology(means: pd.DataFrame, flags: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Figure 2: Dice of patients with and without each pathology, for one training.

    Args:
        means: `statistics.patient_means` of the training.
        flags: `pathology.patient_flags`.
        tests: `statistics.pathology_tests` of the training; the adjusted p-value stands at the right.
    """
    names = structure_names(means["structure"])
    results = tests.set_index(["pathology", "structure"])
    figure, axes = panels(1, len(names), (3.4 * len(names) + 2, 5.6), sharey=True)
    for panel, name in zip(axes[0], names, strict=True):
        part = means[means["structure"] == name]
        for row, pathology in enumerate(TESTED):
            affected = flags[pathology].loc[part["patient"]].to_numpy()
            groups = [part["dice"][affected].to_numpy(), part["dice"][~affected].to_numpy()]
            boxes(panel, groups, [row - 0.2, row + 0.2], [WITH, WITHOUT], 0.36)
            test = results.loc[(pathology, name)]
            label = "too few" if pd.isna(test["p"]) else p_text(test["p_adjusted"])
            weight = "bold" if test["significant"] else "normal"
            panel.text(
                1.01, row, label, transform=panel.get_yaxis_transform(), va="center", weight=weight, fontsize=8.5
            )
        panel.set(title=display_name(name), xlabel="Dice", xlim=(_lower_limit(part["dice"]), 1.005))
        panel.grid(axis="y", visible=False)
    counts = results.groupby(level="pathology", sort=False)[["n_with", "n_without"]].max()
    labels = [
        f"{pathology}\n{counts['n_with'][pathology]} with, {counts['n_without'][pathology]} without"
        for pathology in TESTED
    ]
    axes[0][0].set_yticks(range(len(TESTED)), labels)
    axes[0][0].invert_yaxis()
    legend(figure, [("with the pathology", WITH), ("without", WITHOUT)])
    return figure


@styled
def ablation_curves(table: pd.DataFrame) -> Figure:
    """Table 2 as curves: Dice and seconds a slice over T; for T1w + T2w the paper's dashed.

    Args:
        table: `ablation.ablation_table` of one series.
    """
    found = table[table["remark"] != MISSING]
    steps = sorted(table["timesteps"].unique())
    place = {step: index for index, step in enumerate(steps)}
    figure, axes = panels(1, 2, (9.5, 3.6), width_ratios=[1.6, 1])
    of_the_paper = set(table["modality"]) == {paper.TABLE_2_MODALITY}
    theirs = paper.table_2() if of_the_paper else paper.table_2().iloc[:0]
    for index, name in enumerate(structure_names(found["structure"])):
        part = found[found["structure"] == name]
        x = part["timesteps"].map(place)
        offset = (index - 1) * 0.06
        axes[0][0].errorbar(
            x + offset,
            part["dice_mean"],
            part["dice_std"],
            color=colour(index),
            marker="o",
            capsize=3,
            label=display_name(name),
        )
        printed = theirs[(theirs["structure"] == name) & theirs["timesteps"].isin(steps)]
        if len(printed):
            axes[0][0].plot(
                printed["timesteps"].map(place), printed["dice_mean"], "--", color=colour(index), alpha=0.55
            )
    axes[0][0].set(title=f"Dice, mean and standard deviation{' (dashed: the paper)' if of_the_paper else ''}")
    timed = found.drop_duplicates("timesteps").dropna(subset="seconds_per_slice")
    axes[0][1].bar(timed["timesteps"].map(place), timed["seconds_per_slice"], width=0.55, color=colour(5))
    axes[0][1].set(title="Seconds a slice")
    if timed.empty:
        axes[0][1].text(0.5, 0.5, "no prediction was timed", transform=axes[0][1].transAxes, ha="center")
    for panel in axes[0]:
        panel.set_xticks(range(len(steps)), [str(step) for step in steps])
        panel.set(xlabel="T (0: nnU-Net itself)", xlim=(-0.5, len(steps) - 0.5))
        panel.grid(axis="x", visible=False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


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
            panel.scatter(
                part["mean_uncertainty"],
                part["dice"],
                s=11,
                color=colour(row),
                alpha=0.5,
                linewidths=0,
                rasterized=True,
            )
            value = rho.get((model, modality), float("nan"))
            verdict = "no maps" if part.empty else "too few cases" if pd.isna(value) else f"ρ = {value:.2f}"
            panel.text(0.97, 0.95, verdict.replace("-", "−"), transform=panel.transAxes, ha="right", va="top")
            if row == 0:
                panel.set_title(modality)
    figure.supxlabel("Mean uncertainty of the case", fontsize=9.5)
    figure.supylabel("Mean Dice of the case", fontsize=9.5)
    legend(figure, [(model, colour(index)) for index, model in enumerate(models)])
    return figure


def p_text(p_value: float) -> str:
    """A p-value as it is printed: three decimals, or p < 0.001."""
    if pd.isna(p_value):
        return "–"
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _lower_limit(dice: pd.Series) -> float:
    """Where the Dice axis starts: on a twentieth, below the lowest case."""
    lowest = dice.min()
    return 0.5 if pd.isna(lowest) else np.floor(lowest * 20) / 20 - 0.005
