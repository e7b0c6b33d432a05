"""The pre-segmentation stage: its noising, its out-of-fold masks, and that it leaves a perfect mask alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from helpers import warm_process
from helpers.network_samples import configuration
from helpers.nnunet_samples import TinyProject, blobs, folders
from helpers.prediction_samples import assert_same, volumes
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.networks import Denoiser, NoisedImage, PreSegmentationNetwork
from nnunetv2_diffusion.planning.planner import add_configurations
from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers.losses import MSEDiceBCELoss

STAGE = "2d_preseg_T8"
SETTINGS = Settings().updated(
    {"timesteps": 8, "schedule": "cosine", "schedule_timesteps": 1000, "sampling_steps": 4, "samples": 2}
)


def stage_network(settings: Settings = SETTINGS) -> PreSegmentationNetwork:
    torch.manual_seed(0)
    return PreSegmentationNetwork(
        Denoiser(configuration(), image_channels=1, heads=3), settings, 1, [[0], [1], [2]], [1, 2]
    )


def with_mask(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """nnU-Net's input of a cascade: the image and one channel a foreground label."""
    return torch.cat([image, (mask == 1).float(), (mask == 2).float()], dim=1)


def test_sampling_starts_from_the_noised_pre_segmentation():
    network = stage_network()
    mask = torch.randint(0, 3, (2, 1, 16, 16), generator=torch.Generator().manual_seed(1))
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    t = np.arange(1001) / 1000
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    for start in (7, 3):
        network.sampling = SETTINGS.sampling.updated({"start_timestep": start}, SETTINGS.process)
        one_hot = np.stack([(mask[:, 0] == label).double().numpy() for label in range(3)], axis=1)
        a = alpha_bar[start + 1] / alpha_bar[0]
        expected = np.sqrt(a) * (2 * one_hot - 1) + np.sqrt(1 - a) * noise.double().numpy()
        actual = network.start(with_mask(torch.zeros(2, 1, 16, 16), mask), noise)
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_overlapping_and_missing_labels_of_the_augmentation_stay_masks():
    image = torch.zeros(1, 3, 1, 2)
    image[0, 1:, 0, 0] = 1
    x_start = stage_network().pre_segmentation(image)
    assert x_start[0, :, 0, 0].tolist() == [-1, 1, 1]
    assert x_start[0, :, 0, 1].tolist() == [1, -1, -1]


def test_a_perfect_pre_segmentation_comes_back_unchanged_from_a_trained_model():
    network = stage_network()
    loss = MSEDiceBCELoss(heads=3, regions=False, ignore_label=None, batch_dice=True, ddp=False)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    masks = torch.stack([torch.from_numpy(blobs(case, (32, 32)).astype(np.int64)) for case in range(4)])[:, None]
    masks = torch.stack([torch.roll(mask, (shift, -shift), (1, 2)) for shift, mask in enumerate(masks)])
    image = masks + 0.3 * torch.randn(masks.shape, generator=torch.Generator().manual_seed(3))
    data = with_mask(image, masks)
    alphas = network.alphas_cumprod.float()
    for _ in range(120):
        t = torch.randint(8, (4,))
        x_start = network.pre_segmentation(data)
        a = alphas[t][:, None, None, None]
        x_t = a**0.5 * x_start + (1 - a) ** 0.5 * torch.randn_like(x_start)
        optimizer.zero_grad()
        loss(network(NoisedImage(data, x_t, t)), masks).backward()
        optimizer.step()
    refined = network.eval()(data).argmax(dim=1, keepdim=True)
    assert (refined == masks).float().mean() > 0.995


def train_baseline(project: TinyProject, channels: int, kind: str) -> int:
    """Five folds of a baseline, validated with the stage in the plans; the dataset's number."""
    number = project.dataset(channels, kind)
    add_configurations(
        project.preprocessed(number) / "nnUNetPlans.json", timesteps=[8], previous_trainer="TinyPlainTrainer"
    )
    for fold in range(5):
        project.train(number, fold, "TinyPlainTrainer")
    return number


@pytest.fixture(scope="module")
def trained_cascade(tiny_project: TinyProject) -> TinyProject:
    """The project with a trained baseline of one channel and labels."""
    train_baseline(tiny_project, 1, "labels")
    return tiny_project


