"""The SPIDER converter: Dataset501 (T1w), 502 (T2w) and 503 (both); 511 to 513 as volumes.

Runs as `spinesegdiff convert` or as `python dataset_conversion/Dataset501_SPIDER.py`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from nnunetv2_diffusion.dataset_conversion.arguments import add_arguments
from nnunetv2_diffusion.dataset_conversion.cases import CaseJob, GridSettings, convert_cases
from nnunetv2_diffusion.dataset_conversion.patients import pick_patients
from nnunetv2_diffusion.dataset_conversion.rated_series import by_raters
from nnunetv2_diffusion.dataset_conversion.raw_dataset import (
    CaseRecord,
    RawDataset,
    check_id_is_free,
    folder_name,
    output_folder,
    write_splits,
)
from nnunetv2_diffusion.dataset_conversion.splits import Splits, make_splits, read_splits, without
from nnunetv2_diffusion.imaging.intensity import UPPER_PERCENTILE
from nnunetv2_diffusion.processors import available_processors
from nnunetv2_diffusion.spider import MODALITIES, Series, list_series, select_cases

DIMENSIONS = ("2d", "3d")
DEFAULT_SIZE = (320, 320)
DEFAULT_SPACING = (1.0, 1.0)
MAX_DEFAULT_PROCESSES = 8


@dataclass
class Conversion:
    """What a conversion did: the dataset's folder, its cases, what failed and why (by case), remarks for the user."""

    folder: Path
    records: list[CaseRecord] = field(default_factory=list)
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def convert(
    root: str | Path,
    modality: str,
    *,
    dimension: str = "2d",
    out: str | Path | None = None,
    size: Sequence[int] | str | None = None,
    spacing: Sequence[float] | None = None,
    patients: str | None = None,
    splits: str | Path | None = None,
    dataset_id: int | None = None,
    name: str | None = None,
    processes: int | None = None,
) -> Conversion:
    """Convert a SPIDER folder to a raw nnU-Net dataset in `out` (default: nnUNet_raw); finished cases are kept.

    A scan with masks by several raters, masks/1_t2__<rater>.mha, becomes a case for each, all in one fold.

    `size` (pixels) and `spacing` (millimetres) are (height, width) in the sagittal plane, `size` "full" is the whole
    field of view; `patients` is text like "1,2,100-114", `splits` a file in nnU-Net's form. Cases that cannot be
    converted are in the result's `failures` and do not stop the others. ValueError or OSError, with nothing written,
    where the arguments or the folder as a whole are bad.
    """
    if modality not in MODALITIES:
        raise ValueError(f"unknown modality {modality!r}: expected {', '.join(MODALITIES)}")
    if dimension not in DIMENSIONS:
        raise ValueError(f"unknown dimension {dimension!r}: expected {' or '.join(DIMENSIONS)}")
    root, out = Path(root), output_folder(out)
    settings = GridSettings(dimension, _plane_size(size, dimension), _plane_spacing(spacing))
    processes = _number_of_processes(processes)
    folder = out / folder_name(modality, dimension, dataset_id, name)
    all_cases = by_raters(root, pick_patients(select_cases(list_series(root)), patients))
    cases = [case for case in all_cases if case.contrast in MODALITIES[modality]]
    if not cases:
        raise ValueError(f"{root} holds no {modality} scan of the chosen patients")
    given_splits = read_splits(splits, cases) if splits is not None else None
    check_id_is_free(out, folder.name)
    dataset = RawDataset(folder, modality, _description(modality, settings))
    dataset.open(case.case for case in cases)

    is_new = not folder.exists()
    result = _convert_into(dataset, [CaseJob(case, root, folder, settings) for case in cases], processes)
    if not result.records:
        if is_new:
            shutil.rmtree(folder)
        return result
    result.notes += _note_lost_voxels(result.records, settings)
    result.notes += _write_folds(folder, all_cases, cases, result.failures, given_splits)
    return result


def _plane_size(size: Sequence[int] | str | None, dimension: str) -> tuple[int, int] | None:
    """(height, width) in pixels, or None for the whole field of view; ValueError for what is no positive integer."""
    if size is None:
        return DEFAULT_SIZE if dimension == "2d" else None
    if size == "full" or list(size) == ["full"]:
        return None
    try:
        numbers = [int(value) for value in size]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise ValueError(f"--size {_spoken(size)} is not one or two positive whole numbers of pixels, or `full`")
    return numbers[0], numbers[-1]


