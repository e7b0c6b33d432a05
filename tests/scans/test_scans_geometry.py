"""Scans of every orientation, spacing and size: what is segmented lies where it was seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from helpers.segment_samples import (
    CPU,
    STEP,
    dice,
    grid_points,
    one_thread,  # noqa: F401
    phantom,
    phantom_labels,
    predict_by_threshold,
    same_geometry,
    write_threshold_model,
)
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans import load_model, segment
from nnunetv2_diffusion.scans.sagittal import SagittalVolume

CENTRE = np.array((12.5, -31.25, 58.75))
AXIS_ALIGNED = [
    np.array([[(i == axes[j]) * signs[j] for j in range(3)] for i in range(3)])
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
OBLIQUE = [
    Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(signs)
    for angles, signs in (
        ((7, -12, 5), (1, 1, 1)),
        ((-15, 9, 21), (1, -1, 1)),
        ((96, 4, -8), (1, 1, -1)),
        ((3, 91, 14), (-1, 1, 1)),
        ((20, -18, 110), (1, 1, 1)),
    )
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    """Labels by grey value, at 1 mm and 64 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionNetwork, "predict", predict_by_threshold)
        yield load_model(write_threshold_model(tmp_path_factory.mktemp("model")), runtime=CPU)


def turned(direction: np.ndarray, size, spacing) -> tuple[sitk.Image, sitk.Image]:
    """The phantom on a grid whose extents are given for left-right, front-back and up-down, in any orientation."""
    axes = np.abs(direction).argmax(axis=0)
    return phantom(direction, [size[a] for a in axes], [spacing[a] for a in axes], CENTRE)


def dice_on_model_grid(model, image: sitk.Image) -> list[float]:
    """Of the preprocessed scan's grey values against the phantom at the very same points."""
    volume = SagittalVolume.of(image, model.spacing, model.size)
    found = np.rint(volume.model_array(range(volume.slices)) / STEP)
    grid = volume.grid(0, volume.slices).image(found)
    return dice(found, phantom_labels(grid_points(grid) - CENTRE))


def check_round_trip(model, image: sitk.Image, labels: sitk.Image) -> None:
    """Every slice: geometry, Dice on both grids, and the map where the mask is."""
    result = segment(image, model, slices="all")
    assert same_geometry(result.mask, image, 0) and same_geometry(result.uncertainty, image, 0)
    assert result.mask.GetPixelID() == sitk.sitkUInt8 and result.uncertainty.GetPixelID() == sitk.sitkFloat32
    mask = sitk.GetArrayFromImage(result.mask)
    on_scan = dice(mask, sitk.GetArrayFromImage(labels))
    on_model = dice_on_model_grid(model, image)
    assert min(on_scan) > 0.9
    np.testing.assert_allclose(on_scan, on_model, atol=0.01)
    uncertainty = sitk.GetArrayFromImage(result.uncertainty)
    assert np.isfinite(uncertainty).all() and uncertainty.min() >= 0
    # the stand-in's uncertainty is a tenth of the label: apart from interpolated edges the two agree
    assert np.mean(np.abs(uncertainty - mask / 10) < 0.05) > 0.97


@pytest.mark.parametrize("direction", AXIS_ALIGNED, ids=lambda d: sitk_code(d))
def test_all_48_orientations(model, direction):
    check_round_trip(model, *turned(direction, (5, 52, 60), (4.0, 1.0, 1.0)))


@pytest.mark.parametrize("direction", OBLIQUE)
def test_oblique_directions(model, direction):
    check_round_trip(model, *turned(direction, (9, 56, 62), (3.3, 1.0, 1.0)))


def sitk_code(direction: np.ndarray) -> str:
    """As RAS."""
    return sitk.DICOMOrientImageFilter_GetOrientationFromDirectionCosines(direction.ravel().astype(float).tolist())


SAGITTAL = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])


@pytest.mark.parametrize(
    ("size", "spacing"),
    [
        ((5, 90, 150), (4.0, 0.6, 0.4)),
        ((5, 40, 30), (4.0, 1.3, 2.0)),
        ((60, 50, 64), (0.9, 1.0, 1.0)),
        ((20, 52, 13), (1.0, 1.0, 4.5)),
        ((3, 100, 110), (4.0, 1.0, 1.0)),
    ],
    ids=["fine", "coarse", "isotropic", "axial", "larger than the model's"],
)
def test_sizes_and_spacings(model, size, spacing):
    image, labels = turned(SAGITTAL, size, spacing)
    result = segment(image, model, slices="all")
    assert same_geometry(result.mask, image, 0)
    on_scan = dice(sitk.GetArrayFromImage(result.mask), sitk.GetArrayFromImage(labels))
    # interpolating 4.5 mm axial slices smears the phantom's edges; everything else is sharp
    assert min(on_scan) > (0.7 if spacing[2] == 4.5 else 0.93)
    # edges of a fine scan lie between the model's pixels, and the truth between a coarse scan's pixels is unknown
    assert (np.array(on_scan) > np.array(dice_on_model_grid(model, image)) - 0.015).all()
    assert any("axial" in warning for warning in result.report["warnings"]) == (spacing[2] == 4.5)


