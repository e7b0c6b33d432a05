"""`python -m nnunetv2_diffusion.workflow.provenance`: what made a study, beside its results.

environment.txt (every installed distribution), commands.txt (in the order in which they ran), data.csv (every file of
the data with its SHA-256) and progress.csv (every job with its state).
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import checksum, write_csv, write_text
from nnunetv2_diffusion.report.studies import COMMANDS_FILE, DATA_FILE, ENVIRONMENT_FILE, PROGRESS_FILE
from nnunetv2_diffusion.spider import GRADINGS_FILE, IMAGES, MASKS, OVERVIEW_FILE
from nnunetv2_diffusion.workflow.grid import Grid
from nnunetv2_diffusion.workflow.progress import commands_in_order, progress
from nnunetv2_diffusion.workflow.study import open_study


def main() -> None:
    """Write them into the current folder, a study's."""
    study = Path.cwd()
    write_provenance(study, open_study(study))


def write_provenance(study: Path, grid: Grid) -> None:
    """Write the four files; the data are read once, so long as their files keep names and sizes."""
    write_text(environment(), study / ENVIRONMENT_FILE)
    write_text("".join(f"{line}\n" for line in commands_in_order(study)), study / COMMANDS_FILE)
    write_csv(pd.DataFrame(progress(study, grid)), study / PROGRESS_FILE)
    files = _data_files(study / grid.data)
    sizes = {str(path.relative_to(study / grid.data)): path.stat().st_size for path in files}
    known = pd.read_csv(study / DATA_FILE) if (study / DATA_FILE).is_file() else pd.DataFrame(columns=["file", "bytes"])
    if dict(zip(known["file"], known["bytes"], strict=True)) != sizes:
        sums = [checksum(path) for path in files]
        write_csv(pd.DataFrame({"file": list(sizes), "bytes": list(sizes.values()), "sha256": sums}), study / DATA_FILE)


def environment() -> str:
    """Python, the system and every installed distribution as `pip freeze` writes them."""
    installed = {f"{found.name}=={found.version}" for found in importlib.metadata.distributions() if found.name}
    head = [f"# Python {platform.python_version()} on {platform.platform()}"]
    return "\n".join([*head, *sorted(installed, key=str.lower)]) + "\n"


def _data_files(data: Path) -> list[Path]:
    scans = [path for folder in (IMAGES, MASKS) for path in sorted((data / folder).glob("*")) if path.is_file()]
    return [*scans, *(data / name for name in (OVERVIEW_FILE, GRADINGS_FILE) if (data / name).is_file())]


if __name__ == "__main__":
    main()
