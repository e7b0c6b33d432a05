"""Every trainer by the names that nnU-Net may ask for: a line for each, and its lengths made of it.

nnU-Net looks a trainer up by name in the modules of `extension/`, which imports what `__all__` lists here.
"""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_diffusion.trainers.nnUNetTrainerDiceLoss_250epochs import nnUNetTrainerDiceLoss_250epochs
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDMEpsilon import nnUNetTrainerIISDMEpsilon
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffControl import nnUNetTrainerSpineSegDiffControl
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffOneStep import nnUNetTrainerSpineSegDiffOneStep
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPaper import nnUNetTrainerSpineSegDiffPaper
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg
from nnunetv2_diffusion.trainers.study_runs import StudyRuns

DIFFUSION = (
    nnUNetTrainerIISDM,
    nnUNetTrainerIISDMEpsilon,
    nnUNetTrainerSpineSegDiff,
    nnUNetTrainerSpineSegDiffOneStep,
    nnUNetTrainerSpineSegDiffPaper,
    nnUNetTrainerSpineSegDiffPreSeg,
)
OF_ANY_LENGTH = (*DIFFUSION, nnUNetTrainerSpineSegDiffControl)
# Of nnU-Net's epochs of 250 steps: a demonstration, a short training, the paper's nnU-Net baseline (Table 5).
LENGTHS = (5, 50, 250)


def of_length(trainer: type[nnUNetTrainer], epochs: int) -> type[nnUNetTrainer]:
    """`<trainer>_<epochs>epochs`, as nnU-Net names its own lengths."""
    documented = f"{trainer.__name__} for {epochs} epochs, {250 * epochs:,} optimiser steps."
    content = {"__module__": __name__, "__doc__": documented, "epochs": epochs}
    return type(f"{trainer.__name__}_{epochs}epochs", (trainer,), content)


def trial_of(trainer: type[StudyRuns]) -> type[StudyRuns]:
    """`<trainer>_10steps`: two epochs of five steps, which show that everything runs."""
    name = trainer.__name__.removesuffix("_250epochs")
    content = {"__module__": __name__, "__doc__": f"{name} for 10 optimiser steps.", "epochs": 2, "steps_an_epoch": 5}
    return type(f"{name}_10steps", (trainer,), content)


TRAINERS = {
    trainer.__name__: trainer
    for trainer in (
        nnUNetTrainerDiceLoss_250epochs,
        *OF_ANY_LENGTH,
        *(of_length(trainer, epochs) for trainer in OF_ANY_LENGTH for epochs in LENGTHS),
        *(trial_of(trainer) for trainer in (nnUNetTrainerDiceLoss_250epochs, *OF_ANY_LENGTH)),
    )
}
globals().update(TRAINERS)
__all__ = list(TRAINERS)
