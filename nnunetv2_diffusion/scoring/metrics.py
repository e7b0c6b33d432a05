"""Overlap and surface distance of a predicted mask: Dice, 95th-percentile Hausdorff distance, average distance.

Distances come from scipy's Euclidean distance transform on the bounding box of both masks, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from nnunetv2_diffusion.imaging.volumes import Volume
from nnunetv2_diffusion.scoring.labels import LabelScheme

EMPTY_MASK_RULE = (
    "A structure absent from both reference and prediction has no score and is left out of every mean. "
    "A structure present in only one of them scores a Dice of 0, and both distances are the length of the "
    "image's diagonal, the worst that is possible."
)


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|) of two boolean masks of one shape; NaN when both are empty."""
    total = np.count_nonzero(reference) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(reference & prediction) / total if total else float("nan")


def surface_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each surface voxel of one mask to the other mask's surface, both ways.

    A surface voxel is one that an erosion by one voxel (faces, not corners) removes. Axes of length one are dropped
    first: a single slice has an outline, not a surface of the whole area.

    Args:
        reference, prediction: boolean masks of one shape, neither of them empty.
        spacing: voxel size in mm, one value an axis.
    """
    axes = [axis for axis, length in enumerate(reference.shape) if length > 1] or [0]
    drop = tuple(axis for axis in range(reference.ndim) if axis not in axes)
    box = bounding_box(reference | prediction)
    reference, prediction = (np.squeeze(mask[box], axis=drop) for mask in (reference, prediction))
    sampling = [spacing[axis] for axis in axes]
    surfaces = [mask & ~binary_erosion(mask) for mask in (reference, prediction)]
    to_reference, to_prediction = (distance_transform_edt(~surface, sampling=sampling) for surface in surfaces)
    return to_prediction[surfaces[0]], to_reference[surfaces[1]]


def hausdorff95(to_prediction: np.ndarray, to_reference: np.ndarray) -> float:
    """The larger of the two directions' 95th percentiles of the surface distances, in mm."""
    return float(max(np.percentile(to_prediction, 95), np.percentile(to_reference, 95)))


def average_symmetric_surface_distance(to_prediction: np.ndarray, to_reference: np.ndarray) -> float:
    """Mean of the surface distances of both directions together, in mm."""
    return float(np.concatenate([to_prediction, to_reference]).mean())


def structure_metrics(
    reference: np.ndarray, prediction: np.ndarray, spacing: Sequence[float], diagonal: float
) -> dict[str, float]:
    """Dice, HD95 and ASSD (both in mm) of one structure, by `EMPTY_MASK_RULE` where a mask is empty.

    Args:
        reference, prediction: boolean masks of one shape.
        spacing: voxel size in mm, one value an axis.
        diagonal: length of the image's diagonal in mm.
    """
    in_reference, in_prediction = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    scores = {"dice": dice(reference, prediction), "hd95": float("nan"), "assd": float("nan")}
    if in_reference and in_prediction:
        distances = surface_distances(reference, prediction, spacing)
        scores["hd95"] = hausdorff95(*distances)
        scores["assd"] = average_symmetric_surface_distance(*distances)
    elif in_reference or in_prediction:
        scores["hd95"] = scores["assd"] = diagonal
    return {**scores, "reference_voxels": in_reference, "predicted_voxels": in_prediction}


def mask_metrics(reference: Volume, prediction: Volume, labels: LabelScheme) -> list[dict[str, float | str]]:
    """`structure_metrics` of every structure: one row each, with its name under "structure".

    Voxels that the reference marks as ignored count as background in both masks.
    """
    valid = labels.valid(reference.array)
    rows = []
    for structure in labels.structures:
        masks = [labels.mask(volume.array, structure) for volume in (reference, prediction)]
        if valid is not None:
            masks = [mask & valid for mask in masks]
        rows.append({"structure": structure, **structure_metrics(*masks, reference.spacing, reference.diagonal)})
    return rows


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Slices of the smallest box around a boolean mask; the whole array when the mask is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        indices = np.flatnonzero(mask.any(axis=others))
        if not indices.size:
            return tuple(slice(0, length) for length in mask.shape)
        box.append(slice(int(indices[0]), int(indices[-1]) + 1))
    return tuple(box)
