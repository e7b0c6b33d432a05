"""nnU-Net's folders -> which trainings exist, which folds they lack, and the validation cases with all their files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.imaging.volumes import UNCERTAINTY_SUFFIX, list_masks
from nnunetv2_diffusion.report.datasets import Dataset, find_dataset
from nnunetv2_diffusion.report.models import family, model_name, model_order, stage_timesteps
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_labels
from nnunetv2_diffusion.scoring.tables import TRAINING

MAPS_FOLDER = "validation_uncertainty"


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


def nnunet_folder(variable: str) -> Path:
    """The folder that one of nnU-Net's environment variables names.

    Raises:
        ValueError: the variable is not set.
        FileNotFoundError: it names no folder.
    """
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"the environment variable {variable} is not set; it names nnU-Net's folder of that name")
    if not Path(value).is_dir():
        raise FileNotFoundError(f"{value}, which the environment variable {variable} names, is no folder")
    return Path(value)


def optional_nnunet_folder(variable: str) -> Path | None:
    """As `nnunet_folder`, but None where the variable is not set or names no folder."""
    value = os.environ.get(variable)
    return Path(value) if value and Path(value).is_dir() else None


def read_results(
    datasets: Sequence[int | str],
    results: Path,
    preprocessed: Path | None = None,
    raw: Path | None = None,
    only: Collection[tuple[str, str, str]] | None = None,
) -> Results:
    """Everything that nnU-Net has validated so far for some datasets.

    Args:
        datasets: numbers or names of datasets.
        results, preprocessed, raw: nnU-Net's three folders; one of the last two must hold the references.
        only: trainings to read, as (trainer, plans, configuration); None reads all.

    Raises:
        FileNotFoundError: none of the datasets has results, or references are missing.
        ValueError: results that cannot belong to their dataset, a case in two folds, files that do not read.
    """
    trainings, folds, cases, notes, labels = [], [], [], [], {}
    for key in dict.fromkeys(datasets):
        dataset = find_dataset(key, results, preprocessed, raw)
        folders = [] if dataset is None else _training_folders(results / dataset.name)
        folders = [folder for folder in folders if only is None or tuple(folder.name.split("__")) in only]
        if not folders:
            notes.append(f"Dataset {key} has no trained model in the results folder.")
            continue
        labels[dataset.name] = dataset.labels
        notes += dataset.notes
        for folder in folders:
            about = _describe(dataset, folder)
            found, counts = _validation_cases(dataset, folder, about)
            trainings.append(about | _summary(found, counts) | {"seconds_per_slice": _seconds(folder)})
            folds += [{name: about[name] for name in TRAINING} | count for count in counts]
            cases += found
    if not cases:
        raise FileNotFoundError(
            f"no validated fold of dataset {', '.join(map(str, datasets))} in {results}; "
            "nnU-Net writes fold_<k>/validation when a training ends, or with nnUNetv2_train ... --val"
        )
    order = {row["model"]: model_order(row["trainer"], row["plans"], row["configuration"]) for row in trainings}
    frames = [
        _distinct_modalities(pd.DataFrame(sorted(rows, key=lambda row: order[row["model"]])))
        for rows in (trainings, folds, cases)
    ]
    return Results(*frames, labels, notes)


def _training_folders(folder: Path) -> list[Path]:
    """`<trainer>__<plans>__<configuration>` folders that were trained at least in part."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.count("__") == 2]
    found = [path for path in found if any(path.glob("fold_*"))]
    return sorted(found)


def _describe(dataset: Dataset, folder: Path) -> dict:
    trainer, plans, configuration = folder.name.split("__")
    copy = folder / "dataset.json"
    if copy.is_file() and read_labels(copy) != dataset.labels:
        raise ValueError(f"{copy} names other labels than {dataset.name} has; results of different datasets are mixed")
    return {
        "dataset": dataset.name,
        "modality": dataset.modality,
        "model": model_name(trainer, plans, configuration),
        "family": family(trainer),
        "trainer": trainer,
        "plans": plans,
        "configuration": configuration,
        "timesteps": stage_timesteps(configuration),
        "baseline": _baseline(folder / "plans.json", plans, configuration),
        "folder": folder,
    }


def _baseline(plans_json: Path, plans: str, configuration: str) -> str | None:
    """The model that a pre-segmentation stage refines, as its plans say; None for other configurations."""
    if stage_timesteps(configuration) is None:
        return None
    stage: dict = {}
    if plans_json.is_file():
        stage = json.loads(plans_json.read_text(encoding="utf-8"))["configurations"].get(configuration, {})
    trainer = stage.get("pre_segmentation", {}).get("previous_trainer", "nnUNetTrainer")
    return model_name(trainer, plans, stage.get("previous_stage") or configuration.partition("_preseg_T")[0])


def _distinct_modalities(table: pd.DataFrame) -> pd.DataFrame:
    """Where two datasets have one modality's name, both go by their own names."""
    datasets = table.groupby("modality")["dataset"].transform("nunique")
    return table.assign(modality=table["modality"].where(datasets == 1, table["dataset"]))


def _validation_cases(dataset: Dataset, folder: Path, about: dict) -> tuple[list[dict], list[dict]]:
    """The rows of all validated cases of a training, and for each fold how many there are and should be."""
    rows, counts, seen = [], [], {}
    present = {int(m[1]) for p in folder.iterdir() if (m := re.fullmatch(r"fold_(\d+)", p.name))}
    for fold in sorted(present | set(range(dataset.fold_count))):
        validation = folder / f"fold_{fold}" / "validation"
        masks = list_masks(validation, dataset.file_ending) if validation.is_dir() else {}
        expected = dataset.validation_cases(fold)
        for case, mask in masks.items():
            dataset.check_case(case, mask, fold)
            if case in seen:
                raise ValueError(f"case {case} is in two folds of {folder}: fold_{seen[case]} and fold_{fold}")
            seen[case] = fold
            rows.append(_case_row(dataset, about, fold, case, mask))
        counts.append({"fold": fold, "found": len(masks), "expected": None if expected is None else len(expected)})
    return rows, counts


def _case_row(dataset: Dataset, about: dict, fold: int, case: str, mask: Path) -> dict:
    ending = dataset.file_ending
    maps = mask.parent.parent / MAPS_FOLDER
    own_mask = _if_there(maps / f"{case}{ending}")
    of_the_map = maps if own_mask else mask.parent
    return {
        **{name: about[name] for name in (*TRAINING, "family", "trainer", "plans", "configuration")},
        "fold": fold,
        **dataset.describe_case(case),
        "reference": dataset.references[case],
        "prediction": mask,
        "uncertainty": _if_there(maps / f"{case}{UNCERTAINTY_SUFFIX}{ending}"),
        "probabilities": _if_there(of_the_map / f"{case}.npz") or _if_there(mask.parent / f"{case}.npz"),
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


def _seconds(folder: Path) -> float | None:
    """Mean seconds a slice over the folds whose prediction wrote `timing.json`; None where none did."""
    values = []
    for path in sorted(folder.glob(f"fold_*/{MAPS_FOLDER}/timing.json")) or sorted(
        folder.glob("fold_*/validation/timing.json")
    ):
        try:
            values.append(float(json.loads(path.read_text(encoding="utf-8"))["seconds_per_slice"]))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f'{path} holds no number "seconds_per_slice"') from None
    return sum(values) / len(values) if values else None


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None
