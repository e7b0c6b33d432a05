"""What a study consists of: its datasets, trainings and jobs by name, and the commands' words that depend on them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from nnunetv2_diffusion.nnunet_names import (
    EXTENSION,
    EXTERNAL_TRAINERS,
    PLANS,
    PREPROCESSED,
    RAW,
    RESULTS,
    SAVE_EVERY_VARIABLE,
    SEED_VARIABLE,
    ModelName,
    dataset_name,
    stage_name,
)
from nnunetv2_diffusion.spider import DATASETS

DONE, JOBS, LOGS, TABLES, REPORT, PHANTOM_DATA = "done", "jobs", "logs", "tables", "report", "phantoms"
NNUNET_FOLDERS = (RAW, PREPROCESSED, RESULTS)
# What nnU-Net preprocesses: every configuration of ours takes these images.
_PREPROCESSED_AS = {"2d": "2d", "3d": "3d_fullres"}
_PAPER_BASELINES = frozenset({"2d_iisdm", "2d_small_iisdm", "2d_paper", "3d_paper"})
_SMALL = frozenset({"2d_small", "2d_small_iisdm"})


class Model(NamedTuple):
    """A model of the grid.

    Attributes:
        key: its name in config.yaml; of a pre-segmentation stage `preseg_T<T>`.
        refines: the key of the model whose masks it starts from, or None.
    """

    key: str
    trainer: str
    configuration: str
    dimension: str
    maps: bool
    refines: str | None = None


class Training(NamedTuple):
    """One fold of a model on a dataset, the dataset by nnU-Net's number."""

    dataset: int
    model: str
    fold: int


class Job(NamedTuple):
    """A job of the workflow: its rule, its name, and the words of config.yaml's `resources` that it asks for."""

    rule: str
    name: str
    need: str


