"""`--save-samples`: every sample's mask against the network's own, on the image's grid, over tiles and folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy.ndimage import gaussian_filter

from helpers.nnunet_samples import TinyProject, nnunet_environment, threads_for_processes
from helpers.prediction_samples import assert_same, normalised, predict, volumes, write_unseen
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime

SAMPLES = 3


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_unseen(folder)
    return folder


@pytest.fixture(scope="module")
def predicted(tiny_project: TinyProject, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_project.model()
    output = tmp_path_factory.mktemp("predicted")
    with nnunet_environment(tiny_project.root):
        predictor = DiffusionPredictor(
            {"samples": SAMPLES}, save_samples=True, runtime=Runtime("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(model, [0])
        predictor.predict_from_files_sequential(str(unseen), str(output))
    return output


def network_of(model: Path, fold: int = 0):
    """The network as nnU-Net itself restores it, drawing `SAMPLES` samples."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,))
    network = predictor.network.eval()
    network.sampling = network.sampling.updated({"samples": SAMPLES}, network.process)
    return network


def probabilities(network, image: np.ndarray) -> np.ndarray:
    """Of every sample, [S, K, rows, columns]."""
    return network.predict(torch.from_numpy(image)[None, None], samples=True).samples[:, 0].numpy()


def samples_of(folder: Path, case: str) -> np.ndarray:
    """[S, rows, columns]"""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "samples" / f"{case}_samples.nii.gz")))[..., 0]


def assert_nearly_same(found: np.ndarray, expected: np.ndarray, share: float = 0.0) -> None:
    """But for a share of the pixels, whose two best labels half precision may not tell apart."""
    assert found.shape == expected.shape
    assert np.mean(found != expected) <= share


def test_files(predicted: Path, unseen: Path):
    assert sorted(path.name for path in (predicted / "samples").iterdir()) == [
        f"{case}_samples.nii.gz" for case in volumes(predicted)
    ]
    for image_file in sorted(unseen.glob("*.nii.gz")):
        case = image_file.name.removesuffix("_0000.nii.gz")
        image = sitk.ReadImage(str(image_file))
        written = sitk.ReadImage(str(predicted / "samples" / f"{case}_samples.nii.gz"))
        assert written.GetPixelID() == sitk.sitkUInt8
        assert written.GetSize() == (*image.GetSize(), SAMPLES)
        first = written[:, :, :, 0]
        for geometry in ("Spacing", "Origin", "Direction"):
            expected = getattr(image, f"Get{geometry}")()
            np.testing.assert_allclose(getattr(first, f"Get{geometry}")(), expected, atol=1e-5)
    assert not list(predicted.rglob(".partial*"))


def test_an_image_of_the_patchs_size_has_the_networks_own_samples(tiny: TinyProject, predicted: Path, unseen: Path):
    expected = probabilities(network_of(tiny.model()), normalised(unseen / "exact_0000.nii.gz"))
    assert len({sample.argmax(axis=0).tobytes() for sample in expected}) == SAMPLES
    assert_nearly_same(samples_of(predicted, "exact"), expected.argmax(axis=1), 0.002)


def test_samples_keep_their_number_over_the_tiles(tiny: TinyProject, predicted: Path, unseen: Path):
    network, image = network_of(tiny.model()), normalised(unseen / "larger_0000.nii.gz")
    point = np.zeros((32, 32))
    point[16, 16] = 1
    weight = gaussian_filter(point, 32 / 8, mode="constant")
    weight /= weight.max()
    total = 0
    for row in (0, 16, 32):
        for column in (0, 16):
            tile = np.s_[..., row : row + 32, column : column + 32]
            placed = np.zeros((SAMPLES, network.heads, 64, 48))
            placed[tile] = weight * probabilities(network, image[tile])
            total = total + placed
    assert_nearly_same(samples_of(predicted, "larger"), total.argmax(axis=1), 0.01)


def test_masks_are_the_same_as_without(tiny: TinyProject, predicted: Path, unseen: Path, tmp_path: Path):
    tiny.model()
    assert predict(unseen, tmp_path / "out", "--samples", SAMPLES) == 0
    assert_same(volumes(predicted), volumes(tmp_path / "out"))
    assert not (tmp_path / "out" / "samples").exists()


