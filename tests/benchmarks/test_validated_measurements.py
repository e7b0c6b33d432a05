"""benchmarks/validated_measurements.py: levels and intervals of drawn masks beside drawn references."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import validated_measurements
from intervals import scores, validated
from nnunetv2_diffusion import measures
from nnunetv2_diffusion.nnunet_names import (
    DATASET_FILE,
    SPLITS_FILE,
    VALIDATION_MAPS,
    ModelName,
    fold_folder,
    samples_file,
)
from nnunetv2_diffusion.spider import LABELS, VERTEBRAE

NAME, CASES = "Dataset502_Phantom", ("SPIDER_001_t2", "SPIDER_002_t2", "SPIDER_003_t2")


def image_of(labels: np.ndarray) -> sitk.Image:
    """A slice of 2 mm pixels, upwards and to anterior."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels[..., None]).astype(np.uint8))
    image.SetSpacing((4.0, 2.0, 2.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def spine(bodies: int = 3, higher: int = 0) -> np.ndarray:
    """Bodies 20 mm high and 30 deep, the upper ones of five; each `higher` rows more."""
    labels = np.zeros((90, 40), int)
    for number in range(5 - bodies, 5):
        low = 6 + 16 * number
        labels[low : low + 10 + higher, 20:35] = LABELS[VERTEBRAE]
    return labels


def test_a_model_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Bodies 2 mm too high; a mask without the lowest body is wrong by a level; one that does not read stops none."""
    data, folder = tmp_path / "raw" / NAME, tmp_path / "results" / NAME / str(ModelName("T", "nnUNetPlans", "2d"))
    (data / "labelsTr").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    masks = fold_folder(folder, 0) / VALIDATION_MAPS
    (masks / "samples").mkdir(parents=True)
    for home in (data, folder):
        described = {"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}}
        (home / DATASET_FILE).write_text(json.dumps(described))
    (data / SPLITS_FILE).write_text(json.dumps([{"train": [], "val": CASES}]))
    for case, missing in zip(CASES, (0, 1, 0), strict=True):
        sitk.WriteImage(image_of(spine(3)), str(data / "labelsTr" / f"{case}.nii.gz"))
        drawn = [image_of(spine(3 - missing, higher)) for higher in (0, 1, 2)]
        sitk.WriteImage(drawn[1], str(masks / f"{case}.nii.gz"))
        sitk.WriteImage(sitk.JoinSeries(drawn), str(samples_file(masks, case)))
    (masks / f"{CASES[2]}.nii.gz").write_bytes(b"no image")
    arguments = ["--model", str(folder), "--name", "drawn", "--folds", "0", "--results", str(tmp_path)]
    assert validated_measurements.main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 patients are too few to calibrate" in said and f"Not measured: {masks / CASES[2]}" in said
    levels = pd.read_csv(tmp_path / "validated_measurements_drawn_levels.csv").set_index("case")
    assert levels.loc[CASES[0], ["structures", "right", "wrong", "missed"]].tolist() == [3, 3, 0, 0]
    assert levels.loc[CASES[1], ["structures", "right", "wrong", "missed"]].tolist() == [3, 0, 2, 1]
    assert "no disc was found" in levels.loc[CASES[1], "doubts"]
    table = pd.read_csv(tmp_path / "validated_measurements_drawn.csv").set_index("measurement")
    height = table.loc[measures.MIDDLE_HEIGHT]
    assert height["count"] == 5 and height["bias"] == pytest.approx(2.0, abs=0.1) and height["coverage"] == 0
    assert height["width"] == pytest.approx(0.9 * 4, abs=0.1) and np.isnan(height["calibrated_width"])
    assert validated_measurements.main([*arguments[:-3], "4", *arguments[-2:]]) == 2
    assert f"{NAME} has no fold 4" in capsys.readouterr().err


def test_calibrated_on_all_patients_but_one():
    """Errors of 1 and one of 5 mm about samples 2 mm apart: the one is not covered, for it is left out."""
    assert [validated.interval_level(patients) for patients in (4, 5, 9, 10, 40)] == [None, 0.8, 0.8, 0.9, 0.9]
    assert scores.enough(0.95) == 19
    cells = ("scan", "L4", measures.VERTEBRA, measures.DEPTH, 30.0, 29.0, 31.0, 16, "mm", "")
    row = dict(zip(measures.COLUMNS, cells, strict=True))
    errors = [1.0] * 8 + [5.0]
    rows = pd.DataFrame(
        {**row, "patient": patient, "case": str(patient), "drawn": 16, "reference": 30 + error}
        for patient, error in enumerate(errors)
    )
    (found,) = validated.summary(rows).to_dict("records")
    assert found["coverage"] == pytest.approx(8 / 9) and found["calibrated_coverage"] == pytest.approx(8 / 9)
    # with the 5 mm among eight others the 80 % factor is the largest: 5 / 1.2 half widths of 1.2 mm; without, 1 / 1.2
    assert found["calibrated_width"] == pytest.approx((8 * 10.0 + 2.0) / 9)
