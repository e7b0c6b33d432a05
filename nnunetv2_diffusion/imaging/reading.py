"""The reader of images: a file whole, or an error that names it and says what is wrong with it."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import MIN_THICKNESS_RATIO

# A bare 2-D picture is taken as a sagittal slice as screens show it: columns run to posterior, rows to inferior.
_PLANE_TO_PATIENT = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
_NIFTI_HEADER_BYTES = 348


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
