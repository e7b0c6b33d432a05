"""Readers and the mutated files that they are given, in batches by children with limits, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pydicom.data
import SimpleITK as sitk

from helpers import mutants, warm_process
from helpers.segment_samples import dataset_json, phantom, plans, write_dicom, write_model
from helpers.spider_samples import SAGITTAL
from helpers.spine_tree import write_gradings

MEMORY = 2 << 30  # of a child, beyond what it has when it starts
BOMB = 256 << 20  # resident, for files of some ten kilobytes
SECONDS = 20


@dataclass(frozen=True)
class Target:
    """A kind of file: how one is written, changed and read.

    Attributes:
        write: fills a folder with sound files.
        files: a pattern of those of them that are changed, one at a time or all.
        mutate: (content, random numbers) to other content.
        read: what is asked of the folder; only ValueError, OSError and RuntimeError may come of it.
    """

    write: Callable[[Path], object]
    files: str
    mutate: Callable[[bytes, Random], bytes]
    read: Callable[[Path], object]


@dataclass(frozen=True)
class Found:
    """What came of mutants: how many were read and refused, and a line for each that went wrong."""

    counts: Counter
    wrong: list[str]


def _scan() -> sitk.Image:
    return phantom(SAGITTAL, (20, 22, 3), (1.0, 1.0, 4.0))[0]


def _image(name: str, compressed: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        sitk.WriteImage(_scan(), str(folder / name), useCompression=compressed)

    return write


def _read_images(folder: Path) -> None:
    from nnunetv2_diffusion.imaging.reading import read_scan

    for path in folder.iterdir():
        if path.suffix not in (".raw", ".zraw"):
            read_scan(path)


def _read_dicom(folder: Path) -> None:
    from nnunetv2_diffusion.scans.sources import find_scans

    sources, _ = find_scans(folder, "all")
    for source in sources:
        source.read()


def _sample(name: str) -> Callable[[Path], None]:
    """A compressed image that pydicom brings along."""

    def write(folder: Path) -> None:
        shutil.copy(pydicom.data.get_testdata_file(name), folder / "image.dcm")

    return write


def _read_frames(folder: Path) -> None:
    from nnunetv2_diffusion.scans.dicom.pixels import PixelFile

    PixelFile(str(folder / "image.dcm")).frame(0)


def _write_planned(folder: Path) -> None:
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans((64, 64), 1.0)))
    (folder / "dataset.json").write_text(json.dumps(dataset_json(64, 1.0)))


def _plan(folder: Path) -> None:
    from nnunetv2_diffusion.planning.planner import add_configurations

    add_configurations(folder / "nnUNetPlans.json", timesteps=[30], small=True, paper_baselines=True)


def _read_labels(folder: Path) -> None:
    from nnunetv2_diffusion.scoring.labels import read_labels

    read_labels(folder / "dataset.json")
    _plan(folder)


def _write_splits(folder: Path) -> None:
    cases = [f"SPIDER_{patient:03d}_t2" for patient in range(1, 6)]
    splits = [{"train": [c for c in cases if c != case], "val": [case]} for case in cases]
    (folder / "splits_final.json").write_text(json.dumps(splits))


def _read_splits(folder: Path) -> None:
    from nnunetv2_diffusion.dataset_conversion.splits import read_splits
    from nnunetv2_diffusion.spider import Series

    read_splits(folder / "splits_final.json", [Series(patient, "t2", "t2") for patient in range(1, 6)])


def _write_case_list(folder: Path) -> None:
    lines = ["case,patient,series,source_file,oblique,foreground_voxels_lost"]
    lines += [f"SPIDER_{p:03d}_t2,{p},t2,images/{p}_t2.mha,no,0" for p in range(1, 6)]
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")


def _read_case_list(folder: Path) -> None:
    from nnunetv2_diffusion.dataset_conversion.raw_dataset import _read_records
    from nnunetv2_diffusion.report.datasets import read_case_list

    for read in (read_case_list, _read_records):
        read(folder / "cases.csv")


def _write_gradings(folder: Path) -> None:
    write_gradings(folder / "radiological_gradings.csv", range(1, 6), discs=2)


def _read_gradings(folder: Path) -> None:
    from nnunetv2_diffusion.report.gradings import patient_flags, read_gradings

    patient_flags(read_gradings(folder))


def _write_overview(folder: Path) -> None:
    (folder / "images").mkdir()
    rows = [f"{p}_{contrast},{p},T" for p in range(1, 6) for contrast in ("t1", "t2")]
    (folder / "overview.csv").write_text("\n".join(["new_file_name,subset,manufacturer", *rows]) + "\n")


def _read_overview(folder: Path) -> None:
    from nnunetv2_diffusion.spider import list_series

    list_series(folder)


def _read_model(folder: Path) -> None:
    from nnunetv2_diffusion.inference.trained_models import read_model

    read_model(next(folder.glob("*/*__*")), [0], "checkpoint_final.pth")


def _read_checkpoint(folder: Path) -> None:
    from nnunetv2_diffusion.inference.checkpoints import load_checkpoint

    load_checkpoint(next(folder.rglob("checkpoint_final.pth")))


def _write_probabilities(folder: Path) -> None:
    np.savez_compressed(folder / "case.npz", probabilities=np.full((4, 3, 22, 20), 0.25, np.float32))
    sitk.WriteImage(_scan(), str(folder / "case.nii.gz"))


def _read_probabilities(folder: Path) -> None:
    from nnunetv2_diffusion.imaging.volumes import read_volume
    from nnunetv2_diffusion.scoring.case_files import read_probabilities

    read_probabilities(folder / "case.npz", read_volume(folder / "case.nii.gz"))


TARGETS = {
    "nii": Target(_image("scan.nii"), "*.nii", mutants.mutate_bytes, _read_images),
    "nii.gz": Target(_image("scan.nii.gz"), "*.gz", mutants.mutate_gzip, _read_images),
    "mha": Target(_image("scan.mha", True), "*.mha", mutants.mutate_compressed_header, _read_images),
    "mhd": Target(_image("scan.mhd"), "*.mhd", mutants.mutate_header, _read_images),
    "nrrd": Target(_image("scan.nrrd", True), "*.nrrd", mutants.mutate_header, _read_images),
    "dicom": Target(lambda folder: write_dicom(folder, _scan()), "*.dcm", mutants.mutate_dicom, _read_dicom),
    "DICOM: JPEG": Target(_sample("JPGExtended.dcm"), "*.dcm", mutants.mutate_frames, _read_frames),
    "DICOM: JPEG-LS": Target(_sample("MR_small_jpeg_ls_lossless.dcm"), "*.dcm", mutants.mutate_frames, _read_frames),
    "DICOM: JPEG 2000": Target(_sample("MR_small_jp2klossless.dcm"), "*.dcm", mutants.mutate_frames, _read_frames),
    "DICOM: RLE": Target(_sample("MR_small_RLE.dcm"), "*.dcm", mutants.mutate_frames, _read_frames),
    "plans.json": Target(_write_planned, "nnUNetPlans.json", mutants.mutate_json, _plan),
    "dataset.json": Target(_write_planned, "dataset.json", mutants.mutate_json, _read_labels),
    "splits_final.json": Target(_write_splits, "*.json", mutants.mutate_json, _read_splits),
    "cases.csv": Target(_write_case_list, "*.csv", mutants.mutate_csv, _read_case_list),
    "radiological_gradings.csv": Target(_write_gradings, "*.csv", mutants.mutate_csv, _read_gradings),
    "overview.csv": Target(_write_overview, "*.csv", mutants.mutate_csv, _read_overview),
    "probabilities.npz": Target(_write_probabilities, "*.npz", mutants.mutate_zip, _read_probabilities),
    "checkpoint": Target(write_model, "**/checkpoint_final.pth", mutants.mutate_zip, _read_checkpoint),
    "model: plans.json": Target(write_model, "**/plans.json", mutants.mutate_json, _read_model),
    "model: dataset.json": Target(write_model, "**/dataset.json", mutants.mutate_json, _read_model),
}


def write_mutant(name: str, number: int, sound: Path, folder: Path) -> None:
    """Mutant `number` of a target into `folder`, from the sound files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    random = Random(f"{name} {number}")
    files = sorted(folder.glob(TARGETS[name].files))
    for path in files if random.random() < 0.3 else [random.choice(files)]:
        path.write_bytes(TARGETS[name].mutate(path.read_bytes(), random))


