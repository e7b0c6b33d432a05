"""GPU hours of the paper's models where nothing was timed: operations that were counted, at a speed that is assumed."""

from __future__ import annotations

from typing import NamedTuple

from nnunetv2_diffusion.workflow.grid import Model

# What convolutions in half precision reach in trainings on one data-centre GPU: assumed, no GPU was at hand.
TFLOP_A_SECOND = 20.0
# A validation step has no backward pass; of nnU-Net's 50 an epoch beside 250 of training.
VALIDATION = 1 + 50 / 250 / 3
# SPIDER's patients are in one validation fold each.
CASES_A_FOLD = {"T1w": 218 / 5, "T2w": 218 / 5, "T1wT2w": 436 / 5}


class Work(NamedTuple):
    """What a model's training and predictions compute: benchmarks/results/grid_costs.csv, by benchmarks/grid_costs.py.

    Attributes:
        steps: optimiser steps.
        tflop_a_step: 10^12 floating point operations of one, forwards and backwards.
        tflop_a_case: of the prediction of one case, all its samples, steps, mirrorings and tiles.
    """

    steps: int
    tflop_a_step: float
    tflop_a_case: float


# By trainer and configuration; every stage is a network of its base.
_SPINESEGDIFF = Work(202_500, 0.983, 20 * 0.0821)
WORK = {
    ("nnUNetTrainerSpineSegDiffPaper", "2d_spinesegdiff"): _SPINESEGDIFF,
    ("nnUNetTrainerIISDMEpsilon", "2d_iisdm"): Work(84_250, 1.86, 5_000 * 0.0622),
    ("nnUNetTrainerDiceLoss_250epochs", "2d"): Work(62_500, 1.52, 4 * 0.0462),
    ("nnUNetTrainerDiceLoss_250epochs", "3d_paper"): Work(62_500, 8.26, 16 * 8 * 1.378),
}
STAGES = {"nnUNetTrainerSpineSegDiffPreSeg": _SPINESEGDIFF}


def estimated_hours(model: Model, modality: str, *, training: bool) -> float:
    """Of one fold, the final validation included, or of its maps alone; no number for a model that was not counted."""
    work = STAGES.get(model.trainer) if model.refines else WORK.get((model.trainer, model.configuration))
    if work is None:
        return float("nan")
    steps = work.steps * VALIDATION * work.tflop_a_step if training else 0.0
    return (steps + CASES_A_FOLD[modality] * work.tflop_a_case) / TFLOP_A_SECOND / 3600
