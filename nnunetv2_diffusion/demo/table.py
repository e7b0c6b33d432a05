"""The demo's table: Dice of each structure as in the paper's Table 1, and what a slice costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.demo.models import DemoModel
from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.nnunet_names import TIMING_FILE
from nnunetv2_diffusion.scoring.labels import display_name

MODEL, MEAN_DICE, SECONDS, EVALUATIONS = "Model", "mDICE", "Seconds a slice", "Evaluations a slice"
CASES_FILE = "cases.csv"


def collect(models: Sequence[DemoModel], scores: Path, predictions: Path) -> pd.DataFrame:
    """One row a model: mean and standard deviation of Dice over the unseen cases, seconds and evaluations a slice.

    A model that refines another's masks costs what both cost together.

    Args:
        models: in the order of the table.
        scores: folder with what `spinesegdiff evaluate` wrote of each model, in `<slug>/cases.csv`.
        predictions: folder with what `spinesegdiff predict` wrote, `<slug>/timing.json`.

    Raises:
        FileNotFoundError: a model has not been evaluated or predicted.
        ValueError: a timing.json is damaged.
    """
    rows, costs = [], {}
    for model in models:
        cost = _cost(predictions / model.slug / TIMING_FILE)
        if model.refines is not None:
            cost = [own + other for own, other in zip(cost, costs[model.refines], strict=True)]
        costs[model.name] = cost
        dice = pd.read_csv(scores / model.slug / CASES_FILE).groupby("structure", sort=False)["dice"]
        row: dict[str, object] = {MODEL: model.name}
        for structure, mean, deviation in zip(dice.mean().index, dice.mean(), dice.std(), strict=True):
            name = display_name(structure)
            row |= {name: mean, _deviation(name): deviation}
        rows.append(row | {MEAN_DICE: dice.mean().mean(), SECONDS: cost[0], EVALUATIONS: cost[1]})
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal: `mean ± standard deviation` a structure; one case alone has no deviation."""
    shown = pd.DataFrame({MODEL: table[MODEL]})
    for name in (name for name in table.columns if _deviation(name) in table.columns):
        pairs = zip(table[name], table[_deviation(name)], strict=True)
        shown[name] = [
            f"{mean:.3f}" if pd.isna(deviation) else f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in pairs
        ]
    shown[MEAN_DICE] = table[MEAN_DICE].map("{:.3f}".format)
    shown[SECONDS] = table[SECONDS].map("{:.2f}".format)
    shown[EVALUATIONS] = table[EVALUATIONS].map("{:.0f}".format)
    return shown.to_string(index=False)


def _cost(timing_file: Path) -> list[float]:
    """Seconds and network evaluations a slice."""
    timing = read_json(timing_file, remedy="predict again")
    return [timing["seconds_per_slice"], timing["network_evaluations_per_slice"]]


def _deviation(structure: str) -> str:
    """The column of its standard deviation."""
    return f"{structure} SD"
