"""From a scan to the model's grid and back: the one implementation of section 4.1's preprocessing.

The converter and inference both use it, so that a model sees at prediction what it saw in training. Sizes and spacings
given to it are of the sagittal plane, height (superior-inferior) first; SimpleITK's own tuples are (x, y, z).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

UPPER_PERCENTILE = 98.0
LOWER_PERCENTILE = 2.0
INTENSITY_MAX = 255.0
# nnU-Net slices along the axis of largest spacing: a single sagittal slice must be thicker than its pixels are wide.
MIN_THICKNESS_RATIO = 1.1
_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
# A bare 2-D picture is taken as a sagittal slice as screens show it: columns run to posterior, rows to inferior.
_PLANE_TO_PATIENT = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
_NIFTI_HEADER_BYTES = 348
# Halving a pixel spacing puts every new pixel midway between two old ones; a nudge makes all of them choose alike.
_TIE_BREAK_MM = 1e-4


@dataclass(frozen=True)
class Grid:
    """A voxel lattice in patient space, in SimpleITK's conventions: (x, y, z), mm, LPS, row-major direction."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The lattice of a 3-D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def image(self, array: np.ndarray) -> sitk.Image:
        """An image on this grid from an array `[z, y, x]`; ValueError where its shape is not the grid's."""
        if array.shape != self.size[::-1]:
            raise ValueError(
                f"an array of shape {array.shape} does not fit a grid of shape {self.size[::-1]} (z, y, x)"
            )
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image


def read_scan(path: str | Path) -> sitk.Image:
    """A scalar 3-D image from a file that SimpleITK knows (mha, mhd, nrrd, nii, nii.gz, …).

    A 2-D image becomes a volume of one sagittal slice (see `as_scan`). FileNotFoundError where there is no such file;
    ValueError where it is damaged or truncated, or holds several time points or channels.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file: expected one image file")
    try:
        image = sitk.ReadImage(str(path))
        complete = _holds_all_voxels(path, image)
    except (RuntimeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an image: it is damaged, truncated or not an image file") from error
    if not complete:
        raise ValueError(f"{path} cannot be read as an image: it is truncated, copy it again")
    return as_scan(image, str(path))


def _holds_all_voxels(path: Path, image: sitk.Image) -> bool:
    """Whether a NIfTI file is as long as its header promises: SimpleITK fills what is missing with zeros, silently."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        return True
    expected = _NIFTI_HEADER_BYTES + math.prod(image.GetSize()) * _file_bytes_per_voxel(path)
    if name.endswith(".nii"):
        return path.stat().st_size >= expected
    length = 0
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 22):
            length += len(chunk)
    return length >= expected


def _file_bytes_per_voxel(path: Path) -> int:
    """The size of a stored voxel in a NIfTI file: where the header has a scaling, SimpleITK returns wider ones."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rb") as stream:
        header = stream.read(_NIFTI_HEADER_BYTES)
    for byte_order in "<>":
        if np.frombuffer(header[:4], dtype=f"{byte_order}i4")[0] == _NIFTI_HEADER_BYTES:
            return int(np.frombuffer(header[72:74], dtype=f"{byte_order}i2")[0]) // 8
    return 0  # NIfTI-2, whose header lies otherwise: only its presence is checked


def as_scan(image: sitk.Image, name: str = "the image") -> sitk.Image:
    """`image` as a scalar 3-D volume; `name` is what errors call it.

    A 2-D image becomes one sagittal slice whose columns run to posterior and whose rows run to inferior. ValueError for
    more than three dimensions (a fourth of length one is dropped), several channels or complex voxels.
    """
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{name} has {image.GetPixelIDTypeAsString()} voxels, expected one grey value a voxel")
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() == 2:
        return _slice_from_picture(image)
    if image.GetDimension() != 3:
        raise ValueError(
            f"{name} has {image.GetDimension()} dimensions (size {image.GetSize()}), expected a 3-D scan: "
            "save one volume of it as a file of its own"
        )
    return image


def _slice_from_picture(image: sitk.Image) -> sitk.Image:
    """A 2-D image as a volume of one sagittal slice, in the place its own origin and direction give it in the plane."""
    axes = _PLANE_TO_PATIENT @ np.reshape(image.GetDirection(), (2, 2))
    normal = np.cross(axes[:, 0], axes[:, 1])
    volume = sitk.JoinSeries(image)
    volume.SetDirection(np.column_stack([axes, normal]).ravel().tolist())
    volume.SetOrigin((_PLANE_TO_PATIENT @ np.asarray(image.GetOrigin())).tolist())
    volume.SetSpacing((*image.GetSpacing(), MIN_THICKNESS_RATIO * max(image.GetSpacing())))
    return volume


def normalize_intensity(image: sitk.Image) -> sitk.Image:
    """Clip at the scan's 98th percentile and scale to 0-255 (section 4.1); float32, same geometry.

    Zero stays zero: magnitude MRI has no negative values. Where a scan has them, the lower end is its 2nd percentile if
    that is negative, so that a few stray negative voxels do not move the scale. ValueError for more than one channel,
    NaN or infinite voxels, and a scan without contrast (constant, or zero up to its 98th percentile).
    """
    image = as_scan(image)
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("the image has NaN or infinite voxels: replace them by finite grey values")
    if array.min() == array.max():
        raise ValueError(f"the image is constant (every voxel is {array.flat[0]}): there is nothing to segment in it")
    low, high = np.percentile(array, (LOWER_PERCENTILE, UPPER_PERCENTILE))
    low = min(0.0, float(low))
    if high <= low:
        raise ValueError(f"the image is almost empty: its 98th percentile is {high:g}, so no grey scale can be set")
    scaled = (np.clip(array, low, high).astype(np.float64) - low) * (INTENSITY_MAX / (high - low))
    return Grid.of(image).image(scaled.astype(np.float32))


def to_ras(image: sitk.Image) -> sitk.Image:
    """The same voxels with axes x, y, z running (closest) to right, anterior, superior; nothing is interpolated."""
    return sitk.DICOMOrient(image, "RAS")


def central_sagittal_index(image_ras: sitk.Image) -> int:
    """The index of the central sagittal slice of a volume in RAS+ orientation: n // 2 from the left."""
    return image_ras.GetSize()[0] // 2


