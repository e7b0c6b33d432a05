"""Table 1: Dice and surface distances of every training beside the paper's own, and the boxes of Dice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import boxes, panels, styled
from nnunetv2_diffusion.imaging.palette import colour
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.dice_axis import set_dice_axis
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.scoring.figures import legend
from nnunetv2_diffusion.scoring.tables import MEAN, TRAINING, structure_names, summarise_structures

CSV_FILES = ("table1.csv", "folds.csv")


def section(context: Context) -> Section:
    """Dice and distances of the evaluated cases."""
    structures = context.evaluated.structures
    table = table_1(structures, context.results.trainings)
    return Section(
        id="table1",
        title="Dice and distances",
        template="dice_and_distances.html.j2",
        tables={"table1": table, "folds": context.results.folds},
        figures={"dice": dice_by_model(structures)},
        variables={
            "structures": [*structure_names(table["structure"].dropna()), MEAN],
            "table_1": training_rows(table),
        },
    )


def table_1(structures: pd.DataFrame, trainings: pd.DataFrame) -> pd.DataFrame:
    """Table 1 in long form, with the paper's own figures.

    Args:
        structures: `Scores.structures` of the evaluated cases.
        trainings: `Results.trainings`.

    Returns:
        `summarise_structures`'s columns for each training, family, missing_folds and partial_folds, paper_dice_mean and
        paper_dice_std. A training without a validated case has one row, without scores.
    """
    about = trainings[[*TRAINING, "family", "missing_folds", "partial_folds"]]
    summary = summarise_structures(structures, TRAINING)
    table = about.merge(summary, on=TRAINING, how="left", sort=False)
    theirs = paper.table_1().rename(columns={"dice_mean": "paper_dice_mean", "dice_std": "paper_dice_std"})
    return table.merge(theirs, on=["family", "modality", "structure"], how="left", sort=False)


def training_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a training of `table_1`: its cells by structure, the paper's cells beside them, and what is missing."""
    table = table.assign(best=_is_best(table))
    rows = []
    for training, frame in table.groupby(TRAINING, sort=False):
        scored = frame.dropna(subset="structure")
        cells = {cell["structure"]: cell for cell in scored.to_dict("records")}
        first = frame.iloc[0]
        rows.append(
            {
                **dict(zip(TRAINING, training, strict=True)),
                "cells": cells,
                "cases": int(scored["cases"].max()) if len(scored) else 0,
                "missing": first["missing_folds"],
                "partial": first["partial_folds"],
                "paper": {name: cell for name, cell in cells.items() if not pd.isna(cell["paper_dice_mean"])},
            }
        )
    return rows


@styled
def dice_by_model(structures: pd.DataFrame) -> Figure:
    """Dice of every case (`Scores.structures`): a panel a structure, a box a model and modality."""
    names = structure_names(structures["structure"])
    models, modalities = (list(dict.fromkeys(structures[column])) for column in ("model", "modality"))
    height = 0.8 / len(modalities)
    size = (3.2 * len(names) + 2, 1.2 + 0.38 * len(models) * len(modalities))
    figure, axes = panels(1, len(names), size, sharey=True)
    for panel, name in zip(axes[0], names, strict=True):
        part = structures[structures["structure"] == name]
        values = {key: frame["dice"].dropna().to_numpy() for key, frame in part.groupby(["model", "modality"])}
        for index, modality in enumerate(modalities):
            positions = [row + (index - (len(modalities) - 1) / 2) * height for row in range(len(models))]
            groups = [values.get((model, modality), np.array([])) for model in models]
            boxes(panel, groups, positions, [colour(index)] * len(models), height)
        set_dice_axis(panel, name, part["dice"])
        panel.set_yticks(range(len(models)), models)
    axes[0][0].invert_yaxis()
    if len(modalities) > 1:
        legend(figure, [(modality, colour(index)) for index, modality in enumerate(modalities)])
    return figure


def _is_best(table: pd.DataFrame) -> pd.Series:
    """The highest Dice of a modality and structure, among trainings that lack no fold and where there are several."""
    whole = table["missing_folds"].eq("") & table["partial_folds"].eq("")
    dice = table["dice_mean"].where(whole)
    keys = [table["modality"], table["structure"]]
    return dice.eq(dice.groupby(keys).transform("max")) & dice.groupby(keys).transform("count").gt(1)
