"""The sliding window: its sums against float64, its batches, 2-D and 3-D tiles, and what it does where memory ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from helpers.prediction_samples import assert_same, stock_masks, volumes
from helpers.segment_samples import CPU, dataset_json, plans, volume_plans, write_model
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.window import Blend, SlidingWindow

DEVICE = torch.device("cpu")
PATCH = (8, 16, 16)
PLAIN = "nnUNetTrainer"


def slicers_2d(shape: tuple[int, ...]) -> list[tuple]:
    """Tiles of 4 x 4, half overlapping, slice by slice."""
    depth, height, width = shape
    return [
        (slice(None), z, slice(y, y + 4), slice(x, x + 4))
        for z in range(depth)
        for y in range(0, height - 3, 2)
        for x in range(0, width - 3, 2)
    ]


def doubled(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two heads and a map, linear in the tile."""
    return torch.cat([2 * tiles, -tiles], dim=1), tiles / 8


def test_overlapping_tiles_are_weighted_means_in_float64():
    generator = np.random.default_rng(0)
    weight = generator.uniform(1, 10, (4, 4)).astype(np.float32)
    blend, total, weights = Blend((1, 1, 6, 6), torch.from_numpy(weight)), np.zeros((6, 6)), np.zeros((6, 6))
    for _, _, rows, columns in slicers_2d((1, 6, 6)):
        tile = generator.normal(size=(4, 4)).astype(np.float32)
        blend.add(torch.from_numpy(tile)[None], (slice(None), 0, rows, columns))
        total[rows, columns] += tile.astype(float) * weight
        weights[rows, columns] += weight
    np.testing.assert_allclose(blend.mean()[0, 0].numpy(), total / weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_volumes_of_any_size_keep_their_values_in_any_batch(batch: int):
    window = SlidingWindow((4, 4), slicers_2d, DEVICE, use_gaussian=False)
    shapes = ((1, 2, 6, 8), (1, 1, 3, 2))  # the second is smaller than a tile
    held = [torch.rand(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes]
    tiles = [window.cut(volume) for volume in held]
    assert [volume.slices for volume in tiles] == [2, 1]
    seen = []
    found = window.predict(tiles, lambda t: seen.append(len(t)) or doubled(t), batch, DEVICE)
    assert sum(seen) == 2 * 2 * 3 + 1 and max(seen) <= batch
    for volume, (logits, maps) in zip(held, found, strict=True):
        assert logits.dtype == torch.half and maps.dtype == torch.float32
        np.testing.assert_allclose(logits.numpy(), torch.cat([2 * volume, -volume]).numpy(), atol=4e-3)
        np.testing.assert_allclose(maps.numpy(), (volume / 8).numpy(), atol=1e-6)


def test_logits_that_half_precision_does_not_hold_are_refused():
    window = SlidingWindow((4, 4), slicers_2d, DEVICE, use_gaussian=False)
    with pytest.raises(RuntimeError, match="beyond half precision"):
        window.predict([window.cut(torch.full((1, 1, 4, 4), 4e4))], doubled, 1, DEVICE)


@pytest.fixture(scope="module")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain 3-D nnU-Net of two folds with random weights."""
    results = tmp_path_factory.mktemp("results")
    return write_model(
        results,
        PLAIN,
        "3d_fullres",
        folds=(0, 1),
        plans_file=volume_plans(PATCH),
        description=dataset_json(None, 1.0, "3d"),
    )


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes of a patch's size and larger ones, on the plan's grid."""
    folder, generator = tmp_path_factory.mktemp("scans"), np.random.default_rng(3)
    for name, shape in {"exact": PATCH, "larger": (11, 24, 20), "flat": (3, 20, 30)}.items():
        image = sitk.GetImageFromArray(generator.normal(100, 20, shape).astype(np.float32))
        sitk.WriteImage(image, str(folder / f"{name}_0000.nii.gz"))
    return folder


def predictor_of(model: Path, folds: tuple, **options) -> DiffusionPredictor:
    predictor = DiffusionPredictor(runtime=CPU, allow_tqdm=False, **options)
    predictor.initialize_from_trained_model_folder(model, folds)
    return predictor


@pytest.mark.parametrize("folds", [(0,), (0, 1)])
def test_a_volumes_masks_are_nnunets(volume_model: Path, scans: Path, tmp_path: Path, folds: tuple):
    predictor_of(volume_model, folds, uncertainty=True).predict_from_files_sequential(
        str(scans), str(tmp_path / "ours")
    )
    masks = volumes(tmp_path / "ours")
    assert list(masks) == ["exact", "flat", "larger"] and len(np.unique(masks["larger"])) > 1
    assert_same(masks, volumes(stock_masks(volume_model, scans, tmp_path / "stock", folds)))
    for case, uncertainty in volumes(tmp_path / "ours", "uncertainty").items():
        assert uncertainty.shape == masks[case].shape
        assert 0 <= uncertainty.min() < uncertainty.max() <= 1


def test_a_volumes_uncertainty_is_the_entropy_over_its_labels(volume_model: Path, scans: Path):
    """An image of a patch's size, mirrored along the axes that its training mirrored."""
    stock = nnUNetPredictor(device=DEVICE, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(volume_model), (0,))
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(scans / "exact_0000.nii.gz"))).astype(np.float32)
    image = torch.from_numpy((array - array.mean()) / array.std())
    with torch.no_grad():
        views = [stock.network.eval()(image[None, None].flip(a)).flip(a)[0] for a in ((), (2,), (3,), (2, 3))]
    logits = torch.stack(views).mean(dim=0).double().numpy()
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    expected = -(p * np.log(p)).sum(axis=0) / np.log(4)
    _, maps = predictor_of(volume_model, (0,)).predict(image[None])
    assert maps.shape == (1, *PATCH)
    np.testing.assert_allclose(maps[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("trainer", [PLAIN, "nnUNetTrainerSpineSegDiff"])
def test_folds_follow_each_other_on_a_device_that_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str):
    """`.to` of a GPU copies; buffers that it copied in inference mode could not be loaded into outside of it."""
    plans_file = plans((64, 64), 1.0)
    arguments = plans_file["configurations"]["2d"]["architecture"]["arch_kwargs"]
    arguments["norm_op"] = "torch.nn.modules.batchnorm.BatchNorm2d"  # whose running means are buffers
    model = write_model(tmp_path, trainer, folds=(0, 1), plans_file=plans_file)
    slices = [torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    predictor = predictor_of(model, (0, 1))
    expected, expected_slices = predictor.predict(slices[0]), list(predictor.predict_slices(slices))
    copying = predictor_of(model, (0, 1))
    network = copying.network
    monkeypatch.setattr(network, "to", lambda *device: network._apply(torch.clone))
    for _ in range(2):
        for ours, theirs in zip(copying.predict(slices[0]), expected, strict=True):
            assert torch.equal(ours, theirs)
        for ours, theirs in zip(copying.predict_slices(slices), expected_slices, strict=True):
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    buffers = list(network.buffers())
    assert buffers and not any(buffer.is_inference() for buffer in buffers)


def test_results_move_to_main_memory_where_the_device_has_none_left(tmp_path: Path, monkeypatch, capsys):
    predictor = predictor_of(write_model(tmp_path), (0,))
    data = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = predictor.predict(data)
    predict, calls = SlidingWindow.predict, []

    def full_once(window, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("CUDA out of memory")
        return predict(window, *arguments)

    monkeypatch.setattr(SlidingWindow, "predict", full_once)
    predictor.perform_everything_on_device = True
    assert all(torch.equal(*pair) for pair in zip(predictor.predict(data), expected, strict=True))
    assert len(calls) == 2 and "CUDA out of memory" in capsys.readouterr().out


def test_seconds_and_slices_of_all_predictions_are_counted(volume_model: Path, scans: Path):
    predictor = predictor_of(volume_model, (0, 1))
    for name in ("exact", "flat"):  # flat is padded from 3 slices to 8
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(scans / f"{name}_0000.nii.gz")))
        predictor.predict(torch.from_numpy(array)[None])
    assert predictor.slices == 8 + 3
    assert predictor.timing()["seconds_per_slice"] == predictor.seconds / 11 > 0
    assert predictor.timing()["network_evaluations_per_slice"] == 2 * 4
