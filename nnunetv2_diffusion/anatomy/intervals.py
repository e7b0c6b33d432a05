"""Measurements of every sample of a slice -> the median and an interval of each measurement of its mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.matching import match_levels
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.measures import (
    CANAL,
    INTERVAL,
    MEYERDING,
    NARROWEST_CANAL,
    SLIP,
    SLIP_SHARE,
    UNCALIBRATED,
    meyerding_grade,
)

KEYS = ["level", "structure", "measurement"]
NAN = float("nan")


def measure_samples(samples: Iterable[SpineSlice], levels: Levels) -> list[pd.DataFrame]:
    """A table of measurements for each sample of a slice, under the mask's own levels.

    Args:
        samples: whole masks of the slice.
        levels: those of the slice's mask.

    Returns:
        A table a sample, as `measure` gives it; empty for one that shows no spine.
    """
    tables = []
    for sample in samples:
        try:
            tables.append(measure(sample, match_levels(find_levels(sample), levels)))
        except ValueError:
            tables.append(pd.DataFrame(columns=[*KEYS, "value"]))
    return tables


def values_of(table: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> np.ndarray:
    """[samples, rows]: the samples' values of each row of a mask's table, NaN where a sample has none.

    The narrowest place of the canal is compared wherever it is; all else at its own level.
    """
    keys = _keys(table)
    rows = [one.set_index(_keys(one))["value"].astype(float).reindex(keys).to_numpy() for one in tables]
    return np.array(rows).reshape(len(tables), len(table))


def with_intervals(table: pd.DataFrame, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A mask's table with what its samples say: value, low, high, samples and remark.

    The value is the median of the samples that have one, low and high are their 5th and 95th percentile (at least two
    samples), `samples` is in how many the level was found and the measurement could be taken. A measurement that the
    mask has and no sample stays the mask's, without an interval; one that the mask has not stays empty. Meyerding's
    grade is that of the slip and of the slip's ends, the lowest one 0 where that end is backwards.

    Args:
        table: of the mask, from `measure`.
        tables: of its samples, from `measure_samples`.
    """
    values = values_of(table, tables)
    counts = np.isfinite(values).sum(axis=0)
    own = table["value"].astype(float).to_numpy()
    value, low, high = own.copy(), np.full(len(own), NAN), np.full(len(own), NAN)
    for row in np.flatnonzero(np.isfinite(own) & (counts > 0)):
        known = values[np.isfinite(values[:, row]), row]
        value[row] = np.median(known)
        if len(known) > 1:
            low[row], high[row] = np.quantile(known, INTERVAL)
    found = table.assign(value=value, low=low, high=high, samples=counts)
    remarks = [_remark(*row, len(tables)) for row in zip(table["remark"], np.isfinite(own), counts, strict=True)]
    return graded(found.assign(remark=remarks))


def graded(table: pd.DataFrame) -> pd.DataFrame:
    """The table with Meyerding's grades from the slips in it: value, low and high."""
    table = table.copy()
    for row in table.index[table["measurement"] == MEYERDING]:
        level = table["level"] == table.at[row, "level"]
        slip, share = (table[level & (table["measurement"] == name)].iloc[0] for name in (SLIP, SLIP_SHARE))
        for column in ("value", "low", "high"):
            grade = _grade(slip[column], share[column])
            backwards = np.isfinite(slip[column]) and np.isnan(grade)
            table.loc[row, column] = 0.0 if backwards and column != "value" else grade
        table.loc[row, "samples"] = slip["samples"]
    return table


def uncalibrated(table: pd.DataFrame, why: str = UNCALIBRATED) -> pd.DataFrame:
    """The table with a remark on every interval that no calibration stands behind."""
    has_one = table["low"].notna()
    remarks = [joined(text, why) if one else text for text, one in zip(table["remark"], has_one, strict=True)]
    return table.assign(remark=remarks)


def joined(*texts: str) -> str:
    """Remarks in one cell."""
    return "; ".join(text for text in texts if text)


def _grade(slip: float, share: float) -> float:
    grade = meyerding_grade(slip, share) if np.isfinite(slip) else None
    return NAN if grade is None else float(grade)


def _remark(text: str, measured: bool, count: int, samples: int) -> str:
    if not measured or 2 * count >= samples:
        return text
    return joined(text, f"found in {count} of {samples} samples" if count else f"found in none of {samples} samples")


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    narrowest = (table["structure"] == CANAL) & (table["measurement"] == NARROWEST_CANAL)
    return pd.MultiIndex.from_frame(table[KEYS].assign(level=table["level"].where(~narrowest, "")))
