"""Whole or not at all: what a reader sees at every moment of a write, and what is left after a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nnunetv2_diffusion import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path):
    target = tmp_path / "deep" / "scores.csv"
    files.write_text("old", target)
    with files.replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
        assert partial.suffix == ".csv"
        assert partial.name.startswith(".")
    assert target.read_text() == "new"
    assert names(target.parent) == ["scores.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    target = tmp_path / "file.json"
    files.write_json({"old": True}, target)
    with pytest.raises(KeyError), files.replacing(target) as partial:
        partial.write_text("half")
        raise KeyError
    assert files.read_json(target) == {"old": True}
    assert names(tmp_path) == ["file.json"]


def test_permissions_are_kept(tmp_path: Path):
    target = tmp_path / "plans.json"
    files.write_json([], target)
    target.chmod(0o640)
    files.write_json([1], target)
    assert target.stat().st_mode & 0o777 == 0o640


def test_the_partial_file_may_lie_elsewhere(tmp_path: Path):
    images, aside = tmp_path / "imagesTr", tmp_path / "aside"
    aside.mkdir()
    with files.replacing(images / "case_0000.nii.gz", partial_folder=aside) as partial:
        partial.touch()
        assert names(images) == []
    assert names(images) == ["case_0000.nii.gz"]
    assert names(aside) == []


def test_several_files_come_together_the_named_one_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    moved = []
    replace = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (moved.append(Path(b).name), replace(a, b)))
    with files.staging(tmp_path, last="a.json") as stage:
        for name in ("a.json", "b.png", "c.mha"):
            (stage / name).touch()
        assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert moved == ["b.png", "c.mha", "a.json"]
    assert names(tmp_path) == ["a.json", "b.png", "c.mha"]


def test_the_named_one_of_an_earlier_run_never_stands_beside_later_files(tmp_path: Path, monkeypatch):
    files.write_text("earlier", tmp_path / "a.json")
    seen = []
    replace = files.os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (seen.append(names(tmp_path)), replace(a, b)))
    with files.staging(tmp_path, last="a.json") as stage:
        for name in ("a.json", "b.png"):
            (stage / name).touch()
    assert all("a.json" not in files_seen for files_seen in seen)
    assert names(tmp_path) == ["a.json", "b.png"]


def test_of_several_files_none_stays_after_a_failure(tmp_path: Path):
    with pytest.raises(KeyError), files.staging(tmp_path, last="a.json") as stage:
        (stage / "b.png").touch()
        raise KeyError
    assert names(tmp_path) == []


def dead_process() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def left_by(folder: Path, process: int, machine: str | None = None) -> list[Path]:
    """A partial file and a staging folder as `process` leaves them."""
    with files.replacing(folder / "a.csv") as partial:
        prefix = partial.name.removesuffix("a.csv").replace(f"-{os.getpid()}_", f"-{process}_")
        partial.touch()
    if machine is not None:
        prefix = f"{files.PARTIAL}{machine}-{process}_"
    (folder / f"{prefix}stage").mkdir()
    (folder / f"{prefix}stage" / "b.png").touch()
    (folder / f"{prefix}b.png").touch()
    (folder / "a.csv").unlink()
    return [folder / f"{prefix}b.png", folder / f"{prefix}stage"]


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_writer(tmp_path: Path):
    left_by(tmp_path, dead_process())
    command = f"from nnunetv2_diffusion import files; files.write_text('', {str(tmp_path / 'b.csv')!r})"
    subprocess.run([sys.executable, "-c", command], check=True)
    assert names(tmp_path) == ["b.csv"]


def test_what_a_living_process_writes_stays(tmp_path: Path):
    left = [*left_by(tmp_path, os.getppid()), *left_by(tmp_path, os.getpid())]
    files.remove_stale_partials(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in left)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no Linux")
def test_what_a_process_left_goes_though_nobody_asked_how_it_ended(tmp_path: Path):
    """A zombie, as killed workers stay for ever in a container without an init, still takes signals."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        os.kill(ended.pid, 0)
        left_by(tmp_path, ended.pid)
        files.remove_stale_partials(tmp_path)
        assert names(tmp_path) == []
    finally:
        ended.wait()


