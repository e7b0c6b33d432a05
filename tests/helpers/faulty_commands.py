"""The commands that campaigns disturb, each with its inputs and output, and what must be true of its files."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import warm_process
from helpers.nnunet_samples import TRAINER, TinyProject, blobs, folders, write_case
from helpers.segment_samples import phantom, write_model
from helpers.spider_samples import SAGITTAL, make_mask, make_scan, save
from helpers.spine_tree import MODELS, build_tree, some_patients
from nnunetv2_diffusion import cli

NAMES = ("convert", "plan", "predict", "segment", "validate", "report")
SHORT_SAMPLING = ("--samples", "1", "--sampling-steps", "2", "--ensemble-steps", "2")
# What a repeated run may give anew: seconds measured.
TIMES = ("seconds", "seconds_per_slice")


@dataclass(frozen=True)
class Command:
    """A command line of `spinesegdiff`, where it writes, and what lies there before it.

    Attributes:
        output: the folder that it writes to; everything in it is looked at.
        before: a copy of what `output` holds before the command; None where the folder is not there.
    """

    arguments: tuple[str, ...]
    output: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Path | None = None

    def reset(self) -> None:
        """Everything as before the command."""
        if os.path.ismount(self.output):
            for path in self.output.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            shutil.rmtree(self.output, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, self.output, dirs_exist_ok=True)

    def start(self, **limits: Any) -> warm_process.Running:
        """Run it in a child, with `warm_process.Limits`."""
        wanted = warm_process.Limits(watched=self.output, **limits)
        return warm_process.start(cli.main, list(self.arguments), environment=self.environment, limits=wanted)

    def run(self, **limits: Any) -> warm_process.Ended:
        """As `start`, and wait."""
        return self.start(**limits).wait()

    def files(self) -> dict[str, Any]:
        """What `output` holds: each file's content, comparable between runs, by its relative path."""
        return {str(path.relative_to(self.output)): content(path) for path in files_of(self.output)}

    def names_before(self) -> set[str]:
        """The relative paths of the files that lie in `output` before the command."""
        return set() if self.before is None else {str(path.relative_to(self.before)) for path in files_of(self.before)}

    def visible_faults(self, whole: Mapping[str, Any]) -> list[str]:
        """What is wrong with the files that can be seen now.

        A file is whole that is as after an undisturbed run, or as it was before the command; or, where it grows with
        the run (json, csv), that reads to its end. What nnU-Net itself writes before a mask, the case's .npz and .pkl,
        counts where the mask is there.
        """
        before = {} if self.before is None else {str(p.relative_to(self.before)): p for p in files_of(self.before)}
        faults = []
        for path in files_of(self.output):
            name = str(path.relative_to(self.output))
            if any(part.startswith(".") for part in Path(name).parts):
                continue
            if name in before and path.read_bytes() == before[name].read_bytes():
                continue
            if path.suffix in (".npz", ".pkl") and not path.with_suffix(".nii.gz").exists():
                continue
            try:
                if content(path) != whole.get(name) and path.suffix not in (".json", ".csv"):
                    faults.append(f"{name} is not as the undisturbed run wrote it")
            except (ValueError, OSError, EOFError, RuntimeError) as error:
                faults.append(f"{name} is half-written: {error}")
        return faults


def files_of(folder: Path) -> Iterator[Path]:
    """All files below a folder, hidden ones too."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file()) if folder.is_dir() else iter(())


def content(path: Path) -> Any:
    """A file's content without what runs may differ in: `TIMES` in json; the gzip and zip containers' own headers.

    ValueError, EOFError or OSError where it is not whole.
    """
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".csv":
        if not data.endswith(b"\n"):
            raise ValueError("its last line has no end")
        return pd.read_csv(io.BytesIO(data), dtype=str).to_csv()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return data


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(item) for name, item in value.items() if name not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves behind where nothing disturbs it: its files' content and how it ended.

    `sizes` are those of the files that it wrote anew, in bytes.
    """

    command: Command
    files: dict[str, Any]
    ended: warm_process.Ended
    sizes: list[int]


