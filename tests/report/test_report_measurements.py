"""The report's measurements: AUROC of discs by patients, tables by hand, the section in a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from helpers.spine_tree import write_gradings
from nnunetv2_diffusion import measures as m
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.report.auroc import auroc, clustered_auroc
from nnunetv2_diffusion.report.gradings import read_gradings
from nnunetv2_diffusion.report.sections.measurements import error_table, grading_table, instance_table
from nnunetv2_diffusion.scoring.map_quality import error_detection_auroc

TRAINED = {"dataset": "Dataset502", "modality": "T2w", "model": "SpineSegDiff"}


def test_auroc_by_hand_and_as_elsewhere():
    assert auroc(np.array([1.0, 2.0, 3.0]), np.array([False, True, True])) == 1.0
    assert auroc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([True, True])))
    rng = np.random.default_rng(0)
    scores, affected = rng.integers(0, 9, 200).astype(float), rng.random(200) < 0.3
    assert auroc(scores, affected) == pytest.approx(error_detection_auroc(scores, affected))


def drawn(rng: np.random.Generator, patients: int, discs: int, shared: float) -> tuple[np.ndarray, ...]:
    """Scores whose AUROC is 0.76 (a shift by one standard deviation), of which patients share a part."""
    whose = np.repeat(np.arange(patients), discs)
    affected = np.repeat(rng.random(patients) < 0.4, discs)
    noise = np.sqrt(shared) * np.repeat(rng.normal(size=patients), discs)
    return noise + np.sqrt(1 - shared) * rng.normal(size=len(whose)) + affected, affected, whose


def test_intervals_count_patients_and_not_discs(monkeypatch):
    monkeypatch.setattr("nnunetv2_diffusion.report.auroc.RESAMPLES", 100)
    rng = np.random.default_rng(5)
    truth = norm.cdf(1 / np.sqrt(2))
    alike = [clustered_auroc(*drawn(rng, 60, 5, 0.9)) for _ in range(40)]
    covered = np.mean([one.low <= truth <= one.high for one in alike])
    assert 0.83 < covered <= 1.0
    wide = np.mean([one.high - one.low for one in alike])
    narrow = np.mean([one.high - one.low for one in (clustered_auroc(*drawn(rng, 300, 1, 0.0)) for _ in range(5))])
    assert wide > 1.5 * narrow


def test_one_patient_has_no_interval():
    found = clustered_auroc(np.array([1.0, 2.0]), np.array([False, True]), np.array(["a", "a"]))
    assert found.value == 1.0 and np.isnan(found.low)


def rows(values: list[tuple]) -> pd.DataFrame:
    """(patient, level, structure, measurement, value, reference)."""
    names = ["patient", "level", "structure", "measurement", "value", "reference"]
    return pd.DataFrame(values, columns=names).assign(**TRAINED, unit="mm", oblique=False, case="c")


def test_errors_by_hand():
    height = (m.DISC, m.MEAN_HEIGHT)
    table = error_table(rows([("1", "L4/L5", *height, 8.0, 7.0), ("2", "L4/L5", *height, 8.0, 8.5),
                              ("3", "L4/L5", *height, 8.0, np.nan), ("1", "L3/L4", *height, 9.0, 9.0)]))  # fmt: skip
    found = table.set_index("level")
    assert found.loc["L4/L5", ["count", "error", "bias"]].tolist() == [2, 0.75, 0.25]
    assert found.loc["L3/L4", "error"] == 0


def test_gradings_by_hand(tmp_path: Path):
    """A slip of either sign at L4 is the disc L4/L5's, which SPIDER numbers 2; two scans of a patient count once."""
    slip = (m.VERTEBRA, m.SLIP)
    table = rows([("1", "L4", *slip, 0.5, 0.1), ("1", "L4", *slip, -0.5, 0.1), ("2", "L4", *slip, -6.0, 5.0),
                  ("3", "L4", *slip, 2.0, 7.0), ("2", "L3", *slip, 1.0, np.nan)])  # fmt: skip
    gradings = read_gradings(write_gradings(tmp_path / "radiological_gradings.csv", range(1, 4)))
    found = grading_table(table, gradings).set_index(["grading", "source"])
    one = found.loc["Spondylolisthesis", "mask"]  # of patient 2 alone, and there at L4/L5
    assert (one["discs"], one["affected"], one["patients"], one["auroc"]) == (4, 1, 3, 1.0)
    assert found.loc["Spondylolisthesis", "reference"]["auroc"] == 0.5
    assert found.loc["Disc bulging", "mask"]["discs"] == 0


def test_spiders_218_patients(real_mri: Path):
    """Heights that fall with the gradings of narrowing: told, the more so the larger the difference."""
    gradings = read_gradings(real_mri / "spider_metadata")
    rng = np.random.default_rng(0)
    graded = gradings[gradings["IVD label"].astype(int) <= 7]
    levels = graded["IVD label"].astype(int).map(m.disc_name)
    narrow = graded["Disc narrowing"].to_numpy() > 0
    values = 0.4 - 0.1 * narrow + 0.1 * rng.normal(size=len(graded))
    table = pd.DataFrame({"patient": graded["Patient"].astype(str), "level": levels, "structure": m.DISC,
                          "measurement": m.HEIGHT_INDEX, "value": values, "reference": 0.4 - 0.2 * narrow,
                          "unit": "1", **TRAINED})  # fmt: skip
    found = grading_table(table, gradings).set_index(["grading", "source"])
    masks = found.loc["Disc narrowing", "mask"]
    assert masks["patients"] == 218 and masks["affected"] == narrow.sum()
    assert masks["low"] < norm.cdf(1 / np.sqrt(2)) < masks["high"] and masks["high"] - masks["low"] < 0.1
    assert found.loc["Disc narrowing", "reference"]["auroc"] == 1.0


def test_instances_by_hand():
    table = pd.DataFrame({"case": ["a", "a", "b"], "structure": "discs", "dice": [0.8, 0.05, 0.6],
                          "detected": [True, False, True], **TRAINED})  # fmt: skip
    (found,) = instance_table(table).to_dict("records")
    assert found["count"] == 3 and found["detected"] == pytest.approx(2 / 3) and found["dice"] == pytest.approx(0.7)


def test_the_page(spine_folders: Path, tmp_path: Path):
    out = tmp_path / "report"
    command = ["report", "-d", "501", "-o", str(out), "--spider", str(spine_folders), "--gallery", "1", "-np", "1"]
    assert main([*command, "--measure"]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'id="measurements"' in page and "Mean absolute error by level" in page
    assert "figures/measurement_gradings.png" in page and "Instance Dice" in page
    errors, instances = (pd.read_csv(out / f"{name}.csv") for name in ("measurement_errors", "instance_dice"))
    heights = errors.query("structure == 'disc' and measurement == 'height_mean' and level == 'L4/L5'")
    assert (heights["count"] > 3).all() and (heights["error"] < 2).all() and len(heights) == 2
    assert (instances["dice"] > 0.7).all() and set(instances["structure"]) == {"spinal_canal", "vertebrae", "discs"}
    gradings = pd.read_csv(out / "measurement_gradings.csv")
    assert gradings["grading"].nunique() == 4 and len(gradings) == 2 * 2 * 4
