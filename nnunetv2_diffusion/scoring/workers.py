"""Work spread over processes that are started afresh, so that nothing of this one is inherited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from nnunetv2_diffusion.processors import available_processors

MOST_PROCESSES = 8
Task, Result = TypeVar("Task"), TypeVar("Result")


def spread(run: Callable[[Task], Result], tasks: Sequence[Task], processes: int | None = None) -> Iterator[Result]:
    """`run` of every task, in their order.

    Args:
        run: can be pickled, as can its results; its errors come out here.
        tasks: what it is given, one after another.
        processes: None takes the processors that this process may use, at most 8; a single one works here.
    """
    processes = min(processes or min(available_processors(), MOST_PROCESSES), len(tasks))
    if processes <= 1:
        yield from map(run, tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(run, tasks)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