@pytest.fixture
def cascade(trained_cascade: TinyProject, tiny: TinyProject) -> TinyProject:
    """`trained_cascade` with nnU-Net's folders set."""
    return trained_cascade


def baseline(project: TinyProject) -> Path:
    return project.root / "results" / f"Dataset{project.dataset(1)}_Tiny" / "TinyPlainTrainer__nnUNetPlans__2d"


@pytest.fixture
def masks(cascade: TinyProject) -> Path:
    """The folder of pre-segmentations, put back as it was after the test."""
    folder = baseline(cascade) / "predicted_next_stage" / STAGE
    copy = folder.with_name("kept")
    shutil.copytree(folder, copy)
    yield folder
    shutil.rmtree(folder)
    copy.rename(folder)


def rewrite(file: Path, change) -> None:
    """Replace a mask by `change(mask)`."""
    array = np.ascontiguousarray(change(blosc2.open(str(file), mode="r")[:]))
    file.unlink()
    nnUNetDatasetBlosc2.save_seg(array, str(file)[: -len(".b2nd")])


@pytest.mark.parametrize(("channels", "kind"), [(1, "labels"), (2, "regions"), (4, "ignore")])
def test_the_stage_trains_on_its_folds_masks_and_predicts_with_and_without_them(
    cascade: TinyProject, tmp_path: Path, channels: int, kind: str
):
    number = cascade.dataset(1) if channels == 1 else train_baseline(cascade, channels, kind)
    for mask in (cascade.root / "results" / f"Dataset{number}_Tiny").glob("*/predicted_next_stage/*/*"):
        os.utime(mask, (0, 0))  # as a copy may leave them
    model = cascade.train(number, 0, "TinyPreSeg", configuration=STAGE)
    assert (model / "fold_0" / "validation" / "summary.json").is_file()
    images = str(cascade.root / "raw" / f"Dataset{number}_Tiny" / "imagesTr")
    common = ["-d", str(number), "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0", "-i", images]
    assert (
        main(["predict", *common, "-c", "2d", "-tr", "TinyPlainTrainer", "-o", str(tmp_path / "pre"), "-f", *"01234"])
        == 0
    )
    stage = ["predict", *common, "-c", STAGE, "-tr", "TinyPreSeg"]
    assert main([*stage, "-o", str(tmp_path / "given"), "-prev_stage_predictions", str(tmp_path / "pre")]) == 0
    assert main([*stage, "-o", str(tmp_path / "both"), "--uncertainty"]) == 0
    for case in range(6):
        given, both = (sitk.ReadImage(str(tmp_path / name / f"case_{case}.nii.gz")) for name in ("given", "both"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(given), sitk.GetArrayFromImage(both))
        assert (tmp_path / "both" / "uncertainty" / f"case_{case}_uncertainty.nii.gz").is_file()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "case_1.b2nd").unlink(), "lacks the pre-segmentations of case_1"),
        (lambda folder: rewrite(folder / "case_1.b2nd", lambda mask: (mask == 0).astype(mask.dtype)), "not fold"),
        (lambda folder: rewrite(folder / "case_1.b2nd", lambda mask: mask * 0 + 9), r"labels \[9\].*case_1"),
        (lambda folder: rewrite(folder / "case_1.b2nd", lambda mask: mask[..., :-2]), "of shape.*case_1"),
        (lambda folder: shutil.rmtree(folder) or folder.mkdir(), "lacks the pre-segmentations of case_0, case_1"),
    ],
    ids=["missing", "leaked", "labels", "shape", "none"],
)
def test_masks_that_must_not_be_trained_on_are_refused_before_the_first_step(
    cascade: TinyProject, masks: Path, spoil, message: str
):
    spoil(masks)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cascade.train(cascade.dataset(1), 1, "TinyPreSeg", configuration=STAGE)


def test_a_mask_of_a_baseline_that_saw_the_case_is_caught(cascade: TinyProject, masks: Path):
    cascade.train(cascade.dataset(1), "all", "TinyPlainTrainer")
    with pytest.raises(ValueError, match="which alone did not train on the case"):
        cascade.train(cascade.dataset(1), 1, "TinyPreSeg", configuration=STAGE)


