"""Plans that nnU-Net itself made, once a session, of a tiny 2-D and a tiny 3-D dataset."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

LABELS = {"background": 0, "vertebra": 1, "disc": 2}


def _write(path: Path, array: np.ndarray, spacing: tuple[float, float, float]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_dataset(folder: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float], cases: int) -> None:
    """A raw dataset of noise with one box a label; `shape` is (z, y, x), `spacing` (x, y, z) in mm."""
    generator = np.random.default_rng(0)
    middle, right = shape[1] // 2, shape[2] if shape[2] < 8 else shape[2] // 2
    for case in range(cases):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[: shape[0] // 2, 4:middle, :right] = 1
        mask[: shape[0] // 2, middle : middle + 6, :right] = 2
        image = (mask + generator.normal(1, 0.1, shape)).astype(np.float32)
        _write(folder / "imagesTr" / f"case_{case}_0000.nii.gz", image, spacing)
        _write(folder / "labelsTr" / f"case_{case}.nii.gz", mask, spacing)
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="session")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with nnU-Net's three folders: Dataset501_Tiny2D (preprocessed) and Dataset502_Tiny3D; two plans each."""
    root = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{name}", str(root / name))
            (root / name).mkdir()
        patch.setenv("nnUNet_def_n_proc", "1")
        patch.setenv("nnUNet_n_proc_DA", "1")
        from nnunetv2.experiment_planning.plan_and_preprocess_api import (
            extract_fingerprints,
            plan_experiments,
            preprocess,
        )

        # one sagittal slice each, RAS+: x is left-right
        write_dataset(root / "raw" / "Dataset501_Tiny2D", (60, 40, 1), (4.0, 1.0, 1.0), cases=5)
        write_dataset(root / "raw" / "Dataset502_Tiny3D", (48, 40, 12), (4.0, 1.0, 1.0), cases=3)
        extract_fingerprints([501, 502], num_processes=1, verbose=False, show_progress_bar=False)
        for planner in ("ExperimentPlanner", "nnUNetPlannerResEncM"):
            plan_experiments([501, 502], planner)
        preprocess([501], configurations=("2d",), num_processes=(1,), show_progress_bar=False)
    splits = [{"train": [f"case_{j}" for j in range(5) if j != i], "val": [f"case_{i}"]} for i in range(5)]
    (root / "preprocessed" / "Dataset501_Tiny2D" / "splits_final.json").write_text(json.dumps(splits))
    return root


@pytest.fixture
def nnunet(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `planned` of one's own, set in nnU-Net's environment variables."""
    root = shutil.copytree(planned, tmp_path / "nnunet")
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(root / name))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    return root


@pytest.fixture
def flat(nnunet: Path) -> Path:
    """The 2-D dataset's preprocessed folder."""
    return nnunet / "preprocessed" / "Dataset501_Tiny2D"


@pytest.fixture
def volumes(nnunet: Path) -> Path:
    """The 3-D dataset's preprocessed folder."""
    return nnunet / "preprocessed" / "Dataset502_Tiny3D"
