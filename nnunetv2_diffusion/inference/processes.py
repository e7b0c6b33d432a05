"""Processes for nnU-Net's preprocessing and export: one that the system ends is told at once, and never waited for.

Pools of multiprocessing put another process in a dead one's place, and then wait for ever for the call that went
with it or for the lock that it held.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any


class Processes:
    """Calls, each in the next free one of a number of processes that are started afresh.

    A context: on the way out the processes finish the calls that they have begun, also where an error comes.

    Args:
        number: of processes.
        does: what they do, in errors: "a process that ... was ended".

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, number: int, does: str):
        if number < 1:
            raise ValueError(f"a number of processes (-npp, -nps) must be at least 1, not {number}")
        self._does = does
        self._processes = []
        self._free: list[Connection] = []
        self._busy: dict[Connection, int] = {}
        self._answers: dict[int, Any] = {}
        self._calls = 0
        context = multiprocessing.get_context("spawn")
        for _ in range(number):
            ours, theirs = context.Pipe()
            self._processes.append(context.Process(target=_work, args=(theirs,), daemon=True))
            self._processes[-1].start()
            theirs.close()  # the process holds the only one, so that its end is that of the connection
            self._free.append(ours)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        for connection in (*self._free, *self._busy):
            with connection, suppress(OSError):
                connection.send(None)  # a process that was forked meanwhile may hold this end, too
        for process in self._processes:
            process.join()

    def submit(self, function: Callable, *arguments: Any) -> int:
        """Have `function(*arguments)` done, which can be pickled; waits until a process is free.

        Returns:
            The number by which `result` knows the call.

        Raises:
            RuntimeError: the system ended a process.
        """
        while not self._free:
            self._collect()
        connection = self._free.pop()
        self._calls += 1
        self._busy[connection] = self._calls
        try:
            connection.send((function, arguments))
        except OSError as error:
            raise self._ended() from error
        return self._calls

    def result(self, call: int) -> Any:
        """What a call returned, once; waits for it.

        Raises:
            OSError, RuntimeError: it failed, or the system ended a process.
        """
        while call not in self._answers:
            self._collect()
        answer = self._answers.pop(call)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _collect(self) -> None:
        for connection in wait(list(self._busy)):
            try:
                answer = connection.recv()
            except (EOFError, OSError) as error:
                raise self._ended() from error
            self._answers[self._busy.pop(connection)] = answer
            self._free.append(connection)

    def _ended(self) -> RuntimeError:
        return RuntimeError(
            f"a process that {self._does} was ended by the system, as it happens where memory runs out; what was "
            "finished stays: call again with fewer processes (-npp, -nps)"
        )


def _work(connection: Connection) -> None:
    """In a process: calls that come are done, and answered with their result or error, until none can come."""
    with connection, suppress(EOFError, OSError):
        while call := connection.recv():
            connection.send(_answer(*call))


def _answer(function: Callable, arguments: tuple) -> Any:
    try:
        return function(*arguments)
    except OSError as error:
        return OSError(str(error))
    except ValueError as error:
        return ValueError(str(error))
    except Exception as error:  # of any class, which could be one that cannot be pickled
        return RuntimeError(f"{function.__name__} failed: {type(error).__name__}: {error}")
