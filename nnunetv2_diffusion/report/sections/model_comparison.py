"""Model against model: Wilcoxon's signed-rank test between any two trainings over the cases that both have scored."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.report.statistics import ALPHA, paired_tests
from nnunetv2_diffusion.scoring.tables import MEAN, structure_names

CSV_FILES = ("paired_tests.csv",)


def section(context: Context) -> Section:
    """The comparisons of all trainings; without any where there is one training a dataset."""
    paired = paired_tests(context.evaluated.structures)
    return Section(
        id="models",
        title="Model against model",
        template="model_comparison.html.j2",
        tables={"paired_tests": paired},
        variables={"paired": comparisons(paired), "alpha": ALPHA},
    )


def comparisons(paired: pd.DataFrame) -> list[dict[str, Any]]:
    """The comparisons by the modalities that were trained on, those within one modality first; a row a pair."""
    groups = []
    for (first, second), frame in paired.groupby(["modality", "other_modality"], sort=False) if len(paired) else ():
        rows = [
            {"model": model, "other": other, "cells": {cell["structure"]: cell for cell in part.to_dict("records")}}
            for (model, other), part in frame.groupby(["model", "other_model"], sort=False)
        ]
        title = first if first == second else f"trained on {first} against trained on {second}"
        structures = [*structure_names(frame["structure"]), MEAN]
        groups.append({"title": title, "across": first != second, "rows": rows, "structures": structures})
    return sorted(groups, key=lambda group: group["across"])
