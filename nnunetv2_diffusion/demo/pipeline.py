"""The whole pipeline on phantoms or on SPIDER: convert, plan, preprocess, train, predict unseen patients, score.

Every stage is a command that a user can type; they run in the output folder, with nnU-Net's folders set below it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_diffusion.demo.models import BASELINE, SMALL, SMALL_IISDM, TIMESTEPS, Model, chosen_models
from nnunetv2_diffusion.phantoms.patients import Protocol, write_phantoms
from nnunetv2_diffusion.pipeline.stages import Runner, Stage
from nnunetv2_diffusion.spider import list_series, select_cases

MODALITY, CONTRAST, DATASET_ID = "T2w", "t2", 502
DATASET = f"Dataset{DATASET_ID}_SPIDER_{MODALITY}"
PHANTOM_PATIENTS, FEWEST_PATIENTS = 30, 5
PHANTOM_PROTOCOL = Protocol(rows=200, columns=116)
PHANTOM_GRID = "--size 112 64 --spacing 2.25"
SPIDER_GRID = "--size 128 --spacing 2.5"
DRAWN_SAMPLES = 4
RECORD = "demo.json"
OWN = ("phantoms", "unseen", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "predictions", "samples", "scores")
OWN_FILES = ("splits.json", "results.csv", RECORD)
NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
EXTENSION = Path(__file__).resolve().parent.parent / "extension"


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
    def models(self) -> list[Model]:
        """The rows of the table."""
        return chosen_models(self.compare)

    @property
    def unseen_folder(self) -> Path:
        """The converted patients that no model was trained on."""
        return self.folder / "unseen" / DATASET

    def environment(self) -> dict[str, str]:
        """The environment of every stage: nnU-Net's folders below ours, one process for everything on a CPU."""
        own = {name: str(self.folder / name) for name in NNUNET_FOLDERS}
        own |= {"nnUNet_extTrainer": str(EXTENSION), "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
        own |= {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
        if self.device == "cpu":
            # Threads that wait sleep soon: spinning long brings a busy machine to a halt, not at all halves the speed.
            own["GOMP_SPINCOUNT"] = "3000"
        return {**os.environ, **own}

    def stages(self) -> list[Stage]:
        """All stages in order."""
        stages = [*self._data_stages(), *self._planning_stages()]
        for model in self.models:
            stages += [*self._training_stages(model), *self._prediction_stages(model)]
        return stages

    def _data_stages(self) -> list[Stage]:
        data, grid = ("phantoms", PHANTOM_GRID) if self.data is None else (shlex.quote(str(self.data)), SPIDER_GRID)
        convert = f"spinesegdiff convert {data} --modality {MODALITY} {grid} -np 1 --patients"
        stages = [
            Stage(
                "convert-training",
                f"convert {len(self.training)} patients for training",
                f"{convert} {_ranges(self.training)} --splits splits.json",
            ),
            Stage(
                "convert-unseen",
                f"convert {len(self.unseen)} unseen patients",
                f"{convert} {_ranges(self.unseen)} --out unseen",
            ),
        ]
        if self.data is None:
            number = len(self.training) + len(self.unseen)
            stages.insert(0, Stage("phantoms", f"write {number} phantom patients", work=self._write_phantoms))
        return stages

    def _planning_stages(self) -> list[Stage]:
        baselines = " --paper-baselines" if any(model.configuration == SMALL_IISDM for model in self.models) else ""
        return [
            Stage(
                "preprocess",
                "plan and preprocess",
                f"nnUNetv2_plan_and_preprocess -d {DATASET_ID} -c 2d --verify_dataset_integrity -np 1 -npfp 1",
                variables=(("nnUNet_n_proc_DA", "1"),),  # nnU-Net 2.8's planner cannot do with 0
            ),
            Stage(
                "plan",
                "add a small configuration and the pre-segmentation stage on it",
                f"spinesegdiff plan -d {DATASET_ID} --small --base {SMALL} --timesteps {TIMESTEPS} "
                f"--previous-trainer {BASELINE.trainer}{baselines}",
            ),
        ]

    def _training_stages(self, model: Model) -> list[Stage]:
        loaders = "0" if self.device == "cpu" else "4"
        return [
            Stage(
                f"train-{model.slug}-fold{fold}",
                f"train {model.name}, fold {fold}",
                f"nnUNetv2_train {DATASET_ID} {model.configuration} {fold} -tr {model.trainer} -device {self.device}",
                variables=(("nnUNet_n_proc_DA", loaders),),
            )
            for fold in model.folds
        ]

    def _prediction_stages(self, model: Model) -> list[Stage]:
        masks = f"predictions/{model.slug}"
        predict = (
            f"spinesegdiff predict -i unseen/{DATASET}/imagesTr -d {DATASET_ID} -c {model.configuration} "
            f"-f {model.folds[0]} -tr {model.trainer} -device {self.device}"
        )
        previous = "" if model.refines is None else f" -prev_stage_predictions predictions/{BASELINE.slug}"
        stages = [
            Stage(
                f"predict-{model.slug}",
                f"predict the unseen patients with {model.name}",
                f"{predict} -o {masks} --uncertainty -npp 0 -nps 0{previous}",
            ),
            Stage(
                f"evaluate-{model.slug}",
                f"score {model.name}",
                f"spinesegdiff evaluate -ref unseen/{DATASET}/labelsTr -pred {masks} -o scores/{model.slug} -np 1",
            ),
        ]
        if not (self.compare and model.draws):
            return stages
        first_case = f"-num_parts {len(self.unseen)} -part_id 0 -npp 1 -nps 1"
        return stages + [
            Stage(
                f"sample-{model.slug}-{seed}",
                f"draw sample {seed} of {model.name} for a picture",
                f"{predict} -o samples/{model.slug}/seed_{seed} --samples 1 --seed {seed} {first_case}",
            )
            for seed in range(1, DRAWN_SAMPLES + 1)
        ]

    def _write_phantoms(self) -> None:
        patients = (*self.training, *self.unseen)
        write_phantoms(self.folder / "phantoms", patients, self.seed, PHANTOM_PROTOCOL, progress=True)

    def runner(self) -> Runner:
        """What runs the stages."""
        return Runner(self.folder, self.environment())


def choose_patients(data: Path | None, number: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The patients to train on and, the last fifth, the unseen ones.

    Args:
        data: SPIDER's folder, or None for phantoms.
        number: how many patients in all, those of the lowest numbers; None for all of SPIDER, or 30 phantoms.

    Raises:
        ValueError: fewer than 5 patients.
        FileNotFoundError: `data` is no SPIDER folder.
    """
    if data is None:
        patients = list(range(1, (PHANTOM_PATIENTS if number is None else number) + 1))
    else:
        patients = sorted({case.patient for case in select_cases(list_series(data)) if case.contrast == CONTRAST})
        patients = patients[:number]
    if (number is not None and number < FEWEST_PATIENTS) or len(patients) < FEWEST_PATIENTS:
        found = len(patients) if number is None else number
        raise ValueError(f"the demo needs at least {FEWEST_PATIENTS} patients with a {MODALITY} scan, not {found}")
    unseen = max(1, len(patients) // 5)
    return tuple(patients[:-unseen]), tuple(patients[-unseen:])


def open_folder(demo: Demo, overwrite: bool = False) -> None:
    """Make the output folder ready: new, or of the same demo, whose finished stages are kept.

    Args:
        demo: what is going to run.
        overwrite: remove what an earlier demo wrote there first.

    Raises:
        FileExistsError: the folder holds something else than a demo.
        ValueError: it holds a demo of other patients, data or seed.
    """
    record = {"data": str(demo.data), "training": demo.training, "unseen": demo.unseen, "seed": demo.seed}
    record = json.loads(json.dumps(record))
    path = demo.folder / RECORD
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if overwrite:
            for name in (*OWN, "pictures", "logs"):
                shutil.rmtree(demo.folder / name, ignore_errors=True)
            for name in OWN_FILES:
                (demo.folder / name).unlink(missing_ok=True)
        elif earlier != record:
            raise ValueError(f"{demo.folder} holds a demo of other patients or seed; use --overwrite or another --out")
    elif demo.folder.is_dir() and any(demo.folder.iterdir()):
        raise FileExistsError(f"{demo.folder} is not empty and holds no demo; name another folder with --out")
    for name in NNUNET_FOLDERS:
        (demo.folder / name).mkdir(parents=True, exist_ok=True)
    (demo.folder / "splits.json").write_text(json.dumps(two_folds(demo.training)), encoding="utf-8")
    path.write_text(json.dumps(record), encoding="utf-8")


def two_folds(patients: Sequence[int]) -> list[dict[str, list[str]]]:
    """Every other patient trains, the others validate, and the other way round; nnU-Net's splits_final.json."""
    cases = [f"SPIDER_{patient:03d}_{CONTRAST}" for patient in patients]
    halves = cases[::2], cases[1::2]
    return [{"train": train, "val": val} for train, val in (halves, halves[::-1])]


def _ranges(patients: Sequence[int]) -> str:
    """`1-24` for the converter, which passes over numbers in a range that the data do not hold."""
    return str(patients[0]) if len(patients) == 1 else f"{patients[0]}-{patients[-1]}"
