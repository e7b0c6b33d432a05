"""`spinesegdiff segment --measure`: levels and intervals on the scan's own grid, and what cannot be measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from helpers.segment_samples import (
    dataset_json,
    one_thread,  # noqa: F401
    plans,
    predict_by_threshold,
    same_geometry,
    write_model,
    write_threshold_model,
)
from nnunetv2_diffusion import cli, measures
from nnunetv2_diffusion.anatomy.conformal import LEVELS, Calibration, Factors
from nnunetv2_diffusion.files import write_json
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import CALIBRATION_FILE
from nnunetv2_diffusion.phantoms.patients import Protocol, make_scan, make_spine
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps
from nnunetv2_diffusion.scans import load_model, segment
from nnunetv2_diffusion.spider import CANAL, CANAL_VALUE, FIRST_DISC

PROTOCOL = Protocol(in_plane=1.25, slices=4)
SAMPLES = 5


def predict_with_samples(
    network: DiffusionNetwork, image: torch.Tensor, disagreement: bool = False, samples: bool = False
) -> EnsembleMaps:
    """`predict_by_threshold`, and of its samples the last two with discs a pixel thicker above."""
    found = predict_by_threshold(network, image)
    if not samples:
        return found
    masks = torch.nn.functional.one_hot(found.logits.argmax(dim=1), 4).movedim(-1, 1).float()
    thicker = masks.clone()
    # nnU-Net's data have z, superior, as their first axis
    disc = torch.maximum(masks[:, 3], masks[:, 3].roll(1, dims=1))
    thicker[:, 3] = disc
    thicker[:, :3] = masks[:, :3] * (1 - disc[:, None])
    drawn = torch.stack([masks] * (SAMPLES - 2) + [thicker] * 2)
    return EnsembleMaps(found.logits, found.uncertainty, samples=drawn * 0.98 + 0.005)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"), patch=224, size=None, spacing=1.25)


@pytest.fixture(autouse=True)
def drawn_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_with_samples)


@pytest.fixture(scope="module")
def truth() -> sitk.Image:
    spine, _ = make_spine(3, 11, PROTOCOL.height)
    return make_scan(spine, 3, "t2", 11, PROTOCOL)[1]


@pytest.fixture(scope="module")
def scan(truth: sitk.Image) -> sitk.Image:
    """Grey values that the model takes for the phantom's structures, with the converter's upper percentile in mind."""
    voxels = sitk.GetArrayFromImage(truth)
    labels = np.select([voxels == 0, voxels == CANAL_VALUE, voxels >= FIRST_DISC], [0, 1, 3], 2)
    image = sitk.GetImageFromArray((labels * 200).astype(np.int16))
    image.CopyInformation(truth)
    return image


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def heights(table: pd.DataFrame) -> pd.DataFrame:
    found = table[(table["structure"] == measures.DISC) & (table["measurement"] == measures.MIDDLE_HEIGHT)]
    return found.dropna(subset="value")


def calibration(samples: int, factor: float = 2.0) -> dict:
    """Of disc heights alone."""
    key = (measures.DISC, measures.MIDDLE_HEIGHT)
    return Calibration({key: Factors(dict.fromkeys(LEVELS, factor), 40, 200)}, samples, 50, 40).as_json()


@pytest.fixture(scope="module")
def written(folder: Path, scan: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for all slices."""
    out = tmp_path_factory.mktemp("out")
    sitk.WriteImage(scan, str(out / "scan.mha"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionNetwork, "predict", predict_with_samples)
        assert run(out / "scan.mha", out / "found", "--model", folder, "--slices", "all", "--measure") == 0
    return out / "found"


def test_files_and_table(written: Path):
    names = {"scan.mha", "scan_uncertainty.mha", "scan_levels.mha", "scan_measurements.csv", "scan.png", "scan.json"}
    assert {path.name for path in written.iterdir()} == names
    report = json.loads((written / "scan.json").read_text())
    assert set(report["files"]) == names - {"scan.json"}
    table = pd.read_csv(written / "scan_measurements.csv")
    assert tuple(table.columns) == measures.COLUMNS and set(table["scan"]) == {"scan"}
    rows = report["measured"]["measurements"]
    assert len(rows) == len(table) and report["measured"]["interval"]["samples"] == SAMPLES
    assert [row["measurement"] for row in rows] == table["measurement"].tolist()
    assert rows[0]["low"] == pytest.approx(table["low"][0], rel=1e-5)


def test_intervals_of_the_samples(written: Path):
    found = heights(pd.read_csv(written / "scan_measurements.csv"))
    assert len(found) >= 5 and (found["samples"] == SAMPLES).all()
    # three of five samples are the mask, two are higher by a pixel of 1.25 mm
    assert (found["value"] - found["low"]).abs().max() < 0.3
    assert (found["high"] - found["value"]).between(0.8, 1.6).all()
    assert found["remark"].str.contains(measures.UNCALIBRATED).all()


def test_levels_are_the_same_in_all_slices(written: Path, truth: sitk.Image, scan: sitk.Image):
    levels = sitk.ReadImage(str(written / "scan_levels.mha"))
    assert same_geometry(levels, scan)
    found, numbers = sitk.GetArrayFromImage(levels), sitk.GetArrayFromImage(truth)
    for value in np.unique(numbers[(numbers > 0) & ((numbers < 101) | (numbers > 200))]):
        assert (found[numbers == value] == value).mean() > 0.85, value
    assert abs(json.loads((written / "scan.json").read_text())["measured"]["slice"] - PROTOCOL.slices // 2) <= 1


def test_the_middle_slice_is_found_and_its_samples_drawn_again(folder: Path, scan: sitk.Image, written: Path):
    """The slice alone, whose samples are drawn while its mask is: the same measurements."""
    whole = pd.read_csv(written / "scan_measurements.csv")
    index = json.loads((written / "scan.json").read_text())["measured"]["slice"]
    columns = ["level", "structure", "measurement", "value", "low", "high", "samples"]
    flipped = sitk.DICOMOrient(scan, "RAS")[index : index + 1, :, :]
    alone = segment(flipped, folder, measure=True)
    assert alone.levels.GetSize() == flipped.GetSize()
    pd.testing.assert_frame_equal(alone.measurements[columns], whole[columns], rtol=1e-4, check_dtype=False)


def test_a_calibration_beside_the_weights_is_used(folder: Path, scan: sitk.Image):
    model = load_model(folder)
    plain = heights(segment(scan, model, measure=True).measurements)
    write_json(calibration(SAMPLES), folder / CALIBRATION_FILE)
    try:
        found = segment(scan, model, measure=True)
    finally:
        (folder / CALIBRATION_FILE).unlink()
    table = heights(found.measurements)
    spread = (plain["high"] - plain["low"]) / 2 + measures.LEAST_SPREAD["mm"]
    np.testing.assert_allclose(table["high"], plain["value"] + 2 * spread)
    np.testing.assert_allclose(table["low"], np.maximum(0, plain["value"] - 2 * spread))
    assert not table["remark"].str.contains(measures.UNCALIBRATED).any()
    rest = found.measurements[found.measurements["measurement"] == measures.DEPTH].dropna(subset="low")
    assert rest["remark"].str.contains(measures.UNCALIBRATED).all()
    assert found.report["measured"]["interval"]["calibrated"]


def test_what_was_measured_with_this_very_calibration_is_left_alone(folder: Path, scan: sitk.Image, tmp_path: Path):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    arguments = (tmp_path / "scan.mha", tmp_path / "out", "--model", folder, "--measure")
    written = []
    try:
        for factor in (2.0, 2.0, 3.0):
            write_json(calibration(SAMPLES, factor), folder / CALIBRATION_FILE)
            assert run(*arguments) == 0
            written.append((tmp_path / "out" / "scan_measurements.csv").stat().st_mtime_ns)
    finally:
        (folder / CALIBRATION_FILE).unlink()
    assert written[0] == written[1] < written[2]


def test_a_damaged_calibration_is_told(folder: Path, scan: sitk.Image, tmp_path: Path, capsys):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    (folder / CALIBRATION_FILE).write_text('{"interval": [0.05, 0.95]}')
    try:
        assert run(tmp_path / "scan.mha", tmp_path / "out", "--model", folder, "--measure") == 2
    finally:
        (folder / CALIBRATION_FILE).unlink()
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and CALIBRATION_FILE in error and "spinesegdiff calibrate" in error


def test_a_model_of_other_labels_needs_structures(tmp_path: Path, scan: sitk.Image, capsys):
    labels = {"background": 0, "liquor": 1, "bone": 2, "nucleus": 3}
    model = write_model(
        tmp_path / "results",
        plans_file=plans((224, 224), 1.25, "NoNormalization"),
        description=dataset_json(None, 1.25, labels=labels),
    )
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    arguments = (tmp_path / "scan.mha", tmp_path / "out", "--model", model, "--measure")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "--structures canal=1 vertebrae=2 discs=3" in error
    assert not (tmp_path / "out").exists()
    assert run(*arguments, "--structures", "canal=1", "vertebrae=2", "discs=3") == 0
    assert len(heights(pd.read_csv(tmp_path / "out" / "scan_measurements.csv"))) >= 5
    assert run(*arguments[:-1], "--structures", "canal=1") == 2
    assert "--measure" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "said"), [("empty", "no vertebrae"), ("axial", "axial slices")])
