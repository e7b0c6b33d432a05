"""The whole way on phantoms or on SPIDER: convert, plan, preprocess, train, predict unseen patients, score.

Every step is a command that a user can type; they run in the output folder, with nnU-Net's folders set below it.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_diffusion.demo.cohort import MODALITY, patient_range, two_folds
from nnunetv2_diffusion.demo.models import BASELINE, SMALL, SMALL_IISDM, TIMESTEPS, DemoModel, chosen_models
from nnunetv2_diffusion.nnunet_names import (
    EXTENSION,
    EXTERNAL_TRAINERS,
    PREPROCESSED,
    RAW,
    RESULTS,
    dataset_name,
)
from nnunetv2_diffusion.phantoms.patients import Protocol, write_phantoms
from nnunetv2_diffusion.pipeline.steps import Runner, Step
from nnunetv2_diffusion.spider import DATASETS

DATASET_ID, _NAME = DATASETS[MODALITY, "2d"]
DATASET = dataset_name(DATASET_ID, _NAME)
PHANTOM_PROTOCOL = Protocol(rows=200, columns=116)
PHANTOM_GRID = "--size 112 64 --spacing 2.25"
SPIDER_GRID = "--size 128 --spacing 2.5"
DRAWN_SAMPLES = 4
NNUNET_FOLDERS = (RAW, PREPROCESSED, RESULTS)
# Below the output folder, as the commands name them.
PHANTOMS, UNSEEN, PREDICTIONS, SAMPLES, SCORES = "phantoms", "unseen", "predictions", "samples", "scores"
FOLDS_FILE = "splits.json"


@dataclass(frozen=True)
class Demo:
    """What is run, where, on whom.

    Attributes:
        folder: everything is written below it.
        data: SPIDER's folder, or None for phantoms.
        training, unseen: patients' numbers.
        seed: of the phantoms.
        device: "cpu" or "cuda".
        compare: all models of the paper's comparison.
    """

    folder: Path
    data: Path | None
    training: tuple[int, ...]
    unseen: tuple[int, ...]
    seed: int = 0
    device: str = "cpu"
    compare: bool = False

    @property
    def models(self) -> list[DemoModel]:
        """The rows of the table."""
        return chosen_models(self.compare)

    @property
    def folds(self) -> list[dict[str, list[str]]]:
        """The folds that the converter is given; none leaves them to it."""
        return two_folds(self.training)

    @property
    def unseen_folder(self) -> Path:
        """The converted patients that no model was trained on."""
        return self.folder / UNSEEN / DATASET

    @property
    def record(self) -> dict[str, object]:
        """What must be the same for an earlier run's steps to count."""
        patients = {"training": list(self.training), "unseen": list(self.unseen)}
        return {"data": str(self.data), **patients, "seed": self.seed}

    def environment(self) -> dict[str, str]:
        """The environment of every step: nnU-Net's folders below ours, one process for everything on a CPU."""
        own = {name: str(self.folder / name) for name in NNUNET_FOLDERS}
        own |= {EXTERNAL_TRAINERS: str(EXTENSION), "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
        own |= {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
        if self.device == "cpu":
            # Threads that wait sleep soon: spinning long brings a busy machine to a halt, not at all halves the speed.
            own["GOMP_SPINCOUNT"] = "3000"
        return {**os.environ, **own}

    def runner(self) -> Runner:
        """What runs the steps."""
        return Runner(self.folder, self.environment())

    def steps(self) -> list[Step]:
        """All steps in order."""
        steps = [*self._data_steps(), *self._planning_steps()]
        for model in self.models:
            steps += [*self._training_steps(model), *self._prediction_steps(model)]
        return steps

    def _data_steps(self) -> list[Step]:
        data, grid = (PHANTOMS, PHANTOM_GRID) if self.data is None else (shlex.quote(str(self.data)), SPIDER_GRID)
        convert = f"spinesegdiff convert {data} --modality {MODALITY} {grid} -np 1 --patients"
        steps = [
            Step(
                "convert-training",
                f"convert {len(self.training)} patients for training",
                f"{convert} {patient_range(self.training)} --splits {FOLDS_FILE}",
            ),
            Step(
                "convert-unseen",
                f"convert {len(self.unseen)} unseen patients",
                f"{convert} {patient_range(self.unseen)} --out {UNSEEN}",
            ),
        ]
        if self.data is None:
            number = len(self.training) + len(self.unseen)
            steps.insert(0, Step("phantoms", f"write {number} phantom patients", work=self._write_phantoms))
        return steps

    def _planning_steps(self) -> list[Step]:
        baselines = " --paper-baselines" if any(model.configuration == SMALL_IISDM for model in self.models) else ""
        return [
            Step(
                "preprocess",
                "plan and preprocess",
                f"nnUNetv2_plan_and_preprocess -d {DATASET_ID} -c 2d --verify_dataset_integrity -np 1 -npfp 1",
                variables=(("nnUNet_n_proc_DA", "1"),),  # nnU-Net 2.8's planner cannot do with 0
            ),
            Step(
                "plan",
                "add a small configuration and the pre-segmentation stage on it",
                f"spinesegdiff plan -d {DATASET_ID} --small --base {SMALL} --timesteps {TIMESTEPS} "
                f"--previous-trainer {BASELINE.trainer}{baselines}",
            ),
        ]

    def _training_steps(self, model: DemoModel) -> list[Step]:
        loaders = "0" if self.device == "cpu" else "4"
        return [
            Step(
                f"train-{model.slug}-fold{fold}",
                f"train {model.name}, fold {fold}",
                f"nnUNetv2_train {DATASET_ID} {model.configuration} {fold} -tr {model.trainer} -device {self.device}",
                variables=(("nnUNet_n_proc_DA", loaders),),
            )
            for fold in model.folds
        ]

    def _prediction_steps(self, model: DemoModel) -> list[Step]:
        masks = f"{PREDICTIONS}/{model.slug}"
        predict = (
            f"spinesegdiff predict -i {UNSEEN}/{DATASET}/imagesTr -d {DATASET_ID} -c {model.configuration} "
            f"-f {model.folds[0]} -tr {model.trainer} -device {self.device}"
        )
        previous = "" if model.refines is None else f" -prev_stage_predictions {PREDICTIONS}/{BASELINE.slug}"
        steps = [
            Step(
                f"predict-{model.slug}",
                f"predict the unseen patients with {model.name}",
                f"{predict} -o {masks} --uncertainty -npp 0 -nps 0{previous}",
            ),
            Step(
                f"evaluate-{model.slug}",
                f"score {model.name}",
                f"spinesegdiff evaluate -ref {UNSEEN}/{DATASET}/labelsTr -pred {masks} -o {SCORES}/{model.slug} -np 1",
            ),
        ]
        if not (self.compare and model.draws):
            return steps
        first_case = f"-num_parts {len(self.unseen)} -part_id 0 -npp 1 -nps 1"
        return steps + [
            Step(
                f"sample-{model.slug}-{seed}",
                f"draw sample {seed} of {model.name} for a picture",
                f"{predict} -o {sample_folder(model, seed)} --samples 1 --seed {seed} {first_case}",
            )
            for seed in range(1, DRAWN_SAMPLES + 1)
        ]

    def _write_phantoms(self) -> None:
        patients = (*self.training, *self.unseen)
        write_phantoms(self.folder / PHANTOMS, patients, self.seed, PHANTOM_PROTOCOL, progress=True)


def sample_folder(model: DemoModel, seed: int) -> str:
    """Where a single sample of the first unseen patient goes, below the output folder."""
    return f"{SAMPLES}/{model.slug}/seed_{seed}"
