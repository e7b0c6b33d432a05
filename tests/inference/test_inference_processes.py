"""Calls in other processes: results and errors come, and nothing is waited for that will not come."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nnunetv2_diffusion.inference.processes import Processes

LARGE = np.zeros(4 << 20, np.uint8)  # far more than a pipe holds


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A test that waits for ever fails."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_results_are_those_of_their_calls():
    with Processes(2, "works") as processes:
        slow = processes.submit(time.sleep, 0.3)
        quick = [processes.submit(pow, number, 2) for number in range(5)]
        large = processes.submit(np.array, LARGE)
        assert [processes.result(call) for call in reversed(quick)] == [16, 9, 4, 1, 0]
        assert processes.result(slow) is None
        np.testing.assert_array_equal(processes.result(large), LARGE)


def test_an_error_is_told_and_the_other_calls_are_finished(tmp_path: Path):
    with pytest.raises(OSError, match=r"No such file.*nothing_here"), Processes(2, "works") as processes:
        processes.submit(os.system, f"sleep 1; echo whole > {tmp_path / 'slow'}")
        processes.result(processes.submit(os.listdir, "/nothing_here"))
    assert (tmp_path / "slow").read_text() == "whole\n"
    with Processes(1, "works") as processes:
        with pytest.raises(RuntimeError, match="divmod failed: ZeroDivisionError"):
            processes.result(processes.submit(divmod, 1, 0))
        with pytest.raises(ValueError, match="math domain error"):
            processes.result(processes.submit(math.sqrt, -1))
        assert processes.result(processes.submit(pow, 3, 2)) == 9


def test_large_results_that_nobody_takes_hold_nothing_up():
    with pytest.raises(KeyError), Processes(2, "works") as processes:
        processes.submit(np.array, LARGE)
        raise KeyError


def end(processes: Processes) -> None:
    os.kill(processes._processes[0].pid, signal.SIGKILL)


def killed_at_once(processes: Processes) -> int:
    end(processes)
    return processes.submit(len, LARGE)


def killed_while_idle(processes: Processes) -> int:
    processes.result(processes.submit(len, LARGE))
    end(processes)
    return processes.submit(len, LARGE)


def killed_at_work(processes: Processes) -> int:
    call = processes.submit(time.sleep, 60)
    end(processes)
    return call


def killed_while_it_is_sent_its_call(processes: Processes) -> int:
    os.kill(processes._processes[0].pid, signal.SIGSTOP)  # it takes nothing from its pipe
    threading.Timer(0.5, end, [processes]).start()
    return processes.submit(len, LARGE)


@pytest.mark.parametrize(
    "killed", [killed_at_once, killed_while_idle, killed_at_work, killed_while_it_is_sent_its_call]
)
def test_a_process_that_the_system_ends_is_told(killed: Callable):
    told = pytest.raises(RuntimeError, match="process that works was ended by the system")
    with told, Processes(1, "works") as processes:
        processes.result(killed(processes))


def test_a_number_of_processes_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Processes(0, "works")
