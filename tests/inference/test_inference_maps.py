"""Uncertainty maps: their values against computations by hand, their grid against the image's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.ensembling.ensemble import ensemble_folders
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing_to_folder,
    remove_all_but_largest_component_from_segmentation,
)
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from helpers.nnunet_samples import TinyProject, nnunet_environment, threads_for_processes
from helpers.prediction_samples import assert_same, normalised, predict, stock_masks, volumes, write_unseen
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_unseen(folder)
    return folder


@pytest.fixture(scope="module")
def predicted(tiny_project: TinyProject, unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All maps of all unseen images."""
    model = tiny_project.model()
    output = tmp_path_factory.mktemp("predicted")
    with nnunet_environment(tiny_project.root):
        predictor = DiffusionPredictor(disagreement=True, runtime=Runtime("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(model, [0])
        predictor.predict_from_files_sequential(str(unseen), str(output))
    return output


def network_of(model: Path, fold: int = 0):
    """The network as nnU-Net itself restores it."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (fold,))
    return predictor.network.eval()


def as_input(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None, None]


@pytest.mark.parametrize("name", ["uncertainty", "variance", "mutual_information"])
def test_maps_lie_on_the_images_grid(predicted: Path, unseen: Path, name: str):
    for image_file in sorted(unseen.glob("*.nii.gz")):
        case = image_file.name.removesuffix("_0000.nii.gz")
        files = image_file, predicted / "uncertainty" / f"{case}_{name}.nii.gz"
        image, written = (sitk.ReadImage(str(file)) for file in files)
        assert written.GetPixelID() == sitk.sitkFloat32
        assert written.GetSize() == image.GetSize()
        for geometry in ("Spacing", "Origin", "Direction"):
            expected = getattr(image, f"Get{geometry}")()
            np.testing.assert_allclose(getattr(written, f"Get{geometry}")(), expected, atol=1e-5)
        values = sitk.GetArrayFromImage(written)
        assert 0 <= values.min() < values.max() <= 1
    assert not list(predicted.rglob(".partial*"))


def test_an_image_of_the_patchs_size_has_the_networks_own_maps(tiny: TinyProject, predicted: Path, unseen: Path):
    maps = network_of(tiny.model()).predict(as_input(normalised(unseen / "exact_0000.nii.gz")), disagreement=True)
    for name in ("uncertainty", "variance", "mutual_information"):
        expected = getattr(maps, name)[0].numpy()
        np.testing.assert_allclose(volumes(predicted, name)["exact"][..., 0], expected, atol=1e-5)


def test_tiles_of_a_larger_image_are_blended_with_nnunets_gaussian(tiny: TinyProject, predicted: Path, unseen: Path):
    """64 x 48 pixels in patches of 32 x 32 half overlapping: rows 0, 16, 32 and columns 0, 16."""
    network, image = network_of(tiny.model()), normalised(unseen / "larger_0000.nii.gz")
    point = np.zeros((32, 32))
    point[16, 16] = 1
    weight = gaussian_filter(point, 32 / 8, mode="constant")
    weight = (weight / weight.max() * 10).astype(np.float16).astype(float)  # as nnU-Net keeps it
    total, weights = np.zeros((64, 48)), np.zeros((64, 48))
    for row in (0, 16, 32):
        for column in (0, 16):
            tile = np.s_[row : row + 32, column : column + 32]
            total[tile] += weight * network.predict(as_input(image[tile])).uncertainty[0].numpy()
            weights[tile] += weight
    np.testing.assert_allclose(volumes(predicted, "uncertainty")["larger"][..., 0], total / weights, atol=2e-3)


def test_a_smaller_image_is_padded_and_cut_again(tiny: TinyProject, predicted: Path, unseen: Path):
    image = np.pad(normalised(unseen / "smaller_0000.nii.gz"), ((4, 4), (2, 2)))
    expected = network_of(tiny.model()).predict(as_input(image)).uncertainty[0, 4:-4, 2:-2].numpy()
    np.testing.assert_allclose(volumes(predicted, "uncertainty")["smaller"][..., 0], expected, atol=1e-5)


def test_empty_borders_that_nnunet_cuts_off_are_certain(predicted: Path):
    uncertainty = volumes(predicted, "uncertainty")["bordered"][..., 0]
    assert not uncertainty[:5].any()
    assert not uncertainty[:, -6:].any()
    assert (uncertainty[5:, :-6] > 0).all()


def test_a_finer_image_is_resampled_there_and_back(tiny: TinyProject, predicted: Path, unseen: Path):
    image = normalised(unseen / "oblique_0000.nii.gz")
    predictor = DiffusionPredictor(uncertainty=True, runtime=Runtime("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(tiny.model(), [0])
    coarse = resize(image, (round(56 * 0.6), round(50 * 0.7)), order=3, mode="edge", anti_aliasing=False)
    _, maps = predictor.predict(torch.from_numpy(coarse)[None, None])
    expected = resize(maps[0, 0].numpy(), (56, 50), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(volumes(predicted, "uncertainty")["oblique"][..., 0], expected, atol=2e-3)


def test_maps_and_logits_of_several_folds_are_means(tiny: TinyProject, unseen: Path, tmp_path: Path):
    model = tiny.model()
    tiny.model(fold=1)
    assert predict(unseen, tmp_path / "both", "--uncertainty", "-f", 0, 1) == 0
    image = as_input(normalised(unseen / "exact_0000.nii.gz"))
    maps = [network_of(model, fold).predict(image) for fold in (0, 1)]
    expected = np.mean([m.uncertainty[0].numpy() for m in maps], axis=0)
    np.testing.assert_allclose(volumes(tmp_path / "both", "uncertainty")["exact"][..., 0], expected, atol=1e-5)
    stock = stock_masks(model, unseen, tmp_path / "stock", (0, 1))
    assert_same(volumes(tmp_path / "both"), volumes(stock))


def test_without_tta_no_sample_is_mirrored(tiny: TinyProject, predicted: Path, unseen: Path, tmp_path: Path):
    network = network_of(tiny.model())
    network.sampling = network.sampling.updated({"mirror_samples": False}, network.process)
    expected = network.predict(as_input(normalised(unseen / "exact_0000.nii.gz"))).uncertainty[0].numpy()
    assert predict(unseen, tmp_path / "out", "--uncertainty", "--disable_tta") == 0
    actual = volumes(tmp_path / "out", "uncertainty")["exact"][..., 0]
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert np.abs(actual - volumes(predicted, "uncertainty")["exact"][..., 0]).max() > 1e-3


def test_small_batches_give_the_same_maps(predicted: Path, unseen: Path, tiny: TinyProject, tmp_path: Path):
    assert predict(unseen, tmp_path / "out", "--uncertainty", "--batch-size", 1) == 0
    whole = volumes(predicted, "uncertainty")
    for case, values in volumes(tmp_path / "out", "uncertainty").items():
        np.testing.assert_allclose(values, whole[case], atol=1e-4)


def test_a_plain_nnunets_uncertainty_is_the_entropy_of_its_softmax(tiny: TinyProject, unseen: Path, tmp_path: Path):
    model = tiny.model(trainer="TinyPlainTrainer")
    assert predict(unseen, tmp_path / "ours", "--uncertainty", trainer="TinyPlainTrainer") == 0
    assert_same(volumes(tmp_path / "ours"), volumes(stock_masks(model, unseen, tmp_path / "stock")))
    image, network = as_input(normalised(unseen / "exact_0000.nii.gz")), network_of(model)
    with torch.no_grad():
        views = [network(image.flip(axes)).flip(axes)[0] for axes in ((), (2,), (3,), (2, 3))]
    logits = torch.stack(views).mean(dim=0).double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    expected = -(p * np.log(p)).sum(axis=0) / np.log(3)
    np.testing.assert_allclose(volumes(tmp_path / "ours", "uncertainty")["exact"][..., 0], expected, atol=1e-5)


def test_nnunets_tools_find_masks_alone(tiny: TinyProject, unseen: Path, tmp_path: Path):
    """Its evaluation and postprocessing take every image in a folder of masks for a mask."""
    tiny.model()
    ours, cleaned = tmp_path / "ours", tmp_path / "cleaned"
    assert predict(unseen, ours, "--disagreement", "--save_probabilities") == 0
    masks = volumes(ours)
    assert sorted(path.name for path in ours.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in masks]
    described = str(ours / "dataset.json"), str(ours / "plans.json")
    largest = remove_all_but_largest_component_from_segmentation
    with threads_for_processes():
        compute_metrics_on_folder2(str(ours), str(ours), *described, str(tmp_path / "summary.json"), 1)
        apply_postprocessing_to_folder(
            str(ours), str(cleaned), [largest], [{"labels_or_regions": [1, 2]}], *described[::-1], num_processes=1
        )
        ensemble_folders([str(ours), str(ours)], str(tmp_path / "ensemble"), num_processes=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(masks) and summary["foreground_mean"]["Dice"] == 1
    assert volumes(cleaned).keys() == masks.keys()
    assert_same(volumes(tmp_path / "ensemble"), masks)


def test_the_plain_nnunet_does_not_sample(tiny: TinyProject, unseen: Path, tmp_path: Path, capsys):
    tiny.model(trainer="TinyPlainTrainer")
    for flags, name in ((("--samples", 4), "samples"), (("--save-samples",), "save_samples")):
        assert predict(unseen, tmp_path / "out", *flags, trainer="TinyPlainTrainer") == 2
        error = f"TinyPlainTrainer does not sample, so it has no {name}; leave these flags out\n"
        assert capsys.readouterr().err == f"spinesegdiff predict: error: {error}"
    assert not (tmp_path / "out").exists()
