"""nnU-Net's folders -> which trainings exist, which folds they lack, and the validation cases with all their files."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.nnunet_names import (
    DATASET_FILE,
    MAPS,
    PLANS_FILE,
    TIMING_FILE,
    TRAINER,
    VALIDATION,
    VALIDATION_MAPS,
    ModelName,
    fold_folder,
    folds_with,
    model_folders,
    numbered_folds_with,
    parse_stage,
)
from nnunetv2_diffusion.report.datasets import Dataset, find_dataset
from nnunetv2_diffusion.report.names import family, model_name, model_order
from nnunetv2_diffusion.scoring.case_files import find_map, find_probabilities
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_labels
from nnunetv2_diffusion.scoring.tables import TRAINING

_TIMING_REMEDY = "its fold does not count in the seconds a slice until `spinesegdiff validate` has run again"


@dataclass
class Results:
    """A results tree, read; every table is in the paper's order: by method, then by dataset.

    Attributes:
        trainings: a row a training: dataset, modality, model, family, trainer, plans, configuration, timesteps (of a
            pre-segmentation stage), baseline (the model that such a stage refines), folder, cases, missing_folds and
            partial_folds (text), seconds_per_slice.
        folds: a row a training and fold: found and expected numbers of cases.
        cases: a row a training and validation case, with its files, as `scoring.score_cases` takes it.
        labels: the label scheme of each dataset.
        notes: what a reader of the tables must know.
    """

    trainings: pd.DataFrame
    folds: pd.DataFrame
    cases: pd.DataFrame
    labels: dict[str, LabelScheme]
    notes: list[str] = field(default_factory=list)

    @property
    def oblique_scans(self) -> int:
        """How many scans are oblique: trained on, but left out of every summary and test."""
        return self.cases.loc[self.cases["oblique"].astype(bool), "case"].nunique()


def read_results(
    datasets: Sequence[int | str],
    results: Path,
    preprocessed: Path | None = None,
    raw: Path | None = None,
    only: Collection[ModelName] | None = None,
) -> Results:
    """Everything that nnU-Net has validated so far for some datasets.

    Args:
        datasets: numbers or names of datasets.
        results, preprocessed, raw: nnU-Net's three folders; one of the last two must hold the references.
        only: trainings to read; None reads all.

    Raises:
        FileNotFoundError: none of the datasets has results, or references are missing.
        ValueError: results that cannot belong to their dataset, a case in two folds, files that do not read.
    """
    trainings, folds, cases, notes, labels = [], [], [], [], {}
    for key in dict.fromkeys(datasets):
        dataset = find_dataset(key, results, preprocessed, raw)
        folders = [] if dataset is None else _training_folders(results / dataset.name, only)
        if not folders:
            notes.append(f"Dataset {key} has no trained model in the results folder.")
            continue
        labels[dataset.name] = dataset.labels
        notes += dataset.notes
        for folder in folders:
            about = _describe(dataset, folder)
            found, counts = _validation_cases(dataset, folder, about)
            seconds, damaged = seconds_per_slice(folder)
            trainings.append(about | _summary(found, counts) | {"seconds_per_slice": seconds})
            folds += [{name: about[name] for name in TRAINING} | count for count in counts]
            cases += found
            notes += damaged
    if not cases:
        raise FileNotFoundError(
            f"no validated fold of dataset {', '.join(map(str, datasets))} in {results}; nnU-Net writes "
            f"{fold_folder(Path(), '<k>') / VALIDATION} when a training ends, or with nnUNetv2_train ... --val"
        )
    order = {row["model"]: model_order(ModelName.of_folder(row["folder"])) for row in trainings}
    frames = [
        _distinct_modalities(pd.DataFrame(sorted(rows, key=lambda row: order[row["model"]])))
        for rows in (trainings, folds, cases)
    ]
    return Results(*frames, labels, notes)


def seconds_per_slice(model_folder: Path) -> tuple[float | None, list[str]]:
    """Mean seconds a slice over the folds whose prediction was timed.

    Returns:
        the mean, None where no fold was timed; and a sentence on every file that does not read.
    """
    values, notes = [], []
    for path in _timings(model_folder):
        try:
            seconds = read_json(path, remedy=_TIMING_REMEDY).get("seconds_per_slice")
        except ValueError as error:
            notes.append(f"{error}.")
            continue
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            values.append(float(seconds))
        else:
            notes.append(f'{path} holds no number "seconds_per_slice"; {_TIMING_REMEDY}.')
    return (sum(values) / len(values) if values else None), notes


def _timings(model_folder: Path) -> list[Path]:
    """The files that time a model's folds: those of `spinesegdiff validate`, else those beside nnU-Net's validation."""
    for validation in (VALIDATION_MAPS, VALIDATION):
        file = f"{validation}/{TIMING_FILE}"
        found = [fold_folder(model_folder, fold) / file for fold in folds_with(model_folder, file)]
        if found:
            return found
    return []


def _training_folders(dataset_results: Path, only: Collection[ModelName] | None) -> list[Path]:
    """The models that were trained at least in part."""
    found = [folder for folder in model_folders(dataset_results) if folds_with(folder)]
    return [folder for folder in found if only is None or ModelName.of_folder(folder) in only]


def _describe(dataset: Dataset, folder: Path) -> dict:
    model = ModelName.of_folder(folder)
    copy = folder / DATASET_FILE
    if copy.is_file() and read_labels(copy) != dataset.labels:
        raise ValueError(f"{copy} names other labels than {dataset.name} has; results of different datasets are mixed")
    stage = parse_stage(model.configuration)
    return {
        "dataset": dataset.name,
        "modality": dataset.modality,
        "model": model_name(model),
        "family": family(model.trainer),
        **model._asdict(),
        "timesteps": None if stage is None else stage[1],
        "baseline": None if stage is None else _baseline(folder / PLANS_FILE, model, stage[0]),
        "folder": folder,
    }


def _baseline(plans_json: Path, stage: ModelName, named_for: str) -> str:
    """The model that a pre-segmentation stage refines, as its plans say."""
    about: dict = {}
    if plans_json.is_file():
        plans = read_json(plans_json, remedy="nnU-Net writes it when a training starts")
        about = plans.get("configurations", {}).get(stage.configuration, {})
    trainer = about.get("pre_segmentation", {}).get("previous_trainer", TRAINER)
    return model_name(ModelName(trainer, stage.plans, about.get("previous_stage") or named_for))


def _distinct_modalities(table: pd.DataFrame) -> pd.DataFrame:
    """Where two datasets have one modality's name, both go by their own names."""
    datasets = table.groupby("modality")["dataset"].transform("nunique")
    return table.assign(modality=table["modality"].where(datasets == 1, table["dataset"]))


