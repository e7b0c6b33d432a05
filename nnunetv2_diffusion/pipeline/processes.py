"""A command in a process of its own: found beside this Python, watched while it runs, its log read when it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

POLL_SECONDS = 0.5
READ_BYTES = 65536  # from the end of a log


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
    """Run a command with its output in `log`; on a terminal show how long it has been running and its last line.

    Args:
        command: an installed command's name, or a path, and its arguments.
        folder: where it runs.
        environment: all of its environment variables.
        log: replaced.

    Returns:
        Its exit status.

    Raises:
        FileNotFoundError: it is not installed.
    """
    start = time.perf_counter()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [find_script(command[0]), *command[1:]],
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
        stream.seek(max(0, log.stat().st_size - READ_BYTES))
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
