"""What a study's folder says of itself: how far its jobs have come, which software and data made it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import naming

# In the study's folder, written by the workflow.
PROGRESS_FILE, ENVIRONMENT_FILE, COMMANDS_FILE, DATA_FILE = (
    "progress.csv",
    "environment.txt",
    "commands.txt",
    "data.csv",
)
COLUMNS = ("job", "rule", "state", "attempts", "minutes", "host", "log", "last_line")
_RESTORE = "run spinesegdiff reproduce, which writes it"
_SOFTWARE = ("nnunetv2-diffusion", "nnunetv2", "torch", "numpy", "snakemake")


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        progress: a row a job, COLUMNS.
        software: version by name, of what matters.
        data: number of files and SHA-256 of the list of their checksums.
    """

    progress: pd.DataFrame
    software: dict[str, str]
    data: dict[str, str | int]


def read_study(folder: str | Path) -> Study:
    """Read what the workflow has written.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or does not hold what is expected.
    """
    folder = Path(folder)
    for name in (PROGRESS_FILE, ENVIRONMENT_FILE, DATA_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} does not exist; {_RESTORE}")
    with naming(folder / PROGRESS_FILE, _RESTORE):
        progress = pd.read_csv(folder / PROGRESS_FILE, keep_default_na=False)[list(COLUMNS)]
    lines = (folder / ENVIRONMENT_FILE).read_text(encoding="utf-8").splitlines()
    installed = dict(line.split("==", 1) for line in lines if "==" in line)
    software = {"": lines[0].removeprefix("# ")} if lines else {}
    software |= {name: installed[name] for name in _SOFTWARE if name in installed}
    with naming(folder / DATA_FILE, _RESTORE):
        sums = pd.read_csv(folder / DATA_FILE)[["file", "sha256"]]
    listed = "".join(f"{name} {value}\n" for name, value in sums.itertuples(index=False))
    return Study(progress, software, {"files": len(sums), "sha256": hashlib.sha256(listed.encode()).hexdigest()})
