"""The trainers that nnU-Net finds when nnUNet_extTrainer names this folder (`spinesegdiff trainers` prints it)."""

from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff_Xepochs import (
    nnUNetTrainerSpineSegDiff_5epochs,
    nnUNetTrainerSpineSegDiff_50epochs,
    nnUNetTrainerSpineSegDiff_250epochs,
)

__all__ = [
    "nnUNetTrainerSpineSegDiff",
    "nnUNetTrainerSpineSegDiff_5epochs",
    "nnUNetTrainerSpineSegDiff_50epochs",
    "nnUNetTrainerSpineSegDiff_250epochs",
]