def sagittal_slice(image_ras: sitk.Image, index: int) -> sitk.Image:
    """Slice `index` (from the left) of a volume in RAS+ orientation: a 3-D image of size (1, y, z) in its own place."""
    slices = image_ras.GetSize()[0]
    if not 0 <= index < slices:
        raise ValueError(f"there is no sagittal slice {index}: the scan has {slices}, counted from 0 at the left")
    return image_ras[index : index + 1, :, :]


def model_grid(
    image_ras: sitk.Image, spacing: float | Sequence[float] = 1.0, size: int | Sequence[int] | None = None
) -> Grid:
    """The model's grid for a slice or volume in RAS+ orientation.

    The sagittal plane gets pixels of `spacing` millimetres (one number, or height and width) on a lattice centred in
    the field of view, and is cropped or padded about its centre to `size` pixels (one number, or height and width);
    `None` keeps the whole field of view. Slices stay where they are. All sizes share one lattice, so a crop of the
    whole field of view equals the grid of the smaller size. A single slice gets a nominal thickness of at least 1.1
    pixels (see MIN_THICKNESS_RATIO). ValueError for sizes or spacings that are not positive.
    """
    pixel = _pair(spacing, "spacing")[::-1]
    old_size, old_spacing = np.array(image_ras.GetSize()), np.array(image_ras.GetSpacing())
    new_spacing = np.array([old_spacing[0], *pixel], dtype=float)
    # The tolerance keeps a rounding error in the spacing from adding a pixel; one more never leaves the field of view.
    whole = np.maximum(1, np.ceil(old_size * old_spacing / new_spacing - 1e-3)).astype(int)
    new_size = np.array([old_size[0], *_pair(size, "size")[::-1]]).astype(int) if size is not None else whole
    first = (whole - new_size) // 2
    offset = ((old_size - 1) * old_spacing - (whole - 1) * new_spacing) / 2 + first * new_spacing
    direction = np.reshape(image_ras.GetDirection(), (3, 3))
    origin = np.asarray(image_ras.GetOrigin()) + direction @ offset
    if old_size[0] == 1:
        new_spacing[0] = max(new_spacing[0], MIN_THICKNESS_RATIO * max(pixel))
    return Grid(
        tuple(int(n) for n in new_size),
        tuple(float(s) for s in new_spacing),
        tuple(float(o) for o in origin),
        image_ras.GetDirection(),
    )


def _pair(value: float | Sequence[float], what: str) -> tuple[float, float]:
    """(height, width) from one number or two; ValueError where they are not positive."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) == 1:
        values = values * 2
    if len(values) != 2 or not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"{what} {value} is not one or two positive numbers (height and width in the sagittal plane)")
    return values


def resample_to_grid(
    image: sitk.Image, grid: Grid, interpolator: str = "linear", default_value: float = 0
) -> sitk.Image:
    """`image` at the voxel centres of `grid`; `default_value` outside of it, the pixel type kept.

    `interpolator` is "linear" (images) or "nearest" (masks).
    """
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(_INTERPOLATORS[interpolator])
    resampler.SetDefaultPixelValue(default_value)
    if interpolator == "nearest":
        nudge = np.reshape(grid.direction, (3, 3)) @ np.full(3, _TIE_BREAK_MM)
        resampler.SetTransform(sitk.TranslationTransform(3, nudge.tolist()))
    return resampler.Execute(image)


def resample_to_image(
    mask_or_map: sitk.Image, reference_image: sitk.Image, interpolator: str = "nearest", default_value: float = 0
) -> sitk.Image:
    """A mask or map on the model's grid, put back on the scan's own grid; `default_value` where it says nothing.

    A single slice fills exactly the slice of the scan that it was taken from: its nominal thickness is disregarded.
    """
    if mask_or_map.GetSize()[0] == 1:
        mask_or_map = _with_thickness_of(mask_or_map, reference_image)
    return resample_to_grid(mask_or_map, Grid.of(reference_image), interpolator, default_value)


def _with_thickness_of(slice_ras: sitk.Image, reference_image: sitk.Image) -> sitk.Image:
    """A copy of a one-slice image as thick as the scan's slices are apart along the scan's closest axis."""
    slice_ras = sitk.Image(slice_ras)
    normal = np.reshape(slice_ras.GetDirection(), (3, 3))[:, 0]
    axis = int(np.argmax(np.abs(normal @ np.reshape(reference_image.GetDirection(), (3, 3)))))
    slice_ras.SetSpacing((reference_image.GetSpacing()[axis], *slice_ras.GetSpacing()[1:]))
    return slice_ras
