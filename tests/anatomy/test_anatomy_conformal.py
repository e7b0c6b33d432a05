"""Calibrated intervals: the quantile by hand and against its definition, coverage by simulation, tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from nnunetv2_diffusion import measures
from nnunetv2_diffusion.anatomy.conformal import (
    LEVELS,
    Calibration,
    Factors,
    conformal_quantile,
    fit,
    intervals_said,
    score,
)


@pytest.mark.parametrize(("count", "level"), [(9, 0.9), (10, 0.8), (19, 0.95), (37, 0.9), (8, 0.9), (100, 0.9)])
def test_one_score_a_patient_is_the_textbooks_quantile(count: int, level: float):
    """Angelopoulos and Bates 2023: the ceil((n + 1)(1 - alpha)) smallest, infinite where there are not so many."""
    scores = np.random.default_rng(count).permutation(count) + 1.0
    rank = math.ceil(round((count + 1) * level, 9))
    expected = float(rank) if rank <= count else math.inf
    assert conformal_quantile(scores, range(count), level) == expected


def test_patients_weigh_alike_by_hand():
    """Three patients with 1, 2 and 4 scores: weights 1/4, 1/8 and 1/16 each, and 1/4 at infinity."""
    scores = [5.0, 1.0, 6.0, 2.0, 3.0, 4.0, 7.0]
    patients = ["a", "b", "b", "c", "c", "c", "c"]
    # in order 1 (b) .125, 2 .1875, 3 .25, 4 .3125, 5 (a) .5625, 6 (b) .6875, 7 .75
    for level, expected in (
        (0.12, 1.0),
        (0.25, 3.0),
        (0.3, 4.0),
        (0.5, 5.0),
        (0.6, 6.0),
        (0.75, 7.0),
        (0.76, math.inf),
    ):
        assert conformal_quantile(scores, patients, level) == expected


def test_score_by_hand():
    assert score(np.array([10.0]), np.array([9.0]), np.array([0.3]), 0.2) == pytest.approx(2.0)


def drawn_patients(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of patients with 1 to 5 each, alike within a patient, and whose they are."""
    counts = rng.integers(1, 6, patients)
    own = np.repeat(rng.gamma(2.0, 1.0, patients), counts)
    return own * rng.uniform(0.7, 1.3, counts.sum()), np.repeat(np.arange(patients), counts)


@pytest.mark.parametrize(("patients", "level"), [(25, 0.9), (60, 0.8)])
def test_new_patients_are_covered(patients: int, level: float):
    """Of exchangeable patients the share below the quantile is at least the level, and little more."""
    rng = np.random.default_rng(patients)
    covered = []
    for _ in range(2000):
        scores, whose = drawn_patients(rng, patients + 1)
        new = whose == patients
        covered.append((scores[new] <= conformal_quantile(scores[~new], whose[~new], level)).mean())
    error = 3 * np.std(covered) / math.sqrt(len(covered))
    assert level - error < np.mean(covered) < level + 1 / (patients + 1) + error


def table(rng: np.random.Generator, patients: int, drawn: int = 16, spread: float = 1.0) -> pd.DataFrame:
    """Heights and slips of patients with three discs each, whose samples spread by a third of their error."""
    rows = []
    for patient in range(patients):
        for level in ("L5/S1", "L4/L5", "L3/L4"):
            for structure, name, unit in (
                (measures.DISC, measures.MIDDLE_HEIGHT, "mm"),
                (measures.VERTEBRA, measures.SLIP, "mm"),
            ):
                half = spread * rng.uniform(0.2, 2.0)
                value = 8.0 + rng.normal()
                reference = value + rng.normal() * half
                cells = ("scan", level, structure, name, value, value - half / 3, value + half / 3, drawn, unit, "")
                row = dict(zip(measures.COLUMNS, cells, strict=True))
                rows.append({**row, "reference": reference, "drawn": drawn, "case": f"c{patient}", "patient": patient})
    return pd.DataFrame(rows)


