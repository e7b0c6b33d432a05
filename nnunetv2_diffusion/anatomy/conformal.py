"""Intervals that cover: split-conformal prediction (Angelopoulos and Bates 2023), patient by patient.

A score is |reference - value| over the samples' spread and a floor; its quantile over patients that no training saw is
the factor by which spread and floor are stretched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunetv2_diffusion.anatomy.intervals import graded, joined, uncalibrated
from nnunetv2_diffusion.measures import INTERVAL, LEAST_SPREAD, MEYERDING, SIGNED, UNCALIBRATED

LEVELS = (0.8, 0.9, 0.95)
SHARE = round(INTERVAL[1] - INTERVAL[0], 6)
INFINITE = float("inf")


def conformal_quantile(scores: np.ndarray, groups: Sequence[object], level: float) -> float:
    """The score that a new patient's stay below with a probability of at least `level`; infinite for too few patients.

    With one score a patient it is the ceil((n + 1) level)-th smallest of n (Angelopoulos and Bates 2023). A
    patient's several scores share his weight, 1 / (patients + 1), and one such weight lies at infinity, which keeps the
    guarantee for patients that are exchangeable though their scores are not (hierarchical conformal prediction, Lee,
    Barber and Willett 2023, arXiv 2306.06342).

    Args:
        scores: [n], finite.
        groups: the patient of each.
        level: above 0 and below 1.
    """
    scores = np.asarray(scores, float)
    _, inverse, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weights = 1.0 / ((len(sizes) + 1) * sizes[inverse])
    reached = np.cumsum(weights[order]) >= level - 1e-12
    return float(scores[order][reached.argmax()]) if reached.any() else INFINITE


def score(reference: np.ndarray, value: np.ndarray, spread: np.ndarray, floor: np.ndarray | float) -> np.ndarray:
    """|reference - value| / (spread + floor); the floor keeps samples that agree from promising no error at all."""
    return np.abs(reference - value) / (spread + floor)


@dataclass(frozen=True)
class Factors:
    """Of one measurement: interval level -> factor, infinite where the patients are too few; and what it rests on."""

    factors: dict[float, float]
    patients: int
    rows: int


@dataclass(frozen=True)
class Calibration:
    """Factors of the measurements of one model.

    Attributes:
        measurements: (structure, measurement) -> factors.
        samples: of each image, drawn by one fold.
        cases, patients: that it was made from.
    """

    measurements: dict[tuple[str, str], Factors]
    samples: int
    cases: int
    patients: int

    def apply(self, table: pd.DataFrame, level: float = SHARE) -> pd.DataFrame:
        """A table with the samples' intervals (`intervals.with_intervals`) with calibrated ones in their place.

        A measurement that was not calibrated keeps its interval, and its remark says so; one whose patients are too few
        has none: it would be infinite.

        Raises:
            ValueError: no such interval level.
        """
        if level not in LEVELS:
            raise ValueError(f"intervals are calibrated at {', '.join(map(str, LEVELS))}, not at {level}")
        table = table.copy()
        for row in table.index[table["low"].notna() & (table["measurement"] != MEYERDING)]:
            one = table.loc[row]
            known = self.measurements.get((one["structure"], one["measurement"]))
            if known is None:
                table.loc[row, "remark"] = joined(one["remark"], UNCALIBRATED)
                continue
            half = known.factors[level] * ((one["high"] - one["low"]) / 2 + LEAST_SPREAD[one["unit"]])
            if np.isinf(half):
                said = f"{known.patients} patients are too few for a calibrated {level:.0%} interval"
                table.loc[row, ["low", "high", "remark"]] = [np.nan, np.nan, joined(one["remark"], said)]
                continue
            least = -INFINITE if one["measurement"] in SIGNED else 0.0
            table.loc[row, ["low", "high"]] = [max(least, one["value"] - half), one["value"] + half]
        return graded(table)

    def about(self) -> dict[str, object]:
        """What a reader of intervals must know of it."""
        return {"samples": self.samples, "cases": self.cases, "patients": self.patients}

    def as_json(self) -> dict[str, object]:
        """As it is kept beside the weights; an infinite factor is null."""
        rows = [
            {
                "structure": structure,
                "measurement": measurement,
                "patients": one.patients,
                "rows": one.rows,
                "factors": {str(level): None if np.isinf(f) else f for level, f in one.factors.items()},
            }
            for (structure, measurement), one in self.measurements.items()
        ]
        return {**self.about(), "interval": list(INTERVAL), "least_spread": LEAST_SPREAD, "measurements": rows}

    @classmethod
    def from_json(cls, content: dict) -> Calibration:
        """What `as_json` gave.

        Raises:
            ValueError: of another version of this program, whose spreads are not these. What a damaged one raises is
                for `files.naming`.
        """
        if content["interval"] != list(INTERVAL) or content["least_spread"] != LEAST_SPREAD:
            raise ValueError("it was made by another version of spinesegdiff: calibrate again")
        measurements = {
            (one["structure"], one["measurement"]): Factors(
                {level: _factor(one["factors"][str(level)]) for level in LEVELS},
                int(one["patients"]),
                int(one["rows"]),
            )
            for one in content["measurements"]
        }
        return cls(measurements, *(int(content[name]) for name in ("samples", "cases", "patients")))


def fit(residuals: pd.DataFrame) -> Calibration:
    """Factors from validated cases.

    Args:
        residuals: a row a measurement of a case: patient, case, structure, measurement, unit, value, low, high, samples
            (in which it was found), drawn (of the image) and reference; rows that lack an interval or a reference are
            passed over.

    Raises:
        ValueError: no row is left, or cases with different numbers of samples.
    """
    rows = residuals.dropna(subset=["value", "low", "high", "reference"])
    rows = rows[rows["measurement"] != MEYERDING]
    drawn = sorted(set(rows["drawn"].astype(int)))
    if len(drawn) != 1:
        told = f"cases with {', '.join(map(str, drawn))} samples" if drawn else "no measurement with samples"
        raise ValueError(f"{told}: a calibration needs cases with one number of samples, of at least 2")
    spread = (rows["high"] - rows["low"]).to_numpy() / 2
    floor = rows["unit"].map(LEAST_SPREAD).to_numpy()
    rows = rows.assign(score=score(rows["reference"].to_numpy(), rows["value"].to_numpy(), spread, floor))
    measurements = {}
    for key, group in rows.groupby(["structure", "measurement"], sort=False):
        scores, patients = group["score"].to_numpy(), group["patient"].to_numpy()
        factors = {level: conformal_quantile(scores, patients, level) for level in LEVELS}
        measurements[key] = Factors(factors, int(group["patient"].nunique()), len(group))
    return Calibration(measurements, drawn[0], int(rows["case"].nunique()), int(rows["patient"].nunique()))


def intervals_said(table: pd.DataFrame, drawn: int, calibration: Calibration | None) -> tuple[pd.DataFrame, dict]:
    """A table with intervals of `drawn` samples, calibrated where a calibration of as many is there, and what to say.

    Returns:
        the table, and for a json file: samples, share, calibrated, and the calibration's facts or why there is none.
    """
    about: dict[str, object] = {"samples": drawn, "share": SHARE, "calibrated": False}
    if calibration is None:
        return uncalibrated(table), {**about, "why": "no calibration of this model: see `spinesegdiff calibrate`"}
    if calibration.samples != drawn:
        why = f"calibrated with {calibration.samples} samples, not with {drawn}"
        return uncalibrated(table), {**about, "why": why}
    return calibration.apply(table), {**about, "calibrated": True, "calibration": calibration.about()}


def _factor(value: float | None) -> float:
    return INFINITE if value is None else float(value)
