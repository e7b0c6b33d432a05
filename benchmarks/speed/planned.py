"""A synthetic dataset of one-slice images that nnU-Net plans itself, and untrained models of its size.

Time and memory do not depend on what the weights are, so nothing has to be trained to measure them.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.nnunet_names import (
    CHECKPOINT,
    DATASET_FILE,
    PLANS,
    PLANS_FILE,
    PREPROCESSED,
    PRESEG,
    RAW,
    RESULTS,
    SPINESEGDIFF,
    TRAINER,
    ModelName,
    dataset_name,
    fold_folder,
    stage_name,
)

DATASET = 900
NAME = dataset_name(DATASET, "Synthetic")
CASES = 8
LABELS = {"background": 0, "vertebrae": 1, "discs": 2, "canal": 3}
TIMESTEPS = 30
FOLDERS = {RAW: "raw", PREPROCESSED: "preprocessed", RESULTS: "results"}
VARIABLES = (*FOLDERS, "nnUNet_n_proc_DA")
SPACING = (4.0, 1.0, 1.0)
TRAINED = {
    "baseline": ModelName(TRAINER, PLANS, "2d"),
    "model": ModelName(SPINESEGDIFF, PLANS, "2d"),
    "preseg": ModelName(PRESEG, PLANS, stage_name("2d", TIMESTEPS)),
}


@dataclass(frozen=True)
class SyntheticProject:
    """nnU-Net's folders below `root`."""

    root: Path

    @property
    def preprocessed(self) -> Path:
        """The synthetic dataset's folder in nnUNet_preprocessed."""
        return self.root / FOLDERS[PREPROCESSED] / NAME

    def enter(self) -> None:
        """Name the folders in nnU-Net's environment variables."""
        for variable, name in FOLDERS.items():
            (self.root / name).mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(self.root / name)
        os.environ["nnUNet_n_proc_DA"] = "1"

    def plan(self, size: int) -> None:
        """Write slices of `size` x `size` pixels, and let nnU-Net plan and preprocess them."""
        from nnunetv2.experiment_planning.plan_and_preprocess_api import (
            extract_fingerprints,
            plan_experiments,
            preprocess,
        )

        from nnunetv2_diffusion.planning.planner import plan_dataset

        _write_raw(self.root / FOLDERS[RAW] / NAME, size)
        with quietly(), _threads_for_processes():
            extract_fingerprints([DATASET], num_processes=1, verbose=False, show_progress_bar=False)
            plan_experiments([DATASET])
            preprocess([DATASET], configurations=("2d",), num_processes=(1,), show_progress_bar=False)
            plan_dataset(DATASET, timesteps=(TIMESTEPS,))

    def untrained(self, kind: str) -> Path:
        """The folder of an untrained model, written as nnU-Net writes a trained one; `kind` is a key of TRAINED."""
        folder = self.root / FOLDERS[RESULTS] / NAME / str(TRAINED[kind])
        if not folder.exists():
            with quietly():
                self._write_model(folder, TRAINED[kind])
        return folder

    def _write_model(self, folder: Path, model: ModelName) -> None:
        from nnunetv2_diffusion.inference.trainer_search import find_trainer

        plans = read_json(self.preprocessed / f"{PLANS}.json")
        dataset = read_json(self.preprocessed / DATASET_FILE)
        torch.manual_seed(0)
        trainer_class = find_trainer(model.trainer)
        settings = {**plans, "continue_training": False}
        trainer = trainer_class(settings, model.configuration, 0, dataset, torch.device("cpu"))
        trainer.initialize()
        if model.trainer == TRAINER:
            trainer.inference_allowed_mirroring_axes = (0, 1)  # nnU-Net's default, set where its training starts
        fold = fold_folder(folder, 0)
        fold.mkdir(parents=True, exist_ok=True)
        trainer.save_checkpoint(str(fold / CHECKPOINT))
        write_json(plans, folder / PLANS_FILE)
        write_json(dataset, folder / DATASET_FILE)


def _write_raw(folder: Path, size: int) -> None:
    """Discs of three labels on noise; different in every case."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.indices((size, size))
    for case in range(CASES):
        generator = np.random.default_rng(case)
        labels = np.zeros((size, size), np.uint8)
        for label in (1, 2, 3):
            centre = generator.uniform(0.3, 0.7, 2) * size
            labels[np.hypot(rows - centre[0], columns - centre[1]) < size / 8] = label
        image = 100 * labels + generator.normal(200, 50, labels.shape)
        _write(image.astype(np.float32), folder / "imagesTr" / f"case_{case}_0000.nii.gz")
        _write(labels, folder / "labelsTr" / f"case_{case}.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": CASES, "file_ending": ".nii.gz"}
    write_json(description, folder / DATASET_FILE)


def _write(array: np.ndarray, path: Path) -> None:
    """[rows, columns] as a sagittal slice."""
    image = sitk.GetImageFromArray(array[..., None])
    image.SetSpacing(SPACING)
    write_image(image, path)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what nnU-Net prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _threads_for_processes() -> Iterator[None]:
    """nnU-Net's spawned pools as threads: a handful of slices is not worth starting processes for."""

    class Threads:
        Pool = staticmethod(ThreadPool)

    get_context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: Threads if method == "spawn" else get_context(method)
    try:
        yield
    finally:
        multiprocessing.get_context = get_context
