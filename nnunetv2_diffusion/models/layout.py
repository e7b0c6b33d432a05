"""What the zip file of a model holds, in nnU-Net's own layout with a model card: names of members, safe and known."""

from __future__ import annotations

import re
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
