"""The compared models: which trainer, in which configuration, sampled how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from comparison.trainers.fixed_length import FULL_LENGTH
from nnunetv2_diffusion import nnunet_names
from nnunetv2_diffusion.nnunet_names import stage_name
from nnunetv2_diffusion.planning.stages import baseline_of

NNUNET, IISDM, SPINESEGDIFF, PRESEG = KINDS = ("nnunet", "iisdm", "spinesegdiff", "preseg")
TRAINERS = {
    NNUNET: nnunet_names.TRAINER,
    IISDM: "nnUNetTrainerIISDM",
    SPINESEGDIFF: nnunet_names.SPINESEGDIFF,
    PRESEG: nnunet_names.PRESEG,
}
FEWEST_STEPS, TIMESTEPS_A_STEP = 5, 20


@dataclass(frozen=True)
class ComparedModel:
    """A row of the table.

    Attributes:
        name: as people read it.
        kind: one of KINDS.
        trainer: nnU-Net's name of the trainer's class.
        configuration: of the plans.
        sampling: settings that replace the model's own at prediction.
        timesteps: T of a pre-segmentation stage.
    """

    name: str
    kind: str
    trainer: str
    configuration: str
    sampling: dict[str, int] = field(default_factory=dict)
    timesteps: int | None = None

    @property
    def diffuses(self) -> bool:
        """Whether it samples."""
        return self.kind != NNUNET


def trainer_name(kind: str, steps: int | None) -> str:
    """The name of a trainer of `trainers/fixed_length.py`: `nnUNetTrainer_500steps`."""
    return f"{TRAINERS[kind]}_{FULL_LENGTH if steps is None else f'{steps}steps'}"


def stage_sampling_steps(timesteps: int) -> int:
    """Sampling steps after pre-segmentation: one in 20 of the T timesteps, at least 5 (T = 30: 5; T = 1000: 50)."""
    return min(timesteps, max(FEWEST_STEPS, timesteps // TIMESTEPS_A_STEP))


def chosen_models(
    kinds: Sequence[str], timesteps: Sequence[int], base: str, steps: int | None, iisdm_sampling_steps: int
) -> list[ComparedModel]:
    """The models of the kinds asked for, in the order of KINDS; pre-segmentation brings nnU-Net with it.

    Args:
        kinds: some of KINDS.
        timesteps: a pre-segmentation model for each T.
        base: the configuration of the diffusion models; "2d_small" is nnU-Net's as well, which else trains "2d".
        steps: optimiser steps, or None for each trainer's own length.
        iisdm_sampling_steps: DDPM steps of IISDM.
    """
    wanted = set(kinds) | ({NNUNET} if PRESEG in kinds else set())
    models = [
        ComparedModel("nnU-Net", NNUNET, trainer_name(NNUNET, steps), baseline_of(base)),
        ComparedModel("IISDM", IISDM, trainer_name(IISDM, steps), base, {"sampling_steps": iisdm_sampling_steps}),
        ComparedModel("SpineSegDiff", SPINESEGDIFF, trainer_name(SPINESEGDIFF, steps), base),
    ]
    for number in sorted(set(timesteps)):
        name, trainer = f"SpineSegDiff after nnU-Net, T = {number}", trainer_name(PRESEG, steps)
        sampling = {"sampling_steps": stage_sampling_steps(number)}
        models.append(ComparedModel(name, PRESEG, trainer, stage_name(baseline_of(base), number), sampling, number))
    return [model for model in models if model.kind in wanted]
