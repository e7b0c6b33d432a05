"""The one reader of images: a file whole, or an error that names it and says what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging import nifti
from nnunetv2_diffusion.imaging.body import NO_IMAGE
from nnunetv2_diffusion.imaging.formats import format_of
from nnunetv2_diffusion.imaging.grid import MIN_THICKNESS_RATIO

# A bare 2-D picture is taken as a sagittal slice as screens show it: columns run to posterior, rows to inferior.
_PLANE_TO_PATIENT = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0]])


@dataclass(frozen=True)
class Reading:
    """An image as its file holds it, of any dimension, and what its user should be told of the file."""

    image: sitk.Image
    warnings: list[str] = field(default_factory=list)


def read_image(path: str | Path) -> Reading:
    """Read an image file that SimpleITK knows (mha, mhd, nrrd, nii, nii.gz, …), whole or not at all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, truncated or no image, has a name that ITK cannot open, promises more voxels than any
            scan has, or says nothing that can be used about its place in the patient.
    """
    path = Path(path)
    check_name(path)
    kind = format_of(path)
    try:
        if kind is not None:
            kind.check(path)
        image = _read(path)
        return Reading(image, kind.doubts(path, image) if kind is not None else [])
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    except RuntimeError as error:
        why = nifti.why_refused(path) if kind is nifti else NO_IMAGE
        raise ValueError(f"{path} cannot be read as an image: {why}") from error


def read_scan(path: str | Path) -> sitk.Image:
    """A scalar 3-D image from a file, see `read_image`; a 2-D one becomes a volume of one sagittal slice.

    Raises:
        FileNotFoundError, ValueError: as `read_image` and `as_scan`.
    """
    return as_scan(read_image(path).image, str(path))


def check_name(path: Path) -> None:
    """FileNotFoundError or ValueError for a name that leads to no file, or that would end the process inside ITK."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise ValueError(f"{shown} has a name that is not UTF-8: rename it") from error
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError(f"{path} is a link to {os.readlink(path)}, which does not exist")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is not a file: expected one image file")


def _read(path: Path) -> sitk.Image:
    """What ITK reads; ValueError where the header gives no place in space, which ITK takes as it is."""
    image = sitk.ReadImage(str(path))
    numbers = (*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection())
    if not np.isfinite(numbers).all() or min(image.GetSpacing()) <= 0:
        raise ValueError("its header holds a spacing, origin or direction that is no number: restore it")
    if image.GetNumberOfPixels() == 0:
        raise ValueError(f"it has no voxels (size {image.GetSize()})")
    return image


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
