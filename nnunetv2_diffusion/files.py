"""Files written whole or not at all: written beside their final name, synchronised, and then renamed into place."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    import pandas as pd

PARTIAL = ".partial_"
# After PARTIAL: the machine, as a checksum of its name, and the process that writes; before, there was no machine.
_OWNER = re.compile(re.escape(PARTIAL) + r"(?:([0-9a-f]{8})-)?(\d+)_")
_DAY = 24 * 3600
_OF_WRONG_CONTENT = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_OF_WRONG_CONTENT += (ImportError, MemoryError, SyntaxError, csv.Error, zipfile.BadZipFile, zlib.error)
_TOLD = 300


@contextmanager
def replacing(path: str | Path, *, partial_folder: Path | None = None) -> Iterator[Path]:
    """`with replacing(path) as partial`: what is written to `partial` becomes `path` where no error comes.

    Args:
        path: the file; its folder is made where it is missing. Where the file exists, its permissions are kept.
        partial_folder: where the partial file lies, on the same disk; None for the file's own folder, under a hidden
            name of the same ending. Another one where nnU-Net would list it as a case.

    Raises:
        OSError: the disk refused; the file is as it was, and no partial one is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = partial_folder or path.parent
    _clear_once(folder)
    partial = folder / f"{_own_prefix()}{path.name}"
    try:
        yield partial
        if path.exists():
            shutil.copymode(path, partial)
        move_into_place(partial, path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error  # a full disk names no file
    finally:
        partial.unlink(missing_ok=True)


def move_into_place(partial: Path, path: str | Path) -> None:
    """Rename a file that is whole now, on the same disk, once the disk holds it; what `path` was is replaced."""
    _synchronise(partial)
    os.replace(partial, path)


def write_whole(path: str | Path, write: Callable[[Path], object], *, partial_folder: Path | None = None) -> None:
    """Let `write` fill a partial file, then move it to `path`; see `replacing`."""
    with replacing(path, partial_folder=partial_folder) as partial:
        write(partial)


def write_text(text: str, path: str | Path) -> None:
    """Write a text file (UTF-8)."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(content: Any, path: str | Path, indent: int = 2) -> None:
    """Write json (UTF-8, a line break at the end)."""
    write_text(json.dumps(content, indent=indent) + "\n", path)


def write_csv(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as csv (UTF-8, no index, six significant digits)."""
    write_whole(path, lambda partial: table.to_csv(partial, index=False, float_format="%.6g"))


@contextmanager
def staging(folder: str | Path, last: str) -> Iterator[Path]:
    """`with staging(folder, last) as stage`: files written into `stage` are moved into `folder` where no error comes.

    The file of the name `last` is moved after all others, so that where it lies, all are there.
    """
    folder = Path(folder)
    _clear_once(folder)
    stage = Path(tempfile.mkdtemp(prefix=_own_prefix(), dir=folder))
    try:
        yield stage
        if (stage / last).is_file():
            (folder / last).unlink(missing_ok=True)  # an earlier one must not stand beside later files
        for file in sorted(stage.iterdir(), key=lambda path: (path.name == last, path.name)):
            _synchronise(file)
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """`with whole_folder(folder) as partial`: what is written into `partial` becomes `folder` where no error comes.

    Raises:
        OSError: the disk refused, or `folder` holds something already; nothing is left of what was written.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_once(folder.parent)
    partial = folder.parent / f"{_own_prefix()}{folder.name}"
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            _synchronise(path)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def one_at_a_time(folder: str | Path) -> Iterator[None]:
    """`with one_at_a_time(folder)`: processes that read a file in it, change it and write it wait for each other.

    Without effect where the system or the disk knows no such locks; nothing is left behind by one that is killed.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            if fcntl is not None:
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def remove_stale_partials(folder: str | Path) -> None:
    """Remove the partial files and folders that processes which are no more left in `folder`.

    What a living process of this machine writes stays. Of another machine's processes, on a shared disk, nothing is
    known: theirs goes a day after it was last written to.
    """
    for path in Path(folder).glob(f"{PARTIAL}*"):
        owner = _OWNER.match(path.name)
        if owner and not _may_be_in_use(path, owner[1], int(owner[2])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _may_be_in_use(path: Path, machine: str | None, process: int) -> bool:
    if machine == _machine():
        return _is_alive(process)
    try:
        return machine is not None and time.time() - path.stat().st_mtime < _DAY
    except FileNotFoundError:
        return True  # its writer renamed or removed it meanwhile


@lru_cache(maxsize=256)
def _clear_once(folder: Path) -> None:
    """Once a process: listing a folder of thousands of cases before every file would take longer than writing it."""
    remove_stale_partials(folder)


def _own_prefix() -> str:
    return f"{PARTIAL}{_machine()}-{os.getpid()}_"


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_alive(process: int) -> bool:
    if os.name != "posix":
        return True  # elsewhere signal 0 is not harmless
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return not _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether a process that the system still lists has ended: in a container without an init nobody asks after it."""
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False  # no Linux
    return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")


def read_json(path: str | Path, kind: type = dict, *, remedy: str = "restore it") -> Any:
    """What a json file holds.

    Args:
        path: the file.
        kind: what it must hold: dict or list.
        remedy: what to do about a file that is missing or damaged, in the words that follow "; ".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no json, or holds something else than `kind`.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no valid JSON ({error}); {remedy}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} should hold a {kind.__name__}, not a {type(content).__name__}; {remedy}")
    return content


@contextmanager
def naming(path: str | Path, remedy: str = "restore it") -> Iterator[None]:
    """`with naming(path)`: what a file's wrong content brings about in code that trusts it becomes a ValueError.

    For nnU-Net's, pandas' and csv's code, whose KeyErrors and TypeErrors tell no user which file is wrong. A ValueError
    that names the file stays as it is, and another one of that very type is only given the name.

    Raises:
        ValueError: names `path`, says what went wrong, and `remedy`, in the words that follow "; ".
    """
    try:
        yield
    except _OF_WRONG_CONTENT as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        if type(error) is ValueError:
            raise ValueError(f"{path}: {error}") from error
        told = " ".join(f"{type(error).__name__}: {error}".split())[:_TOLD]
        raise ValueError(f"{path} does not hold what is expected ({told}); {remedy}") from error


def _synchronise(path: Path) -> None:
    """Have the disk hold what was written before the file is renamed: a crash after it must not leave an empty one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal: what tells one file from another, whatever its name and time."""
    found = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def is_whole_archive(path: str | Path) -> bool:
    """Whether every member of a zip archive, as PyTorch's checkpoints are, has the checksum that it was written with.

    PyTorch itself reads damaged numbers without a word.

    Raises:
        OSError: the file is not there or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return False
