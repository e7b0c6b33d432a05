"""A Python environment like this one in which the commands of a study are stubs: they note themselves, sleep, fail."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

COMMANDS = ("spinesegdiff", "nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_accumulate_crossval_results")
# A line a call in calls.txt of the study, appended in one write; STUB_FAILS names the calls that fail, as a pattern of
# `case`, STUB_WAITS those that do not end before the file `go_on` is there.
_STUB = r"""#!/bin/sh
line="$(basename "$0") $*"
printf 'begin %s\n' "$line" >> calls.txt
sleep "${STUB_SECONDS:-0}"
case "$line" in ${STUB_FAILS:-nothing}) echo "RuntimeError: the stub fails"; exit 1 ;; esac
case "$line" in ${STUB_WAITS:-nothing}) while [ ! -e go_on ]; do sleep 0.05; done ;; esac
printf 'end %s\n' "$line" >> calls.txt
"""


def stub_environment(folder: Path) -> Path:
    """A virtual environment in `folder` with this one's packages and the stubs; its Python."""
    (folder / "bin").mkdir(parents=True)
    real = Path(os.path.realpath(sys.executable))
    (folder / "pyvenv.cfg").write_text(f"home = {real.parent}\n", encoding="utf-8")
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / "bin" / "python").symlink_to(real)
    for name in COMMANDS:
        path = folder / "bin" / name
        path.write_text(_STUB, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder / "bin" / "python"


def fake_spider(folder: Path, patients: int = 3, series: tuple[str, ...] = ("t1", "t2")) -> Path:
    """A folder with SPIDER's names and empty files: what the stubs never read."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
        for patient in range(1, patients + 1):
            for one in series:
                (folder / name / f"{patient}_{one}.mha").touch()
    return folder


def reproduce(python: Path, *words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`spinesegdiff reproduce` of the stubs' environment, whose own command of that name is a stub."""
    return subprocess.run(command(python, *words), **_options(cwd, environment), check=False)


def start(python: Path, *words: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """The same, not waited for, in a process group of its own."""
    return subprocess.Popen(command(python, *words), **_options(cwd, environment), start_new_session=True)


def command(python: Path, *words: object) -> list[str]:
    return [str(python), "-m", "nnunetv2_diffusion.cli", "reproduce", *map(str, words)]


def _options(cwd: Path, environment: dict[str, str]) -> dict:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("nnUNet_", "SLURM_"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return {"cwd": cwd, "env": {**kept, **environment}, **pipes}


def calls(study: Path, kind: str = "end") -> list[str]:
    """The commands that have begun or ended, in that order."""
    path = study / "calls.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


def fake_program(folder: Path, name: str, script: str) -> Path:
    """A shell script of that name in a folder that a test puts on the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    assert shutil.which(name, path=str(folder))
    return folder
