"""The folder of a raw nnU-Net dataset: its name and id, dataset.json, cases.csv and splits_final.json."""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nnunetv2_diffusion.dataset_conversion.cases import FILE_ENDING, PARTIAL_FOLDER, CaseJob
from nnunetv2_diffusion.dataset_conversion.splits import Splits
from nnunetv2_diffusion.files import PARTIAL, naming, read_json, remove_stale_partials, replacing, write_json
from nnunetv2_diffusion.nnunet_names import (
    CONVERSION,
    DATASET_FILE,
    PREPROCESSED,
    RAW,
    SPLITS_FILE,
    dataset_name,
    dataset_number,
)
from nnunetv2_diffusion.spider import DATASETS, DOI, IMAGES, LABELS, LICENCE

CASES_FILE = "cases.csv"
_INDENT = 4  # as nnU-Net writes its json


@dataclass(frozen=True)
class CaseRecord:
    """A row of cases.csv; `source_file` is relative to the SPIDER folder, `oblique` yes or no."""

    case: str
    patient: int
    series: str
    source_file: str
    oblique: str
    foreground_voxels_lost: int

    @classmethod
    def of(cls, job: CaseJob, lost: int) -> CaseRecord:
        """The record of a case just converted."""
        series = job.series
        oblique = "yes" if series.oblique else "no"
        return cls(series.case, series.patient, series.series, f"{IMAGES}/{series.file_name}", oblique, lost)


def output_folder(out: str | Path | None) -> Path:
    """`out`, or the folder that nnUNet_raw names; ValueError where neither is given."""
    out = out or os.environ.get(RAW)
    if not out:
        raise ValueError("no place to write the dataset: give --out FOLDER or set the environment variable nnUNet_raw")
    return Path(out)


def folder_name(modality: str, dimension: str, dataset_id: int | None = None, name: str | None = None) -> str:
    """The dataset's folder name, as Dataset502_SPIDER_T2w; ValueError for an id or name that nnU-Net cannot use."""
    default_id, default_name = DATASETS[modality, dimension]
    dataset_id = default_id if dataset_id is None else dataset_id
    name = default_name if name is None else name
    if not 1 <= dataset_id <= 999:
        raise ValueError(f"--dataset-id {dataset_id} is out of range: nnU-Net's ids are 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"--name {name!r} cannot name a dataset: use letters, digits, _ and - only")
    return dataset_name(dataset_id, name)


def preprocessed_folder(out: Path) -> Path | None:
    """nnUNet_preprocessed where it is set and belongs to `out`, that is, where nnUNet_raw is not another folder."""
    raw, preprocessed = os.environ.get(RAW), os.environ.get(PREPROCESSED)
    if not preprocessed or (raw and Path(raw).resolve() != out.resolve()):
        return None
    return Path(preprocessed)


def check_id_is_free(out: Path, name: str) -> None:
    """ValueError where another dataset has the same id: nnU-Net then finds neither of the two."""
    number = dataset_number(name)
    for folder in filter(None, (out, preprocessed_folder(out))):
        for other in sorted(folder.glob(dataset_name(number, "*"))):
            if other.is_dir() and other.name != name:
                raise ValueError(
                    f"dataset id {number} is already taken by {other}: choose another one with --dataset-id"
                )


class RawDataset:
    """A dataset folder while it is being filled; what is finished is known by cases.csv, which is kept current."""

    def __init__(self, folder: Path, modality: str, conversion: Mapping[str, object]):
        self.folder = folder
        self.modality = modality
        self.conversion = dict(conversion)
        self.records: dict[str, CaseRecord] = {}

    def open(self, wanted: Iterable[str]) -> None:
        """Take up a dataset that an earlier run began.

        ValueError where the folder was not written by this converter, was converted with other settings, or holds cases
        beyond `wanted`.
        """
        if _holds_nothing(self.folder):
            return
        other = self._conversion_on_disk()
        if other is None:
            raise ValueError(f"{self.folder} exists and is no conversion of SPIDER: remove it or choose --dataset-id")
        if other != self.conversion:
            changed = ", ".join(
                f"{key} {other.get(key)} instead of {value}"
                for key, value in self.conversion.items()
                if other.get(key) != value
            )
            raise ValueError(f"{self.folder} was converted with {changed}: remove it or choose another --dataset-id")
        self.records = _read_records(self.folder / CASES_FILE)
        surplus = sorted(self.records.keys() - set(wanted))
        if surplus:
            listed = ", ".join(surplus[:5]) + (", …" if len(surplus) > 5 else "")
            raise ValueError(
                f"{self.folder} already holds cases that are not asked for now ({listed}): "
                "remove it, widen --patients or choose another --dataset-id"
            )

    def _conversion_on_disk(self) -> dict | None:
        try:
            return read_json(self.folder / DATASET_FILE).get(CONVERSION)
        except (OSError, ValueError):
            return None

    def start(self) -> None:
        """Create the folders, clear what a killed run left half-written, and note the settings in dataset.json."""
        for name in ("imagesTr", "labelsTr", PARTIAL_FOLDER):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.folder / PARTIAL_FOLDER):
            remove_stale_partials(folder)
        self.write_description()

    def is_finished(self, job: CaseJob) -> bool:
        """Whether an earlier run converted the case from the very files that are there now."""
        if job.series.case not in self.records or not all(path.is_file() for path in (*job.sources, *job.targets)):
            return False
        newest_source = max(path.stat().st_mtime for path in job.sources)
        return min(path.stat().st_mtime for path in job.targets) >= newest_source

    def forget(self, job: CaseJob) -> None:
        """Remove what is left of a case that has to be converted again."""
        for path in job.targets:
            path.unlink(missing_ok=True)
        self.records.pop(job.series.case, None)

    def add(self, record: CaseRecord) -> None:
        """Note a finished case."""
        self.records[record.case] = record
        self.write_records()

    def write_records(self) -> None:
        """Write cases.csv, ordered by case."""
        names = [field.name for field in fields(CaseRecord)]
        rows = [asdict(self.records[case]) for case in sorted(self.records)]
        with replacing(self.folder / CASES_FILE) as path, path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def write_description(self) -> None:
        """Write dataset.json; its numTraining is the number of finished cases."""
        description = {
            "channel_names": {"0": "MRI"},
            "labels": LABELS,
            "numTraining": len(self.records),
            "file_ending": FILE_ENDING,
            "name": self.folder.name,
            "description": f"SPIDER lumbar spine MRI, {self.modality}",
            "reference": f"https://doi.org/{DOI}",
            "licence": LICENCE,
            CONVERSION: self.conversion,
        }
        write_json(description, self.folder / DATASET_FILE, indent=_INDENT)

    def finish(self) -> None:
        """Bring cases.csv and dataset.json up to date and remove the folder of partial files."""
        self.write_records()
        self.write_description()
        with contextlib.suppress(OSError):  # another process may be writing into it
            (self.folder / PARTIAL_FOLDER).rmdir()


