"""Spread over cases and seeds, and paired differences with intervals over patients."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

MEAN = "mean"
DECISIONS = ("dice", "dice_expected")
DRAWS, CONFIDENCE = 10_000, 0.95


def spread(values: pd.DataFrame) -> dict[str, float]:
    """Cases, mean and standard deviation over cases of each decision's Dice, and its deviation over seeds.

    Args:
        values: one model's scores of a structure: case, seed, dice, dice_expected.
    """
    found: dict[str, float] = {"cases": values["case"].nunique()}
    for decision in DECISIONS:
        of_cases = values.groupby("case")[decision].mean()
        found |= {f"{decision}_mean": of_cases.mean(), f"{decision}_std": of_cases.std(ddof=1)}
        found[f"{decision}_seeds"] = values.groupby("seed")[decision].mean().std(ddof=1)
    return found


def difference(scores: pd.DataFrame, model: str, control: str, structure: str) -> dict[str, float]:
    """A model's Dice less the control's, of the argmax, on the cases that both have, each the mean of its seeds.

    Returns:
        difference, and difference_low and difference_high, the 95 % interval of a bootstrap over cases (BCa; Efron
        1987), NaN for fewer than three cases.
    """
    of_structure = scores[scores["structure"] == structure]
    by_case = of_structure.groupby(["model", "case"])["dice"].mean()
    ours, theirs = by_case[model], by_case[control]
    paired = (ours - theirs).dropna().to_numpy()
    low = high = float("nan")
    if len(paired) > 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # equal differences have no interval but themselves
            interval = bootstrap(
                (paired,), np.mean, n_resamples=DRAWS, confidence_level=CONFIDENCE, random_state=0
            ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return {"difference": paired.mean(), "difference_low": low, "difference_high": high}
