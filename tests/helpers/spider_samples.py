"""A small SPIDER scan and mask of known geometry: grey values are an affine function of the patient coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion import cli

SIZE = (24, 30, 5)  # SPIDER's storage: posterior, inferior, right
SPACING = (1.5, 1.25, 4.0)
ORIGIN = (-8.0, -15.0, 20.0)
SAGITTAL = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
GRADIENT = np.array([1.0, 2.0, -3.0])
MIDDLE_VALUE = 500.0


def physical_points(image: sitk.Image) -> np.ndarray:
    """The patient coordinates of every voxel centre, `[z, y, x, 3]`, from the header by numpy alone."""
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), axis=-1)
    direction = np.reshape(image.GetDirection(), (3, 3))
    points = (indices * image.GetSpacing()) @ direction.T + image.GetOrigin()
    return points.transpose(2, 1, 0, 3)


def rotation(degrees: Sequence[float]) -> np.ndarray:
    """The matrix of rotations about x, y and z, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def make_scan(
    size: Sequence[int] = SIZE, spacing: Sequence[float] = SPACING, direction: np.ndarray = SAGITTAL
) -> sitk.Image:
    """A float32 scan whose grey value at patient coordinates p is GRADIENT . (p - centre) + MIDDLE_VALUE."""
    image = sitk.Image(list(size), sitk.sitkFloat32)
    image.SetSpacing(list(spacing))
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction.ravel().tolist())
    points = physical_points(image)
    centre = points.reshape(-1, 3).mean(axis=0)
    filled = sitk.GetImageFromArray(((points - centre) @ GRADIENT + MIDDLE_VALUE).astype(np.float32))
    filled.CopyInformation(image)
    return filled


def make_mask(scan: sitk.Image) -> sitk.Image:
    """A SPIDER mask: canal 100, vertebrae 3 and 101, disc 203 as blocks of rows, with background around them."""
    array = np.zeros(scan.GetSize()[::-1], dtype=np.uint8)
    array[:, 4:8, 5:15] = 100
    array[:, 9:14, 5:15] = 3
    array[:, 15:18, 5:15] = 203
    array[:, 19:24, 5:15] = 101
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(scan)
    return mask


def save(image: sitk.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def read(path: Path) -> np.ndarray:
    """An image file's voxels, [z, y, x]."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, by its relative path."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(*argv: object) -> int:
    """The exit code of `spinesegdiff convert` in one process."""
    return cli.main(["convert", *map(str, argv), "-np", "1"])
