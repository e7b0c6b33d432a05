"""The trainers that nnU-Net finds when nnUNet_extTrainer names this folder (`spinesegdiff trainers` prints it)."""

from nnunetv2_diffusion.trainers.every_trainer import *  # noqa: F403 -- the names are made there
from nnunetv2_diffusion.trainers.every_trainer import __all__ as __all__
