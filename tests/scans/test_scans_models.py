"""Models on the move: safe checkpoints, copied folders, zip files, folds, baselines; the same masks as predict."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from helpers.segment_samples import (
    CPU,
    dataset_json,
    one_thread,  # noqa: F401
    phantom,
    plans,
    preseg_plans,
    write_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.inference.trained_models import find_folds
from nnunetv2_diffusion.sampling import chunks
from nnunetv2_diffusion.scans import load_model, segment
from nnunetv2_diffusion.scans.sagittal import SagittalVolume

SAGITTAL = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two folds with random weights."""
    return write_model(tmp_path_factory.mktemp("results"), folds=(0, 1))


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    return phantom(SAGITTAL, (52, 60, 6), (1.0, 1.0, 4.0))[0]


@pytest.mark.parametrize("kind", ["beside the weights", "instead of them"])
def test_checkpoint_that_would_run_code_is_refused_without_running_it(folder, tmp_path, kind):
    made = tmp_path / "made_by_the_pickle"
    file = tmp_path / "checkpoint_final.pth"
    if kind == "beside the weights":
        checkpoint = torch.load(folder / "fold_0" / file.name, weights_only=False)
        torch.save({**checkpoint, "logging": Malicious(made)}, file)
        message = "could run code.*--trust"
    else:
        file.write_bytes(pickle.dumps(Malicious(made)))
        message = "cannot be read as a checkpoint"
    with pytest.raises(ValueError, match=message):
        load_checkpoint(file)
    assert not made.exists()


def test_trust_opens_what_is_otherwise_refused(folder, tmp_path, scan):
    model = shutil.copytree(folder, tmp_path / "model")
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    made = tmp_path / "made_by_the_pickle"
    torch.save({**checkpoint, "logging": Malicious(made)}, file)
    with pytest.raises(ValueError, match="--trust"):
        load_model(model, runtime=CPU)
    assert not made.exists()
    load_model(model, runtime=Runtime("cpu", trust=True))
    assert made.exists()


def test_checkpoint_is_read_as_nnunet_reads_it(folder):
    file = folder / "fold_0" / "checkpoint_final.pth"
    ours, theirs = load_checkpoint(file), torch.load(file, weights_only=False)
    assert ours.keys() == theirs.keys() and ours["init_args"] == theirs["init_args"]
    assert ours["logging"]["train_losses"] == theirs["logging"]["train_losses"]
    assert all(torch.equal(ours["network_weights"][name], tensor) for name, tensor in theirs["network_weights"].items())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "damaged"), (b"no checkpoint", "damaged"), (None, "damaged"), ({"epoch": 3}, "no checkpoint of nnU-Net")],
)
def test_damaged_checkpoints(folder, tmp_path, content, message):
    file = tmp_path / "checkpoint_final.pth"
    if isinstance(content, dict):
        torch.save(content, file)
    else:
        whole = (folder / "fold_0" / file.name).read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=f"{file}.*{message}"):
        load_checkpoint(file)


def test_folds_that_are_there(folder, tmp_path):
    assert find_folds(folder, "checkpoint_final.pth") == [0, 1]
    assert find_folds(folder, "checkpoint_final.pth", ["all"]) == [0, 1]
    assert find_folds(folder, "checkpoint_final.pth", ["1"]) == [1]
    with pytest.raises(FileNotFoundError, match=r"fold_3.*found: 0, 1"):
        find_folds(folder, "checkpoint_final.pth", ["3"])
    with_all = shutil.copytree(folder, tmp_path / "model")
    shutil.copytree(with_all / "fold_0", with_all / "fold_all")
    assert find_folds(with_all, "checkpoint_final.pth", ["all"]) == ["all"]
    assert find_folds(with_all, "checkpoint_final.pth") == [0, 1]
    with pytest.raises(FileNotFoundError, match="found: none"):
        find_folds(tmp_path, "checkpoint_final.pth")


def test_folds_are_averaged_as_nnunet_does(folder, scan):
    model = load_model(folder, runtime=CPU)
    volume = SagittalVolume.of(scan, model.spacing, model.size)
    array, spacing = volume.model_array([2, 3]), volume.grid(0, 6).spacing[::-1]
    found = list(model.predict(array, spacing, [0, 1]))
    predictor = DiffusionPredictor(runtime=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, (0, 1))
    for number, one in enumerate(found):
        window = np.ascontiguousarray(array[None, ..., number : number + 1])
        mask, probabilities = predictor.predict_single_npy_array(window, {"spacing": spacing}, None, None, True)
        np.testing.assert_array_equal(one.mask, mask[..., 0])
        np.testing.assert_allclose(one.probabilities, probabilities[..., 0], atol=2e-3)


