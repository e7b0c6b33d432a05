"""nnU-Net's folders for the comparison, and its stock commands run in them: planning, preprocessing, training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comparison.data_sets import RawData, case_splits
from comparison.models import NNUNET, PRESEG, TRAINERS, Model, trainer_name
from nnunetv2_diffusion.inference.predictor import EXTENSION
from nnunetv2_diffusion.planning.planner import plan_dataset

ENTRY_POINTS = {
    "nnUNetv2_plan_and_preprocess": (
        "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
        "plan_and_preprocess_entry",
    ),
    "nnUNetv2_train": ("nnunetv2.run.run_training", "run_training_entry"),
}
PLANS = "nnUNetPlans"
MOST_EPOCHS = 5
VALIDATION_ITERATIONS = 2
KEPT = "trained by an earlier run"

HEADER = '''"""Written by compare_models.py: trainers of one length, seeded; nnU-Net reads this file."""

import random

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg


class Compared:
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        torch.set_num_threads({threads})
{length}

    def initialize(self):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed({seed} + int(self.fold))
        super().initialize()


class Sampled(Compared):
    def perform_actual_validation(self, save_probabilities=False):
        """compare_models.py predicts the validation cases itself, with the settings it measures."""


'''


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders below `root`, made and named in the environment by `enter`.

    Attributes:
        root: the folder of --work.
        device: "cpu" or "cuda".
        steps: optimiser steps of every training, or None for the trainers' own lengths.
        threads: of PyTorch, in training and prediction.
    """

    root: Path
    device: str
    steps: int | None
    threads: int

    def enter(self, setup: dict[str, object]) -> None:
        """Make the folders and set nnU-Net's environment variables.

        Raises:
            ValueError: an earlier run used the folder with another `setup`, so that its trainings do not compare.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        setup_file = self.root / "setup.json"
        earlier = json.loads(setup_file.read_text()) if setup_file.is_file() else setup
        changed = [
            f"{key} {earlier.get(key)}, not {value}" for key, value in setup.items() if earlier.get(key) != value
        ]
        if changed:
            raise ValueError(f"{self.root} holds a comparison with {'; '.join(changed)}: name another folder (--work)")
        setup_file.write_text(json.dumps(setup, indent=2))
        for name in ("raw", "preprocessed", "results"):
            (self.root / name).mkdir(exist_ok=True)
            os.environ[f"nnUNet_{name}"] = str(self.root / name)
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([str(self.root / "trainers"), str(EXTENSION)])
        if self.device == "cpu":
            os.environ["nnUNet_n_proc_DA"] = "0"
        write_trainers(self.root / "trainers", self.steps, self.threads, int(str(setup["seed"])))

    @property
    def preprocessed(self) -> Path:
        return self.root / "preprocessed"

    def model_folder(self, data: RawData, model: Model) -> Path:
        """nnU-Net's results folder of a model."""
        return self.root / "results" / data.name / f"{model.trainer}__{PLANS}__{model.configuration}"

    def log(self, *parts: object) -> Path:
        """The file that takes what nnU-Net prints."""
        folder = self.root / "logs"
        folder.mkdir(exist_ok=True)
        return folder / f"{'_'.join(str(part) for part in parts)}.txt"


def length_of(steps: int) -> tuple[int, int]:
    """(epochs, iterations an epoch) whose product is `steps`: as many epochs as divide it, at most 5."""
    epochs = max(number for number in range(1, MOST_EPOCHS + 1) if steps % number == 0)
    return epochs, steps // epochs


def write_trainers(folder: Path, steps: int | None, threads: int, seed: int) -> Path:
    """A module with one subclass a trainer, its optimiser steps, threads and seed set, for nnUNet_extTrainer."""
    folder.mkdir(exist_ok=True)
    length = "        pass"
    if steps is not None:
        epochs, iterations = length_of(steps)
        length = (
            f"        self.num_epochs, self.num_iterations_per_epoch = {epochs}, {iterations}\n"
            f"        self.num_val_iterations_per_epoch = {VALIDATION_ITERATIONS}"
        )
    classes = [
        f"class {trainer_name(kind, steps)}({'Compared' if kind == NNUNET else 'Sampled'}, {base}):\n    pass\n"
        for kind, base in TRAINERS.items()
    ]
    path = folder / f"compared_{'full_length' if steps is None else steps}.py"
    header = HEADER
    for name, value in {"length": length, "threads": threads, "seed": seed}.items():
        header = header.replace(f"{{{name}}}", str(value))
    path.write_text(header + "\n\n".join(classes))
    return path


