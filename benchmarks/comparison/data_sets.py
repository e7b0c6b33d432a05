"""The two real data sets as raw nnU-Net datasets: one slice a case, patient-wise folds, every structure annotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import convert
from nnunetv2_diffusion.dataset_conversion.splits import Splits, assign_folds
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.imaging.grid import Grid, model_grid, to_ras
from nnunetv2_diffusion.imaging.intensity import normalize_intensity
from nnunetv2_diffusion.imaging.reading import read_scan
from nnunetv2_diffusion.imaging.resampling import resample_to_grid
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, SPLITS_FILE, dataset_name
from nnunetv2_diffusion.spider import DISCS, IMAGES, MASKS, VALUES, VERTEBRAE, Series, list_series, select_cases

SPIDER_LAYOUT, SPIDER_VOLUMES, DISCS_AND_VERTEBRAE = "spider_layout", "spider_volumes", "discs_and_vertebrae_2d"
NUMBERS = {SPIDER_LAYOUT: 601, DISCS_AND_VERTEBRAE: 602, SPIDER_VOLUMES: 603}
SLICE_LABELS = {"background": 0, DISCS: 1, VERTEBRAE: 2}
FIELD_OF_VIEW = 320.0  # mm; of the converter's 320 pixels of 1 mm


@dataclass(frozen=True)
class RawData:
    """A raw dataset: nnU-Net's number and name for it, and what a reader of its scores should know."""

    number: int
    name: str
    notes: list[str] = field(default_factory=list)


def write_raw(name: str, mri: Path, raw: Path, size: int, folds: int) -> RawData:
    """The data set `name` in the folder `mri` as a raw nnU-Net dataset in the folder `raw`.

    Args:
        name: SPIDER_LAYOUT (the vertebrae of T2w scans, their central slices), SPIDER_VOLUMES (all slices of the same
            scans) or DISCS_AND_VERTEBRAE.
        mri: the folder that holds a folder of that name.
        raw: nnUNet_raw.
        size: pixels along the sides of the sagittal plane.
        folds: number of folds, at most one a patient.

    Raises:
        FileNotFoundError: the data are not there.
        ValueError: fewer patients than folds, or a scan that cannot be converted.
    """
    source = mri / (DISCS_AND_VERTEBRAE if name == DISCS_AND_VERTEBRAE else SPIDER_LAYOUT)
    if not (source / IMAGES).is_dir():
        raise FileNotFoundError(f"{source / 'images'} does not exist; name the folder of the real MRI with --mri")
    raw.mkdir(parents=True, exist_ok=True)
    if name == DISCS_AND_VERTEBRAE:
        return _slices(source, raw, size, folds)
    return _spider_layout(source, raw, size, folds, name)


def patient_splits(patients: Mapping[str, int], folds: int) -> Splits:
    """nnU-Net's splits of the cases (case -> patient), level in patients.

    Raises:
        ValueError: fewer than two folds, or fewer patients than folds.
    """
    distinct = set(patients.values())
    if not 2 <= folds <= len(distinct):
        raise ValueError(f"--folds {folds} does not fit {len(distinct)} patients: expected 2 to {len(distinct)}")
    fold_of = assign_folds({patient: frozenset({"t2"}) for patient in distinct}, folds)
    return [
        {
            "train": sorted(case for case, patient in patients.items() if fold_of[patient] != fold),
            "val": sorted(case for case, patient in patients.items() if fold_of[patient] == fold),
        }
        for fold in range(folds)
    ]


def _spider_layout(source: Path, raw: Path, size: int, folds: int, name: str) -> RawData:
    series = [case for case in select_cases(list_series(source)) if case.contrast == "t2"]
    chosen = [case for case in series if _holds_vertebrae(source, case)]
    splits_file = raw / f"{name}_splits.json"
    write_json(patient_splits({case.case: case.patient for case in chosen}, folds), splits_file, indent=4)
    conversion = convert(
        source,
        "T2w",
        out=raw,
        size=[size],
        spacing=[FIELD_OF_VIEW / size],
        patients=",".join(str(case.patient) for case in chosen),
        splits=splits_file,
        dimension="3d" if name == SPIDER_VOLUMES else "2d",
        dataset_id=NUMBERS[name],
        name=name,
    )
    if conversion.failures:
        raise ValueError("; ".join(f"{case}: {message}" for case, message in conversion.failures.items()))
    left_out = [case.case for case in series if case not in chosen]
    notes = [f"Left out, as their masks hold no vertebrae: {', '.join(left_out)}."] if left_out else []
    return RawData(NUMBERS[name], conversion.folder.name, notes)


def _holds_vertebrae(source: Path, case: Series) -> bool:
    mask = read_scan(source / MASKS / case.file_name)
    values = np.unique(sitk.GetArrayFromImage(mask))
    return any(value in span for value in values.tolist() for span in VALUES[VERTEBRAE])


def _slices(source: Path, raw: Path, size: int, folds: int) -> RawData:
    name = dataset_name(NUMBERS[DISCS_AND_VERTEBRAE], DISCS_AND_VERTEBRAE)
    folder = raw / name
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    cases, incomplete = [], []
    for path in sorted((source / IMAGES).glob("*.nii.gz")):
        case = path.name.removesuffix(".nii.gz")
        image, labels = (to_ras(read_scan(source / part / path.name)) for part in (IMAGES, "labels"))
        if set(SLICE_LABELS.values()) - set(np.unique(sitk.GetArrayFromImage(labels)).tolist()):
            incomplete.append(case)
            continue
        grid = _plane(image, size)
        image = resample_to_grid(normalize_intensity(image), grid)
        write_image(image, folder / "imagesTr" / f"{case}_0000.nii.gz")
        labels = sitk.Cast(resample_to_grid(labels, grid, "nearest"), sitk.sitkUInt8)
        write_image(labels, folder / "labelsTr" / f"{case}.nii.gz")
        cases.append(case)
    write_json(patient_splits({case: i for i, case in enumerate(cases)}, folds), folder / SPLITS_FILE, indent=4)
    description = {"channel_names": {"0": "MRI"}, "labels": SLICE_LABELS, "file_ending": ".nii.gz"}
    write_json({**description, "numTraining": len(cases)}, folder / DATASET_FILE, indent=4)
    notes = []
    if incomplete:
        notes.append(
            f"Left out: {', '.join(incomplete)}, in which one of the two structures is visible but not annotated, so "
            "that a right answer would count as a wrong one."
        )
    return RawData(NUMBERS[DISCS_AND_VERTEBRAE], name, notes)


def _plane(image: sitk.Image, size: int) -> Grid:
    """The slice's whole field of view on at most `size` pixels a side, never finer than it was acquired."""
    length = max(n * spacing for n, spacing in zip(image.GetSize()[1:], image.GetSpacing()[1:], strict=True))
    return model_grid(image, max(length / size, *image.GetSpacing()[1:]))


def case_splits(datasets: Path, name: str) -> Splits:
    """The folds of the dataset `name` in nnUNet_raw or, those that nnU-Net trains by, in nnUNet_preprocessed."""
    return read_json(datasets / name / SPLITS_FILE, list, remedy="remove the folder and run again")
