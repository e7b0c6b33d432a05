"""The demo's models, one row each: what is trained, in which configuration, and whose masks it refines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nnunetv2_diffusion.nnunet_names import PRESEG, SPINESEGDIFF, TRAINER, stage_name

SMALL = "2d_small"
SMALL_IISDM = f"{SMALL}_iisdm"
TIMESTEPS = 30  # of the pre-segmentation stage
OPTIMISER_STEPS = 1250  # five of nnU-Net's epochs


@dataclass(frozen=True)
class DemoModel:
    """A row of the table; all rows take the same number of optimiser steps a fold.

    Attributes:
        name: as people read it.
        trainer: nnU-Net's name of the trainer's class.
        configuration: of the plans.
        folds: trained; the first predicts the unseen cases.
        refines: name of the model whose masks it starts from.
        compared_only: trained with --compare alone.
        draws: single samples of it are drawn with --compare.
    """

    name: str
    trainer: str
    configuration: str = SMALL
    folds: tuple[int, ...] = (0,)
    refines: str | None = None
    compared_only: bool = False
    draws: bool = False

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"[^A-Za-z0-9]+", "_", self.name).strip("_").lower()


# Both folds of nnU-Net: what refines its masks must train on masks of cases that it has not seen.
BASELINE = DemoModel("nnU-Net", f"{TRAINER}_5epochs", folds=(0, 1))
MODELS = (
    BASELINE,
    DemoModel("IISDM", "nnUNetTrainerIISDM_5epochs", SMALL_IISDM, compared_only=True, draws=True),
    DemoModel("SpineSegDiff", f"{SPINESEGDIFF}_5epochs", draws=True),
    DemoModel(
        "SpineSegDiff + pre-segmentation",
        f"{PRESEG}_5epochs",
        stage_name(SMALL, TIMESTEPS),
        refines=BASELINE.name,
    ),
)


def chosen_models(compare: bool) -> list[DemoModel]:
    """The rows of this run."""
    return [model for model in MODELS if compare or not model.compared_only]