@pytest.mark.parametrize("tile", [64, 48], ids=["a tile a slice", "four tiles a slice"])
def test_results_do_not_depend_on_the_batch(folder, scan, tile):
    results = []
    for batch in (1, 3):
        model = load_model(folder, folds=[0], runtime=Runtime("cpu", slice_batch=batch, precision="float32"))
        model.predictor.configuration_manager.configuration["patch_size"] = [tile, tile]
        results.append(segment(scan, model, slices=3, probabilities=True))
    for name in ("uncertainty", "probabilities"):
        one, other = (sitk.GetArrayFromImage(getattr(result, name)) for result in results)
        np.testing.assert_allclose(one, other, atol=3e-3)  # nnU-Net sums logits in half precision
    masks = [sitk.GetArrayFromImage(result.mask) for result in results]
    assert np.mean(masks[0] != masks[1]) < 1e-3
    assert len(np.unique(masks[0])) > 1


@pytest.mark.parametrize(("samples", "calls"), [(1, 1), (4, 2), (30, 4)])
def test_slices_together_fill_a_cpus_cache(folder, scan, monkeypatch, samples, calls):
    """Tiles of 64 x 64: a cache of ten takes the four slices' samples at once, in pairs or one by one."""
    monkeypatch.setattr(chunks, "CPU_PIXELS", 10 * 64 * 64)
    model = load_model(folder, folds=[0], sampling={"samples": samples}, runtime=CPU)
    predicted = []
    network = model.predictor.diffusion_network
    predict = network.predict
    monkeypatch.setattr(
        network, "predict", lambda images, *rest: predicted.append(len(images)) or predict(images, *rest)
    )
    segment(scan, model, slices=4)
    assert len(predicted) == calls and sum(predicted) == 4
    assert network.network_evaluations == 4 * samples * network.sampling.sampling_steps


def test_slices_of_a_volume_share_the_loading_of_a_folds_weights(folder, scan, monkeypatch):
    model = load_model(folder, runtime=CPU)
    assert len(model.folds) == 2
    network = model.predictor.diffusion_network
    load, loaded = network.load_state_dict, []
    monkeypatch.setattr(network, "load_state_dict", lambda weights: loaded.append(1) or load(weights))
    together = sitk.GetArrayFromImage(segment(scan, model, slices=4).uncertainty)
    assert len(loaded) == 2
    alone = sitk.GetArrayFromImage(segment(scan, model, slices=1).uncertainty)
    assert len(loaded) == 4
    segmented = alone > 0
    assert 0 < segmented.sum() < (together > 0).sum()
    np.testing.assert_array_equal(together[segmented], alone[segmented])


def test_seed_and_sampling_settings(folder, scan):
    first, again, other = (
        segment(scan, load_model(folder, folds=[0], sampling={"seed": seed}, runtime=CPU)) for seed in (5, 5, 6)
    )
    arrays = [sitk.GetArrayFromImage(result.uncertainty) for result in (first, again, other)]
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert np.abs(arrays[0] - arrays[2]).max() > 1e-4
    assert other.report["model"]["seed"] == 6
    with pytest.raises(ValueError, match="ensemble_steps is 9"):
        load_model(folder, folds=[0], sampling={"ensemble_steps": 9}, runtime=CPU)


def test_settings_of_the_weights_are_refused(folder):
    for name, value in (("schedule", "cosine"), ("timesteps", 100), ("learning_rate", 1e-3)):
        with pytest.raises(ValueError, match=f"{name} cannot be changed at prediction"):
            load_model(folder, sampling={name: value}, runtime=CPU)


def test_plain_nnunet_model(tmp_path, scan):
    folder = write_model(tmp_path, "nnUNetTrainer")
    model = load_model(folder, runtime=CPU)
    result = segment(scan, model, slices=2)
    assert result.report["model"]["settings"] is None and result.report["model"]["trainer"] == "nnUNetTrainer"
    uncertainty = sitk.GetArrayFromImage(result.uncertainty)
    assert 0 < uncertainty.max() <= 1
    with pytest.raises(ValueError, match="does not sample"):
        load_model(folder, sampling={"seed": 3}, runtime=CPU)