def test_what_cannot_be_measured_is_a_row_with_a_remark(folder: Path, scan: sitk.Image, kind: str, said: str):
    """Never a number that looks right."""
    image = scan
    if kind == "empty":
        image = sitk.ChangeLabel(sitk.Cast(scan, sitk.sitkUInt16), {400: 0})
    else:
        size = [int(n * step / new) for n, step, new in zip(scan.GetSize(), scan.GetSpacing(), (1, 5, 1), strict=True)]
        geometry = scan.GetOrigin(), (1.0, 5.0, 1.0), scan.GetDirection()
        image = sitk.Resample(scan, size, sitk.Transform(), sitk.sitkNearestNeighbor, *geometry)
    found = segment(image, folder, measure=True)
    assert len(found.measurements) == 1 and found.measurements["value"].isna().all() and found.levels is None
    assert said in found.measurements["remark"].iloc[0]
    assert any("not measured" in warning for warning in found.report["warnings"])


def test_a_plain_nnunet_has_no_intervals(tmp_path: Path, scan: sitk.Image):
    model = load_model(write_model(tmp_path, trainer="nnUNetTrainer", patch=(224, 224), size=None, spacing=1.25))
    found = segment(scan, model, measure=True)
    assert found.measurements[["low", "high"]].isna().all().all()
    assert found.report["measured"].get("interval") is None


