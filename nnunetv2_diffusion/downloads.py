"""Files fetched from a web server by pooch: a broken transfer goes on where it stopped, and the content is checked."""

from __future__ import annotations

import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pooch
import requests
from tqdm import tqdm

from nnunetv2_diffusion.files import move_into_place, write_text

ATTEMPTS = 6  # in a row without a single new byte
FIRST_PAUSE = 1.0  # seconds, doubled after every such attempt
_TIMEOUT = (15, 60)  # seconds to connect, and between two pieces
_PIECE = 1 << 14  # bytes; what comes of a piece before the connection breaks is asked for again
_BUSY = frozenset({429, 500, 502, 503, 504})
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_CHECKSUM = re.compile(r"(md5|sha1|sha256|sha512):[0-9a-f]+")
_T = TypeVar("_T")


class ServerError(OSError):
    """A server that cannot be reached, breaks off for good, or refuses; the sentence names the address."""


def fetch(
    url: str,
    path: str | Path,
    *,
    checksum: str | None,
    progress: bool = True,
    most_bytes: int | None = None,
    attempts: int = ATTEMPTS,
) -> Path:
    """Have a file of a server at `path`; nothing is transferred where it lies there with that checksum.

    What an attempt has transferred stays beside `path` as `.<name>.part`: the next one, of this process or another,
    asks for the rest alone. A server that cannot give parts sends the whole file again. Proxies are those of the
    environment.

    Args:
        url: http or https.
        path: the file; its folder is made where it is missing. A file of another content is replaced.
        checksum: `md5:` or `sha256:` (sha1, sha512) and the hexadecimal digits, as Zenodo and pooch write it. None
            takes what comes, and goes on only where the server's ETag tells its file from another (RFC 9110).
        progress: show a bar on a terminal.
        most_bytes: that the file may have; None for any number.
        attempts: in a row that bring nothing, after which it gives up.

    Returns:
        `path`.

    Raises:
        ServerError: no connection, a transfer that breaks off for good, or a refusal; what came stays for the next run.
        ValueError: the server's file has another checksum; it is removed, and an older file at `path` is as it was.
        OSError: the disk is full or refuses.
    """
    path = Path(path).absolute()
    if checksum is None:
        path.unlink(missing_ok=True)  # nothing tells whether it is the one that the server has
    elif not _CHECKSUM.fullmatch(checksum):
        raise ValueError(f"{checksum!r} is no checksum: expected md5: or sha256: and hexadecimal digits")
    pooch.get_logger().setLevel("WARNING")
    transfer = _Transfer(path, progress, most_bytes, attempts, checked=checksum is not None)
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

    def __init__(self, path: Path, progress: bool, most_bytes: int | None, attempts: int, *, checked: bool) -> None:
        self.partial = partial_file(path)
        self.validator = self.partial.with_suffix(".etag")  # of the file whose beginning lies there
        self.progress, self.most_bytes, self.attempts, self.checked = progress, most_bytes, attempts, checked
        self.resumed = False

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        self.resumed = self._length() > 0
        _persist(url, lambda: self._go_on(url), self._length, self.attempts)
        self.validator.unlink(missing_ok=True)
        move_into_place(self.partial, output_file)

    def _length(self) -> int:
        return self.partial.stat().st_size if self.partial.is_file() else 0

    def _rest(self) -> dict[str, str]:
        """The headers that ask for what is missing; none where nothing is there, or nothing would tell a wrong rest."""
        there, validator = self._length(), "" if self.checked else _read(self.validator)
        if not there or not (self.checked or validator):
            return {}
        return {"Range": f"bytes={there}-", **({"If-Range": validator} if validator else {})}

    def _go_on(self, url: str) -> None:
        rest = self._rest()
        there = self._length() if rest else 0
        with _asked(url, rest) as response:
            told = response.headers.get("Content-Range")
            if response.status_code == 416:  # nothing comes after these bytes; their checksum tells, or their number
                if not self.checked and told != f"bytes */{there}":
                    self.partial.unlink()
                    raise requests.ConnectionError("the server has another file now")
                return
            if response.status_code != 206:
                there = 0
            elif told and not told.startswith(f"bytes {there}-"):
                raise requests.RequestException(f"the server gave another part, {told}")
            missing = int(response.headers.get("Content-Length", 0))
            self._demand_few(there + missing)
            _demand_space(self.partial, missing)
            self._remember(response.headers)
            self._receive(response, there, missing)

    def _receive(self, response: requests.Response, there: int, missing: int) -> None:
        """Write what comes, under a bar; at most what is allowed, whatever the server promised."""
        bar = tqdm(
            desc=self.partial.name[1:].removesuffix(".part"),
            total=there + missing if missing else None,
            initial=there,
            unit="B",
            unit_scale=True,
            disable=None if self.progress else True,
        )
        with bar, self.partial.open("ab" if there else "wb") as stream, _telling_a_full_disk(self.partial):
            for piece in response.iter_content(_PIECE):
                self._demand_few(stream.tell() + len(piece))
                stream.write(piece)
                stream.flush()
                bar.update(len(piece))

    def _remember(self, headers: Mapping[str, str]) -> None:
        """What tells whether the server's file is still the same; a weak ETag must not be used with ranges."""
        etag = headers.get("ETag")
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
        write_text(validator, self.validator) if validator else self.validator.unlink(missing_ok=True)

    def _demand_few(self, length: int) -> None:
        if self.most_bytes is not None and length > self.most_bytes:
            raise requests.RequestException(f"it is larger than {self.most_bytes / 2**30:g} GiB")


def _read(file: Path) -> str:
    """A small text file; nothing where it was lost."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


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


def _persist(url: str, work: Callable[[], _T], length: Callable[[], int] = lambda: 0, attempts: int = ATTEMPTS) -> _T:
    """What `work` returns, called again, a little later each time, while connections break.

    Raises:
        ServerError: so many attempts in a row in which `length()` did not grow.
    """
    failed = 0
    while True:
        before = length()
        try:
            return work()
        except _BROKEN as error:
            failed = 0 if length() > before else failed + 1
            if failed == attempts:
                reason, kept = " ".join(str(error).split()), f"{length() / 2**20:.1f} MiB"
                raise ServerError(
                    f"{url} cannot be fetched ({reason}); check the connection: is the network there, and is the "
                    f"address right? {kept} are kept, and the same command goes on from here"
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
