"""The folder of a raw nnU-Net dataset: its name and id, dataset.json, cases.csv and splits_final.json."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from nnunetv2_diffusion.dataset_conversion.cases import FILE_ENDING, PARTIAL_FOLDER, CaseJob
from nnunetv2_diffusion.dataset_conversion.spider_labels import LABELS
from nnunetv2_diffusion.dataset_conversion.splits import Splits

DATASET_IDS = {
    ("T1w", "2d"): (501, "SPIDER_T1w"),
    ("T2w", "2d"): (502, "SPIDER_T2w"),
    ("T1wT2w", "2d"): (503, "SPIDER_T1wT2w"),
    ("T1w", "3d"): (511, "SPIDER_T1w_3D"),
    ("T2w", "3d"): (512, "SPIDER_T2w_3D"),
    ("T1wT2w", "3d"): (513, "SPIDER_T1wT2w_3D"),
}
SPLITS_FILE = "splits_final.json"
CASES_FILE = "cases.csv"
CONVERSION_KEY = "spinesegdiff_conversion"


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
        return cls(series.case, series.patient, series.series, f"images/{series.file_name}", oblique, lost)


def output_folder(out: str | Path | None) -> Path:
    """`out`, or the folder that nnUNet_raw names; ValueError where neither is given."""
    out = out or os.environ.get("nnUNet_raw")
    if not out:
        raise ValueError("no place to write the dataset: give --out FOLDER or set the environment variable nnUNet_raw")
    return Path(out)


def dataset_name(modality: str, dimension: str, dataset_id: int | None = None, name: str | None = None) -> str:
    """The dataset's folder name, as Dataset502_SPIDER_T2w; ValueError for an id or name that nnU-Net cannot use."""
    default_id, default_name = DATASET_IDS[modality, dimension]
    dataset_id = default_id if dataset_id is None else dataset_id
    name = default_name if name is None else name
    if not 1 <= dataset_id <= 999:
        raise ValueError(f"--dataset-id {dataset_id} is out of range: nnU-Net's ids are 1 to 999")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"--name {name!r} cannot name a dataset: use letters, digits, _ and - only")
    return f"Dataset{dataset_id:03d}_{name}"


def preprocessed_folder(out: Path) -> Path | None:
    """nnUNet_preprocessed where it is set and belongs to `out`, that is, where nnUNet_raw is not another folder."""
    raw, preprocessed = os.environ.get("nnUNet_raw"), os.environ.get("nnUNet_preprocessed")
    if not preprocessed or (raw and Path(raw).resolve() != out.resolve()):
        return None
    return Path(preprocessed)


def check_id_is_free(out: Path, name: str) -> None:
    """ValueError where another dataset has the same id: nnU-Net then finds neither of the two."""
    prefix = name[: len("Dataset000")]
    for folder in filter(None, (out, preprocessed_folder(out))):
        for other in sorted(folder.glob(f"{prefix}*")):
            if other.is_dir() and other.name != name:
                raise ValueError(
                    f"dataset id {int(prefix[-3:])} is already taken by {other}: choose another one with --dataset-id"
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
        if not self.folder.exists() or not any(self.folder.iterdir()):
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
            return json.loads((self.folder / "dataset.json").read_text(encoding="utf-8")).get(CONVERSION_KEY)
        except (OSError, ValueError):
            return None

    def start(self) -> None:
        """Create the folders, clear what a killed run left half-written, and note the settings in dataset.json."""
        for name in ("imagesTr", "labelsTr", PARTIAL_FOLDER):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for leftover in (self.folder / PARTIAL_FOLDER).iterdir():
            leftover.unlink()
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
        with _Replacing(self.folder / CASES_FILE) as path, path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def write_description(self) -> None:
        """Write dataset.json; its numTraining is the number of finished cases."""
        write_json(
            self.folder / "dataset.json",
            {
                "channel_names": {"0": "MRI"},
                "labels": LABELS,
                "numTraining": len(self.records),
                "file_ending": FILE_ENDING,
                "name": self.folder.name,
                "description": f"SPIDER lumbar spine MRI, {self.modality}",
                "reference": "https://doi.org/10.5281/zenodo.10159290",
                "licence": "CC BY 4.0",
                CONVERSION_KEY: self.conversion,
            },
        )

    def finish(self) -> None:
        """Bring cases.csv and dataset.json up to date and remove the folder of partial files."""
        self.write_records()
        self.write_description()
        (self.folder / PARTIAL_FOLDER).rmdir()


def _read_records(path: Path) -> dict[str, CaseRecord]:
    """The rows of an earlier cases.csv; none where there is no such file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
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
    write_json(dataset / SPLITS_FILE, splits)
    lines = [f"folds: {dataset / SPLITS_FILE}"]
    preprocessed = preprocessed_folder(dataset.parent)
    if preprocessed is None:
        return [f"{lines[0]} (nnUNetv2_plan_and_preprocess copies it to nnUNet_preprocessed)"]
    target = preprocessed / dataset.name / SPLITS_FILE
    replaced = target.is_file() and target.read_text(encoding="utf-8") != (dataset / SPLITS_FILE).read_text(
        encoding="utf-8"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, splits)
    lines.append(
        f"folds: {target}" + (" (replaced other folds: retrain what was trained with them)" if replaced else "")
    )
    return lines


def write_json(path: Path, content: object) -> None:
    """Write json, whole or not at all."""
    with _Replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


class _Replacing:
    """`with _Replacing(path) as partial`: what is written to `partial` becomes `path` if no error comes."""

    def __init__(self, path: Path):
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink(missing_ok=True)
