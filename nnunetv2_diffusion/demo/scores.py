"""The demo's table: Dice of each structure as in the paper's Table 1, and what a slice costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.demo.models import Model
from nnunetv2_diffusion.scoring.labels import display_name

MEAN_DICE = "mDICE"


def collect(models: Sequence[Model], scores: Path, predictions: Path) -> pd.DataFrame:
    """One row a model: mean and standard deviation of Dice over the unseen cases, seconds and evaluations a slice.

    A model that refines another's masks costs what both cost together.

    Args:
        models: in the order of the table.
        scores: folder with what `spinesegdiff evaluate` wrote of each model, in `<slug>/cases.csv`.
        predictions: folder with what `spinesegdiff predict` wrote, `<slug>/timing.json`.

    Raises:
        FileNotFoundError: a model has not been evaluated or predicted.
    """
    rows, costs = [], {}
    for model in models:
        cases = pd.read_csv(scores / model.slug / "cases.csv")
        timing = json.loads((predictions / model.slug / "timing.json").read_text(encoding="utf-8"))
        cost = [timing["seconds_per_slice"], timing["network_evaluations_per_slice"]]
        if model.refines is not None:
            cost = [own + other for own, other in zip(cost, costs[model.refines], strict=True)]
        costs[model.name] = cost
        dice = cases.groupby("structure", sort=False)["dice"]
        row: dict[str, object] = {"Model": model.name}
        for structure, mean, deviation in zip(dice.mean().index, dice.mean(), dice.std(), strict=True):
            row |= {display_name(structure): mean, f"{display_name(structure)} SD": deviation}
        row |= {MEAN_DICE: dice.mean().mean(), "Seconds a slice": cost[0], "Evaluations a slice": cost[1]}
        rows.append(row)
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal: `mean ± standard deviation` a structure."""
    structures = [name for name in table.columns if f"{name} SD" in table.columns]
    shown = pd.DataFrame({"Model": table["Model"]})
    for name in structures:
        pairs = zip(table[name], table[f"{name} SD"], strict=True)
        shown[name] = [
            f"{mean:.3f} ± {deviation:.3f}" if deviation == deviation else f"{mean:.3f}" for mean, deviation in pairs
        ]
    shown[MEAN_DICE] = table[MEAN_DICE].map("{:.3f}".format)
    shown["Seconds a slice"] = table["Seconds a slice"].map("{:.2f}".format)
    shown["Evaluations a slice"] = table["Evaluations a slice"].map("{:.0f}".format)
    return shown.to_string(index=False)


def _with_deviation(mean: float, deviation: float) -> str:
    """One case alone has no deviation."""
    return f"{mean:.3f}" if pd.isna(deviation) else f"{mean:.3f} ± {deviation:.3f}"
