"""Whether a scan's result is there already: by what it was made of, not by the times of files, which copies lose."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import checksum, read_json
from nnunetv2_diffusion.scans.formats.images import ResultFiles
from nnunetv2_diffusion.scans.sources import ScanSource

# In a result's json: the SHA-256 of the scan's files, and of all that was asked for.
MADE_OF = "made_of"
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
    folder = folder / result.folder
    try:
        report = read_json(folder / result.report)
    except (OSError, ValueError):
        return False
    files = report.get("files")
    return (
        report.get(MADE_OF) == made_of
        and isinstance(files, list)
        and all(isinstance(file, str) and (folder / file).is_file() for file in files)
    )
