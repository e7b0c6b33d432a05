"""The files of a case: where its uncertainty map and its probabilities lie, reading them on the reference's grid."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from nnunetv2_diffusion.imaging.volumes import UNCERTAINTY_SUFFIX, Volume, check_same_grid, read_volume
from nnunetv2_diffusion.scoring.labels import LabelScheme

# Maps are written as NIfTI, which holds fractions and the geometry, whatever the dataset's masks are.
MAP_ENDING = ".nii.gz"
ROUNDING = 1e-6
MOST_HEADS = 1 << 10  # more structures than any dataset has


def find_map(folder: Path, case: str, file_ending: str) -> Path | None:
    """The uncertainty map of a case in a folder; None where it has none.

    Args:
        folder: where the maps lie.
        case: the case's name.
        file_ending: of the dataset's masks; a map of this ending is found where there is none in NIfTI, as which
            `spinesegdiff predict` and `validate` write every map.
    """
    paths = (folder / f"{case}{UNCERTAINTY_SUFFIX}{ending}" for ending in (MAP_ENDING, file_ending))
    return next((path for path in paths if path.is_file()), None)


def find_probabilities(folder: Path, case: str) -> Path | None:
    """The probabilities of a case that nnU-Net stored beside its masks (`--npz`); None where there are none."""
    path = folder / f"{case}.npz"
    return path if path.is_file() else None


def read_mask(path: str | Path, labels: LabelScheme, reference: Volume | None = None) -> Volume:
    """A mask whose values the label scheme knows, on the reference's grid where one is given.

    Raises:
        FileNotFoundError, ValueError: it is missing, unreadable, on another grid, or of other labels.
    """
    volume = read_volume(path)
    if reference is not None:
        check_same_grid(volume, reference)
    labels.check_values(volume.array, volume.path)
    return volume


def read_map(path: str | Path, reference: Volume) -> Volume:
    """An uncertainty map on the reference's grid, its array float64 in [0, 1].

    nnU-Net gives flat pictures (.png) a first axis of one slice and no geometry: of their maps only the shape must fit.

    Raises:
        FileNotFoundError, ValueError: it is missing, unreadable, on another grid, or holds values outside [0, 1].
    """
    volume = read_volume(path)
    if volume.array.shape == (1, *reference.array.shape):
        volume = replace(reference, path=volume.path, array=volume.array[0])
    check_same_grid(volume, reference)
    values = volume.array.astype(np.float64)
    if not (np.isfinite(values).all() and values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING):
        raise ValueError(f"{path} holds values outside [0, 1]; an uncertainty map is normalised to that range")
    return replace(volume, array=values)


def read_probabilities(path: str | Path, reference: Volume) -> np.ndarray:
    """nnU-Net's stored probabilities `[K, ...]` (`--npz`) on the reference's grid.

    Raises:
        ValueError: the file is no such archive, or the shape does not fit.
    """
    shape = reference.array.shape
    try:
        promised = _promised_shape(path)
        probabilities = None
        if promised[1:] in (shape, (1, *shape)) and promised[0] <= MOST_HEADS:
            with np.load(path) as archive:
                probabilities = archive["probabilities"].reshape(-1, *shape)
    except Exception:  # damaged archives bring errors of a dozen types out of NumPy, zipfile, zlib and tokenize
        raise ValueError(f"{path} holds no array 'probabilities'; nnU-Net writes one with --npz") from None
    if probabilities is None:
        raise ValueError(f"{path} holds probabilities of shape {promised[1:]}, but {reference.path} has shape {shape}")
    return probabilities


def _promised_shape(path: str | Path) -> tuple[int, ...]:
    """What the header says, before any memory is asked for: what is packed into an archive can be a thousand times
    larger."""
    with zipfile.ZipFile(path) as archive, archive.open("probabilities.npy") as array:
        read = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(array)]
        shape, _, values = read(array)
    if values.kind != "f":
        raise ValueError(f"{values} are no probabilities")
    return shape
