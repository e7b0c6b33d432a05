"""What the zip file of a model holds, in nnU-Net's own layout with a model card: names of members, safe and known."""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import PurePosixPath

from nnunetv2_diffusion.nnunet_names import CALIBRATION_FILE, DATASET_FILE, PLANS_FILE, ModelName, dataset_number

CARD = "model.json"
_OF_A_MODEL = {CARD, CALIBRATION_FILE, PLANS_FILE, DATASET_FILE, "dataset_fingerprint.json"}
_CHECKPOINT = re.compile(r"checkpoint_\w+\.pth")


def is_of_a_model(member: str) -> bool:
    """Whether a member is what a model needs: <dataset>/<model>/ with json files, and fold folders with checkpoints.

    nnU-Net's exporter adds pictures, pickles of its postprocessing and ensembles; none of them is needed.
    """
    parts = PurePosixPath(member).parts
    if len(parts) not in (3, 4) or dataset_number(parts[0]) is None:
        return False
    try:
        ModelName.of_folder(parts[1])
    except ValueError:
        return False
    return parts[2] in _OF_A_MODEL if len(parts) == 3 else _CHECKPOINT.fullmatch(parts[3]) is not None


def check_member(member: zipfile.ZipInfo) -> None:
    """ValueError for a member that could be written outside of the folder, or is a link, or cannot be read."""
    path = PurePosixPath(member.filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    fault = None
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
        fault = "would be written outside of the model's folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device, not a file"
    elif member.flag_bits & 1:
        fault = "is encrypted"
    elif not member.filename.isprintable() or not path.parts:
        fault = "has no proper name"
    if fault:
        raise ValueError(f"its member {member.filename!r} {fault}")
