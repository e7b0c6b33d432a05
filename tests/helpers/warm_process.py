"""Calls in processes of their own, forked from one that has PyTorch and nnU-Net imported: killed, limited, watched."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "SimpleITK",
        "pandas",
        "matplotlib.figure",
        "nnunetv2.run.run_training",
        "nnunetv2.training.nnUNetTrainer.primus.primus_trainers",  # nnU-Net imports it on its search for a trainer
        "nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff",
        "nnunetv2_diffusion.scans",
        "nnunetv2_diffusion.report.report",
        "nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER",
    ]
)
_fork_context = partial(multiprocessing.get_context, "fork")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}


@dataclass(frozen=True)
class Limits:
    """When a child is to end.

    Attributes:
        kill_after: seconds after which it kills itself and its own children with SIGKILL; None never.
        kill_at_step: before which of its changes to files in `watched` (counted from 0) it does so; None never.
        kill_at_byte: the length at which the file that it writes ends it, in the middle of a write; None never.
        file_bytes: the length that no file may exceed (EFBIG, as on a full disk); None any.
        watched: the folder whose changes are counted.
        memory_bytes: by how much its address space may grow; None any.
    """

    kill_after: float | None = None
    kill_at_step: int | None = None
    kill_at_byte: int | None = None
    file_bytes: int | None = None
    watched: Path | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a call ended: exit code (or minus the signal), seconds, what it printed, how often it changed files."""

    status: int
    seconds: float
    output: str
    steps: int

    @property
    def errors(self) -> list[str]:
        """The lines that a command's errors are told in."""
        return [line for line in self.output.splitlines() if ": error: " in line]


@dataclass
class Running:
    """A call that runs in a process of its own."""

    process: Any
    folder: Path
    limits: Limits
    started: float = field(default_factory=time.perf_counter)

    def wait(self, timeout: float = 300) -> Ended:
        """Wait until it ended; TimeoutError, after killing it, where it does not."""
        self.process.join(timeout)
        hangs = self.process.exitcode is None
        _kill_group(self.process.pid)
        self.process.join()
        _wait_for_group(self.process.pid)
        output = (self.folder / "output").read_text(errors="replace") if (self.folder / "output").exists() else ""
        facts = (self.folder / "facts").read_text().split() if (self.folder / "facts").exists() else (0, 0)
        shutil.rmtree(self.folder)
        if hangs:
            raise TimeoutError(f"still running after {timeout} s:\n{output[-3000:]}")
        return Ended(self.process.exitcode, float(facts[0]), output, int(facts[1]))


def ensure_server() -> None:
    """Start the server that children are forked from, outside of the checkout: it imports what lies where it starts
    before what is installed, and a package that is installed as a wheel must be tested as it was installed."""
    here = os.getcwd()
    os.chdir(os.sep)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.chdir(here)


def start(
    function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str], limits: Limits | None = None
) -> Running:
    """Let `function(*arguments)` run in a child whose exit code is its result, adding `environment` to its own."""
    folder = Path(tempfile.mkdtemp(prefix="warm_"))
    limits = limits or Limits()
    ensure_server()
    process = _CONTEXT.Process(target=_child, args=(function, arguments, dict(environment), folder, limits))
    process.start()
    return Running(process, folder, limits)


def run(
    function: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str],
    limits: Limits | None = None,
    timeout: float = 300,
) -> Ended:
    """`start` and wait."""
    return start(function, *arguments, environment=environment, limits=limits).wait(timeout)


def _child(function: Callable, arguments: tuple, environment: dict[str, str], folder: Path, limits: Limits) -> None:
    os.setsid()
    os.environ.update(environment)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    multiprocessing.set_start_method("fork", force=True)  # what commands that are no one's children have on Linux
    # nnU-Net spawns its workers, which takes seconds of imports; those of warm processes are warm too.
    multiprocessing.get_context = lambda method=None: _fork_context()
    multiprocessing.cpu_count = os.cpu_count = lambda: 1  # a thread: what is measured here is no speed
    steps = _StepCounter(limits)
    _apply(limits)
    started = time.perf_counter()
    code = 70
    try:
        code = function(*arguments)
    finally:
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        steps.kill_at = None
        (folder / "facts").write_text(f"{time.perf_counter() - started} {steps.count}")
    sys.exit(code)


def _apply(limits: Limits) -> None:
    if limits.memory_bytes is not None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + limits.memory_bytes,) * 2)
    size = limits.kill_at_byte if limits.kill_at_byte is not None else limits.file_bytes
    if size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if limits.kill_at_byte is not None else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    if limits.kill_after is not None:
        parent = os.getpid()
        if os.fork() == 0:
            time.sleep(limits.kill_after)
            _kill_group(parent)


class _StepCounter:
    """Counts a process's changes to the files of a folder, and kills it before one of them."""

    def __init__(self, limits: Limits):
        self.count, self.kill_at, self.process = 0, limits.kill_at_step, os.getpid()
        if limits.watched is not None:
            self.watched = str(limits.watched)
            sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple) -> None:
        """An audit hook."""
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if not (opened or event in _CHANGES) or isinstance(arguments[0], int) or os.getpid() != self.process:
            return
        if os.fsdecode(arguments[0]).startswith(self.watched):
            if self.count == self.kill_at:
                os.kill(self.process, signal.SIGKILL)
            self.count += 1


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _wait_for_group(leader: int) -> None:
    """A kill takes effect when the system gets round to it: until every process of the group has ended."""
    while any(state not in "ZX" for group, state in _groups() if group == leader):
        time.sleep(0.01)


def _groups() -> Iterator[tuple[int, str]]:
    """Every process's group and state."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
            yield int(group), state
