"""Tiny nnU-Net datasets, plans and trainings for tests: a few one-slice images, a narrow network, two steps."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

PATCH = (32, 32)
SPACING = (4.0, 1.0, 1.0)  # sagittal slices, RAS+: x is left-right
SHAPES = ((32, 32), (48, 40), (64, 48), (40, 56), (32, 48), (56, 32))  # rows, columns
KINDS = {
    "binary": {"labels": {"background": 0, "spine": 1}},
    "labels": {"labels": {"background": 0, "vertebra": 1, "disc": 2}},
    "regions": {"labels": {"background": 0, "spine": [1, 2], "disc": [2]}, "regions_class_order": [1, 2]},
    "ignore": {"labels": {"background": 0, "vertebra": 1, "disc": 2, "ignore": 3}},
    "regions_ignore": {
        "labels": {"background": 0, "spine": [1, 2], "disc": [2], "ignore": 3},
        "regions_class_order": [1, 2],
    },
}
TRAINER = "TinyDiffusionTrainer"
TRAINERS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDMEpsilon import nnUNetTrainerIISDMEpsilon
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffControl import nnUNetTrainerSpineSegDiffControl
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffOneStep import nnUNetTrainerSpineSegDiffOneStep
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPaper import nnUNetTrainerSpineSegDiffPaper
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg


class Short:
    epochs = 1

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = self.epochs, 2, 1


class TinyDiffusionTrainer(Short, nnUNetTrainerSpineSegDiffPaper):
    pass


class TinyDiffusionTrainer_2epochs(TinyDiffusionTrainer):
    epochs = 2


class TinyPlainTrainer(Short, nnUNetTrainer):
    pass


class TinyIISDM(Short, nnUNetTrainerIISDM):
    settings = nnUNetTrainerIISDM.settings.updated({"sampling_steps": 6})


class TinyIISDM_2epochs(TinyIISDM):
    epochs = 2


class TinyIISDMEpsilon(Short, nnUNetTrainerIISDMEpsilon):
    settings = nnUNetTrainerIISDMEpsilon.settings.updated({"sampling_steps": 6})


class TinyControl(Short, nnUNetTrainerSpineSegDiffControl):
    pass


class TinyOneStep(Short, nnUNetTrainerSpineSegDiffOneStep):
    pass


class TinyPreSeg(Short, nnUNetTrainerSpineSegDiffPreSeg):
    pass


class TinyPreSeg_2epochs(TinyPreSeg):
    epochs = 2
"""


def blobs(case: int, shape: tuple[int, int]) -> np.ndarray:
    """A mask [rows, columns] of vertebrae (1) and discs (2), one above the other."""
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, np.uint8)
    inside = np.abs(columns - shape[1] // 2) < 7 + case % 3
    mask[inside & (rows % 12 < 8)] = 1
    mask[inside & (rows % 12 >= 9)] = 2
    mask[:3], mask[-3:] = 0, 0
    return mask


def slice_image(array: np.ndarray, geometry: dict | None = None) -> sitk.Image:
    """[rows, columns] as a one-slice sagittal image."""
    image = sitk.GetImageFromArray(array[..., None])
    image.SetSpacing(SPACING)
    for name, value in (geometry or {}).items():
        getattr(image, f"Set{name}")(value)
    return image


def write_case(folder: Path, name: str, mask: np.ndarray, channels: int, seed: int, **geometry) -> None:
    """`<name>_0000.nii.gz` and so on: the mask's intensities and noise."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for channel in range(channels):
        values = 100 + 50.0 * (-1) ** channel * mask + generator.normal(0, 20, mask.shape)
        sitk.WriteImage(slice_image(values.astype(np.float32), geometry), str(folder / f"{name}_{channel:04d}.nii.gz"))


def write_raw_dataset(folder: Path, channels: int, kind: str) -> None:
    """imagesTr, labelsTr and dataset.json of six cases."""
    (folder / "labelsTr").mkdir(parents=True)
    for case, shape in enumerate(SHAPES):
        mask = blobs(case, shape)
        write_case(folder / "imagesTr", f"case_{case}", mask, channels, seed=case)
        if "ignore" in kind:
            mask[:, :8] = 3
        if kind == "binary":
            mask = np.minimum(mask, 1)
        sitk.WriteImage(slice_image(mask), str(folder / "labelsTr" / f"case_{case}.nii.gz"))
    description = {
        "channel_names": {str(channel): "MRI" for channel in range(channels)},
        "numTraining": len(SHAPES),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        **KINDS[kind],
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def narrow(plans_file: Path) -> None:
    """Replace the planned 2d network by one of three narrow stages over patches of 32 x 32, batch 2."""
    plans = json.loads(plans_file.read_text())
    configuration = plans["configurations"]["2d"]
    configuration.update(patch_size=list(PATCH), batch_size=2)
    arguments = configuration["architecture"]["arch_kwargs"]
    blocks = "n_blocks_per_stage" if "n_blocks_per_stage" in arguments else "n_conv_per_stage"
    arguments.update(
        n_stages=3,
        features_per_stage=[8, 16, 32],
        kernel_sizes=[[3, 3]] * 3,
        strides=[[1, 1], [2, 2], [2, 2]],
        n_conv_per_stage_decoder=[1, 1],
        **{blocks: [1, 2, 1]},
    )
    plans_file.write_text(json.dumps(plans))


class ThreadForProcess(threading.Thread):
    """Has ends of pipes of its own, as a spawned process."""

    def __init__(self, target: Callable, args: Sequence[Connection], daemon: bool):
        super().__init__(target=target, args=[Connection(os.dup(end.fileno())) for end in args], daemon=daemon)


@contextlib.contextmanager
def threads_for_processes() -> Iterator[None]:
    """nnU-Net's spawned pools as threads: a spawned process takes seconds to import PyTorch."""

    class Threads:
        Pool, Process, Pipe = staticmethod(ThreadPool), ThreadForProcess, staticmethod(multiprocessing.Pipe)

    import nnunetv2.utilities.utils

    get_context = multiprocessing.get_context
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nnunetv2.utilities.utils, "Pool", ThreadPool)
        patch.setattr(multiprocessing, "get_context", lambda m=None: Threads if m == "spawn" else get_context(m))
        yield


