"""Fetching from a server that breaks off, lacks ranges, is busy or serves another file, and a disk that is full."""

from __future__ import annotations

import hashlib
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers.web_server import serving
from nnunetv2_diffusion import downloads
from nnunetv2_diffusion.downloads import ServerError, fetch, fetch_json, partial_file

CONTENT = np.random.default_rng(0).bytes(3_000_000)
PIECE = 65536
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """(address of the file, habits of the server), and no waiting between attempts."""
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "data.bin").write_bytes(CONTENT)
    (tmp_path / "server" / "record.json").write_text('{"a": [1]}', encoding="utf-8")
    with serving(tmp_path / "server") as (url, habits):
        yield f"{url}/data.bin", habits


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_file_once(server, tmp_path: Path, algorithm: str):
    url, habits = server
    checksum = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    for _ in range(2):
        path = fetch(url, tmp_path / "in" / "here.bin", checksum=checksum, progress=False)
        assert path.read_bytes() == CONTENT
    assert habits.asked == [("/data.bin", None)]
    assert [file.name for file in path.parent.iterdir()] == ["here.bin"]


def test_goes_on_where_it_broke_off(server, tmp_path: Path):
    url, habits = server
    habits.break_after = [16 * PIECE, 0, 20 * PIECE + 5]
    assert fetch(url, tmp_path / "a", checksum=MD5).read_bytes() == CONTENT
    assert [wanted for _, wanted in habits.asked] == [None, *(f"bytes={n * PIECE}-" for n in (16, 16, 36))]


def test_goes_on_in_the_next_run(server, tmp_path: Path):
    url, habits = server
    habits.break_after = [30 * PIECE] + [0] * 20
    with pytest.raises(ServerError, match=r"data\.bin cannot be fetched .*the same command goes on from here"):
        fetch(url, tmp_path / "a", checksum=MD5)
    assert len(habits.asked) == 1 + downloads.ATTEMPTS
    assert not (tmp_path / "a").exists()
    assert partial_file(tmp_path / "a").read_bytes() == CONTENT[: 30 * PIECE]
    habits.break_after.clear()
    habits.asked.clear()
    fetch(url, tmp_path / "a", checksum=MD5)
    assert habits.asked == [("/data.bin", f"bytes={30 * PIECE}-")]
    assert not partial_file(tmp_path / "a").exists()


def test_a_server_without_ranges(server, tmp_path: Path):
    url, habits = server
    habits.ranges = False
    habits.break_after = [2_500_000, 1_000]
    assert fetch(url, tmp_path / "a", checksum=MD5).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "left", [CONTENT[::-1][:5_000], CONTENT, CONTENT + b"more"], ids=["foreign", "whole", "longer"]
)
def test_what_an_earlier_run_left(server, tmp_path: Path, left: bytes):
    url, _ = server
    partial_file(tmp_path / "a").write_bytes(left)
    assert fetch(url, tmp_path / "a", checksum=MD5).read_bytes() == CONTENT


def test_another_file_than_expected(server, tmp_path: Path):
    url, _ = server
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(ValueError, match=r"data\.bin is not the file that was expected: its checksum is not md5:0000"):
        fetch(url, tmp_path / "a", checksum=f"md5:{'0' * 32}")
    assert (tmp_path / "a").read_bytes() == b"before"
    assert not partial_file(tmp_path / "a").exists()
    assert fetch(url, tmp_path / "a", checksum=MD5).read_bytes() == CONTENT


def test_a_busy_server(server, tmp_path: Path):
    url, habits = server
    habits.refusals = [429, 503]
    assert fetch(url, tmp_path / "a", checksum=MD5).read_bytes() == CONTENT


def test_a_server_that_stays_busy(server, tmp_path: Path):
    url, habits = server
    habits.refusals = [503] * 20
    with pytest.raises(ServerError, match="503 Service Unavailable"):
        fetch(url, tmp_path / "a", checksum=MD5)


def test_no_such_file(server, tmp_path: Path):
    url, _ = server
    with pytest.raises(ServerError, match=r"the server answered 404 Not Found; check the address"):
        fetch(url.replace("data", "absent"), tmp_path / "a", checksum=MD5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "no address", "ftp://x/y"])
def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str):
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)
    with pytest.raises(ServerError, match=url):
        fetch(url, tmp_path / "a", checksum=MD5)


@pytest.mark.parametrize("checksum", ["", "d41d8cd98f00b204e9800998ecf8427e", "crc:12", "md5:xyz"])
def test_no_checksum(tmp_path: Path, checksum: str):
    with pytest.raises(ValueError, match="is no checksum: expected md5: or sha256:"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", checksum=checksum)


def test_too_little_space_is_told_before(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    url, _ = server
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: SimpleNamespace(free=2_999_999))
    with pytest.raises(OSError, match=r"too little space in .*: 0\.00 GB are still to come"):
        fetch(url, tmp_path / "a", checksum=MD5)


def test_a_disk_that_fills_up_meanwhile(server, tmp_path: Path):
    """A file that may not grow, as on a full disk: what came is kept, and the rest comes once there is space."""
    url, habits = server
    code = f"from nnunetv2_diffusion.downloads import fetch; fetch({url!r}, {str(tmp_path / 'a')!r}, checksum={MD5!r})"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, 1_200_000))

    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", cwd="/", preexec_fn=limit, check=False)
    assert "OSError: too little space in" in ended.stderr.splitlines()[-1]
    kept = partial_file(tmp_path / "a").stat().st_size
    assert 1_000_000 <= kept <= 1_200_000
    fetch(url, tmp_path / "a", checksum=MD5)
    assert habits.asked[-1] == ("/data.bin", f"bytes={kept}-")


def test_json(server):
    url, habits = server
    habits.refusals = [500]
    assert fetch_json(url.replace("data.bin", "record.json")) == {"a": [1]}
    with pytest.raises(ValueError, match=r"data\.bin did not answer with json"):
        fetch_json(url)