def test_without_measure_nothing_is_measured(folder: Path, scan: sitk.Image):
    found = segment(scan, folder)
    assert found.measurements is None and found.levels is None and "measured" not in found.report


def test_the_preview_marks_what_was_measured(folder: Path, scan: sitk.Image):
    """Names of levels over their structures, as the picture lies: anterior to the left, superior above."""
    from matplotlib.figure import Figure

    from nnunetv2_diffusion.scans.marks import draw_landmarks

    found = segment(scan, folder, measure=True)
    picture = found.picture
    axes = Figure().subplots()
    width = picture.image.shape[1] * picture.spacing[1]
    draw_landmarks(axes, picture.landmarks, picture.spacing, width)
    bodies = {text.get_text(): text.get_position() for text in axes.texts if "/" not in text.get_text()}
    assert list(bodies)[:3] == ["L5", "L4", "L3"] and bodies["L5"][1] < bodies["L4"][1] < bodies["L3"][1]
    shown = picture.mask[:, ::-1]
    for x, y in bodies.values():
        assert shown[int(y / picture.spacing[0]), int(x / picture.spacing[1])] == 2
    lines = [line.get_xydata() for line in axes.lines]
    narrowest = next(line for line in lines if line is lines[-1])
    middle = narrowest.mean(axis=0)
    assert shown[int(middle[1] / picture.spacing[0]), int(middle[0] / picture.spacing[1])] == 1
    length = float(np.linalg.norm(np.diff(narrowest, axis=0)))
    (row,) = (found.measurements["measurement"] == measures.NARROWEST_CANAL).to_numpy().nonzero()
    assert length == pytest.approx(found.measurements["value"].iloc[row[0]], abs=0.05)
    assert CANAL in load_model(folder).labels
