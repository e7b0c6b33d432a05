"""IISDM for a given number of nnU-Net's epochs of 250 steps."""

from __future__ import annotations

from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM


class nnUNetTrainerIISDM_5epochs(nnUNetTrainerIISDM):
    """1,250 optimiser steps: a demonstration."""

    epochs = 5


class nnUNetTrainerIISDM_50epochs(nnUNetTrainerIISDM):
    """12,500 optimiser steps."""

    epochs = 50


class nnUNetTrainerIISDM_250epochs(nnUNetTrainerIISDM):
    """62,500 optimiser steps, the length of the paper's nnU-Net baseline (Table 5)."""

    epochs = 250
