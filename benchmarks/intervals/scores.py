"""Intervals against the truth: coverage, width and the continuous ranked probability score of every measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from intervals.cohorts import Cohort
from nnunetv2_diffusion.anatomy.conformal import SHARE, fit
from nnunetv2_diffusion.anatomy.intervals import measure_samples, values_of, with_intervals
from nnunetv2_diffusion.anatomy.levels import find_levels
from nnunetv2_diffusion.anatomy.matching import match_levels
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.imaging.grid import to_ras
from nnunetv2_diffusion.measures import MEYERDING
from nnunetv2_diffusion.nnunet_names import samples_file
from nnunetv2_diffusion.spider import LABELS, STRUCTURES, parse_case

VALUES = {name: (LABELS[name],) for name in STRUCTURES}
KEYS = ["rival", "structure", "measurement", "unit"]


def enough(level: float) -> int:
    """Patients without whom an interval of that level would be infinite."""
    return math.ceil(round(level / (1 - level), 6))


ENOUGH = 2 * enough(SHARE)  # of which one half calibrates the other


def crps(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of samples [S, n] of truths [n]: E|x - y| - E|x - x'| / 2, NaN left out.

    Of the samples taken as the whole distribution (Gneiting and Raftery 2007).
    """
    error = np.nanmean(np.abs(values - truth), axis=0)
    return error - np.nanmean(np.abs(values[:, None] - values[None]), axis=(0, 1)) / 2


def case_rows(cohort: Cohort, rival: str, folder: Path, case: str) -> pd.DataFrame:
    """A case's measurements by a rival, beside the truth: `measures.COLUMNS`, reference, drawn, crps, patient, case.

    Levels are those of the reference, by overlap: what a mask counts wrongly is another figure.

    Raises:
        ValueError: mask or reference show no spine.
    """
    reference, mask = (_labels(path / f"{case}.nii.gz") for path in (cohort.tested / "labelsTr", folder))
    samples = sitk.GetArrayFromImage(sitk.ReadImage(str(samples_file(folder, case))))
    geometry = sitk.ReadImage(str(folder / f"{case}.nii.gz"))
    drawn = [_ras_plane(one, geometry) for one in samples]
    spacing = to_ras(geometry).GetSpacing()[:0:-1]
    spines = [SpineSlice.of_labels(one, spacing, VALUES) for one in (reference, mask, *drawn)]
    true_levels = find_levels(spines[0])
    levels = match_levels(find_levels(spines[1]), true_levels)
    table, tables = measure(spines[1], levels, case), measure_samples(spines[2:], levels)
    truth = measure(spines[0], true_levels) if cohort.truth is None else cohort.truth(case)
    reference = values_of(table, [truth])[0]
    values = values_of(table, tables)
    with np.errstate(invalid="ignore"):
        scores = np.full(len(table), np.nan)
        known = np.isfinite(values).any(axis=0) & np.isfinite(reference)
        scores[known] = crps(values[:, known], reference[known])
    found = with_intervals(table, tables)
    patient = parse_case(case)[0]
    return found.assign(reference=reference, drawn=len(drawn), crps=scores, patient=patient, case=case, rival=rival)


def collect(
    cohort: Cohort, rivals: Sequence[str], output: Path, say: Callable[[str], None]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """All rows of all rivals, and of each how many cases could not be measured."""
    tables, failures = [], dict.fromkeys(rivals, 0)
    for rival in rivals:
        for case in cohort.cases:
            try:
                tables.append(case_rows(cohort, rival, output / rival, case))
            except ValueError as error:
                failures[rival] += 1
                say(f"{rival}: {case} is left out: {' '.join(str(error).split())}")
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), failures


def calibrated(rows: pd.DataFrame, parts: int = 2, level: float = SHARE) -> pd.DataFrame:
    """A rival's rows with intervals of a level, each part of the patients calibrated on the others.

    Empty ones where those are too few.
    """
    patients = sorted(rows["patient"].unique())
    if len(patients) - len(patients[::parts]) < enough(level):
        return rows.assign(low=np.nan, high=np.nan)
    own = [rows["patient"].isin(patients[part::parts]) for part in range(parts)]
    return pd.concat([fit(rows[~part]).apply(rows[part], level) for part in own]).sort_index()


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each rival and measurement: count, error, crps, coverage and width, and the latter two once calibrated."""
    if not rows.empty:
        rows = rows[rows["measurement"] != MEYERDING].dropna(subset=["reference", "value", "low"])
    if rows.empty:
        return pd.DataFrame(columns=[*KEYS, "count"])
    parts = []
    for _, own in rows.groupby("rival", sort=False):
        tuned = calibrated(own)
        parts.append(own.assign(calibrated_low=tuned["low"], calibrated_high=tuned["high"]))
    rows = pd.concat(parts)
    rows = rows.assign(
        error=(rows["value"] - rows["reference"]).abs(),
        coverage=covered(rows, "low", "high"),
        width=rows["high"] - rows["low"],
        calibrated_coverage=covered(rows, "calibrated_low", "calibrated_high"),
        calibrated_width=rows["calibrated_high"] - rows["calibrated_low"],
    )
    columns = ["error", "crps", "coverage", "width", "calibrated_coverage", "calibrated_width"]
    groups = rows.groupby(KEYS, sort=False)
    return groups[columns].mean().assign(count=groups.size()).reset_index()[[*KEYS, "count", *columns]]


def covered(rows: pd.DataFrame, low: str, high: str) -> pd.Series:
    """1 where the reference lies between two columns, else 0; NaN without an interval."""
    inside = (rows["reference"] >= rows[low]) & (rows["reference"] <= rows[high])
    return inside.astype(float).where(rows[low].notna())


def _labels(path: Path) -> np.ndarray:
    """A one-slice mask as [z, y] in RAS+ orientation."""
    return sitk.GetArrayFromImage(to_ras(sitk.ReadImage(str(path))))[:, :, 0]


def _ras_plane(volume: np.ndarray, geometry: sitk.Image) -> np.ndarray:
    image = sitk.GetImageFromArray(volume)
    image.CopyInformation(geometry)
    return sitk.GetArrayFromImage(to_ras(image))[:, :, 0]