class Commands:
    """The commands of `NAMES`, each made and run undisturbed when first asked for."""

    def __init__(self, root: Path, tiny: TinyProject):
        self.root, self.tiny = root, tiny
        self._made: dict[str, Undisturbed] = {}

    def undisturbed(self, name: str) -> Undisturbed:
        """A command that was run once; its output is as before it."""
        if name not in self._made:
            (self.root / name).mkdir()
            command = getattr(self, f"_{name}")(self.root / name)
            command.reset()
            ended = command.run()
            assert ended.status == 0, ended.output
            before = command.names_before()
            written = [p for p in files_of(command.output) if str(p.relative_to(command.output)) not in before]
            sizes = [path.stat().st_size for path in written]
            self._made[name] = Undisturbed(command, command.files(), ended, [size for size in sizes if size > 1])
        self._made[name].command.reset()
        return self._made[name]

    def _convert(self, root: Path) -> Command:
        for name in ("1_t2", "2_t2", "3_t2"):
            scan = make_scan()
            save(scan, root / "SPIDER" / "images" / f"{name}.mha")
            save(make_mask(scan), root / "SPIDER" / "masks" / f"{name}.mha")
        flags = ("--modality", "T2w", "--size", "64", "64", "-np", "1", "--out", str(root / "raw"))
        return Command(("convert", str(root / "SPIDER"), *flags), root / "raw", self._nnunet())

    def _plan(self, root: Path) -> Command:
        number = self.tiny.dataset()
        before = root / "before" / self.tiny.preprocessed(number).name
        before.mkdir(parents=True)
        for path in self.tiny.preprocessed(number).glob("*.json"):
            shutil.copy(path, before)
        environment = {**self._nnunet(), "nnUNet_preprocessed": str(root / "preprocessed")}
        flags = ("--timesteps", "30", "100", "--small", "--paper-baselines")
        return Command(("plan", "-d", str(number), *flags), root / "preprocessed", environment, root / "before")

    def _predict(self, root: Path) -> Command:
        for case in range(3):
            write_case(root / "images", f"case_{case}", blobs(case, (40, 32)), 1, seed=case)
        model = ("-d", str(self._trained()), "-c", "2d", "-tr", TRAINER, "-f", "0", "-device", "cpu")
        flags = ("-npp", "0", "-nps", "0", "--uncertainty", "--save_probabilities", "--continue_prediction")
        places = ("-i", str(root / "images"), "-o", str(root / "masks"))
        return Command(("predict", *places, *model, *flags, *SHORT_SAMPLING), root / "masks", self._nnunet())

    def _segment(self, root: Path) -> Command:
        model = write_model(root / "results")
        for case, ending in enumerate((".mha", ".nii.gz", ".nrrd")):
            scan, _ = phantom(SAGITTAL, (40, 44, 3 + case), (1.2, 1.1, 4.0))
            save(scan, root / "scans" / f"scan_{case}{ending}")
        flags = ("--model", str(model), "-device", "cpu", "--save-probabilities")
        return Command(("segment", str(root / "scans"), str(root / "masks"), *flags), root / "masks", self._nnunet())

    def _validate(self, root: Path) -> Command:
        number = self._trained()
        dataset = self.tiny.preprocessed(number).name
        shutil.copytree(self.tiny.root / "results" / dataset, root / "before" / dataset)
        environment = {**self._nnunet(), "nnUNet_results": str(root / "results")}
        model = ("-d", str(number), "-c", "2d", "-tr", TRAINER, "-f", "0", "-device", "cpu")
        return Command(("validate", *model, "--npz", *SHORT_SAMPLING), root / "results", environment, root / "before")

    def _report(self, root: Path) -> Command:
        environment = build_tree(root, some_patients(5), ("Dataset501_SPIDER_T1w",), MODELS[:1], size=32)
        flags = ("--gallery", "2", "-np", "1", "-o", str(root / "report"))
        return Command(("report", "-d", "501", *flags), root / "report", environment)

    def _trained(self) -> int:
        """The number of a dataset with a trained fold 0."""
        self.tiny.model()
        return self.tiny.dataset()

    def _nnunet(self) -> dict[str, str]:
        return {**folders(self.tiny.root), "nnUNet_def_n_proc": "1"}
