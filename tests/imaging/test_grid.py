"""The model's grid, and the way there and back, against numpy on patient coordinates, for scans of any orientation."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import (
    GRADIENT,
    MIDDLE_VALUE,
    SAGITTAL,
    make_mask,
    make_scan,
    physical_points,
    rotation,
)
from nnunetv2_diffusion.imaging.grid import Grid, central_sagittal_index, model_grid, sagittal_slice, to_ras
from nnunetv2_diffusion.imaging.resampling import resample_to_grid, resample_to_image

OBLIQUE = [(0, 0, 0), (12, -8, 20), (-25, 15, -30)]


def array_of(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def image_with(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=False)


def expected_values(points: np.ndarray, scan: sitk.Image) -> np.ndarray:
    centre = physical_points(scan).reshape(-1, 3).mean(axis=0)
    return (points - centre) @ GRADIENT + MIDDLE_VALUE


class TestOrientation:
    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
    @pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=3)))
    def test_all_48_orientations_become_the_same_ras_volume(self, order, flips):
        scan = make_scan(size=(6, 7, 5))
        turned = sitk.Flip(sitk.PermuteAxes(scan, order), flips)
        ras = to_ras(turned)
        lps_to_ras = np.diag([-1.0, -1.0, 1.0])
        affine = np.eye(4)
        affine[:3, :3] = lps_to_ras @ np.reshape(ras.GetDirection(), (3, 3)) * ras.GetSpacing()
        assert nibabel.aff2axcodes(affine) == ("R", "A", "S")
        np.testing.assert_allclose(array_of(ras), expected_values(physical_points(ras), scan), atol=1e-3)
        np.testing.assert_array_equal(array_of(ras), array_of(to_ras(scan)))

    def test_central_slice_is_the_middle_one(self):
        ras = to_ras(make_scan())
        assert central_sagittal_index(ras) == 2
        middle = sagittal_slice(ras, 2)
        assert middle.GetSize() == (1, 24, 30)
        np.testing.assert_array_equal(array_of(middle)[:, :, 0], array_of(ras)[:, :, 2])
        np.testing.assert_allclose(physical_points(middle)[:, :, 0], physical_points(ras)[:, :, 2], atol=1e-9)

    @pytest.mark.parametrize("index", [-1, 5])
    def test_slices_outside_of_the_scan(self, index):
        with pytest.raises(ValueError, match=f"no sagittal slice {index}"):
            sagittal_slice(to_ras(make_scan()), index)


class TestModelGrid:
    @pytest.mark.parametrize("degrees", OBLIQUE)
    @pytest.mark.parametrize(("spacing", "size"), [(1.0, 320), (1.0, (20, 16)), (0.7, None), ((1.3, 0.9), (25, 31))])
    def test_values_lie_where_the_scan_has_them(self, degrees, spacing, size):
        scan = make_scan(direction=rotation(degrees) @ SAGITTAL)
        middle = sagittal_slice(to_ras(scan), 2)
        grid = model_grid(middle, spacing, size)
        result = resample_to_grid(middle, grid, "linear", default_value=-1)
        array, points = array_of(result)[:, :, 0], physical_points(result)[:, :, 0]
        inside = _interior(points, scan)
        assert inside.sum() > 200
        np.testing.assert_allclose(array[inside], expected_values(points, scan)[inside], atol=2e-3)
        slice_index = [scan.TransformPhysicalPointToContinuousIndex(p.tolist())[2] for p in points[:, 0]]
        np.testing.assert_allclose(slice_index, slice_index[0], atol=1e-9)

    @pytest.mark.parametrize(("spacing", "size"), [(1.0, 320), (2.5, (128, 64)), ((1.0, 0.5), (40, 50))])
    def test_size_and_spacing(self, spacing, size):
        grid = model_grid(sagittal_slice(to_ras(make_scan()), 2), spacing, size)
        height, width = size if isinstance(size, tuple) else (size, size)
        pixel_height, pixel_width = spacing if isinstance(spacing, tuple) else (spacing, spacing)
        assert grid.size == (1, width, height)
        assert grid.spacing[1:] == (pixel_width, pixel_height)

    def test_crop_of_equal_spacing_interpolates_nothing(self):
        scan = make_scan(size=(381, 381, 3), spacing=(1.0, 1.0, 4.0))
        ras = to_ras(scan)
        cropped = resample_to_grid(ras, model_grid(ras, 1.0, 320))
        np.testing.assert_allclose(array_of(cropped), array_of(ras)[30:350, 30:350], atol=1e-3)
        padded = resample_to_grid(ras, model_grid(ras, 1.0, 400))
        np.testing.assert_allclose(array_of(padded)[10:391, 10:391], array_of(ras), atol=1e-3)
        assert array_of(padded)[:10].max() == 0

    @pytest.mark.parametrize("spacing", [0.8, 1.0, 1.3, 2.5])
    def test_whole_field_of_view_is_covered_and_smaller_sizes_are_crops_of_it(self, spacing):
        ras = to_ras(make_scan())
        whole, small = model_grid(ras, spacing), model_grid(ras, spacing, 8)
        extent = np.array(whole.size[1:]) * spacing
        assert (extent >= np.array(ras.GetSize()[1:]) * ras.GetSpacing()[1:] - 1e-2).all()
        whole_image, small_image = resample_to_grid(ras, whole), resample_to_grid(ras, small)
        y, z = (np.array(whole.size[1:]) - 8) // 2
        np.testing.assert_allclose(array_of(small_image), array_of(whole_image)[z : z + 8, y : y + 8], atol=1e-3)

    def test_volumes_keep_their_slices(self):
        ras = to_ras(make_scan())
        grid = model_grid(ras, 1.0, 32)
        assert (grid.size[0], grid.spacing[0]) == (5, 4.0)
        volume = resample_to_grid(ras, grid)
        single = resample_to_grid(sagittal_slice(ras, 3), model_grid(sagittal_slice(ras, 3), 1.0, 32))
        np.testing.assert_allclose(array_of(volume)[:, :, 3], array_of(single)[:, :, 0], atol=1e-3)

    @pytest.mark.parametrize("spacing", [0.3, 1.0, 6.0])
    def test_single_slices_are_thicker_than_their_pixels_are_wide(self, spacing):
        middle = sagittal_slice(to_ras(make_scan(spacing=(0.9, 0.9, 0.9))), 2)
        grid = model_grid(middle, spacing, 32)
        assert grid.spacing[0] > max(grid.spacing[1:])
        assert grid.spacing[0] == pytest.approx(max(0.9, 1.1 * spacing))
        thick = sagittal_slice(to_ras(make_scan()), 2)
        assert model_grid(thick, 1.0, 32).spacing[0] == 4.0

    @pytest.mark.parametrize("bad", [0, -1.0, (1, 2, 3), float("nan")])
    def test_bad_numbers(self, bad):
        with pytest.raises(ValueError, match="positive numbers"):
            model_grid(make_scan(), spacing=bad)

    def test_halving_the_resolution_moves_mask_edges_alike_in_every_row(self):
        """Every new pixel centre lies midway between two old ones, a tie that rounding errors must not decide."""
        scan = make_scan(size=(400, 400, 1), spacing=(0.5, 0.5, 4.0), direction=rotation((3, 7, -11)) @ SAGITTAL)
        array = np.zeros((1, 400, 400), dtype=np.uint8)
        array[:, :, 201:] = 1
        mask = image_with(array)
        mask.CopyInformation(scan)
        result = array_of(resample_to_grid(to_ras(mask), model_grid(to_ras(mask), 1.0), "nearest"))
        assert len(np.unique(result.sum(axis=1))) == 1

    @pytest.mark.parametrize("seed", range(4))
    def test_ties_of_tilted_scans_are_decided_alike(self, seed):
        """Every new centre lies midway between pixels 2 i and 2 i + 1, and takes the latter."""
        rng = np.random.default_rng(seed)
        mask = image_with(np.broadcast_to((np.arange(200) > 100).astype(np.uint8), (1, 200, 200)).copy())
        direction, origin = rotation(rng.uniform(-20, 20, 3)), rng.uniform(-300, 300, 3)
        mask.SetDirection(direction.ravel())
        mask.SetOrigin(origin)
        mask.SetSpacing((0.5, 0.5, 4.0))
        first = tuple(origin + direction @ [0.25, 0.25, 0])
        grid = Grid(size=(100, 100, 1), spacing=(1.0, 1.0, 4.0), origin=first, direction=tuple(direction.ravel()))
        result = array_of(resample_to_grid(mask, grid, "nearest"))
        np.testing.assert_array_equal(result[0], np.broadcast_to(np.arange(100) >= 50, (100, 100)))


class TestWayBack:
    @pytest.mark.parametrize("degrees", OBLIQUE)
    @pytest.mark.parametrize("slice_distance", [0.4, 0.9, 4.0])
    @pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
    def test_a_slice_returns_to_exactly_its_own_slice(self, degrees, slice_distance, flips):
        scan = make_scan(spacing=(1.5, 1.25, slice_distance), direction=rotation(degrees) @ SAGITTAL)
        scan = sitk.Flip(sitk.PermuteAxes(scan, (2, 0, 1)), flips)
        ras = to_ras(scan)
        for index in range(5):
            middle = sagittal_slice(ras, index)
            grid = model_grid(middle, 1.0)
            mask = grid.image(np.ones(grid.size[::-1], dtype=np.uint8))
            back = resample_to_image(mask, scan)
            assert Grid.of(back) == Grid.of(scan)
            expected = np.zeros(ras.GetSize()[::-1], dtype=np.uint8)
            expected[:, :, index] = 1
            np.testing.assert_array_equal(array_of(to_ras(back)), expected)

    @pytest.mark.parametrize("degrees", OBLIQUE)
    def test_values_return_to_their_place(self, degrees):
        scan = make_scan(direction=rotation(degrees) @ SAGITTAL)
        ras = to_ras(scan)
        on_grid = resample_to_grid(ras, model_grid(ras, 1.0))
        back = resample_to_image(on_grid, scan, "linear", default_value=-1)
        inside = _interior(physical_points(scan), scan, margin=1.0)
        np.testing.assert_allclose(array_of(back)[inside], array_of(scan)[inside], atol=5e-3)
        assert array_of(back).min() >= 0, "the whole field of view is covered"

    def test_labels_return(self):
        scan = make_scan(size=(160, 180, 5), spacing=(0.6, 0.7, 4.0))
        mask = make_mask(scan)
        ras = to_ras(mask)
        back = resample_to_image(resample_to_grid(ras, model_grid(ras, 0.5), "nearest"), scan)
        truth, result = array_of(mask), array_of(back)
        assert 2 * ((truth == result) & (truth > 0)).sum() / ((truth > 0).sum() + (result > 0).sum()) > 0.95


def _interior(points: np.ndarray, scan: sitk.Image, margin: float = 0.01) -> np.ndarray:
    """Which points lie between the scan's outermost voxel centres in the plane of its slices."""
    direction = np.reshape(scan.GetDirection(), (3, 3))
    index = (points - scan.GetOrigin()) @ direction / scan.GetSpacing()
    last = np.array(scan.GetSize()) - 1
    plane = [axis for axis in range(3) if axis != int(np.argmax(np.abs(direction[0])))]
    return np.all((index >= margin)[..., plane] & (index <= last - margin)[..., plane], axis=-1)
