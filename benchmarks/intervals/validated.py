"""Measurements of a model's masks of its folds' validation cases against those of their references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from intervals.report import markdown
from intervals.scores import calibrated, covered, enough
from nnunetv2_diffusion.anatomy.conformal import LEVELS, SHARE
from nnunetv2_diffusion.anatomy.residuals import DRAWN, Comparison, compare_case
from nnunetv2_diffusion.anatomy.structures import Values
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.measures import MEYERDING
from nnunetv2_diffusion.nnunet_names import VALIDATION_MAPS, fold_folder
from nnunetv2_diffusion.report.datasets import Dataset
from nnunetv2_diffusion.spider import CANAL, FIRST_DISC, PARTLY_VISIBLE

KEYS = ["structure", "measurement", "unit"]


@dataclass(frozen=True)
class Validated:
    """What was measured.

    Attributes:
        rows: a row a measurement of a case: see `residuals.Comparison`, patient and case.
        levels: a row a case, see `level_row`.
        failures: a sentence for each case that could not be measured.
    """

    rows: pd.DataFrame
    levels: pd.DataFrame
    failures: list[str] = field(default_factory=list)


def measure_validation(folder: Path, dataset: Dataset, folds: Sequence[int], values: Values) -> Validated:
    """Compare what `spinesegdiff validate --save-samples` left in a model's folds with the references.

    Raises:
        ValueError: the dataset has no such fold, or no case could be measured.
    """
    tables, levels, failures = [], [], []
    for fold in folds:
        cases = sorted(dataset.validation_cases(fold) or ())
        if not cases:
            raise ValueError(f"{dataset.name} has no fold {fold}")
        for case in cases:
            mask = fold_folder(folder, fold) / VALIDATION_MAPS / f"{case}{dataset.file_ending}"
            try:
                found = compare_case(case, dataset.references[case], mask, values)
            except (ValueError, OSError) as error:
                failures.append(" ".join(str(error).split()))
                continue
            patient = dataset.describe_case(case)["patient"]
            tables.append(found.table.assign(case=case, patient=patient))
            levels.append({"case": case, **level_row(found)})
    if not tables:
        raise ValueError(f"nothing could be measured: {'; '.join(failures)}")
    return Validated(pd.concat(tables, ignore_index=True), pd.DataFrame(levels), failures)


def level_row(found: Comparison) -> Mapping[str, object]:
    """Of a case's reference: its vertebrae and discs, how many are found at their level, at another, missed; doubts."""
    rows = found.instances[found.instances["structure"] != CANAL]
    known = rows[rows["detected"]]
    cut = known["found"].between(PARTLY_VISIBLE, FIRST_DISC, inclusive="neither")
    right = int((known["found"] - PARTLY_VISIBLE * cut == known["label"]).sum())
    return {
        "structures": len(rows),
        "right": right,
        "wrong": len(known) - right,
        "missed": len(rows) - len(known),
        "doubts": "; ".join(found.doubts),
    }


def interval_level(patients: int) -> float | None:
    """The highest interval level up to SHARE that can be calibrated where one of so many patients is left out."""
    return max((level for level in LEVELS if level <= SHARE and enough(level) < patients), default=None)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each measurement: values, error and bias against the reference's, coverage and width of the samples' interval.

    And coverage and width of intervals calibrated on all patients but the one that is measured.
    """
    rows = rows[rows["measurement"] != MEYERDING].dropna(subset=["reference", "value"])
    patients = rows["patient"].nunique()
    level = interval_level(patients)
    tuned = rows.assign(low=float("nan"), high=float("nan")) if level is None else calibrated(rows, patients, level)
    rows = rows.assign(calibrated_low=tuned["low"], calibrated_high=tuned["high"])
    rows = rows.assign(
        error=(rows["value"] - rows["reference"]).abs(),
        bias=rows["value"] - rows["reference"],
        coverage=covered(rows, "low", "high"),
        width=rows["high"] - rows["low"],
        calibrated_coverage=covered(rows, "calibrated_low", "calibrated_high"),
        calibrated_width=rows["calibrated_high"] - rows["calibrated_low"],
    )
    columns = ["error", "bias", "coverage", "width", "calibrated_coverage", "calibrated_width"]
    groups = rows.groupby(KEYS, sort=False)
    return groups[columns].mean().assign(count=groups.size()).reset_index()[[*KEYS, "count", *columns]]


def write_validated(found: Validated, results: Path, name: str, command: str) -> str:
    """validated_measurements_<name>.csv, _levels.csv and .md; the text of the latter."""
    stem, table, levels = f"validated_measurements_{name}", summary(found.rows), found.levels
    write_csv(table, results / f"{stem}.csv")
    write_csv(levels, results / f"{stem}_levels.csv")
    patients = found.rows["patient"].nunique()
    level = interval_level(patients)
    calibration = (
        f"{patients} patients are too few to calibrate on all but one."
        if level is None
        else f"Calibrated: {level:.0%} intervals, factors from all patients but the one that is measured."
    )
    text = "\n\n".join(
        [
            f"# Measurements of masks and of references: {name}",
            f"{len(levels)} cases of {patients} patients, each by the fold that did not train on them; "
            f"{int(found.rows[DRAWN].max())} samples, whose 5th to 95th percentile are the interval. {calibration} "
            f"`{command}`",
            f"Not measured: {'; '.join(found.failures) or 'none'}.",
            "## Levels",
            markdown(levels),
            "## Measurements",
            markdown(table.round(3)),
        ]
    )
    write_text(text + "\n", results / f"{stem}.md")
    return text
