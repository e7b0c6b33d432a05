"""Maps of a plain nnU-Net's folds and mirrorings, against what each fold's saved probabilities give in float64."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from helpers.prediction_samples import assert_same, stock_masks, volumes, write_unseen
from helpers.segment_samples import dataset_json, plans, volume_plans, write_model
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.inference.image_folder import predict_folder
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime

TRAINER = "nnUNetTrainer"
MAPS = ("uncertainty", "variance", "mutual_information")


def saved_probabilities(model: Path, images: Path, output: Path, fold: int, mirroring: bool = True) -> dict:
    """What `nnUNetv2_predict --save_probabilities` writes with one fold: [K, slices, rows, columns] by case."""
    stock_masks(model, images, output, (fold,), mirroring, probabilities=True)
    return {file.stem: np.load(file)["probabilities"].astype(float) for file in output.glob("*.npz")}


def entropy(p: np.ndarray, regions: bool) -> np.ndarray:
    """In [0, 1], of probabilities [K, ...]."""
    terms = [-q * np.log(np.where(q > 0, q, 1)) for q in ((p, 1 - p) if regions else (p,))]
    return sum(terms).mean(axis=0) / np.log(2) if regions else terms[0].sum(axis=0) / np.log(len(p))


def expected_maps(members: list[np.ndarray], regions: bool = False) -> dict[str, np.ndarray]:
    mean = np.mean(members, axis=0)
    whole = entropy(mean, regions)
    information = whole - np.mean([entropy(member, regions) for member in members], axis=0)
    return {"uncertainty": whole, "variance": np.var(members, axis=0).mean(axis=0), "mutual_information": information}


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_unseen(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain nnU-Net of two folds with random weights."""
    return write_model(tmp_path_factory.mktemp("results"), TRAINER, folds=(0, 1), patch=(32, 32))


def predict(model: Path, images: Path, output: Path, folds: tuple, **options) -> dict[str, dict[str, np.ndarray]]:
    """Our maps by their names, and by case."""
    predictor = DiffusionPredictor(runtime=Runtime("cpu"), allow_tqdm=False, **options)
    predictor.initialize_from_trained_model_folder(model, folds)
    predictor.predict_from_files_sequential(str(images), str(output))
    return {name: volumes(output, name) for name in MAPS}


def told(output: Path) -> dict:
    return json.loads((output / "uncertainty" / "members.json").read_text())


@pytest.mark.parametrize("regions", [False, True])
def test_maps_of_folds_are_those_of_their_saved_probabilities(model: Path, unseen: Path, tmp_path: Path, regions: bool):
    """Also of images that are cropped, tiled and resampled."""
    if regions:
        labels = {"background": 0, "spine": [1, 2], "disc": [2]}
        described = dataset_json(None, 1.0, labels=labels, regions_class_order=[1, 2])
        model = write_model(tmp_path / "results", TRAINER, folds=(0, 1), patch=(32, 32), description=described)
    folds = [saved_probabilities(model, unseen, tmp_path / f"fold{fold}", fold) for fold in (0, 1)]
    found = predict(model, unseen, tmp_path / "ours", (0, 1), disagreement=True)
    assert len(found["uncertainty"]) == 5
    for case in folds[0]:
        expected = expected_maps([fold[case] for fold in folds], regions)
        assert expected["variance"].max() > 1e-3
        for name in MAPS:
            np.testing.assert_allclose(found[name][case], expected[name], atol=2e-6, err_msg=f"{case} {name}")
    assert_same(volumes(tmp_path / "ours"), volumes(stock_masks(model, unseen, tmp_path / "stock", (0, 1))))
    assert told(tmp_path / "ours") == {"members": "folds", "number_of_members": 2, "number_of_folds": 2}


def test_the_uncertainty_does_not_depend_on_the_other_maps(model: Path, unseen: Path, tmp_path: Path):
    for folds in ((0,), (0, 1)):
        outputs = tmp_path / f"alone{len(folds)}", tmp_path / f"both{len(folds)}"
        alone = predict(model, unseen, outputs[0], folds, uncertainty=True)
        both = predict(model, unseen, outputs[1], folds, disagreement=True)
        assert_same(alone["uncertainty"], both["uncertainty"])
        assert_same(*(volumes(output) for output in outputs))
        assert not alone["variance"] and both["variance"]


def test_mirrorings_of_a_single_fold_are_its_members(model: Path, unseen: Path, tmp_path: Path):
    """Each as the prediction of an image that is mirrored in its file, without mirroring, turned back."""
    image = sitk.ReadImage(str(unseen / "exact_0000.nii.gz"))
    array = sitk.GetArrayFromImage(image)
    members = []
    for number, axes in enumerate(itertools.chain.from_iterable(itertools.combinations((0, 1), n) for n in range(3))):
        mirrored = sitk.GetImageFromArray(np.flip(array, axes))
        mirrored.CopyInformation(image)
        folder = tmp_path / f"mirrored{number}"
        folder.mkdir()
        sitk.WriteImage(mirrored, str(folder / "exact_0000.nii.gz"))
        saved = saved_probabilities(model, folder, folder / "out", 0, mirroring=False)["exact"]
        members.append(np.flip(saved, tuple(axis + 1 for axis in axes)))
    found = predict(model, unseen, tmp_path / "ours", (0,), disagreement=True)
    expected = expected_maps(members)
    for name in ("variance", "mutual_information"):
        assert expected[name].max() > 1e-2
        # a mirrored file is normalised by sums in another order, and logits are rounded to half precision
        np.testing.assert_allclose(found[name]["exact"], expected[name], atol=5e-4, err_msg=name)
    assert_same(volumes(tmp_path / "ours"), volumes(stock_masks(model, unseen, tmp_path / "stock")))
    assert told(tmp_path / "ours") == {"members": "mirrorings", "number_of_members": 4, "number_of_folds": 1}