def test_tiny_scan_of_20_pixels(model):
    image, labels = phantom(SAGITTAL, (20, 20, 3), (3.0, 3.0, 4.0), CENTRE)
    mask = sitk.GetArrayFromImage(segment(image, model, slices="all").mask)
    assert min(dice(mask, sitk.GetArrayFromImage(labels))) > 0.9


def test_huge_scan_is_tiled_and_nothing_cut_away(model):
    direction, size = SAGITTAL, (1024, 1024, 1)
    image, _ = phantom(direction, size, (0.5, 0.5, 4.0), CENTRE)
    # bright squares in all corners of a field of view of 512 mm, eight times the model's
    array = sitk.GetArrayFromImage(image)
    for rows, columns in itertools.product((slice(4, 120), slice(-120, -4)), repeat=2):
        array[:, rows, columns] = 600
    large = sitk.GetImageFromArray(array)
    large.CopyInformation(image)
    result = segment(large, model)
    mask = sitk.GetArrayFromImage(result.mask)
    assert min(dice(mask, np.rint(array / 200))) > 0.97
    assert result.report["covered"]["model_pixels"] == [512, 512]
    assert result.report["covered"]["within_slices"] == "the whole field of view"


def test_single_slice_fills_its_own_slice_alone(model):
    image, labels = turned(SAGITTAL, (8, 52, 60), (4.0, 1.0, 1.0))
    result = segment(image, model)
    mask, truth = sitk.GetArrayFromImage(result.mask), sitk.GetArrayFromImage(labels)
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    # the scan's last axis runs to the right: slice 4 from the left is its fifth
    assert filled.tolist() == [4] and result.report["covered"]["sagittal_slices"] == [4]
    assert min(dice(mask[4], truth[4])) > 0.97
    uncertainty = sitk.GetArrayFromImage(result.uncertainty)
    assert np.isfinite(uncertainty).all() and not uncertainty[np.arange(8) != 4].any()
    alone = segment(image[:, :, 4:5], model)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(alone.mask)[0], mask[4])


@pytest.mark.parametrize(("slices", "expected"), [(1, [4]), (3, [3, 4, 5]), ("4", [2, 3, 4, 5]), (99, list(range(8)))])
def test_k_slices_about_the_centre(model, slices, expected):
    image, _ = turned(SAGITTAL, (8, 52, 60), (4.0, 1.0, 1.0))
    result = segment(image, model, slices=slices)
    assert result.report["covered"]["sagittal_slices"] == expected
    assert np.flatnonzero(sitk.GetArrayFromImage(result.mask).any(axis=(1, 2))).tolist() == expected


def test_two_dimensional_image_comes_back_two_dimensional(model):
    image, labels = phantom(SAGITTAL, (52, 60, 1), (1.0, 1.0, 4.0), CENTRE)
    plane, truth = image[:, :, 0], labels[:, :, 0]
    plane.SetDirection((0.8, -0.6, 0.6, 0.8))
    plane.SetOrigin((-7.5, 3.25))
    result = segment(plane, model, probabilities=True)
    assert result.mask.GetDimension() == 2 and same_geometry(result.mask, plane, 0)
    assert same_geometry(result.uncertainty, plane, 0)
    assert result.probabilities.GetSize() == (52, 60, 4)
    assert min(dice(sitk.GetArrayFromImage(result.mask), sitk.GetArrayFromImage(truth))) > 0.97


def test_probabilities_belong_to_the_mask(model):
    image, _ = turned(SAGITTAL, (4, 90, 100), (4.0, 0.7, 0.7))
    result = segment(image, model, slices=2, probabilities=True)
    assert result.probabilities.GetSize() == (*image.GetSize(), 4)
    assert result.probabilities.GetSpacing()[:3] == image.GetSpacing()
    heads, mask = sitk.GetArrayFromImage(result.probabilities), sitk.GetArrayFromImage(result.mask)
    covered = heads.any(axis=(0, 2, 3))
    assert covered.sum() == 2
    np.testing.assert_array_equal(heads[:, covered].argmax(axis=0), mask[covered])
    np.testing.assert_allclose(heads[:, covered].sum(axis=0), 1, atol=1e-5)


def test_scans_that_are_no_sagittal_images_are_refused(model):
    image, _ = phantom(np.eye(3), (52, 60, 1), (1.0, 1.0, 4.0), CENTRE)
    with pytest.raises(ValueError, match="one slice that is not sagittal"):
        segment(image, model)
    with pytest.raises(ValueError, match="central, all or a number"):
        segment(turned(SAGITTAL, (4, 52, 60), (4.0, 1.0, 1.0))[0], model, slices="both")
    with pytest.raises(ValueError, match="expected one grey value"):
        segment(sitk.Compose(image, image, image), model)
