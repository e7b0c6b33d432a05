"""How well a number tells affected discs from others: AUROC, its interval by resampling patients and not discs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

RESAMPLES, SEED = 1000, 0
INTERVAL = (0.025, 0.975)


class Auroc(NamedTuple):
    """The area and the ends of its 95 % interval; NaN where it cannot be told."""

    value: float
    low: float
    high: float


def auroc(scores: np.ndarray, affected: np.ndarray) -> float:
    """The chance that an affected one scores higher than another one, ties counting half; NaN without either."""
    count = int(affected.sum())
    if count in (0, len(affected)):
        return float("nan")
    ranks = rankdata(scores)[affected].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (len(affected) - count)))


def clustered_auroc(scores: np.ndarray, affected: np.ndarray, patients: np.ndarray) -> Auroc:
    """AUROC of discs, and the percentile interval over resamples of whole patients, whose discs are not independent.

    The cluster bootstrap (Field and Welsh 2007) of `RESAMPLES` resamples, seeded; those without affected discs, or with
    nothing but these, are left out.

    Args:
        scores: [discs], finite.
        affected: bool [discs].
        patients: [discs].
    """
    scores, affected = np.asarray(scores, float), np.asarray(affected, bool)
    _, inverse = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    members = [np.flatnonzero(inverse == n) for n in range(inverse.max(initial=-1) + 1)]
    rng = np.random.default_rng(SEED)
    drawn = []
    for _ in range(RESAMPLES if len(members) > 1 else 0):
        index = np.concatenate([members[n] for n in rng.integers(0, len(members), len(members))])
        drawn.append(auroc(scores[index], affected[index]))
    known = np.array([value for value in drawn if np.isfinite(value)])
    ends = np.quantile(known, INTERVAL) if known.size else (np.nan, np.nan)
    return Auroc(auroc(scores, affected), *map(float, ends))
