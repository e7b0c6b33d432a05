"""Maps beside masks: blending tiles, the way back onto the image's grid, and writing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


def blend_tiles(
    tiles: Sequence[torch.Tensor], slicers: Sequence[tuple], shape: Sequence[int], use_gaussian: bool
) -> torch.Tensor:
    """Weighted mean of overlapping tiles with nnU-Net's Gaussian, in float32.

    Args:
        tiles: [M, H, W] each.
        slicers: nnU-Net's, one a tile: (channels, slice number, rows, columns).
        shape: (slices, rows, columns) of the padded image.
        use_gaussian: weight as nnU-Net does; False weighs all pixels alike.

    Returns:
        [M, slices, rows, columns].
    """
    size = tuple(tiles[0].shape[1:])
    weight = torch.ones(size)
    if use_gaussian:
        weight = compute_gaussian(size, value_scaling_factor=10, device=torch.device("cpu")).float()
    total = torch.zeros((tiles[0].shape[0], *shape))
    weights = torch.zeros(tuple(shape))
    for tile, slicer in zip(tiles, slicers, strict=True):
        total[slicer] += tile * weight
        weights[slicer[1:]] += weight
    return total / weights


def maps_on_image_grid(
    maps: torch.Tensor, properties: dict, plans_manager: PlansManager, configuration_manager: ConfigurationManager
) -> np.ndarray:
    """Undo nnU-Net's resampling, cropping and transposition, as its export does for logits; 0 outside the crop.

    Args:
        maps: [M, slices, rows, columns] on the preprocessed grid.
        properties: nnU-Net's of the case.

    Returns:
        float32 [M, *shape of the image's array], clipped to [0, 1].
    """
    spacing = [properties["spacing"][axis] for axis in plans_manager.transpose_forward]
    shape = properties["shape_after_cropping_and_before_resampling"]
    planned = list(configuration_manager.spacing)
    planned = planned if len(planned) == len(shape) else [spacing[0], *planned]
    resampled = configuration_manager.resampling_fn_probabilities(maps, shape, planned, spacing)
    whole = np.zeros((len(maps), *properties["shape_before_cropping"]), dtype=np.float32)
    whole = insert_crop_into_image(whole, np.asarray(resampled, np.float32), properties["bbox_used_for_cropping"])
    return whole.transpose([0, *(axis + 1 for axis in plans_manager.transpose_backward)]).clip(0, 1)


def check_reader_writer(plans_manager: PlansManager) -> None:
    """Raise ValueError, before anything is predicted, where maps cannot be written for the plan's reader."""
    name = plans_manager.plans["image_reader_writer"]
    if name.startswith("Nibabel"):
        raise ValueError(
            f"uncertainty maps are written for images read with SimpleITKIO, but the plans name {name}; plan the "
            'dataset again with "overwrite_image_reader_writer": "SimpleITKIO" in dataset.json'
        )


def write_map(values: np.ndarray, properties: dict, file: Path) -> None:
    """Write one map as float32 NIfTI on the grid of the image it was made for, beside first and then renamed.

    Args:
        values: [slices, rows, columns] as SimpleITK orders arrays.
        properties: nnU-Net's of the case; its `sitk_stuff` holds the geometry (unit spacing without it).
        file: ends in .nii.gz.
    """
    geometry = properties.get(
        "sitk_stuff", {"spacing": (1.0,) * 3, "origin": (0.0,) * 3, "direction": np.eye(3).ravel()}
    )
    two_dimensional = len(geometry["spacing"]) == 2
    image = sitk.GetImageFromArray(np.ascontiguousarray(values[0] if two_dimensional else values, dtype=np.float32))
    image.SetSpacing(tuple(geometry["spacing"]))
    image.SetOrigin(tuple(geometry["origin"]))
    image.SetDirection(tuple(float(value) for value in geometry["direction"]))
    if "original_orientation" in geometry:
        image = sitk.DICOMOrient(image, geometry["original_orientation"])
    partial = file.with_name(f".partial_{os.getpid()}_{file.name}")
    sitk.WriteImage(image, str(partial), True)
    os.replace(partial, file)
