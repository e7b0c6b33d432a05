"""How many processors and threads this process may use: what a cluster, a container or the user granted it."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_processors() -> int:
    """Processors for worker processes: those that the affinity (taskset, Slurm) and a container's quota leave."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _cgroup_quota()))


def available_threads() -> int:
    """Threads for one process's computing: OMP_NUM_THREADS where it is set, else `available_processors`."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else available_processors()


def _cgroup_quota(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int | float:
    """Processors that the quotas (cpu.max, cgroup v2) of this process's group and of those above it add up to."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return math.inf
    names = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    folders = [cgroups, *(cgroups / name for name in names), *(p for name in names for p in (cgroups / name).parents)]
    return min((_quota(folder / "cpu.max") for folder in folders if folder.is_relative_to(cgroups)), default=math.inf)


def _quota(file: Path) -> int | float:
    try:
        quota, period = file.read_text().split()
        return math.inf if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return math.inf