def test_one_fold_without_mirroring_has_nothing_that_disagrees(model: Path, unseen: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="take several folds, allow mirroring, or leave --disagreement out"):
        predict(model, unseen, tmp_path / "out", (0,), disagreement=True, use_mirroring=False)
    predict(model, unseen, tmp_path / "out", (0,), uncertainty=True, use_mirroring=False)
    assert told(tmp_path / "out") == {"members": None, "number_of_folds": 1}


def test_folds_of_nnunets_cascade_on_masks_of_its_previous_stage(model: Path, unseen: Path, tmp_path: Path):
    previous = stock_masks(model, unseen, tmp_path / "previous")
    plans_file = plans((32, 32), 1.0)
    plans_file["configurations"]["2d_cascade"] = {**plans_file["configurations"]["2d"], "previous_stage": "2d"}
    options = {"folds": (0, 1), "plans_file": plans_file}
    cascade = write_model(tmp_path / "results", TRAINER, "2d_cascade", **options)
    predictor = DiffusionPredictor(disagreement=True, runtime=Runtime("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(cascade, (0, 1))
    alone = {"preprocessing_processes": 0, "export_processes": 0}
    with pytest.raises(ValueError, match=r"2d_cascade of .* -prev_stage_predictions"):
        predict_folder(predictor, str(unseen), str(tmp_path / "ours"), **alone)
    predict_folder(predictor, str(unseen), str(tmp_path / "ours"), previous_stage=str(previous), **alone)
    members = []
    for fold in (0, 1):
        stock = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        stock.initialize_from_trained_model_folder(str(cascade), (fold,))
        (tmp_path / f"fold{fold}").mkdir()
        stock.predict_from_files_sequential(
            str(unseen), str(tmp_path / f"fold{fold}"), True, folder_with_segs_from_prev_stage=str(previous)
        )
        members.append(np.load(tmp_path / f"fold{fold}" / "oblique.npz")["probabilities"].astype(float))
    for name, expected in expected_maps(members).items():
        np.testing.assert_allclose(volumes(tmp_path / "ours", name)["oblique"], expected, atol=2e-6, err_msg=name)


def test_maps_of_a_volumes_folds(tmp_path: Path):
    """A 3-D nnU-Net, whose heads, slices, rows and columns are not to be mixed up."""
    patch = (8, 16, 16)
    model = write_model(
        tmp_path / "results",
        TRAINER,
        "3d_fullres",
        folds=(0, 1),
        plans_file=volume_plans(patch),
        description=dataset_json(None, 1.0, "3d"),
    )
    images, generator = tmp_path / "images", np.random.default_rng(3)
    images.mkdir()
    image = sitk.GetImageFromArray(generator.normal(100, 20, (11, 24, 20)).astype(np.float32))
    image.SetSpacing((1.0, 0.8, 1.0))
    sitk.WriteImage(image, str(images / "volume_0000.nii.gz"))
    members = [saved_probabilities(model, images, tmp_path / f"fold{fold}", fold)["volume"] for fold in (0, 1)]
    found = predict(model, images, tmp_path / "ours", (0, 1), disagreement=True)
    for name, expected in expected_maps(members).items():
        np.testing.assert_allclose(found[name]["volume"], expected, atol=2e-6, err_msg=name)
    assert_same(volumes(tmp_path / "ours"), volumes(stock_masks(model, images, tmp_path / "stock", (0, 1))))


def test_segment_writes_the_maps_of_folds(tmp_path: Path):
    """On a scan of the model's own grid, where nothing is interpolated, of the probabilities that it writes by fold."""
    model = write_model(tmp_path / "results", TRAINER, folds=(0, 1))
    image = sitk.GetImageFromArray(np.random.default_rng(1).uniform(0, 255, (64, 64, 1)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))

    def segmented(name: str, *flags: str) -> Path:
        arguments = [str(tmp_path / "scan.nii.gz"), str(tmp_path / name), "--model", str(model), "-device", "cpu"]
        assert main(["segment", *arguments, *flags]) == 0
        return tmp_path / name

    def written(folder: Path, name: str) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"scan_{name}.nii.gz")))

    members = [written(segmented(fold, "--save-probabilities", "-f", fold), "probabilities") for fold in ("0", "1")]
    both, alone = segmented("both", "--disagreement"), segmented("alone")
    for name, expected in expected_maps([member.astype(float) for member in members]).items():
        assert expected.max() > 1e-3
        np.testing.assert_allclose(written(both, name), expected, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(written(alone, "uncertainty"), written(both, "uncertainty"))
    assert json.loads((both / "scan.json").read_text())["maps"] == {
        "names": list(MAPS),
        "members": "folds",
        "number_of_members": 2,
        "number_of_folds": 2,
    }
    assert not list(alone.glob("*variance*"))
    segmented("alone", "--disagreement")  # asks for more than what is finished
    np.testing.assert_array_equal(written(alone, "variance"), written(both, "variance"))