def _validation_cases(dataset: Dataset, folder: Path, about: dict) -> tuple[list[dict], list[dict]]:
    """The rows of all validated cases of a training, and for each fold how many there are and should be."""
    rows, counts, seen = [], [], {}
    for fold in sorted({*numbered_folds_with(folder), *range(dataset.fold_count)}):
        home = fold_folder(folder, fold)
        masks = list_masks(home / VALIDATION, dataset.file_ending) if (home / VALIDATION).is_dir() else {}
        expected = dataset.validation_cases(fold)
        for case, mask in masks.items():
            dataset.check_case(case, mask, fold)
            if case in seen:
                raise ValueError(f"case {case} is in two folds of {folder}: {seen[case].name} and {home.name}")
            seen[case] = home
            rows.append(_case_row(dataset, about, fold, case, mask))
        counts.append({"fold": fold, "found": len(masks), "expected": None if expected is None else len(expected)})
    return rows, counts


def _case_row(dataset: Dataset, about: dict, fold: int, case: str, mask: Path) -> dict:
    maps = mask.parent.parent / VALIDATION_MAPS
    own_mask = maps / f"{case}{dataset.file_ending}"
    own_mask = own_mask if own_mask.is_file() else None
    probabilities = find_probabilities(maps, case) if own_mask else None
    return {
        **{name: about[name] for name in (*TRAINING, "family", *ModelName._fields)},
        "fold": fold,
        **dataset.describe_case(case),
        "reference": dataset.references[case],
        "prediction": mask,
        "uncertainty": find_map(maps / MAPS, case, dataset.file_ending),
        "probabilities": probabilities or find_probabilities(mask.parent, case),
        "map_prediction": own_mask,
        "image": dataset.image_of(case),
    }


def _summary(found: list[dict], counts: list[dict]) -> dict:
    missing = [count["fold"] for count in counts if not count["found"]]
    partial = [c for c in counts if c["found"] and c["expected"] is not None and c["found"] < c["expected"]]
    return {
        "cases": len(found),
        "missing_folds": ", ".join(map(str, missing)),
        "partial_folds": ", ".join(f"{c['fold']} ({c['found']} of {c['expected']} cases)" for c in partial),
    }
