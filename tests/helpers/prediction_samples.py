"""Unseen tiny images, and predictions of them by nnU-Net's own predictor and by ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from helpers.nnunet_samples import TRAINER, blobs, slice_image, write_case
from nnunetv2_diffusion.cli import main

OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def write_unseen(folder: Path, channels: int = 1) -> None:
    """Images of a patch's size, larger, smaller, with empty borders, and finer with geometry of its own."""
    for seed, (name, shape) in enumerate({"exact": (32, 32), "larger": (64, 48), "smaller": (24, 28)}.items()):
        write_case(folder, name, blobs(seed, shape), channels, seed=10 + seed)
    write_case(folder, "bordered", blobs(1, (40, 40)), channels, seed=13)
    for file in folder.glob("bordered_*"):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))[..., 0]
        array[:5], array[:, -6:] = 0, 0
        sitk.WriteImage(slice_image(array), str(file))
    geometry = {"Spacing": (3.5, 0.7, 0.6), "Origin": (5.0, -7.0, 11.0), "Direction": OBLIQUE}
    write_case(folder, "oblique", blobs(2, (56, 50)), channels, seed=14, **geometry)


def stock_masks(
    model: Path, images: Path, output: Path, folds: tuple = (0,), mirroring: bool = True, probabilities: bool = False
) -> Path:
    """nnU-Net's predictor in this process."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=mirroring)
    predictor.initialize_from_trained_model_folder(str(model), folds)
    output.mkdir()
    predictor.predict_from_files_sequential(str(images), str(output), save_probabilities=probabilities)
    return output


def predict(images: Path, output: Path, *flags: object, dataset: int = 111, trainer: str = TRAINER) -> int:
    """`spinesegdiff predict` in this process; its exit code."""
    arguments = ["predict", "-i", images, "-o", output, "-d", dataset, "-c", "2d", "-tr", trainer, "-device", "cpu"]
    fold = () if "-f" in flags else ("-f", 0)
    processes = () if "-npp" in flags else ("-npp", 0, "-nps", 0)
    return main([str(value) for value in (*arguments, *fold, *processes, "--disable_progress_bar", *flags)])


def volumes(folder: Path, ending: str = "") -> dict[str, np.ndarray]:
    """Arrays of a folder's masks (or of their maps `uncertainty/<case>_<ending>`), by case."""
    tail = f"_{ending}.nii.gz" if ending else ".nii.gz"
    files = sorted((folder / "uncertainty" if ending else folder).glob(f"*{tail}"))
    return {file.name[: -len(tail)]: sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    """The same cases with bit-identical arrays."""
    assert first.keys() == second.keys()
    assert first
    for case, array in first.items():
        np.testing.assert_array_equal(array, second[case], err_msg=case)


def normalised(image: Path) -> np.ndarray:
    """nnU-Net's preprocessing of an image that needs neither cropping nor resampling: [rows, columns], z-scored."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(image)))[..., 0].astype(np.float32)
    return (array - array.mean()) / max(array.std(), 1e-8)
