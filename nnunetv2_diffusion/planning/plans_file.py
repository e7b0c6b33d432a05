"""Finding, reading and safely rewriting an nnU-Net plans file; the old plans become <plans>.json.bak."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import read_json, replacing, write_whole
from nnunetv2_diffusion.nnunet_names import PLANS, PREPROCESSED, dataset_folder, dataset_number, nnunet_folder


def find_plans_file(dataset: str | int, plans_name: str = PLANS) -> Path:
    """The plans file `plans_name` of `dataset` (its number or its full name) below $nnUNet_preprocessed.

    Raises:
        ValueError: nnUNet_preprocessed is not set, or `dataset` is neither a number nor a name of one dataset.
        FileNotFoundError: no such folder, dataset or plans file; says which nnU-Net command makes it.
    """
    preprocessed = nnunet_folder(PREPROCESSED)
    folder = dataset_folder(dataset, preprocessed)
    if folder is None:
        raise FileNotFoundError(
            f"no dataset {dataset} in {preprocessed}; run nnUNetv2_plan_and_preprocess -d {dataset_id(dataset)} first"
        )
    plans_file = folder / f"{plans_name}.json"
    if not plans_file.is_file():
        others = sorted(path.stem for path in folder.glob("*Plans.json"))
        hint = f"; -p could be {' or '.join(others)}" if others else ""
        raise FileNotFoundError(
            f"no plans file {plans_file}{hint}; otherwise run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}"
        )
    return plans_file


def dataset_id(dataset: str | int) -> str:
    """A dataset's number, as nnU-Net's commands take it; what is no name of a dataset is returned as it is."""
    number = dataset_number(str(dataset))
    return str(dataset if number is None else number)


def read_planned(path: Path, kind: type = dict) -> Any:
    """What a json file holds that nnU-Net writes when it plans and preprocesses, which must be a `kind`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no json, or something else than a `kind`.
    """
    return read_json(path, kind, remedy="restore it or run nnUNetv2_plan_and_preprocess")


def read_plans(path: Path) -> dict[str, Any]:
    """The plans in `path`, which must have the configuration `2d`.

    Raises:
        FileNotFoundError, ValueError: as `read_planned`; also without a dictionary of configurations or without `2d`.
    """
    plans = read_planned(path)
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or not all(isinstance(value, dict) for value in configurations.values()):
        raise ValueError(f"{path} has no dictionary `configurations`, so it is no nnU-Net plans file")
    if "2d" not in configurations:
        raise ValueError(
            f"{path} has no configuration 2d, only {', '.join(configurations) or 'none'}; "
            "plan the dataset with a planner that adds 2d (nnUNetv2_plan_experiment)"
        )
    return plans


def write_plans(path: Path, plans: dict[str, Any]) -> Path:
    """Replace the plans in `path` at one stroke, in nnU-Net's own layout; returns the backup, <path>.bak.

    A file whose write permission was taken away is left alone, although a rename could replace it.

    Raises:
        PermissionError: the file or its folder is read-only.
        OSError: the disk refused (full, unmounted); the plans are as they were.
    """
    target = path.resolve()
    if not target.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
        raise PermissionError(f"{path} is read-only; give yourself write permission (chmod u+w) and run this again")
    backup = path.with_name(path.name + ".bak")
    try:
        with replacing(backup) as partial:
            shutil.copy(target, partial)
        write_whole(target, lambda partial: partial.write_text(json.dumps(plans, indent=4), encoding="utf-8"))
    except PermissionError as error:
        raise PermissionError(
            f"cannot write in {path.parent}, which is read-only ({error.strerror or error})"
        ) from error
    return backup
