"""Runs the demo's stages one after the other: shows each command, keeps its log, skips what an earlier run finished."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 15
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Stage:
    """A step of the demo: a command as a user types it, or, where there is none, a Python function.

    Attributes:
        name: names its log and its marker.
        title: as people read it.
        command: as it is typed in a shell, without pipes and variables.
        work: what runs instead of a command; it may print.
        variables: environment variables of this stage alone.
    """

    name: str
    title: str
    command: str = ""
    work: Callable[[], object] | None = None
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> str:
        """The command line with this stage's own variables in front."""
        return " ".join([*(f"{name}={value}" for name, value in self.variables), self.command])


@dataclass(frozen=True)
class Runner:
    """Runs stages in one folder and environment.

    Attributes:
        folder: working directory of the commands; logs and markers go to its `logs/`.
        environment: all environment variables of the commands.
        execute: `execute(command, folder, environment, log)` returns the exit status; tests replace it.
    """

    folder: Path
    environment: Mapping[str, str]
    execute: Callable[[list[str], Path, Mapping[str, str], Path], int] | None = None

    def run(self, stages: Iterable[Stage]) -> dict[str, dict[str, float]]:
        """Run what is not finished yet, in order.

        Returns:
            For each stage's name "seconds" and "cpu_seconds", of this run or of the one that finished it.

        Raises:
            RuntimeError: a command failed; the message names the stage, the last line and the log.
        """
        stages = list(stages)
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        costs = {}
        for number, stage in enumerate(stages, start=1):
            print(f"\n[{number}/{len(stages)}] {stage.title}", flush=True)
            if stage.command:
                print(f"$ {stage.shown}", flush=True)
            finished = self._finished(stage)
            if finished is None:
                finished = self._run(stage)
                print(f"  done in {describe_seconds(finished['seconds'])}", flush=True)
            else:
                print("  kept from an earlier run", flush=True)
            costs[stage.name] = finished
        return costs

    def _marker(self, stage: Stage) -> Path:
        return self.folder / "logs" / f"{stage.name}.json"

    def _finished(self, stage: Stage) -> dict[str, float] | None:
        """What the stage cost, where it has been finished with this very command."""
        try:
            marker = json.loads(self._marker(stage).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return marker if marker.get("command") == stage.shown else None

    def _run(self, stage: Stage) -> dict[str, float]:
        start, before = time.perf_counter(), _cpu_seconds()
        if stage.work is not None:
            stage.work()
        else:
            self._call(stage)
        marker = {
            "command": stage.shown,
            "seconds": round(time.perf_counter() - start, 1),
            "cpu_seconds": round(_cpu_seconds() - before, 1),
        }
        partial = self._marker(stage).with_suffix(".part")
        partial.write_text(json.dumps(marker), encoding="utf-8")
        os.replace(partial, self._marker(stage))
        return marker

    def _call(self, stage: Stage) -> None:
        log = self.folder / "logs" / f"{stage.name}.log"
        execute, command = self.execute, shlex.split(stage.command)
        if execute is None:
            execute, command = execute_and_watch, [find_script(command[0]), *command[1:]]
        status = execute(command, self.folder, {**self.environment, **dict(stage.variables)}, log)
        if status == 0:
            return
        lines = last_lines(log, LAST_LINES)
        print("\n".join(["", *lines]), file=sys.stderr, flush=True)
        raise RuntimeError(
            f"stage {stage.name!r} failed with exit status {status}: {lines[-1] if lines else 'it printed nothing'}; "
            f"the whole log is {log}, the same command goes on from here once the cause is gone"
        )


def find_script(name: str) -> str:
    """The path of an installed command: beside this Python, else on the PATH.

    Raises:
        FileNotFoundError: it is not installed.
    """
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the command {name} is not installed beside {sys.executable}; install this package")
    return found


def execute_and_watch(command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> int:
    """Run a command with its output in `log`; on a terminal show how long it has been running and its last line."""
    start = time.perf_counter()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                _show_progress(log, time.perf_counter() - start)
        finally:
            _show_progress(log, None)
            if process.poll() is None:
                process.terminate()
    return process.returncode


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log that are not empty; of a progress bar only what it ended with."""
    if not log.is_file():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 65536))
        text = stream.read().decode(errors="replace")
    lines = (line.split("\r")[-1].rstrip() for line in text.rstrip().split("\n"))
    return list(deque((line for line in lines if line), maxlen=count))


def describe_seconds(seconds: float) -> str:
    """`48 s`, or `2 min 5 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def _show_progress(log: Path, seconds: float | None) -> None:
    """Rewrite the terminal's line; `None` clears it."""
    if not sys.stdout.isatty():
        return
    width = shutil.get_terminal_size().columns - 1
    line = "" if seconds is None else "  ".join(["", describe_seconds(seconds), *last_lines(log, 1)])
    print(f"\r{line[:width]:<{width}}", end="\r" if seconds is None else "", flush=True)


def _cpu_seconds() -> float:
    """Processor time of this process and of the finished ones that it started."""
    return sum(os.times()[:4])
