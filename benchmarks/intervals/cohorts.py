"""Patients to train on and others to measure: phantoms, which know the truth, and the real scans in SPIDER's layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from comparison.data_sets import SPIDER_LAYOUT, RawData, write_raw
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.phantoms.patients import Protocol, make_scan, make_spine
from nnunetv2_diffusion.phantoms.truth import true_measurements
from nnunetv2_diffusion.spider import IMAGES, MASKS, Series, list_series, parse_case, select_cases

PHANTOMS = "phantoms"
COHORTS = (PHANTOMS, SPIDER_LAYOUT)
SEED = 90210  # of no other phantom in the project
PROTOCOL = Protocol(slices=3)
EVERY = 3  # of the real patients one in so many is measured and not trained on
_MADE = "made.json"


@dataclass(frozen=True)
class Cohort:
    """A raw dataset to train on, and the images and references of other patients.

    Attributes:
        name: one of COHORTS.
        data: to train on.
        tested: the raw dataset of the patients to measure.
        truth: a case's true measurements where they are known; None where the reference mask is all there is.
    """

    name: str
    data: RawData
    tested: Path
    truth: Callable[[str], pd.DataFrame] | None = field(default=None, compare=False)

    @property
    def cases(self) -> list[str]:
        """The cases to measure."""
        return sorted(file.name.removesuffix(".nii.gz") for file in (self.tested / "labelsTr").glob("*.nii.gz"))


def make_cohort(
    name: str, root: Path, raw: Path, mri: Path, *, size: int, folds: int, patients: tuple[int, int]
) -> Cohort:
    """Write what is missing of a cohort.

    Args:
        name: one of COHORTS.
        root: of this cohort's scans.
        raw: nnUNet_raw, for the patients to train on.
        mri: the folder that holds SPIDER_LAYOUT.
        size: pixels along the sides of a slice.
        folds: of the training.
        patients: numbers of phantoms to train on and to measure.

    Raises:
        FileNotFoundError: the real scans are not there.
        ValueError: fewer patients than folds.
    """
    parts = _phantoms(root, patients) if name == PHANTOMS else _real(root, mri)
    data = write_raw(SPIDER_LAYOUT, parts["train"], raw, size, folds)
    tested = write_raw(SPIDER_LAYOUT, parts["test"], root / "tested", size, 2)
    return Cohort(name, data, root / "tested" / tested.name, _true if name == PHANTOMS else None)


def _true(case: str) -> pd.DataFrame:
    patient, _ = parse_case(case)
    spine, _ = make_spine(patient, SEED, PROTOCOL.height)
    return true_measurements(spine, case)


def _phantoms(root: Path, patients: tuple[int, int]) -> dict[str, Path]:
    """T2w scans of phantoms in SPIDER's layout: the first ones to train on, the others to measure."""
    train, test = patients
    parts = {"train": range(1, train + 1), "test": range(train + 1, train + test + 1)}
    for part, numbers in parts.items():
        folder = root / part / SPIDER_LAYOUT
        made = folder / _MADE
        if made.is_file() and read_json(made, list) == list(numbers):
            continue
        for patient in tqdm(numbers, desc=f"phantoms ({part})", disable=None):
            spine, _ = make_spine(patient, SEED, PROTOCOL.height)
            series = Series(patient, "t2", "t2")
            for kind, image in zip((IMAGES, MASKS), make_scan(spine, patient, "t2", SEED, PROTOCOL), strict=True):
                write_image(image, folder / kind / series.file_name)
        write_json(list(numbers), made)
    return {part: root / part for part in parts}


def _real(root: Path, mri: Path) -> dict[str, Path]:
    """Links to the T2w scans of the real patients, every third one to measure."""
    source = mri / SPIDER_LAYOUT
    if not (source / IMAGES).is_dir():
        raise FileNotFoundError(f"{source / IMAGES} does not exist; name the folder of the real MRI with --mri")
    series = [one for one in select_cases(list_series(source)) if one.contrast == "t2"]
    for number, one in enumerate(series):
        part = "test" if number % EVERY == EVERY - 1 else "train"
        for kind in (IMAGES, MASKS):
            link = root / part / SPIDER_LAYOUT / kind / one.file_name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.symlink((source / kind / one.file_name).resolve(), link)
    return {part: root / part for part in ("train", "test")}
