"""Synthetic nnU-Net folders for tests: phantom spines, predictions of a chosen quality, uncertainty maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK
from scipy.ndimage import uniform_filter

LABELS = {"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3}
FOLDS = 5
CONTRASTS = {
    "Dataset501_SPIDER_T1w": ("t1",),
    "Dataset502_SPIDER_T2w": ("t2",),
    "Dataset503_SPIDER_T1wT2w": ("t1", "t2"),
}


@dataclass(frozen=True)
class Model:
    """A training: its folder, how far (pixels) its outlines stray, and whether it has uncertainty maps."""

    folder: str
    stray: float
    maps: bool = True
    probabilities: bool = False


MODELS = (
    Model("nnUNetTrainerSpineSegDiff__nnUNetPlans__2d", 0.7),
    Model("nnUNetTrainerSpineSegDiffPreSeg__nnUNetPlans__2d_preseg_T30", 0.8),
    Model("nnUNetTrainerIISDM__nnUNetPlans__2d", 1.0),
    Model("nnUNetTrainer__nnUNetPlans__2d", 1.2, maps=False),
)


def spine(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Label map and image `[size, size]` (superior first, anterior left) of a spine that curves a little."""
    rows, columns = np.mgrid[0:size, 0:size]
    unit = size / 96
    centre = size * 0.45 + 6 * unit * np.sin(rows / size * np.pi * rng.uniform(0.8, 1.4) + rng.uniform(0, 1))
    level = rows - size * 0.04
    pitch = rng.uniform(14, 16.5) * unit
    within, inside = level % pitch, (level >= 0) & (level < 6 * pitch - 1)
    body = inside & (abs(columns - centre) < rng.uniform(8, 10) * unit)
    labels = np.zeros((size, size), dtype=np.uint8)
    labels[inside & (abs(columns - centre - 16 * unit) < rng.uniform(2.5, 4) * unit)] = 1
    labels[body & (within < pitch * 0.72)] = 2
    labels[body & (within >= pitch * 0.77) & (within < pitch * 0.95)] = 3
    level_of = np.array([40, 190, 110, 165])[labels]
    image = uniform_filter(level_of + rng.normal(0, 14, labels.shape), 2)
    return labels, image.clip(0, 255).astype(np.float32)


def predicted(rng: np.random.Generator, labels: np.ndarray, stray: float) -> tuple[np.ndarray, np.ndarray]:
    """A label map whose rows are shifted by a random walk of about `stray` pixels, and a map bright at its outlines."""
    size = len(labels)
    walk = uniform_filter(rng.normal(0, stray * 3, size), 7)
    shift = np.rint(walk).astype(int)
    source = (np.arange(size)[None] + shift[:, None]).clip(0, size - 1)
    moved = np.take_along_axis(labels, source, axis=1)
    outline = np.zeros(labels.shape, dtype=np.float32)
    outline[:, 1:] += moved[:, 1:] != moved[:, :-1]
    outline[1:] += moved[1:] != moved[:-1]
    doubt = uniform_filter(outline, 3) * (0.35 + 0.3 * abs(walk)[:, None]) * rng.uniform(0.8, 1.2, labels.shape)
    return moved, doubt.clip(0, 1).astype(np.float32)


def write(array: np.ndarray, path: Path) -> None:
    """A sagittal slice `[z, y]` (superior first) as a volume of one slice, RAS, 1 mm, 4 mm thick."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array[::-1, ::-1, None]))
    image.SetSpacing((4.0, 1.0, 1.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(path), useCompression=path.name.endswith(".gz"), compressionLevel=1)


def patients_of(metadata: Path, limit: int | None = None) -> pd.DataFrame:
    """SPIDER's patients from overview.csv: patient, t1, t2 (whether there is such a case)."""
    names = pd.read_csv(metadata / "overview.csv")["new_file_name"].str.extract(r"^(\d+)_(t1|t2)")
    present = names.assign(there=True).drop_duplicates().pivot(index=0, columns=1, values="there").notna()
    present.index = present.index.astype(int)
    return present.sort_index().head(limit).rename_axis("patient").reset_index()


def case_name(patient: int, contrast: str) -> str:
    """As the converter names its cases."""
    return f"SPIDER_{patient:03d}_{contrast}"


