"""Whether a scan's result is there already: by what it was made of, not by the times of files, which copies lose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import checksum, read_json
from nnunetv2_diffusion.nnunet_names import (
    CALIBRATION_FILE,
    DATASET_FILE,
    PLANS_FILE,
    ModelName,
    fold_folder,
    folds_with,
    parse_stage,
)
from nnunetv2_diffusion.scans.formats.images import ResultFiles
from nnunetv2_diffusion.scans.sources import ScanSource

# In a result's json: the SHA-256 of the scan's files, and of all that was asked for.
MADE_OF = "made_of"
# There, too: what was asked for as far as it can be told without opening the model.
ASKED = "asked"
_WITH_DATA_BESIDE = (".mhd", ".nhdr")


def request_hash(model: dict[str, Any], options: Any, form: str) -> str:
    """SHA-256 of what is asked for: the same model, settings, options and format give the same one.

    Args:
        model: as `summary.describe_model` describes it, with its hash.
        options: the dataclass; whether a bar is shown does not count.
        form: of what is written: the ending of its images, or a format's name.
    """
    asked = {name: value for name, value in asdict(options).items() if name != "progress"}
    # in words, since a calibration has pairs of names as keys, which json does not
    text = json.dumps({"model": model, "options": repr(asked), "ending": form}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def asked_hash(folder: Path, folds: Sequence[str] | None, checkpoint: str, words: Mapping[str, Any]) -> str | None:
    """SHA-256 of a model's files and of what is asked of it in words.

    The same one is the same request; another one may still be, as of the model's copy without optimiser state, which
    its `request_hash` tells.

    Args:
        folder: of the model.
        folds: as they were named; None or "all" for any.
        checkpoint: file name.
        words: flags and their values, with the format.

    Returns:
        None where more files count: of a model that refines another's masks, or in a folder of any other name.
    """
    try:
        if parse_stage(ModelName.of_folder(folder.resolve()).configuration):
            return None
        wanted = [fold for fold in folds_with(folder, checkpoint) if not folds or "all" in folds or fold in folds]
        files = [folder / PLANS_FILE, folder / DATASET_FILE]
        files += [fold_folder(folder, fold) / checkpoint for fold in wanted]
        files += [folder / CALIBRATION_FILE] * (folder / CALIBRATION_FILE).is_file()
        sums = [checksum(file) for file in files]
    except (ValueError, OSError):
        return None
    return hashlib.sha256(json.dumps([sums, wanted, words], sort_keys=True, default=repr).encode()).hexdigest()


def finished_line(finished: int, scans: int) -> str:
    """What is said of scans that are left alone."""
    return f"{finished} of {scans} scans were finished already (--overwrite does them again)"


def input_hash(source: ScanSource) -> str:
    """SHA-256 of a scan's files in their order; of an image in two files both count."""
    found = hashlib.sha256()
    for file in source.files:
        parts = [file]
        if file.suffix.lower() in _WITH_DATA_BESIDE:
            parts += sorted(path for path in file.parent.glob(f"{_escaped(file.stem)}.*") if path != file)
        for part in parts:
            found.update(bytes.fromhex(checksum(part)))
    return found.hexdigest()


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def is_finished(folder: Path, result: ResultFiles, made_of: dict[str, str]) -> bool:
    """Whether all files of a result are there, made of this very scan by this very request."""
    report = _whole_report(folder, result)
    return report is not None and report.get(MADE_OF) == made_of


def is_finished_as_asked(folder: Path, result: ResultFiles, scan: str, asked: str) -> bool:
    """The same by the `input_hash` of its scan and an `asked_hash`."""
    report = _whole_report(folder, result) or {}
    made_of = report.get(MADE_OF)
    return isinstance(made_of, dict) and made_of.get("input") == scan and report.get(ASKED) == asked


def _whole_report(folder: Path, result: ResultFiles) -> dict[str, Any] | None:
    """A result's json; None where one of the result's files is missing."""
    folder = folder / result.folder
    try:
        report = read_json(folder / result.report)
    except (OSError, ValueError):
        return None
    files = report.get("files")
    whole = isinstance(files, list) and all(isinstance(file, str) and (folder / file).is_file() for file in files)
    return report if whole else None
