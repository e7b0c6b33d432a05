"""The demo with several raters as a seeded run: trainings of a fixed length, two folds of the control."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from comparison.trainers import fixed_length
from comparison.workspace import TRAINERS_FOLDER
from nnunetv2_diffusion.demo.cohort import choose_patients
from nnunetv2_diffusion.demo.output import open_folder
from nnunetv2_diffusion.demo.rater_run import report
from nnunetv2_diffusion.demo.rater_scores import training_shares
from nnunetv2_diffusion.demo.rater_steps import RaterDemo
from nnunetv2_diffusion.demo.steps import PHANTOMS
from nnunetv2_diffusion.nnunet_names import EXTERNAL_TRAINERS
from nnunetv2_diffusion.phantoms.raters import RATERS_FILE

CONTROL_FOLDS = (0, 1)
SEED = "seed"


@dataclass(frozen=True)
class SeededDemo(RaterDemo):
    """A demo whose trainings are seeded as its phantoms are.

    Attributes:
        threads: of PyTorch.
    """

    threads: int = 1

    @property
    def record(self) -> dict[str, object]:
        """As the demo's, and the length of the trainings."""
        return {**super().record, "length": self.length}

    def environment(self) -> dict[str, str]:
        """As the demo's, with the trainers of fixed length."""
        environment = super().environment()
        trainers = os.pathsep.join([str(TRAINERS_FOLDER), environment[EXTERNAL_TRAINERS]])
        seeded = {fixed_length.SEED: str(self.seed), fixed_length.THREADS: str(self.threads)}
        return {**environment, EXTERNAL_TRAINERS: trainers, **seeded}


def measure_seeds(
    work: Path,
    seeds: Sequence[int],
    *,
    patients: int,
    raters: int,
    steps: int,
    device: str,
    threads: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run what is not finished of every seed, and measure it.

    Args:
        work: a folder a seed is made in it.
        seeds: of phantoms, trainings and sampling noise.
        patients: the last fifth of them stays unseen.
        raters: of every training patient.
        steps: optimiser steps of every training.
        device: "cpu" or "cuda".
        threads: of PyTorch.

    Returns:
        Of `rater_scores.measure_cases` the rows of all seeds with the column seed; and for each seed how often its
        raters counted each option in.

    Raises:
        ValueError: a folder holds a run of other options.
        RuntimeError: a step failed.
    """
    training, unseen = choose_patients(None, patients)
    tables, trained = [], []
    for seed in seeds:
        options = {"raters": raters, "length": f"{steps}steps", "control_folds": CONTROL_FOLDS, "threads": threads}
        demo = SeededDemo(work / f"{SEED}_{seed}", None, training, unseen, seed, device, **options)
        open_folder(demo)
        demo.runner().run(demo.steps())
        tables.append(report(demo).assign(**{SEED: seed}))
        trained.append({SEED: seed, **training_shares(pd.read_csv(demo.folder / PHANTOMS / RATERS_FILE))})
    return pd.concat(tables, ignore_index=True), pd.DataFrame(trained)
