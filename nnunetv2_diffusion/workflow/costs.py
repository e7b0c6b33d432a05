"""What a study will cost: jobs, GPU hours and gigabytes by part, from a timing on this machine, else estimated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_diffusion.files import naming
from nnunetv2_diffusion.workflow.estimates import TFLOP_A_SECOND, estimated_hours
from nnunetv2_diffusion.workflow.grid import Grid, Job
from nnunetv2_diffusion.workflow.progress import FINISHED, PARTLY, progress

TIMING_FILE = "timing.csv"
# Gigabytes, where no timing tells them. SPIDER's 218 patients converted and preprocessed, slices or volumes: estimates
# from their numbers of voxels. Of a training the checkpoints that stay, final and best: of the paper's widths 0.157 GB
# each, measured; of nnU-Net's 3D network an estimate.
DATASET_GIGABYTES = {"2d": 0.4, "3d": 12.0}
CHECKPOINTS_GIGABYTES = {"2d": 0.32, "3d": 0.5}
# Of these, what a study of phantoms needs: narrow networks and a handful of small slices.
PHANTOM_SHARE = 0.02


def read_timing(study: Path) -> dict[str, dict[str, Any]]:
    """What `--time-it` measured, by model; empty where it has not run."""
    path = study / TIMING_FILE
    if not path.is_file():
        return {}
    with naming(path, "remove it, or run --time-it again"):
        return {row["model"]: row for row in pd.read_csv(path).to_dict("records")}


def training_hours(timing: Mapping[str, Any]) -> float:
    """Hours of a training by its number of steps and the seconds that one takes."""
    return timing["steps"] * timing["seconds_per_step"] / 3600


def costs(study: Path, grid: Grid) -> pd.DataFrame:
    """A row a part: part, jobs, finished, and of what is to come gpu_hours (none where not timed), of those that are
    not timed estimated_hours (none where not counted either), and gigabytes."""
    timing, states = read_timing(study), {row["job"]: row["state"] for row in progress(study, grid)}
    rows: dict[str, dict[str, Any]] = {}
    share = PHANTOM_SHARE if grid.config.get("phantoms") else 1.0
    for job in grid.jobs():
        part, hours, gigabytes = _about(job, grid, timing)
        nothing = {"jobs": 0, "finished": 0, "gpu_hours": 0.0, "estimated_hours": 0.0, "gigabytes": 0.0}
        row = rows.setdefault(part, {"part": part, **nothing})
        row["jobs"] += 1
        if states[job.name] in (FINISHED, PARTLY):
            row["finished"] += 1
            continue
        row["gpu_hours"] += hours
        row["estimated_hours"] += _estimate(job, grid) if math.isnan(hours) else 0.0
        row["gigabytes"] += share * gigabytes
    return pd.DataFrame(list(rows.values()))


def _about(job: Job, grid: Grid, timing: Mapping[str, Mapping[str, Any]]) -> tuple[str, float, float]:
    """(part, GPU hours, gigabytes) of a job; hours that are not known are no number."""
    _, *words = job.name.split("-")
    if job.rule == "train":
        model = grid.models[words[1]]
        timed = timing.get(model.key) or (timing.get("spinesegdiff") if model.refines else None)
        hours = training_hours(timed) if timed else float("nan")
        size = timed["checkpoint_gigabytes"] * 2 if timed else CHECKPOINTS_GIGABYTES[model.dimension]
        return f"train {words[1]}", hours, size
    if job.rule == "preprocess":
        return job.rule, 0.0, DATASET_GIGABYTES[grid.datasets[int(words[0])][1]]
    if job.rule == "validate":
        return f"validate {words[1]}", float("nan"), 0.05
    return job.rule, 0.0, 0.0


def _estimate(job: Job, grid: Grid) -> float:
    _, dataset, key, _ = job.name.split("-")
    return estimated_hours(grid.models[key], grid.datasets[int(dataset)][0], training=job.rule == "train")


def gigabytes_to_come(study: Path, grid: Grid) -> float:
    """What the jobs that are not finished will write."""
    return float(costs(study, grid)["gigabytes"].sum())


def describe_costs(table: pd.DataFrame, gpus: int) -> str:
    """The table as text, with its sums for one GPU and for `gpus`."""
    rows = table.to_dict("records")
    shown = table.assign(gpu_hours=[_hours(row) for row in rows], gigabytes=[f"{row['gigabytes']:.1f}" for row in rows])
    shown = shown.drop(columns="estimated_hours").rename(columns={"gpu_hours": "GPU hours", "gigabytes": "GB"})
    timed, untimed = table["gpu_hours"].sum(), table.loc[table["gpu_hours"].isna(), "estimated_hours"]
    lines = [
        shown.to_string(index=False),
        f"{table['jobs'].sum()} jobs, {table['finished'].sum()} finished; {table['gigabytes'].sum():.0f} GB to come",
    ]
    if timed:
        lines.append(f"{_days(timed, gpus)}, timed on this machine")
    if untimed.sum():
        lines.append(f"{_days(untimed.sum(), gpus)}, estimated: counted operations at {TFLOP_A_SECOND:.0f} TFLOP/s")
    if len(untimed):
        lines.append("--time-it times the trainings on this machine")
    return "\n".join(lines)


def _hours(row: Mapping[str, Any]) -> str:
    if not math.isnan(row["gpu_hours"]):
        return f"{row['gpu_hours']:.1f}"
    return "not timed" if math.isnan(row["estimated_hours"]) else f"not timed, ~ {row['estimated_hours']:.1f}"


def _days(hours: float, gpus: int) -> str:
    return f"{hours:.1f} GPU hours: {hours / 24:.1f} days on one GPU, {hours / 24 / gpus:.1f} on {gpus}"
