"""Seconds of runs that take turns, and the peak memory of a fresh process."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

MIB = 2**20


def seconds_in_turns(runs: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Seconds of each run, one list a run: they take turns, so that what slows the machine down slows all of them."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, measured in zip(runs, seconds, strict=True):
            measured.append(time_once(run))
    return seconds


def time_once(run: Callable[[], object]) -> float:
    """Seconds until `run`, and what it started on a GPU, is done."""
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over turns of the ratio within a turn."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory_mib(device: torch.device) -> float | None:
    """This process's peak so far: allocated on the GPU, else resident in main memory; None where neither is told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    with contextlib.suppress(OSError):
        # Linux's getrusage would count the parent's memory as well.
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
    return None


def in_a_fresh_process(script: str, task: dict[str, Any]) -> dict[str, Any]:
    """What `script --memory-of <task as JSON>` prints as its last line, JSON as well.

    Raises:
        RuntimeError: it failed; with its last words.
    """
    command = [sys.executable, script, "--memory-of", json.dumps(task)]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"measuring the memory of {task} failed: {finished.stderr.strip()[-2000:]}")
    return json.loads(finished.stdout.strip().splitlines()[-1])
