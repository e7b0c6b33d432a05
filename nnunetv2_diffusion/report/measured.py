"""Every validated mask measured beside its reference, in several processes: what the section on measurements is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.anatomy.residuals import compare_case
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.tables import TRAINING
from nnunetv2_diffusion.scoring.workers import spread
from nnunetv2_diffusion.spider import VERTEBRAE

ABOUT = [*TRAINING, "case", "patient", "oblique"]


@dataclass(frozen=True)
class Measured:
    """What was measured of all trainings.

    Attributes:
        table: a row a measurement of a case: ABOUT, level, structure, measurement, unit, value and reference.
        instances: a row a structure of a case: ABOUT and `instances.COLUMNS`.
        notes: a sentence for each case that could not be measured, and each dataset without vertebrae.
    """

    table: pd.DataFrame
    instances: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def measure_cases(
    cases: pd.DataFrame, labels: Mapping[str, LabelScheme], processes: int | None = None, progress: bool = True
) -> Measured:
    """Measure every case of `Results.cases`.

    Args:
        cases: with ABOUT, reference and prediction (files).
        labels: the label scheme of each dataset.
        processes: worker processes; None chooses.
        progress: show a progress bar.
    """
    without = [name for name, scheme in labels.items() if VERTEBRAE not in scheme.structures]
    notes = [f"{name} names no {VERTEBRAE}: its masks are not measured." for name in without]
    cases = cases[~cases["dataset"].isin(without)]
    jobs = [
        {"case": row["case"], "reference": row["reference"], "mask": row["prediction"],
         "values": labels[row["dataset"]].structures}
        for row in cases.to_dict("records")
    ]  # fmt: skip
    bar = tqdm(spread(_compared, jobs, processes), total=len(jobs), desc="Measuring", unit="case", disable=not progress)
    tables, instances = [], []
    for about, found in zip(cases[ABOUT].to_dict("records"), bar, strict=True):
        if isinstance(found, str):
            notes.append(f"{about['model']}, {about['modality']}: {found}.")
            continue
        tables.append(found[0].assign(**about))
        instances.append(found[1].assign(**about))
    joined = (pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for parts in (tables, instances))
    return Measured(*joined, notes)


def _compared(job: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame] | str:
    try:
        found = compare_case(**{**job, "reference": Path(job["reference"]), "mask": Path(job["mask"])})
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())
    columns = ["level", "structure", "measurement", "unit", "value", "reference"]
    return found.table[columns], found.instances
