"""What the json files of a folder of results say, a row a scan, and what is doubtful about each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.measures import COLUMNS
from nnunetv2_diffusion.scans.finished import MADE_OF

# Tukey's fences: what lies farther outside of the quartiles than so many times their distance.
FENCE = 1.5
# Fewer values than that have no range that one could lie outside of.
FEWEST = 8
# Where they lie: beside each other, or as in BIDS.
_REPORTS = ("*.json", "sub-*/**/*_dseg.json")
_WHERE = ["level", "structure", "measurement"]


@dataclass(frozen=True)
class Result:
    """A scan's result.

    Attributes:
        name: of its files.
        identity: tells this result from a later one of the same name.
        report: its json.
        picture, json: its preview and its json, from the folder of results.
        measurements: its table of `measures.COLUMNS`; empty where it was not measured.
        review: why its mask should be looked at.
        levels_doubt: why its levels are in doubt, where they were counted.
        uncertainty: mean within the mask; None where nothing was found.
        pairwise_dice: of its samples, over all structures; None where there are no two samples.
        warnings: what was told when it was made.
        outlying: its measurements outside of the cohort's range, in words.
    """

    name: str
    identity: str
    report: dict[str, Any]
    picture: str
    json: str
    measurements: pd.DataFrame
    review: list[str]
    levels_doubt: list[str]
    uncertainty: float | None
    pairwise_dice: float | None
    warnings: list[str]
    outlying: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> list[str]:
        """Everything that speaks for looking at it."""
        return [*self.review, *self.levels_doubt, *self.outlying]


def read_results(folder: Path, excluded: Collection[str] = ()) -> tuple[list[Result], list[str]]:
    """The results in a folder, those most in doubt first, and a remark for each that cannot be read.

    Most in doubt is what has most reasons for a look, and of equal ones what is least certain.
    """
    results, remarks = [], []
    for file in sorted(path for pattern in _REPORTS for path in folder.glob(pattern)):
        if file.stem in excluded:
            continue
        try:
            result = _read(file, folder)
        except (ValueError, OSError) as error:
            remarks.append(f"left out of the page: {error}")
            continue
        if result is not None and result.name not in excluded:
            results.append(result)
    results = [replace(result, outlying=outlying) for result, outlying in zip(results, _outlying(results), strict=True)]
    return sorted(results, key=lambda r: (-len(r.reasons), -(r.uncertainty or 0.0), r.name)), remarks


def _read(file: Path, folder: Path) -> Result | None:
    """A result; None for json files of another kind."""
    report = read_json(file, remedy="segment the scan again")
    if "review_reasons" not in report or "files" not in report:
        return None
    with naming(file, "segment the scan again"):
        files = [str(name) for name in report["files"]]
        table = next((name for name in files if name.endswith(".csv")), None)
        made = json.dumps(report.get(MADE_OF), sort_keys=True)
        mean, dice = report["mean_uncertainty"]["mask"], report.get("pairwise_dice")
        picture = next(name for name in reversed(files) if name.endswith(".png"))
        return Result(
            str(report.get("name", file.stem)),
            hashlib.sha256(made.encode()).hexdigest()[:12],
            report,
            file.with_name(picture).relative_to(folder).as_posix(),
            file.relative_to(folder).as_posix(),
            _table(file, table),
            [str(reason) for reason in report["review_reasons"]],
            [f"levels in doubt: {doubt}" for doubt in (report.get("measured") or {}).get("levels_doubt", [])],
            None if mean is None else float(mean),
            None if dice is None else float(dice),
            [str(warning) for warning in report["warnings"]],
        )


def _table(file: Path, name: str | None) -> pd.DataFrame:
    if name is None:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.read_csv(file.with_name(name), dtype={"level": str, "remark": str}, keep_default_na=True)


def all_measurements(results: Collection[Result]) -> pd.DataFrame:
    """Level, structure, measurement, value, unit, and the number of the result in its order; rows with values alone."""
    tables = [
        result.measurements[[*_WHERE, "value", "unit"]].assign(result=number)
        for number, result in enumerate(results)
        if len(result.measurements)
    ]
    if not tables:
        return pd.DataFrame(columns=[*_WHERE, "value", "unit", "result"])
    joined = pd.concat(tables, ignore_index=True)
    return joined[joined["value"].notna()].fillna({"level": "", "structure": "", "unit": ""})


def _outlying(results: list[Result]) -> Iterator[list[str]]:
    """For each result its measurements outside of Tukey's fences of all results at that level."""
    found: dict[int, list[str]] = {number: [] for number in range(len(results))}
    for (level, structure, measurement), group in all_measurements(results).groupby(_WHERE, sort=False):
        if len(group) < FEWEST:
            continue
        low, high = np.percentile(group["value"], [25, 75])
        fence = FENCE * (high - low)
        for row in group[(group["value"] < low - fence) | (group["value"] > high + fence)].itertuples():
            what = " ".join(word for word in (level, structure, measurement.replace("_", " ")) if word)
            found[row.result].append(
                f"{what} is {row.value:.3g} {row.unit}, outside {low - fence:.3g} to {high + fence:.3g} of the others"
            )
    yield from found.values()


def kind_of(reason: str) -> str:
    """A reason without its figures and what depends on them, so that like ones can be filtered together."""
    if " of the others" in reason:
        return "a measurement outside of the others' range"
    return re.sub(r"\d+(?:\.\d+)?", "…", reason)
