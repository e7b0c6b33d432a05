"""Many scans, one after another: what is finished is left alone, and reading and writing overlap with the model."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from nnunetv2_diffusion.scans.finished import ASKED, MADE_OF, finished_line, input_hash, is_finished
from nnunetv2_diffusion.scans.formats.images import ImageFiles
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.scans.outputs import write_segmentation
from nnunetv2_diffusion.scans.sources import Scan, ScanSource


def say_line(line: str) -> None:
    """Print a line at once, above a bar if there is one."""
    tqdm.write(line)
    sys.stdout.flush()


@dataclass(frozen=True)
class Work:
    """What is done with each scan.

    Attributes:
        segment: finds mask and map in a scan of that name.
        request: of what tells a result's format from others, its `finished.request_hash`.
        form: of what is written.
        line: what is said of a result of that name.
        overwrite: also of scans whose results are there.
        workers: how many scans are read ahead and written behind; 0 does one thing after the other.
        progress: whether a terminal shows a bar over the scans.
        asked: the same for `finished.asked_hash`.
    """

    segment: Callable[[Scan, str], Segmentation]
    request: Callable[[str], str]
    form: ImageFiles
    line: Callable[[str, Segmentation], str]
    overwrite: bool = False
    workers: int = 1
    progress: bool = False
    asked: Callable[[str], str | None] = lambda form: None


@dataclass(frozen=True)
class _Prepared:
    """A scan that was read, or none where its result is there; and what the result is made of."""

    source: ScanSource
    made_of: dict[str, str]
    scan: Scan | None


def work_through(
    sources: Sequence[ScanSource], folder: Path, work: Work, labels: dict, say: Callable[[str], None] = say_line
) -> list[str]:
    """Segment and write scans in their order.

    Returns:
        One sentence for each scan that could not be segmented; the others are written.

    Raises:
        OSError: a result cannot be written; what was finished before it is.
    """
    failures: list[str] = []
    finished = 0
    with _executors(work.workers) as (reading, writing):
        behind: deque[tuple[Future, str, str]] = deque()
        # None: shown in a terminal only
        hidden = None if work.progress and len(sources) > 1 else True
        with tqdm(total=len(sources), unit="scan", disable=hidden, smoothing=0.1) as bar:
            for source, future in _ahead(sources, folder, work, reading):
                try:
                    prepared = future.result()
                    found = None if prepared.scan is None else work.segment(prepared.scan, source.shown_name)
                except (ValueError, OSError, RuntimeError) as error:
                    failures.append(_failure(source.shown_name, error))
                    bar.update()
                    continue
                if found is None:
                    finished += 1
                    bar.total -= 1  # so that the time left is that of scans that take some
                    bar.refresh()
                    continue
                made = {MADE_OF: prepared.made_of, ASKED: work.asked(work.form.request(source))}
                found = replace(found, report={**found.report, **made})
                written = writing.submit(write_segmentation, found, folder, source, work.form, labels)
                behind.append((written, source.shown_name, work.line(source.name, found)))
                failures += _settle(behind, work.workers, say)
                bar.update()
            failures += _settle(behind, 0, say)
    if finished:
        say(finished_line(finished, len(sources)))
    return failures


def _failure(name: str, error: Exception) -> str:
    return f"{name} was not segmented: {' '.join(str(error).split())}"


def _settle(behind: deque[tuple[Future, str, str]], left: int, say: Callable[[str], None]) -> list[str]:
    """Wait until at most `left` results are still being written; a sentence for each that its format cannot hold.

    What the disk refuses is raised here.
    """
    failures = []
    while len(behind) > left:
        written, name, line = behind.popleft()
        try:
            written.result()
            say(line)
        except ValueError as error:
            failures.append(_failure(name, error))
    return failures


def _ahead(
    sources: Sequence[ScanSource], folder: Path, work: Work, reading: Executor
) -> Iterator[tuple[ScanSource, Future]]:
    """The scans with what will have been read of them, `workers` more than the one that is asked for."""
    waiting: deque[tuple[ScanSource, Future]] = deque()
    for source in sources:
        waiting.append((source, reading.submit(_prepare, source, folder, work)))
        if len(waiting) > work.workers:
            yield waiting.popleft()
    yield from waiting


def _prepare(source: ScanSource, folder: Path, work: Work) -> _Prepared:
    if source.fault:
        source.read()
    work.form.check(source)
    made_of = {"input": input_hash(source), "request": work.request(work.form.request(source))}
    there = not work.overwrite and is_finished(folder, work.form.files(source), made_of)
    return _Prepared(source, made_of, None if there else source.read())


class _AtOnce(Executor):
    """Does what is submitted before it answers."""

    def submit(self, fn, /, *args, **kwargs) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _executors(workers: int) -> Iterator[tuple[Executor, Executor]]:
    """One that reads and one that writes; threads suffice, since images are read and written without Python's lock."""
    if workers == 0:
        yield _AtOnce(), _AtOnce()
        return
    reading, writing = (ThreadPoolExecutor(workers, f"scans-{what}") for what in ("read", "write"))
    try:
        yield reading, writing
    finally:
        reading.shutdown(cancel_futures=True)
        writing.shutdown()
