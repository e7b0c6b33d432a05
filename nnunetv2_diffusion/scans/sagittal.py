"""The sagittal slices of a scan on the model's grid, and what was found in them back on the scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import Grid, central_sagittal_index, model_grid, sagittal_slice, to_ras
from nnunetv2_diffusion.imaging.intensity import normalize_intensity
from nnunetv2_diffusion.imaging.resampling import resample_to_grid, resample_to_image

# A volume cut in another plane than the sagittal is worth a warning where its slices are that much coarser.
_THICK = 2.0


@dataclass(frozen=True)
class SagittalVolume:
    """A scan with its grey scale set, in RAS+ orientation, and the model's grid for each of its slices.

    `size` (height, width) and `spacing` (mm) are those of the model's grid.
    """

    scan: sitk.Image
    image: sitk.Image
    spacing: tuple[float, float]
    size: tuple[int, int]

    @classmethod
    def of(cls, scan: sitk.Image, spacing: tuple[float, float], size: tuple[int, int] | None) -> SagittalVolume:
        """Prepare a scan as in training.

        Args:
            scan: 3-D, any orientation.
            spacing: of the model's pixels, (height, width) in mm.
            size: that training images were padded or cropped to, (height, width); smaller fields of view are padded to
                it, larger ones are kept whole. None keeps all whole.

        Raises:
            ValueError: the scan has no contrast, or no extent in the sagittal plane.
        """
        image = to_ras(normalize_intensity(scan))
        if min(image.GetSize()[1:]) < 2:
            raise ValueError(
                f"by its header the scan of size {scan.GetSize()} is one slice that is not sagittal: correct its "
                "direction, or save it as a 2-D image, which is taken as a sagittal slice"
            )
        whole = model_grid(image, spacing).size[:0:-1]
        kept = whole if size is None else tuple(max(pair) for pair in zip(whole, size, strict=True))
        return cls(scan, image, spacing, kept)

    @property
    def slices(self) -> int:
        """How many sagittal slices the scan has."""
        return self.image.GetSize()[0]

    def grid(self, first: int, count: int = 1) -> Grid:
        """The model's grid for `count` neighbouring slices."""
        return model_grid(self.image[first : first + count, :, :], self.spacing, self.size)

    def model_array(self, indices: Sequence[int]) -> np.ndarray:
        """Slices on the model's grid, float32 [z, y, x], one x an index."""
        planes = [
            sitk.GetArrayFromImage(resample_to_grid(sagittal_slice(self.image, index), self.grid(index), "linear"))
            for index in indices
        ]
        return np.concatenate(planes, axis=2)

    def plane_on_scan(self, plane: np.ndarray, index: int) -> np.ndarray:
        """A float map [z, y] on the model's grid of slice `index`, interpolated at the scan's own pixels [z, y]."""
        on_grid = self.grid(index).image(np.ascontiguousarray(plane[..., None], dtype=np.float32))
        back = resample_to_image(on_grid, sagittal_slice(self.image, index), "linear")
        return sitk.GetArrayFromImage(back)[..., 0]

    def to_scan(self, array: np.ndarray) -> sitk.Image:
        """An array [z, y, x] in RAS+ orientation as an image with the scan's own geometry, to the last digit."""
        own = np.reshape(self.scan.GetDirection(), (3, 3))
        # column j: the RAS axis that the scan's axis j runs along, 1 or -1
        turned = np.rint(np.reshape(self.image.GetDirection(), (3, 3)).T @ own).astype(int)
        axes = np.abs(turned).argmax(axis=0)
        xyz = array.transpose(2, 1, 0).transpose(axes)
        flips = tuple(slice(None, None, int(turned[axis, j])) for j, axis in enumerate(axes))
        return Grid.of(self.scan).image(np.ascontiguousarray(xyz[flips].transpose(2, 1, 0)))

    def remarks(self) -> list[str]:
        """A warning where sagittal slices had to be put together from slices of another plane."""
        x, y, z = self.image.GetSpacing()
        if max(y, z) <= _THICK * x:
            return []
        cut = "axial" if z > y else "coronal"
        return [f"the scan seems to be cut in {cut} slices {max(y, z):.1f} mm apart: its sagittal planes are coarse"]


def slice_indices(slices: str | int, image_ras: sitk.Image) -> list[int]:
    """Which sagittal slices of a volume in RAS+ orientation to segment, counted from the left.

    Args:
        slices: "central", "all", or a number K: the K slices about the central one.
        image_ras: the volume.

    Raises:
        ValueError: anything else.
    """
    count = image_ras.GetSize()[0]
    if slices == "all":
        return list(range(count))
    wanted = 1 if slices == "central" else int(slices) if str(slices).isdecimal() else 0
    if wanted < 1:
        raise ValueError(f"the slices to segment are central, all or a number of at least 1, not {slices!r}")
    wanted = min(wanted, count)
    first = min(max(0, central_sagittal_index(image_ras) - wanted // 2), count - wanted)
    return list(range(first, first + wanted))
