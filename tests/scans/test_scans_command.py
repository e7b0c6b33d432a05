"""`spinesegdiff segment`: files in and out, folders, broken scans, and what lies beside a mask."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from helpers.segment_samples import (
    dataset_json,
    dice,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    same_geometry,
    write_model,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork

OBLIQUE = np.array([[0.05, 0.02, -0.9985], [0.9987, -0.01, 0.05], [-0.009, -0.9998, -0.0205]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def known_labels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_mri" not in request.fixturenames:
        monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    left, _, right = np.linalg.svd(OBLIQUE)
    return phantom(left @ right, (52, 60, 6), (1.0, 1.0, 4.0), (103.123456789, -211.98765, 58.75))[0]


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


@pytest.mark.parametrize(
    ("name", "written", "pixel"),
    [
        ("scan.nii.gz", "scan.nii.gz", sitk.sitkInt16),
        ("scan.nii", "scan.nii.gz", sitk.sitkFloat32),
        ("scan.mha", "scan.mha", sitk.sitkFloat32),
        ("scan.mhd", "scan.mha", sitk.sitkInt16),
        ("scan.nrrd", "scan.nrrd", sitk.sitkUInt8),
    ],
)
def test_formats_keep_the_geometry(folder, scan, tmp_path, name, written, pixel):
    image = sitk.Cast(scan / 3 if pixel == sitk.sitkUInt8 else scan, pixel)
    sitk.WriteImage(image, str(tmp_path / name), useCompression=pixel == sitk.sitkFloat32)
    assert run(tmp_path / name, tmp_path / "out", "--model", folder) == 0
    given, mask = sitk.ReadImage(str(tmp_path / name)), sitk.ReadImage(str(tmp_path / "out" / written))
    ending = written.removeprefix("scan")
    uncertainty = sitk.ReadImage(str(tmp_path / "out" / f"scan_uncertainty{ending}"))
    assert same_geometry(mask, given, 1e-6) and same_geometry(uncertainty, given, 1e-6)
    assert mask.GetPixelID() == sitk.sitkUInt8 and uncertainty.GetPixelID() == sitk.sitkFloat32
    central = sitk.GetArrayFromImage(mask)[3], np.rint(sitk.GetArrayFromImage(scan)[3] / 200)
    assert min(dice(*central)) > 0.97


def test_other_format_on_request_and_probabilities(folder, scan, tmp_path):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    flags = ("--format", "nii.gz", "--save-probabilities", "--slices", "2")
    assert run(tmp_path / "scan.mha", tmp_path / "out", "--model", folder, *flags) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    images = {"scan.nii.gz", "scan_uncertainty.nii.gz", "scan_probabilities.nii.gz"}
    assert written == {*images, "scan.json", "scan.png"}
    probabilities = sitk.ReadImage(str(tmp_path / "out" / "scan_probabilities.nii.gz"))
    assert probabilities.GetSize() == (*scan.GetSize(), 4)
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["files"] == [*sorted(images, key=len), "scan.png"]


@pytest.mark.parametrize("terminal", [True, False])
def test_slices_have_a_progress_bar_in_a_terminal(folder, scan, tmp_path, capsys, monkeypatch, terminal):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert run(tmp_path / "scan.mha", tmp_path / "out", "--model", folder, "--slices", 3) == 0
    assert ("0/3" in capsys.readouterr().err) == terminal


def test_two_dimensional_file(folder, tmp_path):
    image = phantom(np.eye(3), (52, 60, 1), (1.0, 1.0, 4.0))[0]
    plane = sitk.GetImageFromArray(np.uint8(np.hypot(*np.meshgrid(np.arange(-26, 26), np.arange(-30, 30))) < 15) * 200)
    plane.SetSpacing(image.GetSpacing()[:2])
    sitk.WriteImage(plane, str(tmp_path / "plane.nii.gz"))
    assert run(tmp_path / "plane.nii.gz", tmp_path / "out", "--model", folder) == 0
    mask = sitk.ReadImage(str(tmp_path / "out" / "plane.nii.gz"))
    assert mask.GetDimension() == 2 and same_geometry(mask, sitk.ReadImage(str(tmp_path / "plane.nii.gz")))
    assert (sitk.GetArrayFromImage(mask) > 0).sum() == (sitk.GetArrayFromImage(plane) > 0).sum()


def test_json_tells_all_and_betrays_nothing(folder, scan, tmp_path):
    (tmp_path / "secret_place").mkdir()
    sitk.WriteImage(scan, str(tmp_path / "secret_place" / "scan.mha"))
    flags = ("--slices", "all", "--seed", "7", "--review", "uncertainty=0.05", "canals=2")
    assert run(tmp_path / "secret_place" / "scan.mha", tmp_path / "out", "--model", folder, *flags) == 0
    text = (tmp_path / "out" / "scan.json").read_text()
    assert "secret_place" not in text
    report = json.loads(text)
    assert report["input"] == "scan.mha" and report["model"]["seed"] == 7
    assert report["model"]["trainer"] == "nnUNetTrainerSpineSegDiff" and report["model"]["folds"] == [0]
    assert report["model"]["settings"]["sampling_steps"] == 2
    assert set(report["versions"]) == {"python", "nnunetv2-diffusion", "nnunetv2", "torch", "SimpleITK", "numpy"}
    assert 0 < report["seconds"]["prediction"] < report["seconds"]["total"]
    assert report["covered"]["sagittal_slices"] == list(range(6))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "scan.mha")))
    for label, figures in enumerate(report["structures"].values(), start=1):
        assert figures["label"] == label
        assert figures["volume_mm3"] == pytest.approx(4.0 * (mask == label).sum())
        assert figures["area_mm2"] == pytest.approx((mask[2] == label).sum(), rel=0.02)  # next to the central slice
        assert figures["mean_uncertainty"] == pytest.approx(label / 10, abs=0.01)
    assert report["review"] and any("above 0.05" in reason for reason in report["review_reasons"])
    assert report["review_thresholds"]["canals"] == 2


def test_what_the_reader_doubts_is_in_the_json(folder, scan, tmp_path, capsys):
    sitk.WriteImage(scan, str(tmp_path / "scan.nii.gz"))
    image = nibabel.load(tmp_path / "scan.nii.gz")
    moved = image.affine + np.array([[0, 0, 0, 20.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    image.set_sform(moved, 2)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "moved.nii.gz")
    assert run(tmp_path / "moved.nii.gz", tmp_path / "out", "--model", folder) == 0
    warnings = json.loads((tmp_path / "out" / "moved.json").read_text())["warnings"]
    assert [text for text in warnings if "qform and sform are up to 20.0 mm apart: the qform is used" in text]
    assert "20.0 mm apart" in capsys.readouterr().out


def test_preview_is_a_picture(folder, scan, tmp_path):
    from matplotlib.image import imread

    sitk.WriteImage(scan, str(tmp_path / "$scan_$.mha"))
    assert run(tmp_path / "$scan_$.mha", tmp_path / "out", "--model", folder) == 0
    picture = imread(tmp_path / "out" / "$scan_$.png")[..., :3]
    assert min(picture.shape[:2]) > 300
    for colour in ((0x2F, 0x7F, 0xC1), (0xD9, 0x82, 0x2B), (0x3A, 0x9D, 0x74)):
        near = np.abs(picture - np.array(colour) / 255).max(axis=-1) < 0.02
        assert near.sum() > 100, colour


def test_folder_with_broken_scans(folder, scan, tmp_path, capsys):
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a.nii.gz", "a.mha", "z.nrrd"):
        sitk.WriteImage(scan, str(scans / name))
    whole = (scans / "a.mha").read_bytes()
    (scans / "b_truncated.mha").write_bytes(whole[: len(whole) // 2])
    (scans / "c_text.nii.gz").write_text("no image")
    sitk.WriteImage(sitk.Compose(scan, scan, scan), str(scans / "d_rgb.mha"))
    sitk.WriteImage(sitk.JoinSeries([scan, scan]), str(scans / "e_time.nii.gz"))
    sitk.WriteImage(scan * 0, str(scans / "f_empty.mha"))
    (scans / "notes.txt").write_text("not a scan")
    assert run(scans, tmp_path / "out", "--model", folder) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line]
    assert len(lines) == 5 and all(line.startswith("spinesegdiff segment: error: ") for line in lines)
    for line, name in zip(
        lines, ("b_truncated.mha", "c_text.nii.gz", "d_rgb.mha", "e_time.nii.gz", "f_empty.mha"), strict=True
    ):
        assert f"{name} was not segmented: " in line
    written = {path.name for path in (tmp_path / "out").iterdir()}
    names = [("a", ".mha"), ("a_2", ".nii.gz"), ("z", ".nrrd")]
    assert written == {"index.html", "summary.csv"} | {
        f"{name}{rest}" for name, ending in names for rest in (ending, f"_uncertainty{ending}", ".png", ".json")
    }
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["a", "a_2", "z"]


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda p, s: p / "nowhere.mha", "nowhere.mha does not exist"),
        (lambda p, s: (p / "empty").mkdir() or p / "empty", "there is no scan in"),
        (lambda p, s: sitk.WriteImage(s[:, :, :1] * 0 + 5, str(p / "x.mha")) or p / "x.mha", "image is constant"),
    ],
)
def test_bad_input_is_one_sentence(folder, scan, tmp_path, capsys, arrange, message):
    given = arrange(tmp_path, scan)
    assert run(given, tmp_path / "out", "--model", folder) == 2
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1 and message in said.err and "Traceback" not in said.err
    assert not list((tmp_path / "out").glob("*")) and said.out == ""


def test_output_that_cannot_be_written(folder, scan, tmp_path, capsys):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "scan.mha", tmp_path / "file", "--model", folder) == 2
    assert "cannot be written to" in capsys.readouterr().err
    before = (tmp_path / "scan.mha").read_bytes()
    assert run(tmp_path / "scan.mha", tmp_path, "--model", folder) == 2
    assert "would be written over a scan" in capsys.readouterr().err
    assert (tmp_path / "scan.mha").read_bytes() == before
    sitk.WriteImage(scan, str(tmp_path / "scan_uncertainty.mha"))
    assert run(tmp_path, tmp_path / "out", "--model", folder) == 2
    assert "scan_uncertainty.mha would be written over" in capsys.readouterr().err


def test_nothing_half_written_when_the_disk_is_full(folder, scan, tmp_path, capsys, monkeypatch):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    write = sitk.WriteImage

    def full_disk(image, file, *arguments, **options):
        if "uncertainty" in file:
            raise RuntimeError("no space left")
        write(image, file, *arguments, **options)

    monkeypatch.setattr("nnunetv2_diffusion.imaging.writing.sitk.WriteImage", full_disk)
    assert run(tmp_path / "scan.mha", tmp_path / "out", "--model", folder) == 2
    assert re.search(r"out/scan cannot be written: is the disk full", capsys.readouterr().err)
    assert not list((tmp_path / "out").iterdir())


def test_model_named_by_dataset(folder, scan, tmp_path, monkeypatch, capsys):
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    monkeypatch.setenv("nnUNet_results", str(folder.parent.parent))
    assert run(tmp_path / "scan.mha", tmp_path / "out", "-d", "502", "-f", "all") == 0
    assert json.loads((tmp_path / "out" / "scan.json").read_text())["model"]["dataset"] == "Dataset502_Phantom"
    for flags, message in (
        ((), "name the model either by --model"),
        (("-d", "502", "--model", folder), "one of the two"),
        (("-d", "502", "-c", "2d_small"), "trained so far: nnUNetTrainerSpineSegDiff__nnUNetPlans__2d"),
        (("-d", "502", "-f", "3"), "fold_3"),
        (("-d", "502", "--slices", "some"), "central, all or a number"),
        (("-d", "502", "--review", "canals"), "NAME=VALUE"),
        (("-d", "502", "--review", "discs=4"), "a review threshold is one of uncertainty"),
        (("-d", "502", "--slice-batch", "0"), "at least 1, not 0"),
    ):
        assert run(tmp_path / "scan.mha", tmp_path / "out2", *flags) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1


def test_all_real_scans_in_one_go(real_mri, tmp_path, capsys):
    """Every examination of the 19 patients, by a network with random weights: geometry, files, no failure."""
    model = write_model(tmp_path, patch=(160, 160), description=dataset_json(160, 2.5))
    scans = sorted((real_mri / "spider_layout" / "images").glob("*.mha"))
    flags = ("--samples", 1, "--sampling-steps", 1)
    capsys.readouterr()
    assert run(scans[0].parent, tmp_path / "out", "--model", model, *flags) == 0
    assert len(scans) == 21 and len(capsys.readouterr().out.splitlines()) == 21
    for file in scans:
        given, mask = sitk.ReadImage(str(file)), sitk.ReadImage(str(tmp_path / "out" / file.name))
        uncertainty = sitk.ReadImage(str(tmp_path / "out" / f"{file.stem}_uncertainty.mha"))
        assert same_geometry(mask, given) and same_geometry(uncertainty, given)
        assert np.isfinite(sitk.GetArrayViewFromImage(uncertainty)).all()
        report = json.loads((tmp_path / "out" / f"{file.stem}.json").read_text())
        assert report["covered"]["sagittal_slices"] == [report["covered"]["slices_in_scan"] // 2]
    assert len(list((tmp_path / "out").iterdir())) == 4 * 21 + 2
