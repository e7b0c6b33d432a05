"""Maps of a case: their way back onto the image's grid, and writing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.nnunet_names import MAPS, samples_file


@dataclass(frozen=True)
class PreparedCase:
    """A preprocessed case [C, z, y, x] with nnU-Net's properties of it and its output file without an ending, which is
    None where nothing is written."""

    data: torch.Tensor
    properties: dict[str, Any]
    output: str | None

    @property
    def name(self) -> str:
        """What it is called while it is predicted."""
        return f"an image of shape {tuple(self.data.shape)}" if self.output is None else Path(self.output).name


def map_file(output: str, name: str) -> Path:
    """Where a map of a case goes, given its mask's path without an ending: into the folder MAPS beside the mask."""
    return Path(output).parent / MAPS / f"{Path(output).name}_{name}.nii.gz"


def is_written(output: str, endings: Sequence[str], map_names: Sequence[str], samples: bool) -> bool:
    """Whether a case's files of these endings, its maps, and its samples if they are wanted, are there.

    `output` is their path without an ending.
    """
    files = [*(Path(f"{output}{ending}") for ending in endings), *(map_file(output, name) for name in map_names)]
    files += [samples_file(Path(output).parent, Path(output).name)] * samples
    return all(file.is_file() for file in files)


def write_maps(arrays: Sequence[np.ndarray], names: Sequence[str], case: PreparedCase) -> None:
    """Write a case's maps [M, slices, rows, columns] on its image's grid, one name each."""
    for name, values in zip(names, arrays, strict=True):
        write_map(values, case.properties, map_file(case.output, name))


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
    """Raise ValueError, before anything is predicted, where the plan's reader allows neither maps nor samples."""
    name = plans_manager.plans["image_reader_writer"]
    if name.startswith("Nibabel"):
        raise ValueError(
            f"maps and samples are written for images read with SimpleITKIO, but the plans name {name}; plan the "
            'dataset again with "overwrite_image_reader_writer": "SimpleITKIO" in dataset.json'
        )


def write_map(values: np.ndarray, properties: dict, file: Path) -> None:
    """Write one map [slices, rows, columns] as float32 NIfTI on the grid of the image it was made for."""
    write_image(on_image_grid(values.astype(np.float32), properties), file)


def on_image_grid(values: np.ndarray, properties: dict) -> sitk.Image:
    """An array with the geometry of the image that it was made for.

    Args:
        values: [slices, rows, columns] as SimpleITK orders arrays.
        properties: nnU-Net's of the case; its `sitk_stuff` holds the geometry (unit spacing without it).
    """
    geometry = properties.get(
        "sitk_stuff", {"spacing": (1.0,) * 3, "origin": (0.0,) * 3, "direction": np.eye(3).ravel()}
    )
    two_dimensional = len(geometry["spacing"]) == 2
    image = sitk.GetImageFromArray(np.ascontiguousarray(values[0] if two_dimensional else values))
    image.SetSpacing(tuple(geometry["spacing"]))
    image.SetOrigin(tuple(geometry["origin"]))
    image.SetDirection(tuple(float(value) for value in geometry["direction"]))
    if "original_orientation" in geometry:
        image = sitk.DICOMOrient(image, geometry["original_orientation"])
    return image