def test_empty_borders_are_background_in_every_sample(predicted: Path):
    samples = samples_of(predicted, "bordered")
    assert not samples[:, :5].any() and not samples[:, :, -6:].any() and samples.any(axis=(1, 2)).all()


def test_samples_of_several_folds_come_one_after_the_other(tiny: TinyProject, unseen: Path, tmp_path: Path):
    model = tiny.model()
    tiny.model(fold=1)
    assert predict(unseen, tmp_path / "both", "--save-samples", "--samples", SAMPLES, "-f", 0, 1) == 0
    image = normalised(unseen / "exact_0000.nii.gz")
    expected = np.concatenate([probabilities(network_of(model, fold), image).argmax(axis=1) for fold in (0, 1)])
    assert_nearly_same(samples_of(tmp_path / "both", "exact"), expected, 0.002)
    assert_same(volumes(tmp_path / "both"), volumes_without_samples(unseen, tmp_path))


def volumes_without_samples(unseen: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    assert predict(unseen, tmp_path / "plain", "--samples", SAMPLES, "-f", 0, 1) == 0
    return volumes(tmp_path / "plain")


def test_processes_of_nnunets_own(tiny: TinyProject, predicted: Path, unseen: Path, tmp_path: Path):
    tiny.model()
    flags = ("--save-samples", "--samples", SAMPLES, "-npp", 1, "-nps", 1)
    assert predict(unseen, tmp_path / "out", *flags) == 0
    for case in volumes(predicted):
        np.testing.assert_array_equal(samples_of(tmp_path / "out", case), samples_of(predicted, case))


def test_a_case_without_samples_is_predicted_again(tiny: TinyProject, unseen: Path, tmp_path: Path):
    tiny.model()
    flags = ("--save-samples", "--samples", SAMPLES, "--continue_prediction")
    assert predict(unseen, tmp_path / "out", *flags) == 0
    (tmp_path / "out" / "samples" / "exact_samples.nii.gz").unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "samples").iterdir()}
    assert predict(unseen, tmp_path / "out", *flags) == 0
    assert (tmp_path / "out" / "samples" / "exact_samples.nii.gz").is_file()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_evaluate_reads_them(tiny: TinyProject, predicted: Path, tmp_path: Path):
    assert main(["evaluate", "-ref", str(predicted), "-pred", str(predicted), "-o", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "distributions.csv")
    assert sorted(table["case"]) == sorted(volumes(predicted))
    assert (table["samples"] == SAMPLES).all() and (table["mask_dice"] == 1).all()


def test_regions(tiny: TinyProject, tmp_path: Path):
    """A pixel's label is that of the last region, in nnU-Net's order, whose probability is above one half."""
    model, dataset = tiny.model(2, "regions"), tiny.dataset(2, "regions")
    write_unseen(tmp_path / "images", 2)
    flags = ("--save-samples", "--samples", SAMPLES)
    assert predict(tmp_path / "images", tmp_path / "out", *flags, dataset=dataset) == 0
    channels = [normalised(tmp_path / "images" / f"exact_000{channel}.nii.gz") for channel in range(2)]
    network = network_of(model)
    drawn = network.predict(torch.from_numpy(np.stack(channels))[None], samples=True).samples[:, 0].numpy()
    expected = np.where(drawn[:, 1] > 0.5, 2, np.where(drawn[:, 0] > 0.5, 1, 0))
    assert_nearly_same(samples_of(tmp_path / "out", "exact"), expected, 0.005)


def test_validation(tiny: TinyProject):
    model = tiny.model()
    arguments = ["-d", str(tiny.dataset()), "-c", "2d", "-tr", model.name.split("__")[0], "-f", "0", "-device", "cpu"]
    with threads_for_processes():
        assert main(["validate", *arguments, "--samples", "2", "--save-samples"]) == 0
    folder = model / "fold_0" / "validation_uncertainty"
    for case, mask in volumes(folder).items():
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "samples" / f"{case}_samples.nii.gz")))
        assert found.shape == (2, *mask.shape)


def test_a_model_that_does_not_sample_is_refused(tiny: TinyProject, unseen: Path, tmp_path: Path, capfd):
    tiny.model(trainer="TinyPlainTrainer")
    assert predict(unseen, tmp_path / "out", "--save-samples", trainer="TinyPlainTrainer") == 2
    assert "does not sample, so it has no save_samples; leave these flags out" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
