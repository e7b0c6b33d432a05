"""The folder of --work: nnU-Net's folders in it, the environment of its commands, and what runs them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from comparison.data_sets import RawData
from comparison.models import ComparedModel
from comparison.trainers import fixed_length
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.nnunet_names import (
    EXTENSION,
    EXTERNAL_TRAINERS,
    PLANS,
    PREPROCESSED,
    RAW,
    RESULTS,
    ModelName,
)
from nnunetv2_diffusion.pipeline.steps import LOGS, Runner

TRAINERS_FOLDER = Path(fixed_length.__file__).parent
FOLDERS = {RAW: "raw", PREPROCESSED: "preprocessed", RESULTS: "results"}


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders below `root`, made and named in the environment by `enter`.

    Attributes:
        root: the folder of --work.
        device: "cpu" or "cuda".
        steps: optimiser steps of every training, or None for the trainers' own lengths.
        threads: of PyTorch, in training and prediction.
        seed: of the trainings; those of another seed lie in results of their own.
    """

    root: Path
    device: str
    steps: int | None
    threads: int
    seed: int = 0

    def enter(self) -> None:
        """Make the folders and set the environment variables of nnU-Net and of the trainers."""
        for variable, folder in self._folders().items():
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(folder)
        (self.root / LOGS).mkdir(exist_ok=True)
        os.environ[EXTERNAL_TRAINERS] = os.pathsep.join([str(TRAINERS_FOLDER), str(EXTENSION)])
        os.environ[fixed_length.THREADS] = str(self.threads)
        os.environ[fixed_length.SEED] = str(self.seed)
        if self.device == "cpu":
            os.environ["nnUNet_n_proc_DA"] = "0"

    def check_setup(self, setup: dict[str, object]) -> None:
        """Note what all trainings of the folder have in common.

        Raises:
            ValueError: an earlier run used the folder with another `setup`, so that its trainings do not compare.
        """
        setup_file = self.root / "setup.json"
        earlier = read_json(setup_file, remedy="name another folder (--work)") if setup_file.is_file() else setup
        changed = [
            f"{key} {earlier.get(key)}, not {value}" for key, value in setup.items() if earlier.get(key) != value
        ]
        if changed:
            raise ValueError(f"{self.root} holds a comparison with {'; '.join(changed)}: name another folder (--work)")
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(setup, setup_file)

    def _folders(self) -> dict[str, Path]:
        return {
            RAW: self.root / FOLDERS[RAW],
            PREPROCESSED: self.root / FOLDERS[PREPROCESSED],
            RESULTS: self.root / FOLDERS[RESULTS] / f"seed_{self.seed}",
        }

    @property
    def raw(self) -> Path:
        """nnUNet_raw."""
        return self._folders()[RAW]

    @property
    def preprocessed(self) -> Path:
        """nnUNet_preprocessed."""
        return self._folders()[PREPROCESSED]

    def model_folder(self, data: RawData, model: ComparedModel) -> Path:
        """nnU-Net's results folder of a model."""
        return self._folders()[RESULTS] / data.name / str(ModelName(model.trainer, PLANS, model.configuration))

    def log(self, *parts: object) -> Path:
        """The file that takes what is printed by a part of the work that is no step."""
        return self.root / LOGS / f"{'_'.join(str(part) for part in parts)}.log"

    def runner(self) -> Runner:
        """What runs nnU-Net's commands."""
        return Runner(self.root, os.environ)
