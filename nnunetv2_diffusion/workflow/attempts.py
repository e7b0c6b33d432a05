"""Nothing of a study runs twice at once: neither the study nor a job of it, whose earlier attempt is waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.workflow.progress import FINISHED, LOST, PARTLY, RUNNING

LOCK = "reproduce.lock"
# Seconds: systems that set their clock reckon the start of a process anew.
_SAME_START = 10.0


@contextlib.contextmanager
def sole_run(study: Path) -> Iterator[None]:
    """Keep a study to this process and those that inherit the lock; where the file system knows none, trust the user.

    Raises:
        RuntimeError: another process has it.
    """
    with (study / LOCK).open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise RuntimeError(
                f"{study} is being run already, {stream.read().strip()}; wait until that ends, or end it"
            ) from error
        except OSError:
            pass
        os.set_inheritable(stream.fileno(), True)
        stream.truncate(0)
        stream.write(f"by process {os.getpid()} on {platform.node()}\n")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


def begin_of_run(study: Path) -> float:
    """When the `reproduce` that runs a study has begun, in seconds of the epoch; now where none does."""
    path = study / LOCK
    try:
        return path.stat().st_mtime if path.read_text(encoding="utf-8") else time.time()
    except FileNotFoundError:
        return time.time()


def identity(process: int) -> list[float]:
    """A process of this machine by number and start, since systems give numbers again; empty where it has ended."""
    try:
        found = psutil.Process(process)
        return [] if found.status() == psutil.STATUS_ZOMBIE else [process, found.create_time()]
    except psutil.NoSuchProcess:
        return []


def wait_for_earlier(record: Path, since: float) -> bool:
    """Wait until no other attempt of a job runs.

    A Snakemake that is killed leaves its jobs to a cluster, and on this machine their commands; when the study is
    started again, two trainings would write into one folder.

    Args:
        record: jobs/NAME.json, in which an attempt notes its process and its command's.
        since: `begin_of_run`, in seconds of the epoch. This attempt may have stood in a cluster's queue behind the
            other one.

    Returns:
        whether another attempt has finished the job since then, so that this one has nothing to do.
    """
    while (about := _running(record)) is not None:
        if _is_lost(about, record):
            _end_orphan(about)
            return False
        time.sleep(1)
    about = _read(record)
    return about.get("state") in (FINISHED, PARTLY) and about["ended"] > since


def _running(record: Path) -> Mapping[str, Any] | None:
    about = _read(record)
    return about if about.get("state") == RUNNING else None


def _read(record: Path) -> Mapping[str, Any]:
    try:
        return read_json(record)
    except (OSError, ValueError):
        return {}


def _is_lost(about: Mapping[str, Any], record: Path) -> bool:
    """Whether nobody will note how an attempt ended: its process is gone, or on another machine long silent."""
    if about.get("host") == platform.node():
        return not _lives(about.get("process"))
    try:
        return time.time() - record.stat().st_mtime > LOST
    except FileNotFoundError:
        return True


def _lives(noted: Any) -> bool:
    found = identity(noted[0]) if noted else []
    return bool(found) and abs(found[1] - noted[1]) < _SAME_START


def _end_orphan(about: Mapping[str, Any]) -> None:
    """End the command of an attempt that was killed, with all that it started: it leads a process group."""
    noted = about.get("command_process")
    if about.get("host") == platform.node() and _lives(noted):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(noted[0], signal.SIGKILL)
            psutil.wait_procs([psutil.Process(noted[0])], timeout=10)
