"""SpineSegDiff after pre-segmentation for a given number of nnU-Net's epochs of 250 steps."""

from __future__ import annotations

from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg


class nnUNetTrainerSpineSegDiffPreSeg_5epochs(nnUNetTrainerSpineSegDiffPreSeg):
    """1,250 optimiser steps: a demonstration."""

    epochs = 5


class nnUNetTrainerSpineSegDiffPreSeg_50epochs(nnUNetTrainerSpineSegDiffPreSeg):
    """12,500 optimiser steps."""

    epochs = 50


class nnUNetTrainerSpineSegDiffPreSeg_250epochs(nnUNetTrainerSpineSegDiffPreSeg):
    """62,500 optimiser steps, the length of the paper's nnU-Net baseline (Table 5)."""

    epochs = 250
