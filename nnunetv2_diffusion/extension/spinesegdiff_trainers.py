"""The trainers that nnU-Net finds when nnUNet_extTrainer names this folder (`spinesegdiff trainers` prints it)."""

from nnunetv2_diffusion.trainers.nnUNetTrainerDiceLoss_250epochs import nnUNetTrainerDiceLoss_250epochs
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM_Xepochs import (
    nnUNetTrainerIISDM_5epochs,
    nnUNetTrainerIISDM_50epochs,
    nnUNetTrainerIISDM_250epochs,
)
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff_Xepochs import (
    nnUNetTrainerSpineSegDiff_5epochs,
    nnUNetTrainerSpineSegDiff_50epochs,
    nnUNetTrainerSpineSegDiff_250epochs,
)
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg_Xepochs import (
    nnUNetTrainerSpineSegDiffPreSeg_5epochs,
    nnUNetTrainerSpineSegDiffPreSeg_50epochs,
    nnUNetTrainerSpineSegDiffPreSeg_250epochs,
)

__all__ = [
    "nnUNetTrainerDiceLoss_250epochs",
    "nnUNetTrainerIISDM",
    "nnUNetTrainerIISDM_5epochs",
    "nnUNetTrainerIISDM_50epochs",
    "nnUNetTrainerIISDM_250epochs",
    "nnUNetTrainerSpineSegDiff",
    "nnUNetTrainerSpineSegDiffPreSeg",
    "nnUNetTrainerSpineSegDiffPreSeg_5epochs",
    "nnUNetTrainerSpineSegDiffPreSeg_50epochs",
    "nnUNetTrainerSpineSegDiffPreSeg_250epochs",
    "nnUNetTrainerSpineSegDiff_5epochs",
    "nnUNetTrainerSpineSegDiff_50epochs",
    "nnUNetTrainerSpineSegDiff_250epochs",
]
