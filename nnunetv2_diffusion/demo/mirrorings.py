"""The four mirrorings of a slice as images of their own, so that a model's answer to each can be told."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import read_image
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.imaging.writing import write_image

_FIRST_CHANNEL, _ENDING = "_0000", ".nii.gz"


def write_mirrored(images: Path, target: Path) -> None:
    """`<case>_mirrored0_0000.nii.gz` to `_mirrored3` of every image with one channel: none, either axis, both.

    The header stays as it was: only the order of the voxels changes.
    """
    for path in sorted(images.glob(f"*{_FIRST_CHANNEL}{_ENDING}")):
        image = read_image(path).image
        array = sitk.GetArrayFromImage(image)
        case = path.name.removesuffix(f"{_FIRST_CHANNEL}{_ENDING}")
        for number, axes in enumerate(mirrorings(array)):
            mirrored = sitk.GetImageFromArray(np.flip(array, axes))
            mirrored.CopyInformation(image)
            write_image(mirrored, target / f"{_mirrored(case, number)}{_FIRST_CHANNEL}{_ENDING}")


def read_mirrored(predictions: Path, case: str) -> np.ndarray:
    """The masks of a case's four mirrorings, turned back: label maps [4, ...] as the image lies."""
    masks = [read_volume(predictions / f"{_mirrored(case, number)}{_ENDING}").array for number in range(4)]
    return np.stack([np.flip(mask, axes) for mask, axes in zip(masks, mirrorings(masks[0]), strict=True)])


def mirrorings(array: np.ndarray) -> list[tuple[int, ...]]:
    """The axes along which a slice [..] is mirrored in each of the four; the axis of length 1 is none of them.

    Raises:
        ValueError: the array is no slice.
    """
    axes = [axis for axis, size in enumerate(array.shape) if size > 1]
    if len(axes) != 2:
        raise ValueError(f"a slice has two axes longer than 1, not a shape of {array.shape}")
    return [chosen for count in range(3) for chosen in itertools.combinations(axes, count)]


def _mirrored(case: str, number: int) -> str:
    return f"{case}_mirrored{number}"
