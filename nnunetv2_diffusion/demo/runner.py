"""Runs the demo's stages one after another: commands as subprocesses with a log each, finished stages skipped."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LINES_SHOWN = 15


@dataclass(frozen=True)
class Stage:
    """One step of the demo: either a command line or a function of this process."""

    name: str
    command: Sequence[str] | None = None
    function: Callable[[], object] | None = None
    environment: tuple[tuple[str, str], ...] = ()


class Runner:
    """Runs stages under `out`, with nnU-Net's folders there and nowhere else.

    Args:
        out: the demo's folder; logs go to `out/logs`, a finished stage's seconds to `out/logs/<stage>.done`.
        echo: where progress is printed.
    """

    def __init__(self, out: Path, echo: Callable[[str], None] = print):
        self.out, self.logs, self.echo = out, out / "logs", echo
        self.logs.mkdir(parents=True, exist_ok=True)
        self.environment = demo_environment(out)

    def run(self, stages: Sequence[Stage]) -> None:
        """Run what is not done yet.

        Raises:
            RuntimeError: a command failed; its last lines and its log are named.
        """
        for number, stage in enumerate(stages, start=1):
            done = self.logs / f"{stage.name}.done"
            heading = f"[{number}/{len(stages)}] {stage.name}"
            if done.is_file():
                self.echo(f"{heading}: done before, in {float(done.read_text()):.0f} s")
                continue
            self.echo(f"{heading}{': ' + shlex.join(stage.command) if stage.command else ''}")
            start = time.perf_counter()
            self._run_one(stage)
            seconds = time.perf_counter() - start
            done.write_text(f"{seconds:.1f}")
            self.echo(f"    {seconds:.0f} s")

    def _run_one(self, stage: Stage) -> None:
        if stage.function is not None:
            stage.function()
            return
        log = self.logs / f"{stage.name}.log"
        with log.open("w") as file:
            finished = subprocess.run(
                [executable(stage.command[0]), *stage.command[1:]],
                env={**self.environment, **dict(stage.environment)},
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        if finished.returncode != 0:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
            self.echo(last)
            raise RuntimeError(
                f"the stage {stage.name!r} ended with exit code {finished.returncode}; its output is in {log}. "
                "Mend what it complains about and run the command again: finished stages are kept"
            )

    def seconds(self) -> float:
        """What all finished stages took, earlier runs included."""
        return sum(float(done.read_text()) for done in self.logs.glob("*.done"))


def demo_environment(out: Path) -> dict[str, str]:
    """The environment of the commands: nnU-Net's folders below `out`, our trainers, no worker processes."""
    extension = Path(__file__).resolve().parent.parent / "extension"
    return {
        **os.environ,
        "nnUNet_raw": str(out / "nnUNet_raw"),
        "nnUNet_preprocessed": str(out / "nnUNet_preprocessed"),
        "nnUNet_results": str(out / "nnUNet_results"),
        "nnUNet_extTrainer": str(extension),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
    }


def executable(name: str) -> str:
    """The command's path beside this Python, where pip put it, else by PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name) or name
