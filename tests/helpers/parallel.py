"""Tests by several workers of pytest-xdist at once: a share of the processors for each, the longest files first."""

from __future__ import annotations

import os

import pytest

LONGEST = ("tests/end_to_end/test_real_mri.py", "tests/workflow/test_workflow_slurm.py")


def take_share(config: pytest.Config) -> None:
    """Bind this worker, and with it whatever its tests start, to its own processors; no worker: nothing.

    Threads of two trainings that wait for each other on the same processors make both take a multiple of the time, and
    nnU-Net's commands ask for as many threads as the machine has processors whatever OMP_NUM_THREADS says.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    os.environ.pop("PYTEST_ADDOPTS", None)  # a pytest that a test starts has no workers of its own
    if hasattr(os, "sched_setaffinity"):
        workers = worker["workercount"]
        number = int(worker["workerid"].removeprefix("gw")) % workers  # a worker that replaces a dead one counts on
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0)), number, workers))


def share(processors: list[int], worker: int, workers: int) -> list[int]:
    """Of `processors`, those of one of `workers`: at least one each; two share one only where there are fewer."""
    return processors[worker::workers] or [processors[worker % len(processors)]]


def longest_first(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For workers: the longest files begin; then come those that share tiny models, which a worker makes once.

    While one worker trains on real MRI, the other has most of the tiny models to itself.
    """
    if not hasattr(config, "workerinput"):
        return
    longest = [config.rootpath / name for name in LONGEST]
    sharing = {item.path for item in items if "tiny_project" in item.fixturenames}
    items.sort(key=lambda item: longest.index(item.path) if item.path in longest else 3 - (item.path in sharing))
