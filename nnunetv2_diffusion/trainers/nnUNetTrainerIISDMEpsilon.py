"""IISDM as it was published (Wolleb et al. 2021): the denoiser's answer is ε itself, its error is not weighted."""

from __future__ import annotations

from dataclasses import replace

from nnunetv2_diffusion.settings import Process
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM


class nnUNetTrainerIISDMEpsilon(nnUNetTrainerIISDM):
    """Predicts ε with unweighted MSE; all else as `nnUNetTrainerIISDM`."""

    settings = replace(nnUNetTrainerIISDM.settings, process=Process(prediction="noise"))
