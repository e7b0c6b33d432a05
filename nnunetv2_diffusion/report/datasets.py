"""One nnU-Net dataset as the report needs it: references, images, folds, patients and the oblique scans."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PREPROCESSED, RAW, SPLITS_FILE, dataset_folder, split_rater
from nnunetv2_diffusion.report.names import modality_name
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_file_ending, read_labels
from nnunetv2_diffusion.spider import OBLIQUE_PATIENTS, parse_case

DEFAULT_FOLDS = 5
CASE_COLUMNS = ("case", "patient", "oblique")
CASE_LIST = "cases.csv"


@dataclass
class Dataset:
    """A dataset's own facts, gathered from nnUNet_preprocessed and nnUNet_raw.

    Attributes:
        references: case -> reference mask.
        splits: nnU-Net's splits, or None where there is none.
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
                f"{mask} lies in fold {fold}, but {SPLITS_FILE} of {self.name} does not validate {case} there; "
                "the splits have changed since that training"
            )

    def describe_case(self, case: str) -> dict[str, str | bool]:
        """case, patient (where nothing tells him the image: the case without its rater) and oblique of a case."""
        if case in self.patients.index:
            row = self.patients.loc[case]
            return {"case": case, "patient": str(row["patient"]), "oblique": bool(row["oblique"])}
        image, _ = split_rater(case)
        parsed = parse_case(image)
        if parsed is None:
            return {"case": case, "patient": image, "oblique": False}
        patient, _ = parsed
        return {"case": case, "patient": str(patient), "oblique": patient in OBLIQUE_PATIENTS}

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
    folder = dataset_folder(key, results)
    if folder is None:
        return None
    name = folder.name
    homes = [root / name for root in (preprocessed, raw) if root is not None and (root / name).is_dir()]
    dataset_json = _first_file(homes, DATASET_FILE)
    if dataset_json is None:
        raise FileNotFoundError(f"no {DATASET_FILE} of {name} in {PREPROCESSED} or {RAW}")
    ending = read_file_ending(dataset_json)
    raw_home = raw / name if raw is not None else None
    dataset = Dataset(
        name=name,
        labels=read_labels(dataset_json),
        file_ending=ending,
        references=_references(name, homes, ending),
        images=raw_home / "imagesTr" if raw_home is not None else None,
        splits=_read_splits(homes),
        patients=read_case_list(raw_home / CASE_LIST) if raw_home is not None else _no_case_list(),
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
    with naming(path):
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
        f"no references of {name}: neither gt_segmentations in {PREPROCESSED} nor labelsTr in {RAW}"
    )


def _read_splits(homes: list[Path]) -> list[dict[str, list[str]]] | None:
    path = _first_file(homes, SPLITS_FILE)
    if path is None:
        return None
    try:
        splits = read_json(path, list, remedy="nnU-Net writes it when the first fold is trained")
        return [{"train": list(split["train"]), "val": list(split["val"])} for split in splits]
    except (KeyError, TypeError):
        raise ValueError(f'{path} is no list of {{"train": [cases], "val": [cases]}}') from None


def _first_file(folders: list[Path], name: str) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _notes(dataset: Dataset) -> list[str]:
    """Warnings about the splits: absent, a case validated twice over, a patient in two folds."""
    if dataset.splits is None:
        return [f"{dataset.name} has no {SPLITS_FILE}, so partly validated folds cannot be told from whole ones."]
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
