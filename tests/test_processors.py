"""What this process may use: affinity, quota and OMP_NUM_THREADS, against what the system was told."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunetv2_diffusion.processors import _cgroup_quota, available_processors, available_threads


@pytest.fixture
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("nnunetv2_diffusion.processors._cgroup_quota", lambda: math.inf)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4, 6}, raising=False)


def test_processors_are_those_of_the_affinity(four_processors, monkeypatch: pytest.MonkeyPatch):
    assert available_processors() == available_threads() == 4
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_processors() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_a_process_bound_to_one_processor_takes_one():
    code = (
        f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
        "from nnunetv2_diffusion.processors import available_processors; print(available_processors())"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout == "1\n"
    )


@pytest.mark.parametrize(("value", "threads"), [("3", 3), ("2,4", 2), ("16", 16), ("", 4), ("0", 4), ("many", 4)])
def test_omp_num_threads_counts_for_threads_alone(four_processors, monkeypatch, value: str, threads: int):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_threads() == threads
    assert available_processors() == 4


@pytest.mark.parametrize(
    ("quotas", "processors"),
    [
        ({"": "max 100000"}, math.inf),
        ({"": "250000 100000"}, 3),
        ({"job": "200000 100000"}, 2),
        ({"job": "400000 100000", "job/step": "max 100000"}, 4),
        ({"job": "100000 100000", "job/step": "800000 100000"}, 1),
        ({"job/step": "50000 100000"}, 1),
        ({"other": "100000 100000"}, math.inf),
        ({"job": "damaged"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_smallest_quota_of_the_group_and_those_above_it(tmp_path: Path, quotas: dict, processors: float):
    for group, text in quotas.items():
        (tmp_path / "cgroup" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / group / "cpu.max").write_text(f"{text}\n")
    (tmp_path / "own").write_text("1:name=systemd:/elsewhere\n0::/job/step\n")
    assert _cgroup_quota(tmp_path / "cgroup", tmp_path / "own") == processors


def test_without_control_groups_there_is_no_quota(tmp_path: Path):
    assert _cgroup_quota(tmp_path, tmp_path / "missing") == math.inf