def test_model_trained_on_whole_volumes_normalises_over_the_scan(tmp_path, scan):
    folder = write_model(tmp_path, description=dataset_json(64, 1.0, "3d"))
    model = load_model(folder, runtime=CPU)
    volume = SagittalVolume.of(scan, model.spacing, model.size)
    array, spacing = volume.model_array(range(6)), volume.grid(0, 6).spacing[::-1]
    predictor = DiffusionPredictor(runtime=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, (0,))
    whole = predictor.predict_single_npy_array(array[None], {"spacing": spacing}, None, None, False)
    for found in model.predict(array, spacing, [1, 4]):
        np.testing.assert_array_equal(found.mask, whole[..., found.position])


def test_regions(tmp_path, scan):
    """A region's probabilities are a sigmoid's; the mask is nnU-Net's, later regions over earlier ones."""
    labels = {"background": 0, "spine": [1, 2, 3], "bone": [2, 3], "discs": 3}
    description = dataset_json(64, 1.0, labels=labels, regions_class_order=[1, 2, 3])
    folder = write_model(tmp_path, description=description)
    model = load_model(folder, runtime=CPU)
    result = segment(scan, model, probabilities=True)
    heads = sitk.GetArrayFromImage(result.probabilities)
    central = np.flatnonzero(heads.any(axis=(0, 2, 3)))[0]
    heads, mask = heads[:, central], sitk.GetArrayFromImage(result.mask)[central]
    expected = np.zeros_like(mask)
    for label, head in enumerate(heads, start=1):
        expected[head > 0.5] = label
    np.testing.assert_array_equal(mask, expected)
    areas = {name: figures["area_mm2"] for name, figures in result.report["structures"].items()}
    assert areas == {"spine": (mask > 0).sum(), "bone": (mask > 1).sum(), "discs": (mask == 3).sum()}
    assert 0 < areas["spine"] < mask.size


def test_pre_segmentation_model_runs_its_baseline_first(tmp_path, scan):
    plans_file = preseg_plans()
    stage = write_model(tmp_path, "nnUNetTrainerSpineSegDiffPreSeg", "2d_preseg_T30", plans_file=plans_file)
    with pytest.raises(FileNotFoundError, match="nnUNetTrainer__nnUNetPlans__2d"):
        load_model(stage, runtime=CPU)
    baseline = write_model(tmp_path, "nnUNetTrainer", plans_file=plans_file)
    model = load_model(stage, runtime=CPU)
    result = segment(scan, model)
    assert result.report["model"]["baseline"]["trainer"] == "nnUNetTrainer"

    first = DiffusionPredictor(runtime=CPU, allow_tqdm=False)
    first.initialize_from_trained_model_folder(baseline, (0,))
    second = DiffusionPredictor(runtime=CPU, allow_tqdm=False)
    second.initialize_from_trained_model_folder(stage, (0,))
    volume = SagittalVolume.of(scan, model.spacing, model.size)
    array, spacing = volume.model_array([3])[None], volume.grid(0, 6).spacing[::-1]
    before = first.predict_single_npy_array(array, {"spacing": spacing}, None, None, False)
    expected = second.predict_single_npy_array(
        array, {"spacing": spacing}, before[None].astype(np.float32), None, False
    )
    found = next(model.predict(array[0], spacing, [0]))
    np.testing.assert_array_equal(found.mask, expected[..., 0])
    assert len(np.unique(expected)) > 1


