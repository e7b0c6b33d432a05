"""Finding, reading and safely rewriting an nnU-Net plans file.

A rewrite goes to a temporary file beside the plans, the old plans become <plans>.json.bak, a rename finishes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed


def find_plans_file(dataset: str | int, plans_name: str = "nnUNetPlans") -> Path:
    """The plans file `plans_name` of `dataset` (its number or its full name) below $nnUNet_preprocessed.

    Raises:
        ValueError: nnUNet_preprocessed is not set, or `dataset` is neither a number nor a name of one dataset.
        FileNotFoundError: no such folder, dataset or plans file; says which nnU-Net command makes it.
    """
    preprocessed = nnUNet_preprocessed.get()
    if not preprocessed:
        raise ValueError(
            "nnUNet_preprocessed is not set; export it as the folder that holds nnU-Net's preprocessed datasets"
        )
    folder = _dataset_folder(Path(preprocessed), str(dataset))
    plans_file = folder / f"{plans_name}.json"
    if not plans_file.is_file():
        others = sorted(path.stem for path in folder.glob("*Plans.json"))
        hint = f"; -p could be {' or '.join(others)}" if others else ""
        raise FileNotFoundError(
            f"no plans file {plans_file}{hint}; otherwise run nnUNetv2_plan_and_preprocess -d {dataset_id(folder.name)}"
        )
    return plans_file


def dataset_id(dataset_name: str) -> str:
    """The number in "DatasetXXX_Name", as nnU-Net's commands take it; other names are returned as they are."""
    match = re.match(r"Dataset(\d+)", dataset_name)
    return str(int(match.group(1))) if match else dataset_name


def _dataset_folder(preprocessed: Path, dataset: str) -> Path:
    if not preprocessed.is_dir():
        raise FileNotFoundError(f"nnUNet_preprocessed names {preprocessed}, which is no folder")
    if dataset.startswith("Dataset"):
        pattern = dataset
    elif dataset.isdecimal():
        pattern = f"Dataset{int(dataset):03d}_*"
    else:
        raise ValueError(f"dataset {dataset!r} is neither a number such as 503 nor a name such as Dataset503_SPIDER")
    found = sorted(path for path in preprocessed.glob(pattern) if path.is_dir())
    if not found:
        raise FileNotFoundError(
            f"no dataset {dataset} in {preprocessed}; run nnUNetv2_plan_and_preprocess -d {dataset_id(dataset)} first"
        )
    if len(found) > 1:
        raise ValueError(
            f"dataset number {dataset} is taken by {', '.join(path.name for path in found)} in {preprocessed}; "
            "give the full name"
        )
    return found[0]


def read_json(path: Path, kind: type = dict) -> Any:
    """What the JSON file `path` holds, which must be a `kind`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no JSON, or something else than a `kind`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist; run nnUNetv2_plan_and_preprocess") from error
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON ({error}); restore it or run nnUNetv2_plan_experiment") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} should hold a {kind.__name__}, not a {type(content).__name__}")
    return content


def read_plans(path: Path) -> dict[str, Any]:
    """The plans in `path`, which must have the configuration `2d`.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; also without a dictionary of configurations or without `2d`.
    """
    plans = read_json(path)
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
        _replace(backup, target.read_bytes(), like=target)
        _replace(target, json.dumps(plans, indent=4).encode(), like=target)
    except PermissionError as error:
        raise PermissionError(
            f"cannot write in {path.parent}, which is read-only ({error.strerror or error})"
        ) from error
    return backup


def _replace(path: Path, content: bytes, like: Path) -> None:
    """Write beside `path`, with the permissions of `like`, then rename."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(like, name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
