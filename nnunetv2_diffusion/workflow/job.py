"""`python -m nnunetv2_diffusion.workflow.job NAME -- COMMAND`: one command of a study, with its log and its record.

Snakemake's jobs run in it, here or on a cluster's node. jobs/NAME.json says what ran, where, since when and how it
ended, so that a half-done study can tell what is missing, and which commands ran in which order.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.pipeline.processes import find_script, last_lines
from nnunetv2_diffusion.workflow.attempts import begin_of_run, identity, wait_for_earlier
from nnunetv2_diffusion.workflow.grid import JOBS, LOGS
from nnunetv2_diffusion.workflow.progress import CUT_OFF, FAILED, FINISHED, HEARTBEAT, PARTLY, RUNNING

GPUS = "gpus"
NOT_FOUND = 127  # as of a shell
SOME_CASES = 2  # exit code of a command of ours that could not take every case
# SIGHUP: a terminal that is closed.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in the current folder, a study's; its exit code."""
    args = _arguments(argv)
    study = Path.cwd()
    record = study / JOBS / f"{args.name}.json"
    log = study / LOGS / f"{args.name}.log"
    since = begin_of_run(study)
    with _gpus(study, args.gpus) as gpus:
        if wait_for_earlier(record, since):
            print(f"{args.name} has been finished by an earlier attempt meanwhile", file=sys.stderr)
            return 0
        environment = {**os.environ, **gpus, **_threads(args.threads)}
        about = _begin(record, args.command)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            status = _run(args.command, environment, log, record, about)
        except SystemExit:
            write_json({**about, "state": CUT_OFF, "ended": time.time()}, record)
            raise
    state = FINISHED if status == 0 else PARTLY if args.some and status == SOME_CASES else FAILED
    lines = last_lines(log, 1) if state != FINISHED else []
    write_json({**about, "state": state, "status": status, "ended": time.time(), "last_line": "".join(lines)}, record)
    if state == FAILED:
        print("\n".join([*last_lines(log, 15), f"{args.name} failed; the whole log is {log}"]), file=sys.stderr)
    return 0 if state == PARTLY else status


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nnunetv2_diffusion.workflow.job")
    parser.add_argument("name")
    parser.add_argument("--some", action="store_true", help="exit code 2 is good: some cases could not be taken")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--threads", type=int)
    words = list(sys.argv[1:] if argv is None else argv)
    if "--" not in words[:-1]:
        parser.error("expected -- and a command")
    split = words.index("--")
    args = parser.parse_args(words[:split])
    args.command = words[split + 1 :]
    return args


def _begin(record: Path, command: list[str]) -> dict[str, Any]:
    """Note that the command begins; earlier attempts are counted."""
    try:
        attempts = int(read_json(record)["attempts"]) + 1
    except (OSError, ValueError, KeyError):
        attempts = 1
    about = {
        "command": subprocess.list2cmdline(command),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "attempts": attempts,
        "process": identity(os.getpid()),
        "started": time.time(),
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    write_json({**about, "state": RUNNING}, record)
    return about


def _run(command: list[str], environment: dict[str, str], log: Path, record: Path, about: dict[str, Any]) -> int:
    """The command's exit code; what ends this process ends the command, too, so that none goes on unseen."""
    with log.open("ab") as output:
        try:
            program = command[0] if os.path.isabs(command[0]) else find_script(command[0])
        except FileNotFoundError as error:
            output.write(f"{error}\n".encode())
            return NOT_FOUND
        ending = _Ending()
        process = subprocess.Popen(
            [program, *command[1:]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ending.takes(process)
        write_json({**about, "state": RUNNING, "command_process": identity(process.pid)}, record)
        while True:
            try:
                return process.wait(HEARTBEAT)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(OSError):
                    os.utime(record)


class _Ending:
    """What ends this process ends its command, too, be it in the moment in which that begins."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None
        self._received: int | None = None
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it ignore a closed terminal
                signal.signal(number, self._on_signal)

    def takes(self, process: subprocess.Popen) -> None:
        """From now on a signal ends `process`; one that has come already does so at once."""
        self._process = process
        if self._received is not None:
            _end(process, self._received)

    def _on_signal(self, number: int, _: object) -> None:
        self._received = number
        if self._process is not None:
            _end(self._process, number)


def _end(process: subprocess.Popen, received: int) -> None:
    """End the command and all that it started: nnU-Net's workers would else wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    sys.exit(128 + received)


def _threads(number: int | None) -> dict[str, str]:
    return {} if number is None else {"OMP_NUM_THREADS": str(number)}


@contextlib.contextmanager
def _gpus(study: Path, number: int) -> Iterator[dict[str, str]]:
    """So many GPUs of this machine for this job alone; a cluster hands out its own.

    A file a GPU is locked while the job runs; the system unlocks it when the process ends, however it ends.
    """
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if number == 0 or "SLURM_JOB_ID" in os.environ or "KUBERNETES_SERVICE_HOST" in os.environ:
        yield {}
        return
    gpus = visible or [str(index) for index in range(count_gpus())]
    folder = study / GPUS / platform.node()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        taken: list[str] = []
        while len(taken) < min(number, len(gpus)):
            for gpu in gpus:
                if len(taken) < number and gpu not in taken and _locked(stack, folder / f"{gpu}.lock"):
                    taken.append(gpu)
            if len(taken) < min(number, len(gpus)):
                time.sleep(1)
        yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {}


def _locked(stack: contextlib.ExitStack, path: Path) -> bool:
    stream: TextIO = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return False
    stack.callback(stream.close)
    return True


def count_gpus() -> int:
    """How many NVIDIA GPUs this machine has, without starting any of their libraries."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