def test_the_plain_configuration_is_no_stage(cascade: TinyProject):
    with pytest.raises(ValueError, match="no pre-segmentation stage"):
        cascade.train(cascade.dataset(1), 0, "TinyPreSeg", configuration="2d")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "case_2.nii.gz").unlink(), "case_2"),
        (lambda folder: relabel(folder / "case_2.nii.gz", 7), "holds labels [7]"),
    ],
    ids=["lacking", "labels"],
)
def test_masks_brought_by_the_user_are_checked(cascade: TinyProject, tmp_path: Path, capsys, spoil, message: str):
    number = cascade.dataset(1)
    raw = cascade.root / "raw" / f"Dataset{number}_Tiny"
    brought = tmp_path / "pre"
    shutil.copytree(raw / "labelsTr", brought)
    spoil(brought)
    model = cascade.root / "results" / f"Dataset{number}_Tiny" / f"TinyPreSeg__nnUNetPlans__{STAGE}"
    if not model.is_dir():
        cascade.train(number, 0, "TinyPreSeg", configuration=STAGE)
    code = main(
        ["predict", "-d", str(number), "-c", STAGE, "-tr", "TinyPreSeg", "-f", "0", "-device", "cpu",
         "-i", str(raw / "imagesTr"), "-o", str(tmp_path / "out"), "-prev_stage_predictions", str(brought)]
    )  # fmt: skip
    assert code == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_two_parts_at_the_same_time(cascade: TinyProject, tmp_path: Path):
    """Each predicts the baseline's masks of its own cases into the one folder, and reads no other."""
    number = cascade.dataset(1)
    model = cascade.root / "results" / f"Dataset{number}_Tiny" / f"TinyPreSeg__nnUNetPlans__{STAGE}"
    if not model.is_dir():
        cascade.train(number, 0, "TinyPreSeg", configuration=STAGE)
    images = cascade.root / "raw" / f"Dataset{number}_Tiny" / "imagesTr"
    call = ["predict", "-d", str(number), "-c", STAGE, "-tr", "TinyPreSeg", "-f", "0", "-device", "cpu"]
    call += ["-i", str(images), "--uncertainty"]
    environment = {**folders(cascade.root), "nnUNet_def_n_proc": "1"}
    parts = ["-npp", "1", "-nps", "1", "-num_parts", "2", "-part_id"]
    started = [
        warm_process.start(main, [*call, "-o", str(tmp_path / "parts"), *parts, part], environment=environment)
        for part in "01"
    ]
    for ended in [running.wait() for running in started]:
        assert ended.status == 0, ended.output
    assert main([*call, "-o", str(tmp_path / "whole"), "-npp", "0", "-nps", "0"]) == 0
    for folder in ("", "pre_segmentation"):
        assert_same(volumes(tmp_path / "parts" / folder), volumes(tmp_path / "whole" / folder))
    assert_same(volumes(tmp_path / "parts", "uncertainty"), volumes(tmp_path / "whole", "uncertainty"))


def relabel(file: Path, label: int) -> None:
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(image * 0 + label, str(file))


def test_a_stage_without_its_baseline_says_what_to_do(cascade: TinyProject, tmp_path: Path, capsys):
    number = cascade.dataset(1)
    model = cascade.root / "results" / f"Dataset{number}_Tiny" / f"TinyPreSeg__nnUNetPlans__{STAGE}"
    if not model.is_dir():
        cascade.train(number, 0, "TinyPreSeg", configuration=STAGE)
    alone = tmp_path / "results" / f"Dataset{number}_Tiny" / model.name
    shutil.copytree(model, alone)
    assert json.loads((alone / "plans.json").read_text())["configurations"][STAGE]["previous_stage"] == "2d"
    images = cascade.root / "raw" / f"Dataset{number}_Tiny" / "imagesTr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(tmp_path / "results"))
        code = main(
            ["predict", "-d", str(number), "-c", STAGE, "-tr", "TinyPreSeg", "-f", "0", "-device", "cpu",
             "-i", str(images), "-o", str(tmp_path / "out")]
        )  # fmt: skip
    assert code == 2
    assert "train the baseline" in capsys.readouterr().err