def stock_command(name: str, arguments: Sequence[str], log: Path, **environment: str) -> None:
    """Run one of nnU-Net's commands in a process of its own, what it prints going to `log`.

    Raises:
        RuntimeError: it failed.
    """
    module, function = ENTRY_POINTS[name]
    code = f"from {module} import {function}; {function}()"
    with log.open("w") as output:
        finished = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            check=False,
        )
    if finished.returncode:
        last = next((line for line in reversed(log.read_text().splitlines()) if line.strip()), "no output")
        raise RuntimeError(f"{name} {' '.join(arguments)} failed ({last.strip()}); its output is in {log}")


def plan(workspace: Workspace, data: RawData, base: str, models: Sequence[Model]) -> None:
    """nnU-Net's plans and preprocessed cases, and the configurations of `spinesegdiff plan`."""
    folder = workspace.preprocessed / data.name
    cases = {case for split in json.loads(_raw_splits(workspace, data).read_text()) for case in split["val"]}
    if not all((folder / f"{PLANS}_2d" / f"{case}.pkl").is_file() for case in cases):
        arguments = ["-d", str(data.number), "-c", "2d", "-npfp", "1", "-np", "1"]
        # nnU-Net's planner takes the number of augmentation processes as its number of threads: 0 stops it.
        environment = {"nnUNet_n_proc_DA": "1"} if workspace.device == "cpu" else {}
        stock_command("nnUNetv2_plan_and_preprocess", arguments, workspace.log(data.name, "plan"), **environment)
    sentences = plan_dataset(
        data.number,
        PLANS,
        timesteps=[model.timesteps for model in models if model.kind == PRESEG],
        base=base,
        previous_trainer=trainer_name(NNUNET, workspace.steps),
        small=base == "2d_small",
    )
    workspace.log(data.name, "spinesegdiff_plan").write_text("\n".join(sentences) + "\n")


def _raw_splits(workspace: Workspace, data: RawData) -> Path:
    return workspace.root / "raw" / data.name / "splits_final.json"


def train_all(workspace: Workspace, data: RawData, models: Sequence[Model], say: Callable[[str], None] = print) -> None:
    """Train every model on every fold, one line each; what an earlier run finished is kept.

    Models come in the order given: nnU-Net's folds before the pre-segmentation models that read its predictions.
    """
    jobs = [(model, fold) for model in models for fold in range(len(case_splits(workspace.preprocessed, data.name)))]
    start = time.perf_counter()
    for number, (model, fold) in enumerate(jobs, start=1):
        began = time.perf_counter()
        done = _train(workspace, data, model, fold)
        now = time.perf_counter()
        print_line = f"[{number}/{len(jobs)}] {data.name}: {model.name}, fold {fold}: {done}"
        say(
            f"{print_line} in {now - began:.0f} s ({(now - start) / 60:.1f} min so far)" if done != KEPT else print_line
        )


def _train(workspace: Workspace, data: RawData, model: Model, fold: int) -> str:
    """Train a fold, or validate it again where a stage lacks its masks; says which."""
    fold_folder = workspace.model_folder(data, model) / f"fold_{fold}"
    arguments = [str(data.number), model.configuration, str(fold), "-tr", model.trainer, "-device", workspace.device]
    trained = (fold_folder / "checkpoint_final.pth").is_file()
    if trained and (model.diffuses or _validated(workspace, data, model, fold)):
        return KEPT
    log = workspace.log(data.name, model.trainer, model.configuration, f"fold{fold}", *(["val"] * trained))
    stock_command("nnUNetv2_train", [*arguments, "--val"] if trained else arguments, log)
    return "validated again" if trained else "trained"


def _validated(workspace: Workspace, data: RawData, model: Model, fold: int) -> bool:
    """Whether a fold's validation masks are there, and those for the planned stages."""
    folder = workspace.model_folder(data, model)
    plans = json.loads((workspace.preprocessed / data.name / f"{PLANS}.json").read_text())
    stages = plans["configurations"][model.configuration].get("next_stage") or []
    cases = case_splits(workspace.preprocessed, data.name)[fold]["val"]
    masks = [folder / f"fold_{fold}" / "validation" / f"{case}.nii.gz" for case in cases]
    return all(mask.is_file() for mask in masks) and all(
        any((folder / "predicted_next_stage" / stage).glob(f"{case}.*")) for stage in stages for case in cases
    )
