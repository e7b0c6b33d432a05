"""Fixtures of the evaluation's tests: small synthetic results folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.spine_tree import MODELS, Model, build_tree, some_patients, write_gradings


@pytest.fixture
def spine_folders(tmp_path, monkeypatch) -> Path:
    """Two datasets, two models, ten patients; nnU-Net's environment variables point at it."""
    models = (Model("nnUNetTrainerSpineSegDiff__nnUNetPlans__2d", 0.7, probabilities=True), MODELS[3])
    datasets = ("Dataset501_SPIDER_T1w", "Dataset503_SPIDER_T1wT2w")
    environment = build_tree(tmp_path, some_patients(10), datasets, models, size=64)
    for name, folder in environment.items():
        monkeypatch.setenv(name, folder)
    write_gradings(tmp_path / "radiological_gradings.csv", range(1, 11))
    return tmp_path
