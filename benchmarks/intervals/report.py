"""The tables of measurements.py: a row a rival and measurement, and in words where samples do not win."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from intervals.cohorts import Cohort
from intervals.rivals import FOLDS, MIRRORINGS, PIXELS, SAMPLES
from intervals.scores import ENOUGH, summary
from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text

AIM = (0.85, 0.95)  # of calibrated coverage


def write_report(results: Path, cohort: Cohort, rows: pd.DataFrame, about: Mapping[str, Any], command: str) -> str:
    """measurements_<cohort>.csv and .md; the text of the latter."""
    table = summary(rows)
    write_csv(table, results / f"measurements_{cohort.name}.csv")
    ran_on = machine(about["device"])
    truth = "what was drawn" if cohort.truth is not None else "the references' own measurements"
    text = "\n\n".join(
        [
            f"# Intervals of measurements: {cohort.name}",
            f"{len(cohort.cases)} images of patients that no fold saw, against {truth}; nominal 90 % intervals. "
            f"`{command}`",
            _models(about),
            f"{ran_on['machine']}, {ran_on['date']}.",
            _costs(about),
            *verdicts(table),
            markdown(table.round(3)),
        ]
    )
    write_text(text + "\n", results / f"measurements_{cohort.name}.md")
    return text


def verdicts(table: pd.DataFrame) -> list[str]:
    """Sentences: against whom samples score lower, where they do not, and whether calibration reached its aim."""
    if "crps" not in table:
        return ["Nothing could be measured."]
    scores = table.pivot_table(index=["structure", "measurement"], columns="rival", values="crps", sort=False)
    said = []
    for rival in (FOLDS, MIRRORINGS, PIXELS):
        if rival not in scores or SAMPLES not in scores:
            continue
        lost = scores.index[scores[SAMPLES] > scores[rival]]
        names = ", ".join(f"{structure} {name}" for structure, name in lost) or "none"
        won = f"{len(scores) - len(lost)} of {len(scores)}"
        said.append(f"Samples against {rival}: a lower score in {won} measurements; not in {names}.")
    own = table[table["rival"] == SAMPLES]["calibrated_coverage"].dropna()
    if own.empty:
        said.append(f"Calibrated coverage needs {ENOUGH} patients; there are fewer.")
    else:
        within = int(own.between(*AIM).sum())
        said.append(
            f"Calibrated on the other half of the patients, samples cover {own.min():.0%} to {own.max():.0%}; within "
            f"{AIM[0]:.0%} to {AIM[1]:.0%} in {within} of {len(own)} measurements."
        )
    return said


def _models(about: Mapping[str, Any]) -> str:
    """Who answers, trained how."""
    settings = f", trained with {about['variant'][1]}" if about["variant"] else ""
    return (
        f"{about['samples']} samples of SpineSegDiff{settings}; folds, mirrorings and pixels of the control, the same "
        f"U-Net with SpineSegDiff's optimiser and loss. Each {about['steps']} steps a fold, {about['folds']} folds."
    )


def _costs(about: Mapping[str, Any]) -> str:
    seconds = ", ".join(f"{rival} {value:.2f}" for rival, value in about["seconds"].items())
    failures = ", ".join(f"{rival} {count}" for rival, count in about["failures"].items() if count)
    return f"Seconds a slice: {seconds or 'not timed'}. Images that could not be measured: {failures or 'none'}."


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, empty where nothing is known."""
    cells = table.astype(object).where(table.notna(), "")
    rows = [list(table.columns), ["---"] * len(table.columns), *cells.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