def _plane_spacing(spacing: Sequence[float] | None) -> tuple[float, float]:
    """(height, width) in millimetres; ValueError for anything else than positive numbers."""
    if spacing is None:
        return DEFAULT_SPACING
    try:
        numbers = [float(value) for value in spacing]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"--spacing {_spoken(spacing)} is not one or two positive numbers of millimetres")
    return numbers[0], numbers[-1]


def _spoken(values: object) -> str:
    return values if isinstance(values, str) else " ".join(str(value) for value in values)


def _number_of_processes(processes: int | None) -> int:
    if processes is None:
        return min(MAX_DEFAULT_PROCESSES, available_processors())
    if processes < 1:
        raise ValueError(f"-np {processes} is not a number of processes: expected 1 or more")
    return processes


def _description(modality: str, settings: GridSettings) -> dict[str, object]:
    """What dataset.json (and with it every model trained on the dataset) tells of the preprocessing."""
    return {
        "modality": modality,
        "dimension": settings.dimension,
        "orientation": "RAS",
        "size": None if settings.size is None else list(settings.size),
        "spacing": list(settings.spacing),
        "upper_percentile": UPPER_PERCENTILE,
    }


def _convert_into(dataset: RawDataset, jobs: list[CaseJob], processes: int) -> Conversion:
    """Convert the jobs that no earlier run finished."""
    result = Conversion(dataset.folder)
    todo = [job for job in jobs if not dataset.is_finished(job)]
    result.skipped = len(jobs) - len(todo)
    for job in todo:
        dataset.forget(job)
    dataset.start()
    progress = tqdm(total=len(jobs), initial=result.skipped, desc=dataset.folder.name, unit="case", disable=None)
    with progress:
        for job, lost, message in convert_cases(todo, processes):
            if message is None:
                dataset.add(CaseRecord.of(job, lost))
            else:
                result.failures[job.series.case] = message
            progress.update()
    dataset.finish()
    result.records = [dataset.records[case] for case in sorted(dataset.records)]
    result.failures = dict(sorted(result.failures.items()))
    return result


def _note_lost_voxels(records: list[CaseRecord], settings: GridSettings) -> list[str]:
    """A warning that names the cases whose foreground was cropped."""
    lost = [f"{record.case} ({record.foreground_voxels_lost})" for record in records if record.foreground_voxels_lost]
    if not lost:
        return []
    height, width = settings.size
    return [
        f"warning: cropping to {height} x {width} pixels lost foreground voxels in {', '.join(lost)}; see cases.csv"
    ]


def _write_folds(
    folder: Path, all_cases: list[Series], cases: list[Series], failures: dict[str, str], given: Splits | None
) -> list[str]:
    """Write the folds of the converted cases, and say where they are."""
    if given is not None:
        splits = without(given, failures)
    else:
        splits = make_splits(all_cases, [case for case in cases if case.case not in failures])
    if not splits:
        return ["no folds: a single patient cannot be split; train with fold `all`"]
    return write_splits(splits, folder)


def run(args: argparse.Namespace) -> int:
    """Convert as the command line says, print what was done; 2 where a case could not be converted."""
    result = convert(
        args.root,
        args.modality,
        dimension=args.dimension,
        out=args.out,
        size=args.size,
        spacing=args.spacing,
        patients=args.patients,
        splits=args.splits,
        dataset_id=args.dataset_id,
        name=args.name,
        processes=args.processes,
    )
    if result.records:
        earlier = f" ({result.skipped} of them from an earlier run)" if result.skipped else ""
        print("\n".join([f"{result.folder}: {_count(len(result.records), 'case')}{earlier}", *result.notes]))
    if not result.failures:
        return 0
    total = _count(len(result.records) + len(result.failures), "case")
    lines = [f"spinesegdiff convert: error: {len(result.failures)} of {total} could not be converted:"]
    lines += [f"  {case}: {message}" for case, message in result.failures.items()]
    print("\n".join(lines), file=sys.stderr)
    return 2


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def main(argv: Sequence[str] | None = None) -> int:
    """The converter as a script of its own."""
    parser = argparse.ArgumentParser(description="SPIDER's files -> an nnU-Net raw dataset")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
