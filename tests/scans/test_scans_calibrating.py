"""`spinesegdiff calibrate`: from the folds' validation cases to factors beside the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion import cli, measures
from nnunetv2_diffusion.anatomy.conformal import Calibration
from nnunetv2_diffusion.anatomy.residuals import Comparison, compare_case
from nnunetv2_diffusion.nnunet_names import (
    CALIBRATION_FILE,
    DATASET_FILE,
    SPLITS_FILE,
    VALIDATION_MAPS,
    ModelName,
    fold_folder,
    samples_file,
)
from nnunetv2_diffusion.scans import calibrating
from nnunetv2_diffusion.scans.calibrating import Request, calibrate
from nnunetv2_diffusion.spider import LABELS, STRUCTURES
from phantom_truth import plain_slice

DATASET = "Dataset502_Phantom"
PATIENTS, FOLDS = 4, 2
VALUES = {name: (LABELS[name],) for name in STRUCTURES}


def image_of(plane: np.ndarray) -> sitk.Image:
    """A slice [z, y] of 1.5 mm pixels as a one-slice volume in RAS+ orientation."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(plane[..., None]).astype(np.uint8))
    image.SetSpacing((4.0, 1.5, 1.5))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def merged(labels: np.ndarray) -> np.ndarray:
    return np.select([labels == 0, labels == 100, labels > 200], [0, 1, 3], 2)


def thicker(labels: np.ndarray, rows: int) -> np.ndarray:
    """Discs that many rows higher (or lower, below 0), at the cost of what lies above them."""
    out = labels.copy()
    disc = labels == 3
    for _ in range(abs(rows)):
        moved = np.roll(disc, 1, axis=0)
        disc = disc | moved if rows > 0 else disc & moved
    out[disc] = 3
    out[(labels == 3) & ~disc] = 0
    return out


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    """Scans of four patients up to about L2, two of the first one; both of a patient lie in one fold."""
    found = {}
    for patient in range(1, PATIENTS + 1):
        labels = merged(plain_slice(patient, 1.5)[1])[:110]
        found |= {f"SPIDER_{patient:03d}_{contrast}": labels for contrast in ("t1", "t2")[patient > 1 :]}
    return found


