"""What would stop a study is told before it starts: too little space, in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from nnunetv2_diffusion.workflow import checks
from nnunetv2_diffusion.workflow.configuration import PAPER
from nnunetv2_diffusion.workflow.costs import gigabytes_to_come
from nnunetv2_diffusion.workflow.grid import Grid

GRID = Grid({**yaml.safe_load(PAPER.read_text(encoding="utf-8")), "device": "cpu"}, "/data/SPIDER")


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needed = gigabytes_to_come(tmp_path, GRID)
    assert 3 * 12 + 135 * 0.32 < needed < 200
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9 * needed - 1))
    with pytest.raises(OSError, match=rf"too little space in .*: about {needed:.0f} GB are needed"):
        checks.check_machine(tmp_path, GRID, "local")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9 * needed))
    checks.check_machine(tmp_path, GRID, "local")


def test_fewer_gpus_than_a_training_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    grid = Grid({**GRID.config, "device": "cuda", "gpus_per_training": 2}, "/data/SPIDER")
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e12))
    monkeypatch.setattr(checks, "count_gpus", lambda: 1)
    with pytest.raises(RuntimeError, match="asks for 2 GPUs and this machine has 1; lower gpus_per_training"):
        checks.check_machine(tmp_path, grid, "local")
    monkeypatch.setattr(checks, "count_gpus", lambda: 2)
    checks.check_machine(tmp_path, grid, "local")