def _holds_nothing(folder: Path) -> bool:
    """Whether a folder is not there, or has no file in it but what a killed run left half-written."""
    return all(path.name.startswith(PARTIAL) for path in folder.rglob("*") if path.is_file())


def _read_records(path: Path) -> dict[str, CaseRecord]:
    """The rows of an earlier cases.csv; none where there is no such file."""
    if not path.is_file():
        return {}
    with naming(path, "remove the dataset's folder"), path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    try:
        records = [
            CaseRecord(
                **{**row, "patient": int(row["patient"]), "foreground_voxels_lost": int(row["foreground_voxels_lost"])}
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not as this converter wrote it: remove the dataset's folder") from error
    return {record.case: record for record in records}


def write_splits(splits: Splits, dataset: Path) -> list[str]:
    """Write splits_final.json into the dataset and, where nnUNet_preprocessed belongs to it, there; says where.

    nnU-Net trains by the file in nnUNet_preprocessed; its planner copies it from the raw dataset, but refuses to go on
    where an older one differs. So an older one is replaced, and the returned lines say so.
    """
    write_json(splits, dataset / SPLITS_FILE, indent=_INDENT)
    lines = [f"folds: {dataset / SPLITS_FILE}"]
    preprocessed = preprocessed_folder(dataset.parent)
    if preprocessed is None:
        return [f"{lines[0]} (nnUNetv2_plan_and_preprocess copies it to nnUNet_preprocessed)"]
    target = preprocessed / dataset.name / SPLITS_FILE
    replaced = target.is_file() and target.read_text(encoding="utf-8") != (dataset / SPLITS_FILE).read_text(
        encoding="utf-8"
    )
    write_json(splits, target, indent=_INDENT)
    lines.append(
        f"folds: {target}" + (" (replaced other folds: retrain what was trained with them)" if replaced else "")
    )
    return lines
