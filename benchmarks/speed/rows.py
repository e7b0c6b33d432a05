"""The rows of the table of inference.py: which there are, and what is measured of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nnunetv2_diffusion.settings import PRESETS
from speed.measuring import in_a_fresh_process, median_ratio, peak_memory_mib, seconds_in_turns
from speed.methods import FOLDERS, NNUNET, OURS, PRESEG, PRESEG_WITH_BASELINE, PUBLISHED, LoadedMethod, Method

LARGE = 150  # evaluations above which a row is timed once: minutes on a CPU


def methods(samples: Sequence[int], steps: Sequence[int], folders: dict[str, Path]) -> list[Method]:
    """The rows that there are models for; the largest S with 10 steps also the published way and in float32."""
    most, middle = max(samples), sorted(steps)[len(steps) // 2]
    rows = [
        Method(NNUNET),
        Method(PUBLISHED, most, middle),
        Method(OURS, most, middle, "float32"),
        *(Method(OURS, s, n) for s in samples for n in steps),
        *presets(),
        Method(PRESEG, 3, 5),
        Method(PRESEG_WITH_BASELINE, 3, 5),
    ]
    return [row for row in rows if set(FOLDERS[row.kind]) <= set(folders)]


def presets() -> list[Method]:
    """Ours as `--preset` has it."""
    return [Method(OURS, preset=preset) for preset in PRESETS]


def measure(
    method: Method, folders: dict[str, Path], data: torch.Tensor, device: torch.device, repeats: int
) -> dict[str, Any]:
    """A row: seconds and evaluations a slice, and ratios of seconds within the turns that it takes with others.

    Args:
        method: which.
        folders: "baseline", "model" and "preseg" -> a model's folder; nnU-Net's ratio needs "baseline".
        data: one slice, preprocessed, [C, 1, H, W].
        device: where to run.
        repeats: turns.

    Returns:
        times_nnunet: the row's seconds over nnU-Net's; None without its model.
        speedup_over_published: the published way's seconds, with the row's S and steps, over the row's.
    """
    loaded = LoadedMethod(method, folders, device)
    runs = {"row": loaded}
    if "baseline" in folders:
        runs["nnunet"] = LoadedMethod(Method(NNUNET), folders, device)
    settings = None if loaded.network is None else loaded.network.sampling
    if method.kind == OURS:
        runs["published"] = LoadedMethod(Method(PUBLISHED, settings.samples, settings.sampling_steps), folders, device)
    for each in runs.values():
        each.prepare(data)
        each.warm_up(data)
    before = loaded.evaluations()
    turns = 1 if settings is not None and settings.samples * settings.sampling_steps > LARGE else repeats
    timed = seconds_in_turns([partial(each, data) for each in runs.values()], turns)
    seconds = dict(zip(runs, timed, strict=True))
    network, encoder = ((now - then) / turns for now, then in zip(loaded.evaluations(), before, strict=True))
    return {
        "method": method.name,
        "samples": None if settings is None else settings.samples,
        "steps": None if settings is None else settings.sampling_steps,
        "network_evaluations": network,
        "encoder_evaluations": encoder,
        "seconds": median_ratio(seconds["row"], [1.0] * turns),
        "turns": turns,
        "times_nnunet": median_ratio(seconds["row"], seconds["nnunet"]) if "nnunet" in runs else None,
        "speedup_over_published": median_ratio(seconds["published"], seconds["row"]) if "published" in runs else None,
    }


def memory_in_a_fresh_process(script: str, method: Method, folders: dict[str, Path], data: Path, device: str) -> float:
    """Peak memory in MiB of `script` run for `method` alone; it hands its argument to `memory_of`."""
    names = {kind: str(folder) for kind, folder in folders.items()}
    return in_a_fresh_process(
        script,
        {
            "method": asdict(method),
            "folders": names,
            "data": str(data),
            "device": device,
            "threads": torch.get_num_threads(),
        },
    )["peak_memory_mib"]


def memory_of(task: dict[str, Any]) -> dict[str, float | None]:
    """One run of one method in this process, and the peak since it started."""
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    folders = {kind: Path(folder) for kind, folder in task["folders"].items()}
    loaded, data = LoadedMethod(Method(**task["method"]), folders, device), torch.load(task["data"])
    loaded.prepare(data)
    loaded(data)
    return {"peak_memory_mib": peak_memory_mib(device)}
