"""A model of two folds and its zip file, and an empty place for installed models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.segment_samples import dataset_json, one_thread, write_model  # noqa: F401
from nnunetv2_diffusion.models.export import export_model


def summary(*dice: float) -> str:
    """nnU-Net's summary.json of a fold's validation, the structures' Dice of a case each a step apart."""
    cases = [
        {
            "metrics": {str(label): {"Dice": value - label / 100} for label in (1, 2, 3)},
            "prediction_file": f"/home/somebody/case_{number}.nii.gz",
            "reference_file": f"/home/somebody/labels/case_{number}.nii.gz",
        }
        for number, value in enumerate(dice)
    ]
    return json.dumps({"metric_per_case": cases})


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    description = dataset_json(64, 1.0, dataset={"case_1": {"images": ["/home/somebody/case_1.nii.gz"]}})
    model = write_model(tmp_path_factory.mktemp("results"), folds=(0, 1), description=description)
    (model / "fold_0" / "validation" / "summary.json").write_text(summary(0.9, 0.8), encoding="utf-8")
    (model / "fold_1" / "validation" / "summary.json").write_text(summary(0.7, float("nan")), encoding="utf-8")
    (model / "fold_0" / "debug.json").write_text('{"torch_version": "2.6.0", "hostname": "secret"}', encoding="utf-8")
    (model / "measurement_intervals.json").write_text('{"temperature": 1.5}', encoding="utf-8")
    return model


@pytest.fixture(scope="session")
def archive(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "spine.zip"
    export_model(folder, file, say=lambda line: None)
    return file


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of installed models, which does not exist yet; no proxy of the machine between."""
    monkeypatch.setenv("SPINESEGDIFF_MODELS", str(tmp_path / "models"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "models"