def test_calibrated_intervals_cover_where_the_samples_do_not():
    rng = np.random.default_rng(4)
    calibration, unseen = fit(table(rng, 150)), table(rng, 200)
    found = calibration.apply(unseen)
    plain = ((unseen["reference"] >= unseen["low"]) & (unseen["reference"] <= unseen["high"])).mean()
    covered = (found["reference"] >= found["low"]) & (found["reference"] <= found["high"])
    assert plain < 0.4
    for _, group in covered.groupby(found["measurement"]):
        assert 0.85 < group.mean() < 0.95
    assert (calibration.cases, calibration.patients, calibration.samples) == (150, 150, 16)


def test_fit_by_hand():
    rows = table(np.random.default_rng(0), 9).iloc[::6].assign(value=8.0, low=7.5, high=8.5)
    rows["reference"] = 8.0 + 0.7 * np.arange(1, 10)  # spread 0.5 and floor 0.2: scores 1 to 9
    factors = fit(rows).measurements[measures.DISC, measures.MIDDLE_HEIGHT]
    assert factors.factors[0.8] == pytest.approx(8.0) and factors.factors[0.9] == pytest.approx(9.0)
    assert math.isinf(factors.factors[0.95]) and (factors.patients, factors.rows) == (9, 9)


def test_a_table_by_hand():
    factors = {0.8: 1.0, 0.9: 2.0, 0.95: math.inf}
    made = Calibration({(measures.DISC, measures.MIDDLE_HEIGHT): Factors(factors, 9, 20)}, 16, 12, 9)
    rows = table(np.random.default_rng(0), 1).iloc[:2].assign(value=[1.0, 3.0], low=[0.5, 2.0], high=[1.5, 4.0])
    found = made.apply(rows)
    # 2 (0.5 + 0.2) about 1, which no height is below 0 of
    assert found["low"].tolist() == [0.0, 2.0] and found["high"].tolist() == pytest.approx([2.4, 4.0])
    assert found["remark"].tolist() == ["", measures.UNCALIBRATED]
    wide = made.apply(rows, 0.95)
    assert np.isnan(wide["low"].iloc[0]) and "9 patients are too few" in wide["remark"].iloc[0]
    with pytest.raises(ValueError, match="intervals are calibrated at"):
        made.apply(rows, 0.5)


def test_through_json():
    made = fit(table(np.random.default_rng(1), 12))
    again = Calibration.from_json(json.loads(json.dumps(made.as_json(), allow_nan=False)))
    assert again == made and math.isinf(again.measurements[measures.DISC, measures.MIDDLE_HEIGHT].factors[0.95])
    with pytest.raises(ValueError, match="another version"):
        Calibration.from_json({**made.as_json(), "interval": [0.1, 0.9]})


def test_another_number_of_samples_is_not_calibrated():
    rows = table(np.random.default_rng(1), 2)
    made = fit(table(np.random.default_rng(1), 30))
    found, about = intervals_said(rows, 4, made)
    assert not about["calibrated"] and "16 samples, not with 4" in about["why"]
    pd.testing.assert_frame_equal(found.drop(columns="remark"), rows.drop(columns="remark"))
    assert (found["remark"] == measures.UNCALIBRATED).all()
    assert intervals_said(rows, 16, made)[1]["calibration"] == {"samples": 16, "cases": 30, "patients": 30}


@pytest.mark.parametrize("drawn", [(16, 4), ()])
def test_cases_that_do_not_fit_are_refused(drawn: tuple[int, ...]):
    tables = [table(np.random.default_rng(1), 3, one) for one in drawn] or [table(np.random.default_rng(1), 3)]
    rows = pd.concat(tables)
    with pytest.raises(ValueError, match="one number of samples"):
        fit(rows if drawn else rows.assign(low=np.nan))


def test_every_unit_has_a_floor():
    units = {unit for of in measures.UNITS.values() for name, unit in of.items() if name != measures.MEYERDING}
    assert units == set(measures.LEAST_SPREAD)
    assert set(LEVELS) >= {0.9}
