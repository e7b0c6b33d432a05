"""Finds the mid-sagittal slice of a mask: where the canal is largest and the spinous processes are seen."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import Grid, to_ras
from nnunetv2_diffusion.spider import CANAL, DISCS, VERTEBRAE

COARSE = 2.5  # mm between rows or columns of a sagittal plane, above which nothing in it can be measured
_LEAST = 0.02  # share of the largest slice's foreground


def check_sagittal(image_ras: sitk.Image, name: str) -> None:
    """Demand that a volume's sagittal planes are fine enough to be measured.

    Raises:
        ValueError: it is cut in axial or coronal slices, or coarse; `name` is what the message calls it.
    """
    x, y, z = image_ras.GetSpacing()
    if max(y, z) > COARSE and max(y, z) > x:
        cut = "axial" if z > y else "coronal"
        raise ValueError(
            f"{name} is cut in {cut} slices {max(y, z):.1f} mm apart: heights need a sagittal scan, whose planes have "
            f"pixels of at most {COARSE:g} mm"
        )
    if max(y, z) > COARSE:
        raise ValueError(
            f"{name} has pixels of {y:.1f} x {z:.1f} mm in its sagittal planes, expected at most {COARSE:g} mm"
        )
    if min(image_ras.GetSize()[1:]) < 2:
        raise ValueError(f"{name} of size {image_ras.GetSize()} is one slice that is not sagittal")


def find_midsagittal(structures: dict[str, np.ndarray]) -> tuple[int, list[str]]:
    """The index of the mid-sagittal slice of a volume, from the left or right as the arrays run, and remarks.

    A slice's score is its share of the largest canal area times half its share of the largest area of processes behind
    the canal and half of one: the canal tells the middle, thin spinous processes tell it more sharply. Without a canal
    the middle of the slices that show structures is taken.

    Args:
        structures: name -> bool [z, y, x], z to superior, y to anterior.

    Raises:
        ValueError: nothing is labelled.
    """
    foreground = sum(mask.sum(axis=(0, 1)) for mask in structures.values())
    if not foreground.any():
        raise ValueError("nothing is labelled")
    seen = np.flatnonzero(foreground > _LEAST * foreground.max())
    if len(seen) == 1:
        return int(seen[0]), []
    canal = structures[CANAL].sum(axis=(0, 1)).astype(float)
    if not canal.any():
        weights = foreground[seen]
        middle = int(seen[np.searchsorted(weights.cumsum(), weights.sum() / 2)])
        return middle, ["without a canal the middle of the labelled slices is taken for the mid-sagittal one"]
    behind = _area_behind(structures[VERTEBRAE], structures[CANAL])
    score = canal / canal.max() * (0.5 + 0.5 * behind / max(behind.max(), 1.0))
    ties = np.flatnonzero(score >= score.max() * (1 - 1e-9))
    best = int(ties[np.abs(ties - seen.mean()).argmin()])
    remarks = []
    if behind.max() == 0:
        remarks.append("no spinous processes are labelled behind the canal: the mid-sagittal slice is a guess")
    if structures[DISCS].any() and not structures[DISCS][..., best].any():
        remarks.append("the mid-sagittal slice shows no disc: the spine seems to be turned")
    return best, remarks


def _area_behind(vertebrae: np.ndarray, canal: np.ndarray) -> np.ndarray:
    """Pixels of vertebrae behind the canal in its own rows, for each slice [x]."""
    posterior_edge = np.where(canal.any(axis=1), canal.argmax(axis=1), 0)
    columns = np.arange(canal.shape[1])[None, :, None]
    return (vertebrae & (columns < posterior_edge[:, None, :])).sum(axis=(0, 1)).astype(float)


def on_image(labels: np.ndarray, image: sitk.Image) -> sitk.Image:
    """A label map [z, y, x] of the RAS+ volume of `image` on the grid of `image`."""
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    back = sitk.DICOMOrient(Grid.of(to_ras(image)).image(labels), code)
    return Grid.of(image).image(sitk.GetArrayFromImage(back))
