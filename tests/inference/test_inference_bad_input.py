"""Bad input of `predict` and `validate`: one line on stderr, exit code 2, and no output folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from helpers.nnunet_samples import TRAINER, TinyProject, blobs, slice_image, write_case
from helpers.prediction_samples import predict, volumes
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.inference.input_images import check_images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_case(folder, "case", blobs(0, (32, 32)), channels=1, seed=0)
    return folder


@pytest.fixture
def model(tiny: TinyProject) -> Path:
    return tiny.model()


def one_line(capfd: pytest.CaptureFixture, command: str = "predict") -> str:
    """The only line on stderr, without what every error starts with."""
    error = capfd.readouterr().err
    lines = error.splitlines()
    assert len(lines) == 1, error
    assert lines[0].startswith(f"spinesegdiff {command}: error: ")
    return lines[0].removeprefix(f"spinesegdiff {command}: error: ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--samples", 0), "samples must be a whole number of at least 1, not 0"),
        (("--sampling-steps", 0), "sampling_steps must be a whole number of at least 1, not 0"),
        (("--sampling-steps", 1001), "only 1000 timesteps can be visited"),
        (("--ensemble-steps", 11), "ensemble_steps is 11, above the 5 sampling_steps"),
        (("--sampling-steps", 4, "--ensemble-steps", 5), "ensemble_steps is 5, above the 4 sampling_steps"),
        (("--seed", -1), "seed must be a whole number from 0 to 2147483647, not -1"),
        (
            ("--start-timestep", 500),
            "start_timestep is 500, but without a pre-segmentation sampling starts",
        ),
        (("--start-timestep", 1000), r"start_timestep must lie in 0 \.\.\. 999, not 1000"),
        (("--batch-size", 0), "--batch-size must be at least 1, not 0"),
        (("-step_size", 0), "-step_size must be above 0 and at most 1, not 0"),
        (("-step_size", 1.5), "-step_size must be above 0 and at most 1, not 1.5"),
        (("-num_parts", 0), "-num_parts must be at least 1, not 0"),
        (("-num_parts", 2, "-part_id", 2), r"-part_id must lie in 0 \.\.\. 1 for -num_parts 2, not 2"),
        (("-num_parts", 2, "-part_id", -1), r"-part_id must lie in 0 \.\.\. 1 for -num_parts 2, not -1"),
        (("-num_parts", 2, "-npp", 0, "-nps", 0), "-num_parts needs -npp or -nps above 0"),
        (("-f", 7), r"fold_7/checkpoint_final\.pth does not exist"),
        (("-f", "x"), r"fold_x/checkpoint_final\.pth does not exist"),
        (("-chk", "checkpoint_latest.pth"), r"checkpoint_latest\.pth does not exist"),
        (
            ("-p", "otherPlans"),
            "otherPlans__2d does not exist; trained so far: .*TinyDiffusionTrainer__nnUNetPlans__2d",
        ),
        (("-c", "3d_fullres"), "3d_fullres does not exist; trained so far"),
    ],
)
def test_flags_out_of_range(model: Path, images: Path, tmp_path: Path, capfd, flags: tuple, message: str):
    assert predict(images, tmp_path / "out", *flags) == 2
    assert re.search(message, one_line(capfd))
    assert not (tmp_path / "out").exists()


def test_a_number_of_two_datasets(model: Path, images: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    for name in ("Dataset111_One", "Dataset111_Two"):
        shutil.copytree(model, tmp_path / "results" / name / model.name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    assert predict(images, tmp_path / "out") == 2
    assert "Dataset111_One, Dataset111_Two; give the full name" in one_line(capfd)
    assert not (tmp_path / "out").exists()
    assert predict(images, tmp_path / "out", dataset="Dataset111_Two") == 0


@pytest.mark.parametrize(
    ("dataset", "message"),
    [("999", "999"), ("Spines", "named by its number, such as 502, or as DatasetXXX_NAME, not 'Spines'")],
)
def test_a_dataset_that_is_not_there(model: Path, images: Path, tmp_path: Path, capfd, dataset: str, message: str):
    assert predict(images, tmp_path / "out", dataset=dataset) == 2
    assert message in one_line(capfd)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_there_or_empty(model: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    assert predict(tmp_path / "nowhere", tmp_path / "out") == 2
    assert one_line(capfd) == f"the input folder {tmp_path / 'nowhere'} does not exist"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "case_0000.png").touch()
    assert predict(tmp_path / "images", tmp_path / "out") == 2
    assert "holds no image named <case>_0000.nii.gz" in one_line(capfd)
    monkeypatch.delenv("nnUNet_results")
    assert predict(tmp_path / "images", tmp_path / "out") == 2
    assert "nnUNet_results is not set" in one_line(capfd)
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there(model: Path, images: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert predict(images, tmp_path / "out", "-device", "cuda") == 2
    assert one_line(capfd) == "-device cuda was asked for, but this machine has no CUDA device; use -device cpu"
    assert not (tmp_path / "out").exists()


def test_a_channel_that_is_missing(tiny: TinyProject, images: Path, tmp_path: Path, capfd):
    tiny.model(2, "regions")
    assert predict(images, tmp_path / "out", dataset=tiny.dataset(2, "regions")) == 2
    assert one_line(capfd) == f"{images} lacks case_0001.nii.gz: the model takes 2 channels a case"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("case_0001", "but the model takes 1 channels a case"), ("mask", "holds mask.nii.gz, not named <case>_<channel>")],
)
def test_files_that_are_no_channel_of_a_case(model: Path, images: Path, tmp_path: Path, capfd, name: str, message: str):
    shutil.copytree(images, tmp_path / "images")
    shutil.copy(images / "case_0000.nii.gz", tmp_path / "images" / f"{name}.nii.gz")
    assert predict(tmp_path / "images", tmp_path / "out") == 2
    assert message in one_line(capfd)
    assert not (tmp_path / "out").exists()


def test_hidden_files_are_passed_over_and_links_to_nothing_named(model: Path, images: Path, tmp_path: Path, capfd):
    """macOS leaves a `._` beside each file that it copies to another disk."""
    folder = shutil.copytree(images, tmp_path / "images")
    (folder / "._case_0000.nii.gz").write_bytes(b"Mac OS X")
    assert predict(folder, tmp_path / "out") == 0
    assert list(volumes(tmp_path / "out")) == ["case"]
    capfd.readouterr()
    (folder / "other_0000.nii.gz").symlink_to("nowhere.nii.gz")
    assert predict(folder, tmp_path / "again") == 2
    assert "other_0000.nii.gz is a link to nowhere.nii.gz, which does not exist" in one_line(capfd)


@pytest.mark.parametrize("content", ["", "not an image", "half"])
def test_a_damaged_image(model: Path, images: Path, tmp_path: Path, capfd, content: str):
    write_case(tmp_path / "images", "sound", blobs(0, (32, 32)), channels=1, seed=1)
    damaged = tmp_path / "images" / "case_0000.nii.gz"
    whole = (images / "case_0000.nii.gz").read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2] if content == "half" else content.encode())
    assert predict(tmp_path / "images", tmp_path / "out", "--uncertainty") == 2
    assert one_line(capfd).startswith(f"{damaged} cannot be read as an image")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(tmp_path: Path, value: float):
    """In mha; of a NIfTI file SimpleITK's reader makes zeros of them."""
    array = np.ones((32, 32), np.float32)
    array[3, 4] = value
    sitk.WriteImage(slice_image(array), str(tmp_path / "case_0000.mha"))
    with pytest.raises(ValueError, match=r"case_0000\.mha holds voxels that are no numbers"):
        check_images(tmp_path, {"file_ending": ".mha", "channel_names": {"0": "MRI"}}, SimpleITKIO())