def clean_environment() -> dict[str, str]:
    """No variable of nnU-Net's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("nnUNet")}


def test_copied_folder_works_in_an_empty_environment(folder, tmp_path, scan):
    copied = shutil.copytree(folder, tmp_path / "somewhere" / "model")
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    command = [sys.executable, "-m", "nnunetv2_diffusion.cli", "segment", "scan.mha", "out", "--model", str(copied)]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    mask = sitk.ReadImage(str(tmp_path / "out" / "scan.mha"))
    here = segment(scan, load_model(folder, runtime=CPU)).mask
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(here))


def test_zip_of_nnunet_travels(folder, tmp_path, scan):
    """Exported by nnU-Net's command in one results folder, installed by its command in another."""
    target, package = tmp_path / "other_results", tmp_path / "model.zip"
    target.mkdir()
    environment = {**clean_environment(), "nnUNet_raw": str(tmp_path), "nnUNet_preprocessed": str(tmp_path)}
    export = "from nnunetv2.model_sharing.entry_points import export_pretrained_model_entry as run; run()"
    install = "from nnunetv2.model_sharing.entry_points import install_from_zip_entry_point as run; run()"
    flags = ["-d", folder.parent.name, "-o", str(package), "-c", "2d", "-tr", "nnUNetTrainerSpineSegDiff", "-f", "0"]
    for code, arguments, results in ((export, flags, folder.parent.parent), (install, [str(package)], target)):
        command = [sys.executable, "-c", code, *arguments]
        environment["nnUNet_results"] = str(results)
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 0, done.stderr
    installed = target / folder.parent.name / folder.name
    masks = [
        sitk.GetArrayFromImage(segment(scan, load_model(place, folds=[0], runtime=CPU)).mask)
        for place in (folder, installed)
    ]
    np.testing.assert_array_equal(*masks)


def test_models_that_cannot_segment_a_scan(tmp_path):
    axial = plans((64, 64), 1.0)
    axial["transpose_forward"] = [0, 1, 2]
    two = dataset_json(64, 1.0, channel_names={"0": "T1", "1": "T2"})
    for number, (changes, message) in enumerate(
        (({"plans_file": axial}, "nnUNetv2_predict"), ({"description": two}, r"needs 2 images a case \(T1, T2\)"))
    ):
        with pytest.raises(ValueError, match=message):
            load_model(write_model(tmp_path / str(number), **changes), runtime=CPU)
    with pytest.raises(FileNotFoundError, match="expected the folder of a trained model"):
        load_model(tmp_path / "nowhere")


def test_channels_under_their_older_name(tmp_path, scan):
    """nnU-Net still reads `modality` for `channel_names`."""
    one, two = (dataset_json(64, 1.0, modality=names) for names in ({"0": "MRI"}, {"0": "T1", "1": "T2"}))
    del one["channel_names"], two["channel_names"]
    segment(scan, load_model(write_model(tmp_path / "one", description=one), runtime=CPU))
    with pytest.raises(ValueError, match=r"needs 2 images a case \(T1, T2\)"):
        load_model(write_model(tmp_path / "two", description=two), runtime=CPU)


@pytest.fixture(scope="module")
def converted(real_mri: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The central slices of two real patients by `spinesegdiff convert`, padded to 368 pixels."""
    out = tmp_path_factory.mktemp("raw")
    command = ["convert", str(real_mri / "spider_layout"), "--modality", "T2w", "--patients", "1,4-8,102-106"]
    assert cli.main([*command, "--size", "368", "--out", str(out), "-np", "1"]) == 0
    return next(out.glob("Dataset502_*"))


def test_central_slice_equals_convert_and_predict(converted, real_mri, tmp_path):
    """Bit for bit on real MRI whose pixels are the model's own."""
    description = json.loads((converted / "dataset.json").read_text())
    folder = write_model(tmp_path, patch=(368, 368), description=description)
    predictor = DiffusionPredictor(uncertainty=True, runtime=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, (0,))
    compared = 0
    model = load_model(folder, runtime=CPU)
    images = [shutil.copy(image, tmp_path) for image in sorted(converted.glob("imagesTr/*_0000.nii.gz"))[:3]]
    predictor.predict_from_files_sequential(str(tmp_path), str(tmp_path / "masks"))
    for image in images:
        case = Path(image).name.removesuffix("_0000.nii.gz")
        on_model_grid = sitk.ReadImage(str(tmp_path / "masks" / f"{case}.nii.gz"))
        _, patient, series = case.split("_")
        scan = sitk.ReadImage(str(real_mri / "spider_layout" / "images" / f"{int(patient)}_{series}.mha"))
        result = segment(scan, model)
        mask, expected = sitk.DICOMOrient(result.mask, "RAS"), sitk.GetArrayFromImage(on_model_grid)[..., 0]
        central = sitk.GetArrayFromImage(mask)[..., mask.GetSize()[0] // 2]
        rows, columns = ((368 - n + 1) // 2 for n in central.shape)
        window = expected[rows : rows + central.shape[0], columns : columns + central.shape[1]]
        np.testing.assert_array_equal(central, window)
        compared += len(np.unique(window)) > 1
    assert compared == 3
