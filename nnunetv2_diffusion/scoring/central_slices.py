"""The slice of a 3D prediction that a one-slice reference shows: 2D and 3D models are scored on equal pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunetv2_diffusion.files import write_text
from nnunetv2_diffusion.imaging.reading import read_image
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, MAPS
from nnunetv2_diffusion.scoring.folders import find_dataset_json, pair_cases, reference_folders
from nnunetv2_diffusion.scoring.labels import read_file_ending

HALF_A_VOXEL = 0.5
TOLERANCE = 1e-3  # voxels


def take_slices(
    references: str | Path | Sequence[str | Path],
    predictions: str | Path,
    out: str | Path,
    uncertainty: str | Path | None = None,
    dataset_json: str | Path | None = None,
) -> list[str]:
    """Write every predicted volume, and its uncertainty map, on the grid of the reference of the same name.

    Voxels are taken by nearest neighbour: on the datasets of `spinesegdiff convert --dimension 2d` and `3d` the slice's
    pixels are voxels of the volume, so that nothing is interpolated. What `out` held before stays, the labels'
    dataset.json is put beside the slices.

    Args:
        references: masks of one slice each, e.g. `labelsTr` of a dataset converted with `--dimension 2d`; where a case
            has several, they show one slice.
        predictions: masks of whole volumes.
        out: folder that receives the slices; made where it is missing.
        uncertainty: folder of `<case>_uncertainty` maps; None takes those in the predictions' folder MAPS, if any.
        dataset_json: label names; None looks where `evaluate_folders` does.

    Returns:
        The cases written.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: no mask in `predictions`, one without a reference, a reference of several slices, or one whose
            structures lie outside the predicted volume.
    """
    folders, predictions, out = reference_folders(references), Path(predictions), Path(out)
    dataset_json = find_dataset_json(folders[0], predictions, dataset_json)
    cases, _ = pair_cases(folders, predictions, uncertainty, read_file_ending(dataset_json))
    cases = cases.drop_duplicates("case")
    out.mkdir(parents=True, exist_ok=True)
    for row in tqdm(cases.itertuples(), total=len(cases), desc="central slices", unit="case", disable=None):
        for path, folder in ((row.prediction, out), (row.uncertainty, out / MAPS)):
            if path:
                write_image(slice_of(path, row.reference), folder / path.name)
    write_text(dataset_json.read_text(encoding="utf-8"), out / DATASET_FILE)
    return cases["case"].tolist()


def slice_of(volume: Path, reference: Path) -> sitk.Image:
    """The voxels of `volume` at the pixels of `reference`, an image on the grid of the latter.

    Raises:
        FileNotFoundError, ValueError: a file that cannot be read, is not 3-D, or does not show the same place.
    """
    image, plane = (_read(path) for path in (volume, reference))
    if 1 not in plane.GetSize():
        raise ValueError(
            f"{reference} has {' x '.join(map(str, plane.GetSize()))} voxels; a reference of a single slice is "
            "expected, as `spinesegdiff convert --dimension 2d` writes them"
        )
    outside = _outside(image, plane)
    if outside > HALF_A_VOXEL + TOLERANCE:
        raise ValueError(
            f"{reference} lies {outside:.1f} voxels outside of {volume}; both must come from the same scan, with "
            "their positions in the patient kept"
        )
    return sitk.Resample(image, plane, sitk.Transform(), sitk.sitkNearestNeighbor, 0, image.GetPixelID())


def _read(path: Path) -> sitk.Image:
    image = read_image(path).image
    if image.GetDimension() != 3:
        raise ValueError(f"{path} has {image.GetDimension()} dimensions; a 3-D image is expected")
    return image


def _outside(image: sitk.Image, plane: sitk.Image) -> float:
    """How far the plane's farthest labelled pixel (without any, its middle) lies outside of the image, in voxels.

    The plane itself may reach beyond: the converter pads slices to one size.
    """
    indices = np.argwhere(sitk.GetArrayViewFromImage(plane))[:, ::-1]
    if not len(indices):
        indices = np.array([[size // 2 for size in plane.GetSize()]])
    found = (_to_physical(plane) @ _homogeneous(indices).T)[:3]
    there = (np.linalg.inv(_to_physical(image)) @ _homogeneous(found.T).T)[:3].T
    return float(np.maximum(-there, there - (np.array(image.GetSize()) - 1)).max())


def _to_physical(image: sitk.Image) -> np.ndarray:
    """The affine [4, 4] from voxel indices (x, y, z) to millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return affine


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, np.ones(len(points))])
