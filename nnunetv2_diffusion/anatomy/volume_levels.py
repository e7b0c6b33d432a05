"""Levels of a whole volume: the mid-sagittal slice's, carried along each structure into the other slices."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import watershed

from nnunetv2_diffusion.spider import CANAL, CANAL_VALUE, DISCS, FIRST_DISC, VERTEBRAE

_APART = 15.0  # mm from what is labelled, beyond which a piece that is not joined to it belongs to no level


def levels_in_volume(
    structures: dict[str, np.ndarray], plane: np.ndarray, index: int, spacing: tuple[float, float, float]
) -> np.ndarray:
    """A volume's levels, one number a structure in all slices: uint8 [z, y, x], slice `index` of which is `plane`.

    The slice's numbers spread evenly through the voxels of their structure (scikit-image's watershed), so that
    vertebrae that touch at a joint are parted half-way. A piece that is joined to none takes the nearest one's number.

    Args:
        structures: name -> bool [z, y, x] of canal, vertebrae and discs.
        plane: levels [z, y] of slice `index`, in SPIDER's numbering.
        spacing: (z, y, x) in mm.
    """
    labels = np.where(structures[CANAL], np.uint8(CANAL_VALUE), np.uint8(0))
    for name, own in ((VERTEBRAE, (plane > 0) & (plane < FIRST_DISC) & (plane != CANAL_VALUE)),
                      (DISCS, plane >= FIRST_DISC)):  # fmt: skip
        if own.any():
            numbered = _spread(structures[name], np.where(own, plane, 0), index, spacing)
            labels[numbered > 0] = numbered[numbered > 0]
    labels[..., index] = plane
    return labels


def _spread(structure: np.ndarray, plane: np.ndarray, index: int, spacing: tuple[float, float, float]) -> np.ndarray:
    inside = structure.copy()
    inside[..., index] = plane > 0  # the slice's scraps lead nowhere
    seeds = np.zeros(structure.shape, np.int32)
    seeds[..., index] = plane
    numbered = watershed(np.zeros(structure.shape, np.uint8), seeds, mask=inside)
    left = inside & (numbered == 0)
    if left.any():
        distance, nearest = distance_transform_edt(numbered == 0, spacing, return_indices=True)
        near = left & (distance <= _APART)
        numbered[near] = numbered[tuple(axis[near] for axis in nearest)]
    return numbered.astype(np.uint8)
