"""Fetching a file over HTTP: a transfer that breaks off goes on where it was, also in another process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pooch
import requests
from tqdm import tqdm

from nnunetv2_diffusion.files import read_json, write_json

MOST_BYTES = 16 * 2**30
_CHUNK = 1 << 14  # where a transfer breaks off, what came of a chunk is lost
_TIMEOUT = (20, 60)  # seconds to connect, and between two chunks
_FRUITLESS = 3  # attempts that bring nothing, in a row
_OK, _PARTIAL, _PAST_THE_END = 200, 206, 416


def download(url: str, folder: Path, sha256: str | None) -> Path:
    """Fetch a file; proxies are those of the environment (http_proxy, https_proxy, no_proxy).

    Args:
        url: http or https.
        folder: where the file, and until it is whole its beginning, is kept.
        sha256: that it must have; None takes what comes.

    Raises:
        ValueError: another hash than expected; what was fetched is removed.
        OSError: the server cannot be reached, refuses, or breaks off again and again; the beginning is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    part = folder / f"{name}.part"
    (folder / name).unlink(missing_ok=True)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, None if sha256 is None else f"sha256:{sha256}", name, folder, downloader=_Resuming(part))
    except ValueError as error:
        forget(part)
        raise ValueError(f"{url} is not the file of SHA-256 {sha256}: it was not kept") from error
    forget(part)
    return folder / name


def forget(part: Path) -> None:
    """Remove the beginning of a file and what is known of it."""
    part.unlink(missing_ok=True)
    _about(part).unlink(missing_ok=True)


def _about(part: Path) -> Path:
    return part.with_suffix(".json")


class _Resuming:
    """A downloader in pooch's sense, which keeps what came in `part`."""

    def __init__(self, part: Path):
        self.part = part

    def __call__(self, url: str, output_file: str, _pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` into `output_file`; OSError, which tells what is kept, where that fails."""
        fruitless = 0
        while fruitless < _FRUITLESS:
            before = self._size()
            try:
                if self._continue(url):
                    with self.part.open("rb") as source, Path(output_file).open("wb") as target:
                        while chunk := source.read(_CHUNK):
                            target.write(chunk)
                    return
                failure = "the connection broke off"
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                failure = type(error).__name__
            except requests.RequestException as error:
                raise OSError(f"{url} cannot be fetched: {error}") from error
            fruitless = 0 if self._size() > before else fruitless + 1
        kept = f"{self._size() / 2**20:.1f} MiB are kept, and the same command goes on from there"
        raise OSError(f"{url} cannot be fetched ({failure}): is the network there, and is the address right? {kept}")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _continue(self, url: str) -> bool:
        """One request for what is missing; whether the file is whole then."""
        start, known = self._size(), _known(self.part)
        headers = {"Accept-Encoding": "identity"}
        if start and known.get("etag"):
            headers |= {"Range": f"bytes={start}-", "If-Range": known["etag"]}
        with requests.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as response:
            if response.status_code == _PAST_THE_END:
                whole = response.headers.get("Content-Range") == f"bytes */{start}"
                if not whole:
                    forget(self.part)
                return whole
            response.raise_for_status()
            goes_on = response.status_code == _PARTIAL and _starts_at(response.headers, start)
            if response.status_code not in (_OK, _PARTIAL) or (response.status_code == _PARTIAL and not goes_on):
                raise requests.RequestException(f"the server answered {response.status_code} with another part")
            start = start if goes_on else 0
            total = _total(response.headers, start)
            if (total or 0) > MOST_BYTES:
                raise requests.RequestException(f"it is larger than {MOST_BYTES >> 30} GiB")
            write_json({"url": url, "etag": _strong_etag(response.headers)}, _about(self.part))
            with self.part.open("ab" if start else "wb") as stream:
                self._receive(response, stream, start, total)
        return total is None or self._size() == total

    def _receive(self, response: requests.Response, stream: IO[bytes], start: int, total: int | None) -> None:
        """Write what comes, under a bar; at most the limit, whatever the server promised."""
        with tqdm(desc="download", initial=start, total=total, unit="B", unit_scale=True, disable=None) as bar:
            for chunk in response.iter_content(_CHUNK):
                if stream.tell() + len(chunk) > MOST_BYTES:
                    raise requests.RequestException(f"it is larger than {MOST_BYTES >> 30} GiB")
                stream.write(chunk)
                stream.flush()
                bar.update(len(chunk))


def _known(part: Path) -> dict[str, Any]:
    """What was written down of the beginning that is there; nothing where that was lost."""
    try:
        return read_json(_about(part))
    except (FileNotFoundError, ValueError):
        return {}


def _starts_at(headers: Mapping[str, str], start: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _total(headers: Mapping[str, str], start: int) -> int | None:
    """The length of the whole file; None where the server does not say."""
    length = headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _strong_etag(headers: Mapping[str, str]) -> str | None:
    """What tells whether the server's file is still the same; a weak one must not be used with ranges (RFC 9110)."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
