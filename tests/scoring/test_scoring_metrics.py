"""Dice, HD95 and ASSD against shapes worked out by hand and against monai."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.scoring.metrics import (
    average_symmetric_surface_distance,
    bounding_box,
    dice,
    hausdorff95,
    structure_metrics,
    surface_distances,
)

DIAGONAL = 100.0


def square(shape: tuple[int, ...], *box: slice) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[box] = True
    return mask


def test_shifted_squares_worked_out_by_hand():
    """Two 4 x 4 squares, one moved by 2 voxels of 1.5 mm along the last axis."""
    reference = square((12, 12), slice(2, 6), slice(2, 6))
    prediction = square((12, 12), slice(2, 6), slice(4, 8))
    scores = structure_metrics(reference, prediction, (1.0, 1.5), DIAGONAL)
    assert scores["dice"] == pytest.approx(2 * 8 / 32)
    # The 12 outline voxels of the reference, by column. Left column (4 voxels): 3 mm to the prediction's left column.
    # Second column (2 voxels, rows 2 and 5): 1.5 mm. Third column: on the prediction's left column, 0 mm.
    # Right column (4 voxels): the corners lie on the prediction's upper and lower edge, 0 mm; the inner two are
    # min(1 mm down to the edge, 1.5 mm left to the left column) = 1 mm away.
    one_way = [3.0] * 4 + [1.5] * 2 + [0.0] * 2 + [0.0] * 2 + [1.0] * 2
    assert sorted(surface_distances(reference, prediction, (1.0, 1.5))[0]) == sorted(one_way)
    assert scores["hd95"] == pytest.approx(np.percentile(one_way, 95)) == pytest.approx(3.0)
    assert scores["assd"] == pytest.approx(sum(one_way) / 12)


def test_an_axis_of_two_voxels_counts():
    """One voxel each, 1 voxel of 3 mm and 2 of 2 mm apart: 5 mm."""
    scores = structure_metrics(square((2, 3), 0, 0), square((2, 3), 1, 2), (3.0, 2.0), DIAGONAL)
    assert scores["hd95"] == scores["assd"] == pytest.approx(5)


def test_single_voxels_in_anisotropic_3d():
    reference = square((5, 9, 9), slice(1, 2), slice(2, 3), slice(2, 3))
    prediction = square((5, 9, 9), slice(2, 3), slice(5, 6), slice(6, 7))
    scores = structure_metrics(reference, prediction, (4.0, 1.0, 2.0), DIAGONAL)
    assert scores["dice"] == 0
    assert scores["hd95"] == scores["assd"] == pytest.approx(np.sqrt(4**2 + 3**2 + 8**2))


def test_one_slice_is_scored_as_the_slice():
    """A volume of one slice gives the numbers of the plain 2D image, on whichever axis the slice lies."""
    rng = np.random.default_rng(0)
    flat = [rng.random((24, 30)) > 0.4 for _ in range(2)]
    expected = structure_metrics(*flat, (1.0, 0.7), DIAGONAL)
    for axis, spacing in ((0, (9.0, 1.0, 0.7)), (2, (1.0, 0.7, 9.0))):
        volume = [np.expand_dims(mask, axis) for mask in flat]
        assert structure_metrics(*volume, spacing, DIAGONAL) == pytest.approx(expected)


def test_percentile_ignores_a_stray_voxel_only_below_five_percent():
    reference = square((60, 60), slice(5, 45), slice(5, 45))
    prediction = reference.copy()
    prediction[58, 58] = True
    to_prediction, to_reference = surface_distances(reference, prediction, (1.0, 1.0))
    assert max(to_reference) == pytest.approx(np.hypot(14, 14))
    assert hausdorff95(to_prediction, to_reference) == 0
    assert average_symmetric_surface_distance(to_prediction, to_reference) == pytest.approx(
        np.hypot(14, 14) / (156 * 2 + 1)
    )


def test_empty_masks_follow_the_stated_rule():
    empty, full = np.zeros((6, 6), dtype=bool), np.ones((6, 6), dtype=bool)
    both = structure_metrics(empty, empty, (1.0, 1.0), DIAGONAL)
    assert np.isnan([both["dice"], both["hd95"], both["assd"]]).all()
    for pair in ((empty, full), (full, empty)):
        assert structure_metrics(*pair, (1.0, 1.0), DIAGONAL) | {"reference_voxels": 0, "predicted_voxels": 0} == {
            "dice": 0,
            "hd95": DIAGONAL,
            "assd": DIAGONAL,
            "reference_voxels": 0,
            "predicted_voxels": 0,
        }


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.6, 1.9), (3.3, 0.5, 0.8)])
def test_agrees_with_monai(spacing):
    monai = pytest.importorskip("monai.metrics", reason="monai is not installed")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(len(spacing))
    shape = (40, 36) if len(spacing) == 2 else (14, 30, 28)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for _ in range(3):
        masks = []
        for _ in range(2):
            extent = np.reshape(shape, (-1, *(1 for _ in shape)))
            centre = extent * rng.uniform(0.3, 0.7, extent.shape)
            radius = extent * rng.uniform(0.2, 0.4)
            masks.append((((grid - centre) / radius) ** 2).sum(0) + 0.2 * rng.random(shape) < 1)
        prediction, reference = (torch.from_numpy(mask)[None, None].float() for mask in reversed(masks))
        options = {"include_background": True, "spacing": list(spacing)}
        scores = structure_metrics(*masks, spacing, DIAGONAL)
        assert scores["dice"] == pytest.approx(float(monai.compute_dice(prediction, reference)), rel=1e-5)
        hd95 = monai.compute_hausdorff_distance(prediction, reference, percentile=95, **options)
        assert scores["hd95"] == pytest.approx(float(hd95), rel=1e-5)
        assd = monai.compute_average_surface_distance(prediction, reference, symmetric=True, **options)
        assert scores["assd"] == pytest.approx(float(assd), rel=1e-5)


def test_agrees_with_monai_on_a_real_mask(real_mri):
    monai = pytest.importorskip("monai.metrics", reason="monai is not installed")
    torch = pytest.importorskip("torch")
    volume = read_volume(real_mri / "spider_layout" / "masks" / "1_t2.mha")
    reference = volume.array > 0
    prediction = np.roll(reference, (0, 2, 3), axis=(0, 1, 2))
    scores = structure_metrics(reference, prediction, volume.spacing, volume.diagonal)
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": list(volume.spacing)}
    hd95 = float(monai.compute_hausdorff_distance(*tensors, percentile=95, **options))
    assd = float(monai.compute_average_surface_distance(*tensors, symmetric=True, **options))
    assert scores["hd95"] == pytest.approx(hd95, rel=1e-5)
    assert scores["assd"] == pytest.approx(assd, rel=1e-5)
    assert dice(reference, prediction) == pytest.approx(float(monai.compute_dice(*tensors)), rel=1e-5)


def test_bounding_box_of_an_empty_mask_is_the_whole_array():
    assert bounding_box(np.zeros((3, 4), dtype=bool)) == (slice(0, 3), slice(0, 4))
    assert bounding_box(square((9, 9), slice(2, 4), slice(5, 6))) == (slice(2, 4), slice(5, 6))
