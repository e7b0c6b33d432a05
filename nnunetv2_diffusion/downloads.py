"""Files fetched from a web server by pooch: a broken transfer goes on where it stopped, and the content is checked."""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pooch
import requests
from tqdm import tqdm

from nnunetv2_diffusion.files import move_into_place

ATTEMPTS = 6  # in a row without a single new byte
FIRST_PAUSE = 1.0  # seconds, doubled after every such attempt
_TIMEOUT = (15, 60)  # seconds to connect, and between two pieces
_PIECE = 1 << 16  # bytes; what comes of a piece before the connection breaks is asked for again
_BUSY = frozenset({429, 500, 502, 503, 504})
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_CHECKSUM = re.compile(r"(md5|sha1|sha256|sha512):[0-9a-f]+")
_T = TypeVar("_T")


class ServerError(OSError):
    """A server that cannot be reached, breaks off for good, or refuses; the sentence names the address."""


def fetch(url: str, path: str | Path, *, checksum: str, progress: bool = True) -> Path:
    """Have a file of a server at `path`; nothing is transferred where it lies there with that checksum.

    What an attempt has transferred stays beside `path` as `.<name>.part`: the next one, of this process or another,
    asks for the rest alone. A server that cannot give parts sends the whole file again.

    Args:
        url: http or https.
        path: the file; its folder is made where it is missing. A file of another content is replaced.
        checksum: `md5:` or `sha256:` (sha1, sha512) and the hexadecimal digits, as Zenodo and pooch write it.
        progress: show a bar on a terminal.

    Returns:
        `path`.

    Raises:
        ServerError: no connection, a transfer that breaks off for good, or a refusal; what came stays for the next run.
        ValueError: the server's file has another checksum; it is removed, and an older file at `path` is as it was.
        OSError: the disk is full or refuses.
    """
    path = Path(path).absolute()
    if not _CHECKSUM.fullmatch(checksum):
        raise ValueError(f"{checksum!r} is no checksum: expected md5: or sha256: and hexadecimal digits")
    pooch.get_logger().setLevel("WARNING")
    transfer = _Transfer(path, progress)
    while True:
        try:
            pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=transfer)
            return path
        except ValueError as error:
            if transfer.resumed:  # the part that lay there may have been another file's
                continue
            raise ValueError(
                f"{url} is not the file that was expected: its checksum is not {checksum}; try again later, or from "
                "another address"
            ) from error


def fetch_json(url: str) -> Any:
    """What a server answers, as json.

    Raises:
        ServerError: no connection, or a refusal.
        ValueError: the answer is no json.
    """

    def read() -> bytes:
        with _asked(url) as response:
            return response.content

    try:
        return json.loads(_persist(url, read))
    except ValueError as error:
        raise ValueError(f"{url} did not answer with json ({error}); check the address") from error


def partial_file(path: Path) -> Path:
    """Where what has been transferred of a file waits for the rest."""
    return path.with_name(f".{path.name}.part")


class _Transfer:
    """A downloader for pooch: fills a partial file, as often as it takes, and gives it to pooch when it is whole."""

    def __init__(self, path: Path, progress: bool) -> None:
        self.partial = partial_file(path)
        self.progress = progress
        self.resumed = False

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        self.resumed = self._length() > 0
        _persist(url, lambda: self._go_on(url), self._length)
        move_into_place(self.partial, output_file)

    def _length(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0

    def _go_on(self, url: str) -> None:
        there = self._length()
        with _asked(url, {"Range": f"bytes={there}-"} if there else {}) as response:
            if response.status_code == 416:  # nothing comes after these bytes; their checksum tells
                return
            if response.status_code != 206:
                there = 0
            missing = int(response.headers.get("Content-Length", 0))
            _demand_space(self.partial, missing)
            name = self.partial.name[1:].removesuffix(".part")
            bar = tqdm(
                desc=name,
                total=there + missing if missing else None,
                initial=there,
                unit="B",
                unit_scale=True,
                disable=None if self.progress else True,
            )
            with bar, self.partial.open("ab" if there else "wb") as stream, _telling_a_full_disk(self.partial):
                for piece in response.iter_content(_PIECE):
                    stream.write(piece)
                    stream.flush()
                    bar.update(len(piece))


@contextmanager
def _asked(url: str, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
    """The server's answer, not yet read.

    Raises:
        ConnectionError: it is too busy; worth another attempt.
        ServerError: it refuses.
    """
    asked = {"Accept-Encoding": "identity", **(headers or {})}  # parts of what is compressed on the way fit nowhere
    with requests.get(url, headers=asked, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code in _BUSY:
            raise requests.ConnectionError(f"the server answered {response.status_code} {response.reason}")
        if response.status_code >= 400 and response.status_code != 416:
            raise ServerError(f"{url}: the server answered {response.status_code} {response.reason}; check the address")
        yield response


def _persist(url: str, work: Callable[[], _T], length: Callable[[], int] = lambda: 0) -> _T:
    """What `work` returns, called again, a little later each time, while connections break.

    Raises:
        ServerError: `ATTEMPTS` in a row in which `length()` did not grow.
    """
    failed = 0
    while True:
        before = length()
        try:
            return work()
        except _BROKEN as error:
            failed = 0 if length() > before else failed + 1
            if failed == ATTEMPTS:
                reason = " ".join(str(error).split())
                raise ServerError(
                    f"{url} cannot be fetched ({reason}); check the connection, the same command goes on from here"
                ) from error
            time.sleep(FIRST_PAUSE * 2 ** (failed - 1) if failed else 0)
        except requests.RequestException as error:
            raise ServerError(f"{url} cannot be asked for: {error}") from error


def _demand_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise _no_space(path, f"{needed / 1e9:.2f} GB are still to come and {free / 1e9:.2f} GB are free")


@contextmanager
def _telling_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_space(path, error.strerror) from error
        raise


def _no_space(path: Path, reason: str) -> OSError:
    return OSError(f"too little space in {path.parent}: {reason}; make space, the same command goes on from here")
