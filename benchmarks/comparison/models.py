"""The compared models: which trainer, in which configuration, sampled how."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from comparison.trainers.fixed_length import FULL_LENGTH
from nnunetv2_diffusion import nnunet_names
from nnunetv2_diffusion.nnunet_names import stage_name
from nnunetv2_diffusion.planning.stages import baseline_of

NNUNET, CONTROL, ONE_STEP, IISDM, PAPER, SPINESEGDIFF, PRESEG = KINDS = (
    "nnunet",
    "control",
    "onestep",
    "iisdm",
    "paper",
    "spinesegdiff",
    "preseg",
)
PLAIN = (NNUNET, CONTROL)
TRAINERS = {
    NNUNET: nnunet_names.TRAINER,
    CONTROL: nnunet_names.CONTROL,
    ONE_STEP: "nnUNetTrainerSpineSegDiffOneStep",
    IISDM: "nnUNetTrainerIISDM",
    PAPER: nnunet_names.PAPER,
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
        diffusion: settings of its training that a configuration of its own adds to the base's.
    """

    name: str
    kind: str
    trainer: str
    configuration: str
    sampling: dict[str, Any] = field(default_factory=dict)
    timesteps: int | None = None
    diffusion: dict[str, Any] = field(default_factory=dict)

    @property
    def diffuses(self) -> bool:
        """Whether it samples."""
        return self.kind not in PLAIN


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
        ComparedModel("the same U-Net, our training", CONTROL, trainer_name(CONTROL, steps), base),
        ComparedModel("SpineSegDiff trained at T - 1 alone", ONE_STEP, trainer_name(ONE_STEP, steps), base),
        ComparedModel("IISDM", IISDM, trainer_name(IISDM, steps), base, {"sampling_steps": iisdm_sampling_steps}),
        ComparedModel("SpineSegDiff, the paper's recipe", PAPER, trainer_name(PAPER, steps), base),
        ComparedModel("SpineSegDiff", SPINESEGDIFF, trainer_name(SPINESEGDIFF, steps), base),
    ]
    for number in sorted(set(timesteps)):
        name, trainer = f"SpineSegDiff after nnU-Net, T = {number}", trainer_name(PRESEG, steps)
        sampling = {"sampling_steps": stage_sampling_steps(number)}
        models.append(ComparedModel(name, PRESEG, trainer, stage_name(baseline_of(base), number), sampling, number))
    return [model for model in models if model.kind in wanted]


def variants(given: Sequence[Sequence[str]], base: str, steps: int | None) -> list[ComparedModel]:
    """Models that are trained with other settings, each in a configuration of its own.

    Args:
        given: (kind, name, settings as json) of each.
        base: the configuration that theirs inherit from.
        steps: optimiser steps, or None for each trainer's own length.

    Raises:
        ValueError: a kind that is none, or settings that are no json dictionary.
    """
    made = []
    for kind, name, settings in given:
        if kind not in (CONTROL, ONE_STEP, SPINESEGDIFF):
            raise ValueError(f"--variant takes {CONTROL}, {ONE_STEP} or {SPINESEGDIFF}, not {kind!r}")
        configuration = f"{base}_{re.sub(r'[^a-z0-9]+', '', name.lower())}"
        trainer = trainer_name(kind, steps)
        block = as_settings(settings, f"--variant {name}")
        (plain,) = chosen_models([kind], [], base, steps, 1)
        made.append(ComparedModel(f"{plain.name}, {name}", kind, trainer, configuration, diffusion=block))
    return made


def as_settings(text: str, flag: str) -> dict[str, Any]:
    """A json dictionary of settings; ValueError, with the flag's name, where it is none."""
    try:
        block = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{flag}: {text!r} is no json: {error}") from error
    if not isinstance(block, dict):
        raise ValueError(f'{flag}: expected settings such as {{"mask_scale": 0.1}}, not {text}')
    return block
