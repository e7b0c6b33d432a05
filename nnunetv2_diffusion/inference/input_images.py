"""Checks of a folder of images in nnU-Net's naming, before anything is predicted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunetv2_diffusion.imaging.reading import check_name, read_image, read_scan
from nnunetv2_diffusion.imaging.volumes import image_files
from nnunetv2_diffusion.nnunet_names import channel_names

# One channel a file, whichever of nnU-Net's readers reads them; those of other formats take colour pictures and more.
SCAN_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
NAMED_FILES = 5


def case_files(folder: str | Path, file_ending: str) -> dict[str, list[Path]]:
    """Case -> its files <case>_0000, <case>_0001, …, sorted as nnU-Net sorts them; hidden files are none.

    Raises:
        FileNotFoundError: no folder, or no images in it.
        ValueError: files of another name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"the input folder {folder} does not exist")
    files = image_files(folder, file_ending)
    if not files:
        raise FileNotFoundError(f"{folder} holds no image named <case>_0000{file_ending}, the dataset's file ending")
    if others := [file.name for name, file in files.items() if not re.fullmatch(r".+_\d{4}", name)]:
        raise ValueError(
            f"{folder} holds {_listed(others)}, not named <case>_<channel>{file_ending} (channels 0000, 0001, ...); "
            "rename or move them"
        )
    cases: dict[str, list[Path]] = {}
    for name in sorted(files):
        cases.setdefault(name[:-5], []).append(files[name])
    return dict(sorted(cases.items()))


def check_images(folder: Path, dataset_json: dict[str, Any], reader: BaseReaderWriter) -> None:
    """Every case of `folder` has readable, finite images, named <case>_0000 and so on, of all the model's channels.

    Args:
        folder: of the images.
        dataset_json: the model's description of its dataset.
        reader: the plan's; it reads the formats in which a file may hold several channels, such as colour pictures.

    Raises:
        FileNotFoundError: no folder, no images, or channels missing.
        ValueError: files of another name, other channels than the model's, an image that is damaged or holds NaN or
            infinity.
    """
    ending, channels = dataset_json["file_ending"], len(channel_names(dataset_json))
    cases = case_files(folder, ending)
    if ending not in SCAN_ENDINGS:
        for files in cases.values():
            _check_picture(files, channels, reader)
        return
    found = {file.name for files in cases.values() for file in files}
    expected = {f"{case}_{channel:04d}{ending}" for case in cases for channel in range(channels)}
    if missing := sorted(expected - found):
        raise FileNotFoundError(f"{folder} lacks {_listed(missing)}: the model takes {channels} channels a case")
    if more := sorted(found - expected):
        raise ValueError(
            f"{folder} holds {_listed(more)}, but the model takes {channels} channels a case, from 0000 on"
        )
    for name in sorted(found):
        _check_image(folder / name)


def is_whole_mask(file: Path, reader: BaseReaderWriter) -> bool:
    """Whether a mask is there and is no half of one, as nnU-Net's own command leaves when it is stopped."""
    try:
        if file.name.endswith(SCAN_ENDINGS):
            read_image(file)
        else:
            _read([file], reader)
    except (OSError, ValueError):
        return False
    return True


def _check_image(path: Path) -> None:
    image = read_scan(path)  # a name of its own: the view below does not keep the image alive
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        raise ValueError(f"{path} holds voxels that are no numbers (NaN or infinity)")


def _check_picture(files: list[Path], channels: int, reader: BaseReaderWriter) -> None:
    image = _read(files, reader)
    if len(image) != channels:
        raise ValueError(
            f"{_listed([str(file) for file in files])}: {len(image)} channels, but the model takes {channels} a case"
        )
    if not np.isfinite(image).all():
        raise ValueError(f"{files[0]} holds pixels that are no numbers (NaN or infinity)")


def _read(files: list[Path], reader: BaseReaderWriter) -> np.ndarray:
    """A case's channels [C, z, y, x] by nnU-Net's own reader; ValueError or OSError that names its first file."""
    for file in files:
        check_name(file)
    try:
        return reader.read_images([str(file) for file in files])[0]
    except Exception as error:  # the codecs behind it raise what they like
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{files[0]} cannot be read as an image ({told}): copy it again") from error


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED_FILES
    return ", ".join(names[:NAMED_FILES]) + (f" and {more} more" if more > 0 else "")