@pytest.mark.parametrize("damage", ["plans.json", "dataset.json", "checkpoint"])
def test_a_damaged_model(
    model: Path, images: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch, damage: str
):
    copy = shutil.copytree(model, tmp_path / "results" / model.parent.name / model.name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    if damage == "checkpoint":
        (copy / "fold_0" / "checkpoint_final.pth").write_bytes(b"PK")
    else:
        (copy / damage).unlink()
    assert predict(images, tmp_path / "out") == 2
    assert ("checkpoint_final.pth cannot be read" if damage == "checkpoint" else f"holds no {damage}") in one_line(
        capfd
    )
    assert not (tmp_path / "out").exists()


def test_weights_with_a_changed_byte(model: Path, images: Path, tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    """PyTorch reads them without a word, and the masks are others."""
    copy = shutil.copytree(model, tmp_path / "results" / model.parent.name / model.name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    checkpoint = copy / "fold_0" / "checkpoint_final.pth"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 0x40
    checkpoint.write_bytes(content)
    assert predict(images, tmp_path / "out") == 2
    assert "checkpoint_final.pth is damaged, as its checksums show; copy it again" in one_line(capfd)


def test_maps_need_a_reader_that_keeps_the_geometry(model: Path, images: Path, tmp_path: Path, capfd, monkeypatch):
    copy = shutil.copytree(model, tmp_path / "results" / model.parent.name / model.name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    plans = json.loads((copy / "plans.json").read_text())
    (copy / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "NibabelIO"}))
    assert predict(images, tmp_path / "out", "--uncertainty") == 2
    assert "read with SimpleITKIO, but the plans name NibabelIO" in one_line(capfd)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-f", "all"), "fold `all` has no validation cases of its own"),
        (("-f", "3"), "checkpoint_final.pth does not exist"),
        (("-f", "0", "--samples", "0"), "samples must be a whole number"),
    ],
)
def test_validate_refuses(tiny: TinyProject, tmp_path: Path, capfd, monkeypatch, flags: tuple, message: str):
    model = tiny.model()
    copy = shutil.copytree(model, tmp_path / "results" / model.parent.name / model.name)
    shutil.rmtree(copy / "fold_0" / "validation_uncertainty", ignore_errors=True)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    arguments = ["validate", "-d", str(tiny.dataset()), "-c", "2d", "-tr", TRAINER, "-device", "cpu"]
    assert main([*arguments, *flags]) == 2
    assert message in one_line(capfd, "validate")
    assert not (copy / "fold_0" / "validation_uncertainty").exists()


def test_a_constant_image_is_predicted_without_failing(model: Path, tmp_path: Path):
    (tmp_path / "images").mkdir()
    sitk.WriteImage(slice_image(np.full((32, 32), 7, np.float32)), str(tmp_path / "images" / "flat_0000.nii.gz"))
    assert predict(tmp_path / "images", tmp_path / "out", "--uncertainty") == 0
    assert np.isfinite(volumes(tmp_path / "out", "uncertainty")["flat"]).all()