@dataclass(frozen=True)
class Grid:
    """A study.

    Attributes:
        config: config.yaml, valid.
        data: SPIDER's folder; of phantoms the one below the study.
        left_out: modalities that the data do not hold.
        own_splits: whether the folds are in splits/, and not the converter's own.
    """

    config: Mapping[str, Any]
    data: str
    left_out: tuple[str, ...] = ()
    own_splits: bool = False

    @cached_property
    def models(self) -> dict[str, Model]:
        """All models by key, the pre-segmentation stages last."""
        found = {
            key: Model(key, about["trainer"], about["configuration"], about.get("dimension", "2d"), about["maps"])
            for key, about in self.config["models"].items()
        }
        stages = self.config["pre_segmentation"]
        if stages:
            refined = found[stages["baseline"]]
            for timesteps in stages["timesteps"]:
                key = f"preseg_T{timesteps}"
                name = stage_name(refined.configuration, timesteps)
                found[key] = Model(key, stages["trainer"], name, "2d", True, refined.key)
        return found

    @cached_property
    def dimensions(self) -> list[str]:
        """2d, 3d or both."""
        return sorted({model.dimension for model in self.models.values()})

    @cached_property
    def datasets(self) -> dict[int, tuple[str, str]]:
        """nnU-Net's number of each dataset -> modality and dimension."""
        return {
            DATASETS[modality, dimension][0]: (modality, dimension)
            for dimension in self.dimensions
            for modality in self.config["modalities"]
            if modality not in self.left_out
        }

    def models_of(self, dataset: int) -> list[Model]:
        """The models that are trained on a dataset."""
        return [model for model in self.models.values() if model.dimension == self.datasets[dataset][1]]

    @cached_property
    def trainings(self) -> list[Training]:
        """Every training."""
        return [
            Training(dataset, model.key, fold)
            for dataset in self.datasets
            for model in self.models_of(dataset)
            for fold in self.config["folds"]
        ]

    @property
    def validations(self) -> list[Training]:
        """The trainings whose maps are predicted."""
        return [training for training in self.trainings if self.models[training.model].maps]

    @property
    def ablated(self) -> list[int]:
        """The datasets that have Table 2."""
        stages = self.config["pre_segmentation"]
        return [d for d, (_, dimension) in self.datasets.items() if stages and dimension == "2d"]

    @property
    def volumes(self) -> list[tuple[int, str]]:
        """(dataset, model) of whole volumes, which are scored on the central slices, too."""
        if "2d" not in self.dimensions:
            return []
        return [(d, model.key) for d, (_, dim) in self.datasets.items() if dim == "3d" for model in self.models_of(d)]

    def jobs(self) -> list[Job]:
        """Every job, in an order in which they could run."""
        first = [Job("phantoms", "phantoms", "convert")] if self.config.get("phantoms") else []
        return [
            *first,
            *(Job("convert", f"convert-{d}", "convert") for d in self.datasets),
            *(Job("preprocess", f"preprocess-{d}", "preprocess") for d in self.datasets),
            *(Job("plan", f"plan-{d}", "convert") for d in self.datasets),
            *(Job("train", f"train-{d}-{m}-{f}", "train") for d, m, f in self.trainings),
            *(Job("validate", f"validate-{d}-{m}-{f}", "validate") for d, m, f in self.validations),
            *(Job("central_slices", f"central_slices-{d}-{m}", "report") for d, m in self.volumes),
            *(Job("ablate", f"ablate-{d}", "report") for d in self.ablated),
            Job("report", "report", "report"),
        ]

    def before_training(self, dataset: int, key: str) -> list[str]:
        """The jobs that a training waits for: its plans, and of a stage all folds of its baseline on that dataset."""
        refined = self.models[key].refines
        folds = self.config["folds"] if refined else ()
        return [f"plan-{dataset}", *(f"train-{dataset}-{refined}-{fold}" for fold in folds)]

    def before_report(self) -> list[str]:
        """The jobs that the report waits for: everything that nothing else waits for."""
        return [job.name for job in self.jobs() if job.rule in ("train", "validate", "central_slices", "ablate")]

    def convert_words(self, dataset: int) -> str:
        """The converter's arguments."""
        modality, dimension = self.datasets[dataset]
        words = [self.data, "--modality", modality, "--dimension", dimension]
        if self.own_splits:
            words += ["--splits", f"splits/{dataset}.json"]
        for name in ("size", "spacing") if dimension == "2d" else ():
            if self.config.get(name):
                words += [f"--{name}", *map(str, self.config[name])]
        return shlex.join(words)

    def plan_words(self, dataset: int) -> str:
        """The arguments of `spinesegdiff plan`."""
        configurations = {model.configuration for model in self.models_of(dataset)}
        stages = self.config["pre_segmentation"]
        words = ["-d", str(dataset)]
        words += ["--paper-baselines"] if configurations & _PAPER_BASELINES else []
        words += ["--small"] if configurations & _SMALL else []
        if dataset in self.ablated:
            words += ["--base", stages["base"], "--previous-trainer", self.models[stages["baseline"]].trainer]
            words += ["--timesteps", *map(str, stages["timesteps"])]
        return shlex.join(words)

    def preprocess_words(self, dataset: int) -> str:
        """The arguments of `nnUNetv2_plan_and_preprocess`."""
        return f"-d {dataset} -c {_PREPROCESSED_AS[self.datasets[dataset][1]]} --verify_dataset_integrity"

    def train_words(self, dataset: int, key: str, fold: int) -> str:
        """The arguments of `nnUNetv2_train`; with --c it goes on where there is a checkpoint, and else begins."""
        model, gpus = self.models[key], self.config.get("gpus_per_training", 1)
        words = f"{dataset} {model.configuration} {fold} -tr {model.trainer} -device {self.device} --c"
        return words if gpus == 1 else f"{words} -num_gpus {gpus}"

    def model_words(self, dataset: int, key: str) -> str:
        """What names a model to this package's commands."""
        model = self.models[key]
        return f"-d {dataset} -c {model.configuration} -tr {model.trainer}"

    def in_ablation(self, key: str) -> bool:
        """Whether a model is a row of Table 2: the baseline and its stages."""
        return key == self.config["pre_segmentation"]["baseline"] or self.models[key].refines is not None

    def crossval_words(self, dataset: int, key: str) -> str:
        """The arguments of `nnUNetv2_accumulate_crossval_results`, which gathers the folds' validation masks."""
        model = self.models[key]
        return f"{dataset} -c {model.configuration} -tr {model.trainer} -f {' '.join(map(str, self.config['folds']))}"

    def central_slices_words(self, dataset: int, key: str) -> str:
        """The arguments of `spinesegdiff evaluate`: volumes scored on the slices of the 2D dataset of that modality."""
        model, (modality, _) = self.models[key], self.datasets[dataset]
        slices = dataset_name(*DATASETS[modality, "2d"])
        volumes = dataset_name(*DATASETS[modality, "3d"])
        folds = "_".join(map(str, sorted(self.config["folds"])))
        folder = (
            f"{RESULTS}/{volumes}/{ModelName(model.trainer, PLANS, model.configuration)}/crossval_results_folds_{folds}"
        )
        words = ["-ref", f"{RAW}/{slices}/labelsTr", "-pred", folder, "--central-slice"]
        return shlex.join([*words, "-o", f"{TABLES}/central_slices-{dataset}-{key}"])

    def ablate_words(self, dataset: int) -> str:
        """The arguments of `spinesegdiff ablate`."""
        stages = self.config["pre_segmentation"]
        words = ["-d", str(dataset), "--timesteps", "0", *map(str, stages["timesteps"]), "--base", stages["base"]]
        words += ["--previous-trainer", self.models[stages["baseline"]].trainer, "-tr", stages["trainer"]]
        return shlex.join([*words, "-o", f"{TABLES}/ablation-{dataset}"])

    def report_words(self) -> str:
        """The arguments of `spinesegdiff report`."""
        numbers = map(str, self.datasets)
        return shlex.join(["-d", *numbers, "--spider", self.data, "--study", ".", "-o", REPORT])

    @property
    def device(self) -> str:
        """cuda or cpu."""
        return self.config.get("device", "cuda")

    def environment(self, study: Path) -> dict[str, str]:
        """The environment of every job: nnU-Net's folders below the study, our trainers, checkpoints and seed."""
        own = {name: str(study / name) for name in NNUNET_FOLDERS}
        own |= {EXTERNAL_TRAINERS: str(EXTENSION), "PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
        own |= {SAVE_EVERY_VARIABLE: str(self.config.get("save_every", 1))}
        own |= {SEED_VARIABLE: str(self.config.get("seed", 0))}
        if self.config.get("loaders") is not None:
            own["nnUNet_n_proc_DA"] = str(self.config["loaders"])
        if self.device == "cpu":
            own |= {"nnUNet_compile": "f", "GOMP_SPINCOUNT": "3000", "nnUNet_def_n_proc": "1"}
        return own