def build_tree(
    root: Path,
    patients: pd.DataFrame,
    datasets: Sequence[str] = tuple(CONTRASTS),
    models: Sequence[Model] = MODELS,
    size: int = 96,
    folds: Sequence[int] = range(FOLDS),
) -> dict[str, str]:
    """Write nnUNet_raw, nnUNet_preprocessed and nnUNet_results under `root`; returns the environment variables."""
    homes = {name: root / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    rng = np.random.default_rng(20)
    spines = {
        case_name(row.patient, contrast): spine(rng, size)
        for row in patients.itertuples()
        for contrast in ("t1", "t2")
        if getattr(row, contrast)
    }
    fold_of = {patient: index % FOLDS for index, patient in enumerate(patients["patient"])}
    for dataset in datasets:
        cases = [case for case in spines if case[-2:] in CONTRASTS[dataset]]
        fold_of_case = {case: fold_of[int(case.split("_")[1])] for case in cases}
        _write_dataset(homes, dataset, spines, fold_of_case)
        for model in models:
            _write_training(homes["nnUNet_results"] / dataset / model.folder, model, spines, fold_of_case, folds, rng)
    return {name: str(path) for name, path in homes.items()}


def _write_dataset(homes: dict[str, Path], dataset: str, spines: dict, fold_of_case: dict[str, int]) -> None:
    images = homes["nnUNet_raw"] / dataset / "imagesTr"
    references = homes["nnUNet_preprocessed"] / dataset / "gt_segmentations"
    for folder in (images, references):
        folder.mkdir(parents=True)
    for case in fold_of_case:
        labels, image = spines[case]
        write(image, images / f"{case}_0000.nii.gz")
        write(labels, references / f"{case}.nii.gz")
    content = json.dumps({"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "MRI"}})
    for home in (images.parent, references.parent):
        (home / "dataset.json").write_text(content)
    splits = [
        {
            "train": [case for case, of in fold_of_case.items() if of != fold],
            "val": [case for case, of in fold_of_case.items() if of == fold],
        }
        for fold in range(FOLDS)
    ]
    (references.parent / "splits_final.json").write_text(json.dumps(splits))
    stages = {f"2d_preseg_T{t}": {"previous_stage": "2d"} for t in (30, 100)}
    (references.parent / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": {}, **stages}}))


def _write_training(
    folder: Path,
    model: Model,
    spines: dict,
    fold_of_case: dict[str, int],
    folds: Sequence[int],
    rng: np.random.Generator,
) -> None:
    for fold in folds:
        (folder / f"fold_{fold}" / "validation").mkdir(parents=True)
        if model.maps:
            (folder / f"fold_{fold}" / "validation_uncertainty" / "uncertainty").mkdir(parents=True)
            timing = {"seconds_per_slice": 0.1 + model.stray, "network_evaluations_per_slice": 40}
            (folder / f"fold_{fold}" / "validation_uncertainty" / "timing.json").write_text(json.dumps(timing))
    for case, fold in fold_of_case.items():
        if fold not in folds:
            continue
        home = folder / f"fold_{fold}"
        mask, doubt = predicted(rng, spines[case][0], model.stray * rng.uniform(0.5, 1.6))
        write(mask, home / "validation" / f"{case}.nii.gz")
        if model.maps:
            write(doubt, home / "validation_uncertainty" / "uncertainty" / f"{case}_uncertainty.nii.gz")
        if model.probabilities:
            right = 0.98 - 0.6 * doubt
            heads = np.where(np.arange(len(LABELS))[:, None, None] == mask, right, (1 - right) / (len(LABELS) - 1))
            stored = heads[:, ::-1, ::-1, None].astype(np.float32)
            np.savez_compressed(home / "validation" / f"{case}.npz", probabilities=stored)


def some_patients(count: int) -> pd.DataFrame:
    """Patients 1 ... count with both contrasts (patient 1's scans are oblique in SPIDER)."""
    return pd.DataFrame({"patient": range(1, count + 1), "t1": True, "t2": True})


def write_gradings(path: Path, patients: Sequence[int], discs: int = 7) -> Path:
    """A radiological_gradings.csv in SPIDER's layout: every second patient herniated, Pfirrmann grades 1 ... 5."""
    rows = [
        {
            "Patient": patient,
            "IVD label": disc + 1,
            "Modic": 2 * int(patient % 3 == 0 and disc == 0),
            "UP endplate": int(patient % 4 == 0),
            "LOW endplate": int(patient % 5 == 0),
            "Spondylolisthesis": int(patient == 2 and disc == 1),
            "Disc herniation": int(patient % 2 == 0 and disc == 2),
            "Disc narrowing": int(patient % 3 == 1),
            "Disc bulging": int(patient % 2 == 1),
            "Pfirrman grade": 1 + (patient + disc // 5) % 5,
        }
        for patient in patients
        for disc in range(discs)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
