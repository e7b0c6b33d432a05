"""Models chosen by a scan's contrast, as DICOM headers and names in BIDS tell it; mismatches are said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.segment_samples import (
    dataset_json,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    write_dicom,
    write_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of T1w and one of T2w images."""
    made = {}
    for contrast in ("T1", "T2"):
        description = dataset_json(64, 1.0)
        description["spinesegdiff_conversion"]["modality"] = f"{contrast}w"
        made[contrast] = write_model(tmp_path_factory.mktemp(contrast), description=description)
    return made


@pytest.fixture(autouse=True)
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    scan = phantom(np.eye(3), (6, 52, 60), (4.0, 1.0, 1.0))[0]
    (tmp_path / "scans").mkdir()
    for name in ("sub-01_T1w", "sub-01_T2w", "sub-02_ses-1_T2w", "unnamed"):
        sitk.WriteImage(scan, str(tmp_path / "scans" / f"{name}.nii.gz"))
    write_dicom(tmp_path / "scans" / "dicom", scan, description="T1 TSE SAG")
    return tmp_path / "scans"


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def reports(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def test_each_scan_by_the_model_of_its_contrast(models, scans, tmp_path, capsys):
    named = [f"{contrast}={folder}" for contrast, folder in models.items()]
    assert run(scans, tmp_path / "out", "--model", *named) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "unnamed.nii.gz was not segmented" in errors[0] and "name one model" in errors[0]
    found = {name: report["model"]["hash"] for name, report in reports(tmp_path / "out").items()}
    t1, t2 = found["sub-01_T1w"], found["sub-01_T2w"]
    assert t1 != t2
    assert found == {"sub-01_T1w": t1, "sub-01_T2w": t2, "sub-02_ses-1_T2w": t2, "scans": t1}
    assert not any("trained on" in text for report in reports(tmp_path / "out").values() for text in report["warnings"])


def test_a_mismatch_is_a_warning(models, scans, tmp_path, capsys):
    assert run(scans, tmp_path / "out", "--model", models["T2"]) == 0
    said = {
        name: [text for text in report["warnings"] if "trained on" in text]
        for name, report in reports(tmp_path / "out").items()
    }
    assert said.pop("sub-01_T1w") == ["its name says T1, but the model was trained on T2"]
    assert said.pop("scans") == ["the series is T1 weighted, but the model was trained on T2 images"]
    assert set(said) == {"sub-01_T2w", "sub-02_ses-1_T2w", "unnamed"} and not any(said.values())
    assert "its name says T1" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_flags_that_do_not_go_together(models, scans, tmp_path, capsys):
    t1, t2 = models["T1"], models["T2"]
    for flags, message in (
        ((t1, t2), "--model takes one model, or several as T1=A T2=B"),
        ((f"T1={t1}", t2), "one model for each contrast"),
        ((f"T1={t1}", f"T1={t2}"), "one model for each contrast"),
        ((f"T1={t1}", "-d", 502), "no -d DATASET"),
        ((f"T1={t1}", f"T2={t2}", "--watch"), "--watch takes one model"),
    ):
        assert run(scans, tmp_path / "out", "--model", *flags) == 2
        assert message in capsys.readouterr().err
