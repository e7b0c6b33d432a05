"""Checks of a folder of images in nnU-Net's naming, before anything is predicted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import read_scan
from nnunetv2_diffusion.nnunet_names import channel_names

# nnU-Net's own readers of other formats take colour pictures and more.
SCAN_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
NAMED_FILES = 5


def check_images(folder: Path, dataset_json: dict[str, Any]) -> None:
    """Every case of `folder` has one readable, finite image a channel, named <case>_0000 and so on.

    Raises:
        FileNotFoundError: no folder, no images, or channels missing.
        ValueError: files of another name or with more channels, an image that is damaged or holds NaN or infinity.
    """
    ending = dataset_json["file_ending"]
    channels = len(channel_names(dataset_json))
    if not folder.is_dir():
        raise FileNotFoundError(f"the input folder {folder} does not exist")
    files = sorted(path.name for path in folder.iterdir() if path.name.endswith(ending) and path.is_file())
    if not files:
        raise FileNotFoundError(f"{folder} holds no image named <case>_0000{ending}, the dataset's file ending")
    named = [re.fullmatch(r"(.+)_\d{4}", name.removesuffix(ending)) for name in files]
    others = [name for name, match in zip(files, named, strict=True) if match is None]
    if others:
        raise ValueError(
            f"{folder} holds {_listed(others)}, not named <case>_<channel>{ending} (channels 0000, 0001, ...); "
            "rename or move them"
        )
    expected = {f"{match[1]}_{channel:04d}{ending}" for match in named for channel in range(channels)}
    if missing := sorted(expected - set(files)):
        raise FileNotFoundError(f"{folder} lacks {_listed(missing)}: the model takes {channels} channels a case")
    if more := sorted(set(files) - expected):
        raise ValueError(
            f"{folder} holds {_listed(more)}, but the model takes {channels} channels a case, from 0000 on"
        )
    if ending in SCAN_ENDINGS:
        for name in files:
            _check_image(folder / name)


def _check_image(path: Path) -> None:
    image = read_scan(path)  # a name of its own: the view below does not keep the image alive
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        raise ValueError(f"{path} holds voxels that are no numbers (NaN or infinity)")


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED_FILES
    return ", ".join(names[:NAMED_FILES]) + (f" and {more} more" if more > 0 else "")
