"""One nnU-Net dataset as the evaluation needs it: references, images, folds, patients and the oblique scans."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.report.models import modality_name
from nnunetv2_diffusion.report.paper import OBLIQUE_PATIENTS
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_labels

DEFAULT_FOLDS = 5
CASE_COLUMNS = ("case", "patient", "oblique")
_SPIDER_CASE = re.compile(r"^SPIDER_(\d+)_(t1|t2)$")


@dataclass
class Dataset:
    """A dataset's own facts, gathered from nnUNet_preprocessed and nnUNet_raw.

    Attributes:
        references: case -> reference mask.
        splits: nnU-Net's splits_final.json, or None where there is none.
        patients: cases.csv by case (columns patient, oblique), empty where there is none.
        notes: what a reader of the tables must know.
    """

    name: str
    labels: LabelScheme
    file_ending: str
    references: dict[str, Path]
    images: Path | None
    splits: list[dict[str, list[str]]] | None
    patients: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def modality(self) -> str:
        """What the dataset is called in tables."""
        return modality_name(self.name)

    @property
    def fold_count(self) -> int:
        """How many folds there should be."""
        return DEFAULT_FOLDS if self.splits is None else len(self.splits)

    def validation_cases(self, fold: int) -> set[str] | None:
        """The cases that a fold validates, None where the splits do not say."""
        return set(self.splits[fold]["val"]) if self.splits is not None and fold < len(self.splits) else None

    def check_case(self, case: str, mask: Path, fold: int) -> None:
        """Demand that a validated case belongs to the dataset and to the fold.

        Raises:
            ValueError: it does not.
        """
        if case not in self.references:
            raise ValueError(f"{mask} is no case of {self.name}; results of different datasets are mixed")
        expected = self.validation_cases(fold)
        if expected is not None and case not in expected:
            raise ValueError(
                f"{mask} lies in fold {fold}, but splits_final.json of {self.name} does not validate {case} there; "
                "the splits have changed since that training"
            )

    def describe_case(self, case: str) -> dict[str, str | bool]:
        """case, patient (the case itself where nothing tells the patient) and oblique of a case."""
        match = _SPIDER_CASE.match(case)
        if case in self.patients.index:
            row = self.patients.loc[case]
            return {"case": case, "patient": str(row["patient"]), "oblique": bool(row["oblique"])}
        patient = str(int(match[1])) if match else case
        return {"case": case, "patient": patient, "oblique": match is not None and int(patient) in OBLIQUE_PATIENTS}

    def image_of(self, case: str) -> Path | None:
        """The case's first channel, where nnUNet_raw has it."""
        path = self.images / f"{case}_0000{self.file_ending}" if self.images else None
        return path if path and path.is_file() else None


def find_dataset(key: int | str, results: Path, preprocessed: Path | None, raw: Path | None) -> Dataset | None:
    """The dataset of a number or a name, None where nnU-Net's results folder has nothing of it.

    Raises:
        FileNotFoundError: its dataset.json or its references are nowhere.
        ValueError: two datasets share the number, or a file does not read.
    """
    pattern = f"Dataset{int(key):03d}_*" if str(key).isdecimal() else str(key)
    found = sorted(path.name for path in results.glob(pattern) if path.is_dir())
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f"{key} is the number of several datasets in {results}: {', '.join(found)}; give the name")
    name = found[0]
    homes = [root / name for root in (preprocessed, raw) if root is not None and (root / name).is_dir()]
    dataset_json = next((home / "dataset.json" for home in homes if (home / "dataset.json").is_file()), None)
    if dataset_json is None:
        raise FileNotFoundError(f"no dataset.json of {name} in nnUNet_preprocessed or nnUNet_raw")
    labels = read_labels(dataset_json)
    ending = json.loads(dataset_json.read_text(encoding="utf-8")).get("file_ending", ".nii.gz")
    raw_home = raw / name if raw is not None else None
    dataset = Dataset(
        name=name,
        labels=labels,
        file_ending=ending,
        references=_references(name, homes, ending),
        images=raw_home / "imagesTr" if raw_home is not None else None,
        splits=_read_splits(homes),
        patients=read_case_list(raw_home / "cases.csv") if raw_home is not None else _no_case_list(),
    )
    dataset.notes += _notes(dataset)
    return dataset


def read_case_list(path: Path) -> pd.DataFrame:
    """The converter's cases.csv by case: patient (text) and oblique (bool); empty where there is no such file.

    Raises:
        ValueError: a column is missing.
    """
    if not path.is_file():
        return _no_case_list()
    table = pd.read_csv(path, dtype=str)
    missing = [column for column in CASE_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(CASE_COLUMNS)}")
    table["oblique"] = table["oblique"].str.strip().str.lower().isin(["yes", "true", "1"])
    return table.set_index("case")[["patient", "oblique"]]


def _references(name: str, homes: list[Path], ending: str) -> dict[str, Path]:
    for folder in (home / sub for sub in ("gt_segmentations", "labelsTr") for home in homes):
        if folder.is_dir():
            return list_masks(folder, ending)
    raise FileNotFoundError(
        f"no references of {name}: neither gt_segmentations in nnUNet_preprocessed nor labelsTr in nnUNet_raw"
    )


def _read_splits(homes: list[Path]) -> list[dict[str, list[str]]] | None:
    path = next((home / "splits_final.json" for home in homes if (home / "splits_final.json").is_file()), None)
    if path is None:
        return None
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return [{"train": list(split["train"]), "val": list(split["val"])} for split in splits]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f'{path} is no list of {{"train": [cases], "val": [cases]}}') from None


def _notes(dataset: Dataset) -> list[str]:
    """Warnings about the splits: absent, a case validated twice over, a patient in two folds."""
    if dataset.splits is None:
        return [f"{dataset.name} has no splits_final.json, so partly validated folds cannot be told from whole ones."]
    fold_of: dict[str, int] = {}
    patients: dict[str, set[int]] = {}
    for fold, split in enumerate(dataset.splits):
        for case in split["val"]:
            if case in fold_of:
                raise ValueError(f"case {case} is in two folds of {dataset.name}: {fold_of[case]} and {fold}")
            fold_of[case] = fold
            patients.setdefault(str(dataset.describe_case(case)["patient"]), set()).add(fold)
    shared = [patient for patient, folds in patients.items() if len(folds) > 1]
    if not shared:
        return []
    return [
        f"{len(shared)} patients of {dataset.name} are in more than one fold: scans of one patient are both trained on "
        "and validated, and the scores are too good."
    ]


def _no_case_list() -> pd.DataFrame:
    return pd.DataFrame(columns=["patient", "oblique"])
