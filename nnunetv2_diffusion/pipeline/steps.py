"""Runs the steps of a pipeline in order: shows each command, keeps its log, skips what an earlier run finished."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.pipeline.processes import describe_seconds, execute_and_watch, last_lines

LOGS = "logs"
LAST_LINES = 15


@dataclass(frozen=True)
class Step:
    """A command as a user types it, or, where there is none, a Python function.

    Attributes:
        name: names its log and its marker.
        title: as people read it.
        command: as it is typed in a shell, without pipes and variables.
        work: what runs instead of a command; it may print.
        variables: environment variables of this step alone.
        finished: tells whether what the step makes is there already; None: its marker tells, if the command is as it
            was.
    """

    name: str
    title: str
    command: str = ""
    work: Callable[[], object] | None = None
    variables: tuple[tuple[str, str], ...] = ()
    finished: Callable[[], bool] | None = None

    @property
    def shown(self) -> str:
        """The command line with this step's own variables in front."""
        return " ".join([*(f"{name}={value}" for name, value in self.variables), self.command])


class Cost(NamedTuple):
    """What a step took: seconds by the clock, and of processor time."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Runner:
    """Runs steps in one folder and environment.

    Attributes:
        folder: working directory of the commands; logs and markers go to its `logs/`.
        environment: all environment variables of the commands.
        execute: `execute(command, folder, environment, log)` returns the exit status; tests replace it.
    """

    folder: Path
    environment: Mapping[str, str]
    execute: Callable[[list[str], Path, Mapping[str, str], Path], int] = execute_and_watch

    def run(self, steps: Iterable[Step]) -> dict[str, Cost]:
        """Run what is not finished yet, in order.

        Returns:
            For each step's name its cost, of this run or of the one that finished it; 0 where that is not known.

        Raises:
            RuntimeError: a command failed; the message names the step, the last line and the log.
        """
        steps = list(steps)
        (self.folder / LOGS).mkdir(parents=True, exist_ok=True)
        costs = {}
        for number, step in enumerate(steps, start=1):
            print(f"\n[{number}/{len(steps)}] {step.title}", flush=True)
            if step.command:
                print(f"$ {step.shown}", flush=True)
            cost = self._finished(step)
            if cost is None:
                cost = self._run(step)
                print(f"  done in {describe_seconds(cost.seconds)}", flush=True)
            else:
                print("  kept from an earlier run", flush=True)
            costs[step.name] = cost
        return costs

    def _marker(self, step: Step) -> Path:
        return self.folder / LOGS / f"{step.name}.json"

    def _finished(self, step: Step) -> Cost | None:
        """What the step cost, where it is finished."""
        marked = self._marked(step)
        if step.finished is None:
            return marked
        return (marked or Cost(0.0, 0.0)) if step.finished() else None

    def _marked(self, step: Step) -> Cost | None:
        """What the step cost by its marker; None where that is missing, damaged or of another command."""
        try:
            marker = read_json(self._marker(step))
            cost = Cost(marker["seconds"], marker["cpu_seconds"])
        except (OSError, ValueError, KeyError):
            return None
        return cost if marker.get("command") == step.shown else None

    def _run(self, step: Step) -> Cost:
        start, before = time.perf_counter(), _cpu_seconds()
        if step.work is not None:
            step.work()
        else:
            self._call(step)
        cost = Cost(round(time.perf_counter() - start, 1), round(_cpu_seconds() - before, 1))
        write_json({"command": step.shown, **cost._asdict()}, self._marker(step))
        return cost

    def _call(self, step: Step) -> None:
        log = self.folder / LOGS / f"{step.name}.log"
        environment = {**self.environment, **dict(step.variables)}
        status = self.execute(shlex.split(step.command), self.folder, environment, log)
        if status == 0:
            return
        lines = last_lines(log, LAST_LINES)
        print("\n".join(["", *lines]), file=sys.stderr, flush=True)
        raise RuntimeError(
            f"step {step.name!r} failed with exit status {status}: {lines[-1] if lines else 'it printed nothing'}; "
            f"the whole log is {log}, the same command goes on from here once the cause is gone"
        )


def _cpu_seconds() -> float:
    """Processor time of this process and of the finished ones that it started."""
    return sum(os.times()[:4])
