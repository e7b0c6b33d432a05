"""A folder that scans arrive in: each is segmented once it stays as it is, until somebody stops it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnunetv2_diffusion.scans.cohort import say_line, work_through
from nnunetv2_diffusion.scans.formats.images import ImageFiles
from nnunetv2_diffusion.scans.model import SegmentationModel
from nnunetv2_diffusion.scans.outputs import check_output_folder
from nnunetv2_diffusion.scans.page.page import write_page
from nnunetv2_diffusion.scans.segmentation import AS_SCANNED, Options, work_of
from nnunetv2_diffusion.scans.sources import ScanSource, find_scans, trained_contrasts

POLL_SECONDS, SETTLE_SECONDS = 1.0, 5.0
_State = tuple[int, int]


def watch_folder(
    path: str | Path,
    output: str | Path,
    model: SegmentationModel,
    options: Options,
    stop: threading.Event,
    *,
    series: str | None = None,
    form: ImageFiles = AS_SCANNED,
    workers: int = 1,
    excluded: Collection[str] = (),
    settle: float = SETTLE_SECONDS,
    say: Callable[[str], None] = say_line,
) -> None:
    """Segment the scans of a folder as `segment_files` does, and those that arrive, until `stop` is set.

    Args:
        path: the folder.
        output: another one.
        model, options, series, form, workers, excluded: see `segment_files`.
        stop: checked between two looks at the folder; what was begun is finished.
        settle: seconds for which no file of a scan may have changed.
        say: told of every scan, also of those that could not be segmented: they are tried again when they change.

    Raises:
        ValueError: the path is no folder, or is the output.
        OSError: a result cannot be written.
    """
    folder, output = Path(path), Path(output)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: --watch segments what arrives in one")
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{output} lies in the folder that is watched: its masks would be taken for scans")
    contrasts = trained_contrasts(model.predictor.dataset_json)
    work = work_of(model, options, form, workers=workers)

    def segment_arrived(sources: Sequence[ScanSource]) -> None:
        check_output_folder(output, sources, form)
        wanted = [source for source in sources if source.name not in excluded]
        for failure in work_through(wanted, output, work, model.labels, say):
            say(f"error: {failure}")
        write_page(output, excluded)

    watch(Arrivals(folder, lambda: find_scans(folder, series, contrasts)[0], settle), segment_arrived, stop)


class Arrivals:
    """Which scans of a folder are new and complete: no file of theirs has changed for `settle` seconds."""

    def __init__(self, folder: Path, find: Callable[[], list[ScanSource]], settle: float = SETTLE_SECONDS):
        """`find` lists the folder's scans; it is asked only where files have come or changed and settled."""
        self.folder, self.find, self.settle = folder, find, settle
        self.since: dict[Path, tuple[_State, float]] = {}
        self.asked: set[tuple[Path, _State]] = set()
        self.taken: dict[str, list[tuple[Path, _State | None]]] = {}

    def take(self) -> list[ScanSource]:
        """The scans that came since the last call; a scan whose files changed comes again."""
        now = time.monotonic()
        states = {path: (status.st_size, status.st_mtime_ns) for path, status in _files(self.folder)}
        self.since = {
            path: self.since[path] if path in self.since and self.since[path][0] == state else (state, now)
            for path, state in states.items()
        }
        settled = {(path, state) for path, (state, since) in self.since.items() if now - since >= self.settle}
        if settled <= self.asked:
            return []
        self.asked = settled
        complete = {path for path, _ in settled}
        found = []
        for source in self._found():
            files = [(file, states.get(file)) for file in source.files]
            if all(file in complete for file, _ in files) and self.taken.get(source.name) != files:
                self.taken[source.name] = files
                found.append(source)
        return found

    def _found(self) -> list[ScanSource]:
        try:
            return self.find()
        except FileNotFoundError:
            return []  # nothing has come yet


def _files(folder: Path) -> Iterator[tuple[Path, object]]:
    """Every file below a folder and its state; one that goes meanwhile is passed over."""
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                yield path, path.stat()
        except OSError:
            continue


def watch(
    arrivals: Arrivals, work: Callable[[Sequence[ScanSource]], None], stop: threading.Event, poll: float = POLL_SECONDS
) -> None:
    """Let `work` have the scans that arrive, until `stop` is set; the scans that it was given are finished first."""
    while not stop.is_set():
        arrived = arrivals.take()
        if arrived:
            work(arrived)
        stop.wait(poll)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a SIGTERM sets, once; a second one ends the process as usual."""
    stop = threading.Event()
    before = {}

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
