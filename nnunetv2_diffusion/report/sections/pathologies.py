"""Table 3 and section 4.2: how often each pathology occurs, and Dice of patients with it against those without."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import boxes, panels, styled
from nnunetv2_diffusion.imaging.palette import WITH, WITHOUT
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.dice_axis import set_dice_axis
from nnunetv2_diffusion.report.gradings import DEGENERATION, TESTED, patient_flags, prevalence
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.report.statistics import ALPHA, MIN_GROUP, pathology_tests, patient_means
from nnunetv2_diffusion.report.wording import p_text
from nnunetv2_diffusion.scoring.figures import legend
from nnunetv2_diffusion.scoring.tables import TRAINING, structure_names

CSV_FILES = ("table3.csv", "pathology_tests.csv")


def section(context: Context) -> Section:
    """The pathologies of the evaluated patients; a sentence in their place where no gradings were given.

    Raises:
        ValueError: a patient was not graded.
    """
    about = {"id": "pathologies", "title": "Pathologies", "template": "pathologies.html.j2"}
    if context.gradings is None:
        return Section(**about, variables={"prevalence": []})
    structures = context.evaluated.structures
    flags = patient_flags(context.gradings, context.pfirrmann)
    table_3, tests = prevalence(context.gradings, context.pfirrmann), pathology_tests(structures, flags)
    leads = lead_trainings(structures)
    figures = {
        figure_name(lead["dataset"]): dice_by_pathology(
            patient_means(_only(structures, lead)), flags, _only(tests, lead)
        )
        for lead in leads.to_dict("records")
    }
    variables = {
        "prevalence": table_3.to_dict("records"),
        "pathology": training_groups(tests, context.results.trainings, leads),
        "degeneration": DEGENERATION,
        "pfirrmann": context.pfirrmann,
        "alpha": ALPHA,
        "min_group": MIN_GROUP,
    }
    return Section(**about, tables={"table3": table_3, "pathology_tests": tests}, figures=figures, variables=variables)


def lead_trainings(structures: pd.DataFrame) -> pd.DataFrame:
    """One training a dataset whose pathologies are drawn: the first in the paper's order that has cases."""
    return structures.drop_duplicates("dataset")[TRAINING].reset_index(drop=True)


def figure_name(dataset: str) -> str:
    """The picture of a dataset's lead training."""
    return f"pathologies_{dataset}"


def training_groups(tests: pd.DataFrame, trainings: pd.DataFrame, leads: pd.DataFrame) -> list[dict[str, Any]]:
    """The tests of every training, a row a pathology; the trainings with a picture first.

    Args:
        tests: `statistics.pathology_tests`.
        trainings: `Results.trainings`, for the families that the paper's own p-values stand beside.
        leads: `lead_trainings`.
    """
    drawn = set(leads.itertuples(index=False, name=None))
    family = dict(zip(trainings["model"], trainings["family"], strict=True))
    groups = []
    for training, frame in tests.groupby(TRAINING, sort=False):
        about = dict(zip(TRAINING, training, strict=True))
        of_the_paper = (family[about["model"]], about["modality"]) == paper.SECTION_4_2_MODEL
        groups.append(
            {
                **about,
                "rows": _rows(frame),
                "structures": list(dict.fromkeys(frame["structure"])),
                "significant": int(frame["significant"].sum()),
                "tested": int(frame["p"].notna().sum()),
                "figure": figure_name(about["dataset"]) if training in drawn else None,
                "paper": {f"{p}|{s}": value for (p, s), value in paper.SECTION_4_2.items()} if of_the_paper else {},
            }
        )
    return sorted(groups, key=lambda group: group["figure"] is None)


@styled
def dice_by_pathology(means: pd.DataFrame, flags: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Figure 2: Dice of patients with and without each pathology, for one training.

    Args:
        means: `statistics.patient_means` of the training.
        flags: `gradings.patient_flags`.
        tests: `statistics.pathology_tests` of the training; the adjusted p-value stands at the right.
    """
    names = structure_names(means["structure"])
    results = tests.set_index(["pathology", "structure"])
    figure, axes = panels(1, len(names), (3.4 * len(names) + 2, 5.6), sharey=True)
    for panel, name in zip(axes[0], names, strict=True):
        part = means[means["structure"] == name]
        right = panel.get_yaxis_transform()
        for row, pathology in enumerate(TESTED):
            affected = flags[pathology].loc[part["patient"]].to_numpy()
            groups = [part["dice"][affected].to_numpy(), part["dice"][~affected].to_numpy()]
            boxes(panel, groups, [row - 0.2, row + 0.2], [WITH, WITHOUT], 0.36)
            test = results.loc[(pathology, name)]
            label = "too few" if pd.isna(test["p"]) else p_text(test["p_adjusted"])
            weight = "bold" if test["significant"] else "normal"
            panel.text(1.01, row, label, transform=right, va="center", weight=weight, fontsize=8.5)
        set_dice_axis(panel, name, part["dice"])
    counts = results.groupby(level="pathology", sort=False)[["n_with", "n_without"]].max()
    labels = [
        f"{pathology}\n{counts['n_with'][pathology]} with, {counts['n_without'][pathology]} without"
        for pathology in TESTED
    ]
    axes[0][0].set_yticks(range(len(TESTED)), labels)
    axes[0][0].invert_yaxis()
    legend(figure, [("with the pathology", WITH), ("without", WITHOUT)])
    return figure


def _rows(tests: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "pathology": name,
            "n_with": part["n_with"].max(),
            "n_without": part["n_without"].max(),
            "cells": {cell["structure"]: cell for cell in part.to_dict("records")},
        }
        for name, part in tests.groupby("pathology", sort=False)
    ]


def _only(table: pd.DataFrame, training: dict[str, str]) -> pd.DataFrame:
    return table[(table["dataset"] == training["dataset"]) & (table["model"] == training["model"])]
