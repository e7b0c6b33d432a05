"""Table 1's layout for the demo: Dice a structure, seconds and network evaluations a slice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.demo.models import Model
from nnunetv2_diffusion.evaluation.folders import evaluate_folders
from nnunetv2_diffusion.evaluation.labels import display_name


def score_models(predictions: Path, references: Path, models: Sequence[Model]) -> pd.DataFrame:
    """A row a model, case and structure: its Dice, and the model's seconds and network evaluations a slice."""
    tables = []
    for model in models:
        folder = predictions / f"{model.trainer}__{model.configuration}"
        structures = evaluate_folders(references, folder, processes=1, progress=False).scores.structures
        timing = json.loads((folder / "timing.json").read_text())
        columns = structures[["case", "structure", "dice"]].assign(model=model.name, **timing)
        tables.append(columns)
    return pd.concat(tables, ignore_index=True)


def table(scores: pd.DataFrame, models: Sequence[Model]) -> pd.DataFrame:
    """Mean Dice over cases of every structure (cases without it left out), their mean, and the cost of a slice."""
    structures = list(dict.fromkeys(scores["structure"]))
    dice = scores.pivot_table(index="model", columns="structure", values="dice", aggfunc="mean", dropna=False)
    dice = dice.reindex([model.name for model in models])[structures]
    cost = scores.groupby("model")[["seconds_per_slice", "network_evaluations_per_slice"]].first()
    return dice.assign(mean=dice.mean(axis=1)).join(cost)


def describe_scores(scores: pd.DataFrame, models: Sequence[Model]) -> str:
    """The table as text, one line a model."""
    columns = {
        "mean": "mean Dice",
        "seconds_per_slice": "s/slice",
        "network_evaluations_per_slice": "evaluations/slice",
    }
    printed = table(scores, models)
    printed = printed.rename(columns={name: columns.get(name, display_name(name)) for name in printed.columns})
    digits = {"s/slice": "{:.2f}".format, "evaluations/slice": "{:.0f}".format}
    formats = {name: digits.get(name, "{:.3f}".format) for name in printed.columns}
    cases = scores["case"].nunique()
    heading = f"\nDice over {cases} images of unseen patients, every model after 1,250 optimiser steps"
    return f"{heading}\n{printed.rename_axis(None).to_string(formatters=formats, na_rep='-')}"
