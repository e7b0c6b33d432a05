"""Tests by several workers at once: what each worker and what its tests start may use, and which files come first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import parallel

ROOT = Path(__file__).resolve().parent.parent
# Has every processor again: a worker that runs this test holds only its share.
START = "import os, sys, pytest; os.sched_setaffinity(0, range(os.cpu_count())); sys.exit(pytest.main(sys.argv[1:]))"
ASK = "import os, torch; print(torch.get_num_threads(), *os.sched_getaffinity(0))"
TELL = f"""
import json, os, subprocess, sys
from pathlib import Path

def test_it():
    found = subprocess.run([sys.executable, "-c", {ASK!r}], capture_output=True, encoding="utf-8", check=True).stdout
    told = dict(child=found.split(), own=sorted(os.sched_getaffinity(0)), options=os.environ.get("PYTEST_ADDOPTS"))
    Path(__file__).with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to processors")
def test_workers_and_what_they_start_take_one_share_each(tmp_path: Path):
    """Two workers, a file each: their processors are disjoint and together all; PyTorch's threads are as many."""
    (tmp_path / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    for name in ("test_a", "test_b"):
        (tmp_path / f"{name}.py").write_text(TELL, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))}
    environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_ADDOPTS": "-n 2 --dist loadfile"}
    command = [sys.executable, "-c", START, "-q", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path, check=False)
    assert "2 passed" in ended.stdout, ended.stdout + ended.stderr
    told = [json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) for name in ("test_a", "test_b")]
    machine = subprocess.run(["nproc", "--all"], capture_output=True, encoding="utf-8", check=True)
    shares = [set(one["own"]) for one in told]
    if int(machine.stdout) > 1:
        assert shares[0].isdisjoint(shares[1])
        assert len(shares[0] | shares[1]) == int(machine.stdout)
    for one in told:
        threads, *processors = map(int, one["child"])
        assert sorted(processors) == one["own"]
        assert threads <= len(processors)  # PyTorch takes cores, not their hyperthreads
        assert one["options"] is None


@pytest.mark.parametrize(
    ("processors", "workers", "shares"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([2, 3, 6, 7, 9], 2, [[2, 6, 9], [3, 7]]),
        ([4, 5], 3, [[4], [5], [4]]),
        ([0, 1, 2], 1, [[0, 1, 2]]),
    ],
)
def test_shares(processors: list[int], workers: int, shares: list[list[int]]):
    assert [parallel.share(processors, worker, workers) for worker in range(workers)] == shares


class _Item:
    def __init__(self, path: Path, number: int, *fixtures: str):
        self.path, self.number, self.fixturenames = path, number, fixtures


class _Config:
    rootpath = ROOT


def test_workers_begin_with_the_longest_files():
    paths = [ROOT / name for name in ("tests/a.py", "tests/b.py", *reversed(parallel.LONGEST))]
    items = [_Item(path, number) for path in paths for number in range(2)]
    items[3].fixturenames = ("tiny", "tiny_project")  # one of b.py's
    before, config = list(items), _Config()
    parallel.longest_first(config, items)
    assert items == before, "without workers the order is pytest's own"
    config.workerinput = {}
    parallel.longest_first(config, items)
    ordered = [*(ROOT / name for name in parallel.LONGEST), paths[1], paths[0]]
    assert [(item.path, item.number) for item in items] == [(path, number) for path in ordered for number in range(2)]
    assert all(path.is_file() for path in ordered[:2])
