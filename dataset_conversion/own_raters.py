"""Own data with several raters -> a raw dataset that nnU-Net can train on: a case a rater, folds by image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nnunetv2_diffusion.dataset_conversion.splits import split_by_image
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, SPLITS_FILE, channel_names, split_rater

_DEFAULT_ENDING = ".nii.gz"


def expand_by_raters(source: str | Path, target: str | Path) -> list[str]:
    """Give every rater's mask a case of its own.

    nnU-Net needs an image for each mask: the target's images are links to the source's where the disk allows it, else
    copies; what nnU-Net preprocesses is there once for each rater. All cases of one image are in one fold. Where a
    patient has several images, write a splits_final.json that keeps them together as well.

    Args:
        source: folder with dataset.json, `imagesTr/<image>_0000` and so on, and `labelsTr/<image>__<rater>`; an image
            with a single mask may have it under its own name.
        target: the new dataset's folder, `DatasetXXX_NAME` in nnUNet_raw; written dataset.json last.

    Returns:
        the cases.

    Raises:
        FileNotFoundError: no dataset.json, no masks, or a channel of an image is missing.
        ValueError: dataset.json is no such file, or the target is not empty.
    """
    source, target = Path(source), Path(target)
    description = read_json(source / DATASET_FILE, remedy="nnU-Net needs it in every raw dataset")
    ending = str(description.get("file_ending", _DEFAULT_ENDING))
    masks = list_masks(source / "labelsTr", ending)
    if not masks:
        raise FileNotFoundError(f"{source / 'labelsTr'} holds no mask: expected <image>__<rater>{ending}")
    files = {case: _channels(source, split_rater(case)[0], description, ending) for case in masks}
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: give a new folder, or remove it")
    for case, mask in masks.items():
        _link(mask, target / "labelsTr" / mask.name)
        for channel, path in enumerate(files[case]):
            _link(path, target / "imagesTr" / f"{case}_{channel:04d}{ending}")
    write_json(split_by_image(masks), target / SPLITS_FILE, indent=4)
    write_json({**description, "numTraining": len(masks)}, target / DATASET_FILE, indent=4)
    return list(masks)


def _channels(source: Path, image: str, description: Mapping[str, object], ending: str) -> list[Path]:
    """The files of an image's channels, in their order."""
    names = channel_names(description)
    files = [source / "imagesTr" / f"{image}_{channel:04d}{ending}" for channel in range(len(names))]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing, while labelsTr holds a mask of {image}")
    return files


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
