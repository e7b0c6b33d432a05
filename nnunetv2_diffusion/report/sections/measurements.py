"""Measurements in millimetres: their errors by level, what they tell of the gradings, and Dice of each structure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion import measures as m
from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import WITH, WITHOUT
from nnunetv2_diffusion.report.auroc import clustered_auroc
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.scoring.figures import legend
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import TRAINING
from nnunetv2_diffusion.spider import STRUCTURES

CSV_FILES = ("measurement_errors.csv", "measurement_gradings.csv", "instance_dice.csv", "measurements_cases.csv")
# What the page shows of the errors; the csv file holds all.
SHOWN = (
    (m.DISC, m.MEAN_HEIGHT),
    (m.DISC, m.POSTERIOR_BULGE),
    (m.DISC, m.CANAL_WIDTH),
    (m.VERTEBRA, m.MIDDLE_HEIGHT),
    (m.VERTEBRA, m.SLIP),
)


class Pair(NamedTuple):
    """A grading of SPIDER's, the measurement that should tell it, and the sign with which it rises with the disease."""

    grading: str
    structure: str
    measurement: str
    sign: int


# A slip counts either way: SPIDER's grading does not say which.
PAIRS = (
    Pair("Spondylolisthesis", m.VERTEBRA, m.SLIP, 0),
    Pair("Disc narrowing", m.DISC, m.HEIGHT_INDEX, -1),
    Pair("Disc bulging", m.DISC, m.POSTERIOR_BULGE, 1),
    Pair("Disc herniation", m.DISC, m.POSTERIOR_BULGE, 1),
)
MASK, REFERENCE = "mask", "reference"


def section(context: Context) -> Section:
    """Errors by level, AUROC for the gradings and instance Dice; a sentence in their place where none was measured."""
    about = {"id": "measurements", "title": "Measurements", "template": "measurements.html.j2"}
    measured = context.measured
    if measured is None or measured.table.empty:
        notes = [] if measured is None else measured.notes
        return Section(**about, variables={"errors": [], "asked": measured is not None, "notes": notes})
    table = _evaluated(measured.table)
    errors, instances = error_table(table), instance_table(_evaluated(measured.instances))
    gradings = pd.DataFrame() if context.gradings is None else grading_table(table, context.gradings)
    tables = {
        "measurement_errors": errors,
        "measurement_gradings": gradings,
        "instance_dice": instances,
        "measurements_cases": measured.table,
    }
    figures = {} if gradings.empty else {"measurement_gradings": gradings_figure(gradings)}
    variables = {
        "errors": _error_groups(errors),
        "shown": [f"{display_name(name)}, {structure}" for structure, name in SHOWN],
        "gradings": gradings.to_dict("records"),
        "instances": instances.to_dict("records"),
        "notes": measured.notes,
        "asked": True,
    }
    return Section(**about, tables=tables, figures=figures, variables=variables)