def test_what_another_machine_left_stays_for_a_day(tmp_path: Path):
    left = left_by(tmp_path, dead_process(), machine="00000000")
    files.remove_stale_partials(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in left)
    for path in left:
        os.utime(path, (0, time.time() - 25 * 3600))
    files.remove_stale_partials(tmp_path)
    assert names(tmp_path) == []


def test_processes_that_change_one_file_wait_for_each_other(tmp_path: Path):
    (tmp_path / "number").write_text("0", encoding="utf-8")
    code = (
        "import sys, pathlib; from nnunetv2_diffusion import files\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for _ in range(50):\n"
        "    with files.one_at_a_time(path.parent):\n"
        "        files.write_text(str(int(path.read_text()) + 1), path)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "number")]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert (tmp_path / "number").read_text(encoding="utf-8") == "200"
    assert names(tmp_path) == ["number"]


@pytest.mark.parametrize("error", [KeyError("labels"), TypeError("int"), UnicodeDecodeError("utf-8", b"", 0, 1, "?")])
def test_errors_of_wrong_content_name_the_file(error: Exception):
    expected = r"plans.json does not hold what is expected \(.+\); plan again"
    with pytest.raises(ValueError, match=expected), files.naming("plans.json", "plan again"):
        raise error


@pytest.mark.parametrize("error", [ValueError("plans.json is too old"), FileNotFoundError("plans.json")])
def test_errors_that_name_the_file_stay_as_they_are(error: Exception):
    with pytest.raises(type(error)) as raised, files.naming("plans.json"):
        raise error
    assert raised.value is error


def test_tables_in_six_digits(tmp_path: Path):
    files.write_csv(pd.DataFrame({"case": ["a"], "dice": [np.pi]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "case,dice\na,3.14159\n"


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (None, dict, "does not exist; plan again"),
        ("{", dict, "no valid JSON"),
        ("[]", dict, "a dict, not a list"),
        ("{}", list, "a list, not a dict"),
        ("[" * 100_000, list, "no valid JSON"),
        ("\xff", dict, "no valid JSON"),
    ],
)
def test_json_that_is_not_as_expected(tmp_path: Path, content: str | None, kind: type, expected: str):
    path = tmp_path / "plans.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises((ValueError, FileNotFoundError), match=expected) as raised:
        files.read_json(path, kind, remedy="plan again")
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
def test_a_damaged_byte_of_a_checkpoint_is_seen(tmp_path: Path, at: float):
    file = tmp_path / "checkpoint.pth"
    torch.save({"weights": torch.arange(3000.0)}, file)
    assert files.is_whole_archive(file)
    content = bytearray(file.read_bytes())
    content[int(at * len(content))] ^= 0x10
    file.write_bytes(content)
    assert not files.is_whole_archive(file)


@pytest.mark.parametrize("content", [b"", b"no archive", bytes(10_000)])
def test_what_is_no_archive_is_no_whole_one(tmp_path: Path, content: bytes):
    file = tmp_path / "checkpoint.pth"
    file.write_bytes(content)
    assert not files.is_whole_archive(file)
    with pytest.raises(FileNotFoundError):
        files.is_whole_archive(tmp_path / "absent")


def test_a_checksum_is_of_the_content_alone(tmp_path: Path):
    """The SHA-256 of "abc" that the standard (FIPS 180-4) gives as its example."""
    (tmp_path / "file").write_text("abc")
    assert files.checksum(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("write", [files.write_json, lambda content, path: files.write_text(str(content), path)])
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, write):
    """/dev/full is a disk that is full: the error of a write to it names no file."""
    (tmp_path / f"{files._own_prefix()}out.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*/out\.json'"):
        write(["content"], tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []
