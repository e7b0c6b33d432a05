"""Calibrating a model's intervals on the validation cases of its folds: the work behind `spinesegdiff calibrate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from nnunetv2_diffusion.anatomy.conformal import LEVELS, SHARE, Calibration, fit
from nnunetv2_diffusion.anatomy.residuals import DRAWN, compare_case
from nnunetv2_diffusion.anatomy.structures import Values, named_values, parse_values
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.nnunet_names import (
    CALIBRATION_FILE,
    DATASET_FILE,
    PREPROCESSED,
    RAW,
    SPLITS_FILE,
    VALIDATION_MAPS,
    fold_folder,
    optional_nnunet_folder,
    samples_file,
)
from nnunetv2_diffusion.report.datasets import Dataset, find_dataset
from nnunetv2_diffusion.scoring.workers import spread

SAY = partial(print, flush=True)


@dataclass(frozen=True)
class Request:
    """What is calibrated.

    Attributes:
        folder: the model's.
        folds: whose validation cases count, by number.
        structures: which label is which, see `structures.parse_values`; None takes the dataset's names.
        samples: of each image; None takes what is there, or the model's own number.
        anew: predict also what is there.
    """

    folder: Path
    folds: Sequence[int]
    structures: Sequence[str] | None = None
    samples: int | None = None
    anew: bool = False


def calibrate(
    request: Request,
    predict: Callable[[int], object],
    processes: int | None = None,
    say: Callable[[str], None] = SAY,
) -> Calibration:
    """Compare the validation cases of a model's folds with their references, and keep the factors beside its folds.

    Args:
        request: what is calibrated.
        predict: leaves masks and samples of a fold's validation cases in its folder VALIDATION_MAPS; called where they
            are missing.
        processes: that compare; None takes those that this process may use.
        say: told of what is predicted, left out and found.

    Raises:
        FileNotFoundError: the dataset has no references.
        ValueError: it has no splits or no such fold, it names no vertebrae, or no case could be compared.
    """
    dataset = _dataset_of(request.folder)
    values = _values_of(request)
    jobs, failures = [], []
    for fold in request.folds:
        cases = sorted(dataset.validation_cases(fold) or ())
        if not cases:
            raise ValueError(f"{dataset.name} has no {SPLITS_FILE} with a fold {fold}: train it first")
        masks = fold_folder(request.folder, fold) / VALIDATION_MAPS
        if request.anew or not _is_predicted(masks, cases, dataset.file_ending, request.samples):
            say(f"fold {fold}: predicting masks and samples of {len(cases)} validation cases")
            predict(fold)
        for case in cases:
            mask = masks / f"{case}{dataset.file_ending}"
            jobs.append({"case": case, "reference": dataset.references[case], "mask": mask, "values": values})
    tables = []
    bar = tqdm(spread(_compared, jobs, processes), total=len(jobs), desc="Comparing", unit="case", disable=None)
    for job, found in zip(jobs, bar, strict=True):
        if isinstance(found, str):
            failures.append(found)
        else:
            tables.append(found.assign(case=job["case"], patient=dataset.describe_case(job["case"])["patient"]))
    for failure in failures:
        say(failure)
    if not tables:
        raise ValueError(f"none of the {len(jobs)} validation cases of {request.folder} could be compared")
    calibration = fit(pd.concat(tables, ignore_index=True))
    about = {"folds": list(request.folds), "left_out": len(failures)}
    write_json({**about, **calibration.as_json()}, request.folder / CALIBRATION_FILE)
    return calibration


def described(calibration: Calibration) -> list[str]:
    """What was found, in lines for a terminal."""
    few = [key for key, one in calibration.measurements.items() if one.factors[SHARE] == float("inf")]
    lines = [
        f"{calibration.cases} cases of {calibration.patients} patients, {calibration.samples} samples each",
        f"factors of {SHARE:.0%} intervals (1: the samples' own 5th to 95th percentile, less the floor):",
    ]
    for (structure, measurement), one in calibration.measurements.items():
        factors = ", ".join(f"{level:.0%} {one.factors[level]:.2f}" for level in LEVELS)
        lines.append(f"  {structure} {measurement}: {factors} ({one.rows} of {one.patients} patients)")
    if few:
        least = round(1 / (1 - SHARE)) - 1
        lines.append(
            f"{len(few)} measurement(s) have no {SHARE:.0%} interval, which needs at least {least} patients: it is "
            "left empty"
        )
    return lines


def _compared(job: Mapping[str, Any]) -> pd.DataFrame | str:
    """A case's table, or the sentence that says why there is none: one bad case stops no other."""
    try:
        table = compare_case(**job).table
    except (ValueError, OSError, RuntimeError) as error:
        return " ".join(str(error).split())
    return table if table[DRAWN].max() > 1 else f"{job['case']} has no samples: it is left out"


def _dataset_of(folder: Path) -> Dataset:
    homes = [optional_nnunet_folder(variable) for variable in (PREPROCESSED, RAW)]
    dataset = find_dataset(folder.parent.name, folder.parent.parent, *homes)
    if dataset is None:
        raise FileNotFoundError(f"{folder} does not exist: train the model first")
    return dataset


def _values_of(request: Request) -> Values:
    if request.structures:
        return parse_values(request.structures)
    file = request.folder / DATASET_FILE
    labels = read_json(file).get("labels")
    return named_values(labels if isinstance(labels, dict) else {}, str(file))


def _is_predicted(masks: Path, cases: Sequence[str], ending: str, samples: int | None) -> bool:
    """Whether all masks and their samples are there, and as many samples as are wanted."""
    for case in cases:
        file = samples_file(masks, case)
        if not (masks / f"{case}{ending}").is_file() or not file.is_file():
            return False
        if samples is not None and _count(file) != samples:
            return False
    return True


def _count(samples: Path) -> int:
    """How many samples a file holds, by its header alone; 0 where that does not read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(samples))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return int(reader.GetSize()[-1])