def fuzz(name: str, root: Path, mutants: int) -> Found:
    """Have a target read `mutants` files in children; a child's death names its culprit, and the rest goes on."""
    sound, progress = root / "sound", root / "progress"
    sound.mkdir(parents=True)
    TARGETS[name].write(sound)
    next_one, outcomes = 0, {}
    while next_one < mutants:
        progress.write_text("")
        limits = warm_process.Limits(memory_bytes=MEMORY)
        arguments = (name, sound, root / "mutant", next_one, mutants, progress)
        ended = warm_process.run(_read_batch, *arguments, environment={}, limits=limits, timeout=3600)
        lines = [line.split("\t", 1) for line in progress.read_text().splitlines()]
        outcomes |= {int(number): outcome for number, outcome in lines if outcome != "started"}
        next_one = mutants
        if ended.status != 0:
            culprit = int(lines[-1][0])
            outcomes[culprit] = f"ended the process with {ended.status}: {ended.output[-300:].strip()}"
            next_one = culprit + 1
    counts = Counter(outcome if outcome in ("read", "refused") else "wrong" for outcome in outcomes.values())
    wrong = [f"{name} {k}: {o}" for k, o in sorted(outcomes.items()) if o not in ("read", "refused")]
    return Found(counts, wrong)


def _read_batch(name: str, sound: Path, folder: Path, first: int, last: int, progress: Path) -> int:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with progress.open("a", buffering=1, encoding="utf-8") as told:
        for number in range(first, last):
            told.write(f"{number}\tstarted\n")
            write_mutant(name, number, sound, folder)
            told.write(f"{number}\t{_outcome(TARGETS[name].read, folder)}\n")
    return 0


def _outcome(read: Callable[[Path], object], folder: Path) -> str:
    """read, refused, or what went wrong; SIGPROF or SIGALRM ends the process where it hangs."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _peak()
    try:
        read(folder)
        outcome = "read"
    except (ValueError, OSError, RuntimeError) as error:
        outcome = "refused" if str(folder) in str(error) else f"an error that names no file: {error!r}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "nnunetv2_diffusion" in f.filename or "dataset_conversion" in f.filename]
        at = (ours or frames)[-1]
        outcome = f"{type(error).__name__}: {error} in {at.name} ({Path(at.filename).name}:{at.lineno})"
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if _peak() - before > BOMB:
        outcome = f"a memory bomb of {(_peak() - before) >> 20} MiB, then {outcome}"
    return " ".join(outcome.split())[:400]


def _peak() -> int:
    """The largest resident memory since the last reset, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10


if __name__ == "__main__":
    import sys

    write_mutant(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(os.curdir) / "mutant")