@contextlib.contextmanager
def nnunet_environment(root: Path, augmentation_processes: int = 0) -> Iterator[None]:
    """nnU-Net's folders under `root`; this process loads and augments the data."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in folders(root).items():
            patch.setenv(name, value)
        patch.setenv("nnUNet_n_proc_DA", str(augmentation_processes))
        yield


def folders(root: Path) -> dict[str, str]:
    """nnU-Net's environment variables for the folders under `root`."""
    from nnunetv2_diffusion.nnunet_names import EXTENSION

    names = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    return {**names, "nnUNet_extTrainer": os.pathsep.join([str(root / "trainers"), str(EXTENSION)])}


class TinyProject:
    """nnU-Net's folders with tiny datasets and models, each made when first asked for."""

    def __init__(self, root: Path):
        self.root = root
        self.made: dict[tuple, object] = {}
        for name in ("raw", "preprocessed", "results", "trainers"):
            (root / name).mkdir()
        (root / "trainers" / "tiny_trainers.py").write_text(TRAINERS)

    def _once(self, key: tuple, make: Callable[[], object]):
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def dataset(self, channels: int = 1, kind: str = "labels", planner: str = "ExperimentPlanner") -> int:
        """The number of a dataset that is planned, preprocessed and narrowed."""
        number = 100 + 10 * channels + list(KINDS).index(kind)
        self._once(("dataset", number), lambda: self._raw(number, channels, kind))
        self._once(("plans", number, planner), lambda: self.plan(number, planner))
        return number

    def _raw(self, number: int, channels: int, kind: str) -> None:
        from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints

        write_raw_dataset(self.root / "raw" / f"Dataset{number}_Tiny", channels, kind)
        with nnunet_environment(self.root, 1), threads_for_processes():
            extract_fingerprints([number], num_processes=1, verbose=False, show_progress_bar=False)

    def plan(self, number: int, planner: str = "ExperimentPlanner") -> None:
        """Plan and preprocess a dataset that has its fingerprint, with a narrow network."""
        from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess

        with nnunet_environment(self.root, 1), threads_for_processes():
            plans = plan_experiments([number], planner)
            narrow(self.preprocessed(number) / f"{plans}.json")
            if planner == "ExperimentPlanner":  # the others share its preprocessed data
                preprocess([number], configurations=("2d",), num_processes=(1,), show_progress_bar=False)

    def train(self, number: int, fold: int | str = 0, trainer: str = TRAINER, configuration="2d", **options) -> Path:
        """nnU-Net's own training and final validation; the model's folder."""
        import torch
        from nnunetv2.run.run_training import run_training

        plans = options.setdefault("plans_identifier", "nnUNetPlans")
        with nnunet_environment(self.root), threads_for_processes():
            run_training(str(number), configuration, fold, trainer, device=torch.device("cpu"), **options)
        return self.root / "results" / f"Dataset{number}_Tiny" / f"{trainer}__{plans}__{configuration}"

    def preprocessed(self, number: int) -> Path:
        """The dataset's preprocessed folder."""
        return self.root / "preprocessed" / f"Dataset{number}_Tiny"

    def model(
        self, channels: int = 1, kind: str = "labels", fold: int | str = 0, trainer="TinyDiffusionTrainer"
    ) -> Path:
        """The folder of a model trained for two steps."""
        number = self.dataset(channels, kind)
        return self._once(("model", number, fold, trainer), lambda: self.train(number, fold, trainer))