@pytest.fixture(scope="module")
def predictions(cases: dict[str, np.ndarray]) -> Callable[[Path, str], None]:
    """Writes a case's mask and four samples: discs of one to three rows more than the reference has."""

    def write(folder: Path, case: str) -> None:
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        samples = [image_of(thicker(cases[case], rows)) for rows in (1, 1, 2, 3)]
        sitk.WriteImage(samples[1], str(folder / f"{case}.nii.gz"))
        sitk.WriteImage(sitk.JoinSeries(samples), str(samples_file(folder, case)))

    return write


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: dict[str, np.ndarray]) -> Path:
    """nnU-Net's folders with references and splits, and a model folder without predictions."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name / DATASET).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    references = tmp_path / "preprocessed" / DATASET / "gt_segmentations"
    references.mkdir()
    for case, labels in cases.items():
        sitk.WriteImage(image_of(labels), str(references / f"{case}.nii.gz"))
    description = json.dumps({"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}})
    fold_of = {case: int(case[7:10]) % FOLDS for case in cases}
    splits = [
        {"train": [c for c in cases if fold_of[c] != fold], "val": [c for c in cases if fold_of[c] == fold]}
        for fold in range(FOLDS)
    ]
    (references.parent / SPLITS_FILE).write_text(json.dumps(splits))
    folder = tmp_path / "results" / DATASET / str(ModelName("nnUNetTrainerSpineSegDiff", "nnUNetPlans", "2d"))
    folder.mkdir()
    for home in (references.parent, folder):
        (home / DATASET_FILE).write_text(description)
    return folder


def write_all(model: Path, cases: dict[str, np.ndarray], write: Callable[[Path, str], None]) -> None:
    for case in cases:
        write(fold_folder(model, int(case[7:10]) % FOLDS) / VALIDATION_MAPS, case)


def test_the_command(model: Path, cases, predictions, capsys: pytest.CaptureFixture):
    write_all(model, cases, predictions)
    assert cli.main(["calibrate", "-d", "502", "-c", "2d", "-f", "0", "1", "-np", "1"]) == 0
    told = capsys.readouterr().out
    assert "5 cases of 4 patients, 4 samples each" in told and "at least 9 patients" in told
    content = json.loads((model / CALIBRATION_FILE).read_text())
    assert content["folds"] == [0, 1] and content["left_out"] == 0 and content["samples"] == 4
    made = Calibration.from_json(content)
    heights = made.measurements[measures.DISC, measures.MIDDLE_HEIGHT]
    # four patients: an 80 % interval exists, a 90 % one does not
    assert heights.patients == 4 and np.isinf(heights.factors[0.9])
    # one and a half rows of 1.5 mm too high, samples of half a row to one row about it: 2.2 of (1.4 + 0.2) mm
    assert 1.0 < heights.factors[0.8] < 2.2


def test_what_is_missing_is_predicted(model: Path, cases, predictions, monkeypatch: pytest.MonkeyPatch):
    tables: dict[str, Comparison] = {}

    def once(case: str, **job: object) -> Comparison:
        if "one" not in tables:
            tables["one"] = compare_case(case, **job)
        return tables["one"]

    monkeypatch.setattr(calibrating, "compare_case", once)
    write_all(model, cases, predictions)
    lost = samples_file(fold_folder(model, 1) / VALIDATION_MAPS, "SPIDER_003_t2")
    lost.unlink()
    asked, said = [], []

    def predict(fold: int) -> None:
        asked.append(fold)
        predictions(fold_folder(model, fold) / VALIDATION_MAPS, "SPIDER_003_t2")

    calibrate(Request(model, [0, 1]), predict, 1, said.append)
    assert asked == [1] and "fold 1: predicting masks and samples of 3 validation cases" in said
    calibrate(Request(model, [0, 1], samples=4), predict, 1, said.append)
    assert asked == [1]
    calibrate(Request(model, [0], samples=16), predict, 1, said.append)
    calibrate(Request(model, [0], anew=True), predict, 1, said.append)
    assert asked == [1, 0, 0]


def test_a_bad_case_stops_no_other(model: Path, cases, predictions, capsys: pytest.CaptureFixture):
    write_all(model, cases, predictions)
    masks = fold_folder(model, 1) / VALIDATION_MAPS
    (masks / "SPIDER_001_t1.nii.gz").write_bytes(b"no image")
    sitk.WriteImage(image_of(np.zeros((40, 40))), str(masks / "SPIDER_003_t2.nii.gz"))
    assert cli.main(["calibrate", "-d", "502", "-c", "2d", "-f", "0", "1", "-np", "1"]) == 0
    told = capsys.readouterr().out
    assert "SPIDER_001_t1" in told and "SPIDER_003_t2 cannot be compared" in told
    assert json.loads((model / CALIBRATION_FILE).read_text())["left_out"] == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [(["-f", "all"], "fold `all`"), (["-f", "7"], "no splits_final.json with a fold 7"),
     (["--structures", "canal=1"], "must name the vertebrae"), (["-d", "777"], "holds no models of dataset 777")],
)  # fmt: skip
def test_bad_input(model: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture):
    assert cli.main(["calibrate", "-d", "502", "-c", "2d", *flags]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and said in error


def test_labels_of_other_names_need_structures(model: Path, cases, predictions, capsys: pytest.CaptureFixture):
    for home in (model, Path(str(model.parent).replace("results", "preprocessed"))):
        labels = {"background": 0, "liquor": 1, "bone": 2, "nucleus": 3}
        text = json.dumps({"labels": labels, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}})
        (home / DATASET_FILE).write_text(text)
    write_all(model, cases, predictions)
    command = ["calibrate", "-d", "502", "-c", "2d", "-f", "0", "-np", "1"]
    assert cli.main(command) == 2
    assert "--structures canal=1" in capsys.readouterr().err
    assert cli.main([*command, "--structures", "canal=1", "vertebrae=2", "discs=3"]) == 0


def test_residuals_of_a_case(tmp_path: Path, cases, predictions):
    """The reference's own values, under the mask's levels though it lacks the lowest vertebra."""
    predictions(tmp_path, "SPIDER_001_t2")
    numbers = plain_slice(1, 1.5)[1][:110]
    reference = np.where(np.isin(numbers, (1, 201)), 0, cases["SPIDER_001_t2"])
    sitk.WriteImage(image_of(reference), str(tmp_path / "reference.nii.gz"))
    mask = tmp_path / "SPIDER_001_t2.nii.gz"
    compared = compare_case("SPIDER_001_t2", tmp_path / "reference.nii.gz", mask, VALUES)
    found = compared.table
    heights = found[(found["measurement"] == measures.MIDDLE_HEIGHT) & (found["structure"] == measures.DISC)]
    heights = heights.set_index("level")
    assert np.isnan(heights.loc["L5/S1", "reference"])
    errors = (heights["value"] - heights["reference"]).loc[["L4/L5", "L3/L4"]]
    assert errors.between(1.4, 3.6).all()  # one and a half rows of 1.5 mm, square to the disc
    assert set(found["drawn"]) == {4}
    # the reference counts from its own lowest vertebra; its structures are found whatever their number
    assert (compared.instances["dice"] > 0.6).all() and compared.instances["detected"].all()


def test_residuals_on_another_grid(tmp_path: Path, cases):
    labels = cases["SPIDER_001_t2"]
    sitk.WriteImage(image_of(labels), str(tmp_path / "mask.nii.gz"))
    sitk.WriteImage(image_of(labels[:-4]), str(tmp_path / "reference.nii.gz"))
    with pytest.raises(ValueError, match="different grids"):
        compare_case("mask", tmp_path / "reference.nii.gz", tmp_path / "mask.nii.gz", VALUES)