def error_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a training, level and measurement: count, error (mean absolute), bias and p95, in its unit."""
    known = table.dropna(subset=["value", "reference"])
    known = known[known["measurement"] != m.MEYERDING]
    known = known.assign(difference=known["value"] - known["reference"])
    groups = known.groupby([*TRAINING, "structure", "measurement", "unit", "level"], sort=False)["difference"]
    return groups.agg(
        count="count", error=lambda d: d.abs().mean(), bias="mean", p95=lambda d: d.abs().quantile(0.95)
    ).reset_index()


def instance_table(instances: pd.DataFrame) -> pd.DataFrame:
    """A row a training and structure: how many there are, the share detected, and the mean Dice of those."""
    if instances.empty:
        return pd.DataFrame()
    rows = []
    for key, part in instances.groupby([*TRAINING, "structure"], sort=False):
        found = part[part["detected"]]
        means = found.groupby("case")["dice"].mean()
        about = dict(zip([*TRAINING, "structure"], key, strict=True))
        rows.append(
            {**about, "count": len(part), "detected": part["detected"].mean(), "dice": means.mean(), "std": means.std()}
        )
    order = {name: n for n, name in enumerate(STRUCTURES)}
    return pd.DataFrame(rows).sort_values("structure", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def grading_table(table: pd.DataFrame, gradings: pd.DataFrame) -> pd.DataFrame:
    """A row a training, grading and source (mask or reference): discs, affected, patients, auroc, low, high.

    A disc counts once a patient, by the mean over his scans. Its slip is that of the vertebra above it.
    """
    graded = gradings.assign(
        patient=gradings["Patient"].astype(str), disc=gradings["IVD label"].astype(int).map(m.disc_name)
    )
    rows = []
    for training, part in table.groupby(TRAINING, sort=False):
        for pair in PAIRS:
            own = part[(part["structure"] == pair.structure) & (part["measurement"] == pair.measurement)]
            own = own.assign(disc=own["level"].map(_disc_of))
            for source, column in ((MASK, "value"), (REFERENCE, "reference")):
                values = own.dropna(subset=column).groupby(["patient", "disc"], as_index=False)[column].mean()
                both = values.merge(graded[["patient", "disc", pair.grading]], on=["patient", "disc"])
                rows.append(
                    {**dict(zip(TRAINING, training, strict=True)), "grading": pair.grading,
                     "measurement": pair.measurement, "source": source, **_told(both, column, pair)}
                )  # fmt: skip
    return pd.DataFrame(rows)


def _told(discs: pd.DataFrame, column: str, pair: Pair) -> dict[str, float]:
    scores = discs[column].abs() if pair.sign == 0 else pair.sign * discs[column]
    affected = discs[pair.grading].to_numpy() > 0
    found = clustered_auroc(scores.to_numpy(), affected, discs["patient"].to_numpy())
    return {
        "discs": len(discs),
        "affected": int(affected.sum()),
        "patients": discs["patient"].nunique(),
        "auroc": found.value,
        "low": found.low,
        "high": found.high,
    }


def _disc_of(level: str) -> str:
    """The disc of a level's name: its own, or the one below a vertebra."""
    if level not in m.VERTEBRA_NAMES:
        return level
    return m.disc_name(m.VERTEBRA_NAMES.index(level) + 1)


@styled
def gradings_figure(gradings: pd.DataFrame) -> Figure:
    """AUROC with its interval: a panel a grading, a row a training, of masks and of references."""
    names = list(dict.fromkeys(gradings["grading"]))
    trainings = gradings[TRAINING].drop_duplicates().to_dict("records")
    figure, axes = panels(1, len(names), (2.6 * len(names) + 1.6, 0.42 * len(trainings) + 1.3), sharey=True)
    for panel, name in zip(axes[0], names, strict=True):
        for source, tint, shift in ((MASK, WITH, -0.15), (REFERENCE, WITHOUT, 0.15)):
            part = gradings[(gradings["grading"] == name) & (gradings["source"] == source)]
            rows = np.arange(len(part)) + shift
            panel.hlines(rows, part["low"], part["high"], color=tint, linewidth=1.4)
            panel.scatter(part["auroc"], rows, color=tint, s=18, zorder=3)
        panel.axvline(0.5, linestyle=":", linewidth=1)
        panel.set(title=name, xlim=(0, 1))
    axes[0][0].set_yticks(range(len(trainings)), [f"{t['model']}\n{t['modality']}" for t in trainings])
    axes[0][0].invert_yaxis()
    figure.supxlabel("AUROC", fontsize=9.5)
    legend(figure, [("measured in the mask", WITH), ("in the reference", WITHOUT)])
    return figure


def _evaluated(table: pd.DataFrame) -> pd.DataFrame:
    return table if table.empty else table[~table["oblique"].astype(bool)]


def _error_groups(errors: pd.DataFrame) -> list[dict[str, Any]]:
    """Of each training a row a lumbar level that the page shows: the errors of SHOWN, None where there is none."""
    groups = []
    lumbar = [name for n in range(1, 6) for name in (m.disc_name(n), m.vertebra_name(n))]
    for training, part in errors.groupby(TRAINING, sort=False):
        cells = part.set_index(["structure", "measurement", "level"])[["error", "bias", "unit"]].to_dict("index")
        rows = [{"level": level, "cells": [cells.get((*shown, level)) for shown in SHOWN]} for level in lumbar]
        rows = [row for row in rows if any(row["cells"])]
        groups.append({**dict(zip(TRAINING, training, strict=True)), "rows": rows})
    return groups
