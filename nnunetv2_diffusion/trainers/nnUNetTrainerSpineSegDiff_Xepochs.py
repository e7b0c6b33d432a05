"""SpineSegDiff for a given number of nnU-Net's epochs of 250 steps, in one file as nnU-Net keeps its own lengths."""

from __future__ import annotations

from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff


class nnUNetTrainerSpineSegDiff_5epochs(nnUNetTrainerSpineSegDiff):
    """1,250 optimiser steps: a demonstration."""

    epochs = 5


class nnUNetTrainerSpineSegDiff_50epochs(nnUNetTrainerSpineSegDiff):
    """12,500 optimiser steps."""

    epochs = 50


class nnUNetTrainerSpineSegDiff_250epochs(nnUNetTrainerSpineSegDiff):
    """62,500 optimiser steps, the length of the paper's nnU-Net baseline (Table 5)."""

    epochs = 250
