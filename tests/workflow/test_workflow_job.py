"""A command of a study in its own process: record, log, exit codes, what ends it, the GPUs it is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.stub_commands import fake_program
from nnunetv2_diffusion.workflow.job import count_gpus

JOB = [sys.executable, "-m", "nnunetv2_diffusion.workflow.job"]


def run(study: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CUDA_"))}
    options = {"cwd": study, "env": {**kept, **environment}, "capture_output": True, "encoding": "utf-8"}
    return subprocess.run([*JOB, *words], **options, check=False)


def record(study: Path, name: str = "a") -> dict:
    return json.loads((study / "jobs" / f"{name}.json").read_text(encoding="utf-8"))


def test_a_command_that_ends_well(tmp_path: Path):
    before = time.time()
    assert run(tmp_path, "a", "--threads", "3", "--", "/bin/sh", "-c", "echo $OMP_NUM_THREADS").returncode == 0
    found = record(tmp_path)
    assert (found["state"], found["status"], found["attempts"]) == ("finished", 0, 1)
    assert before <= found["started"] <= found["ended"] <= time.time()
    assert found["command"].startswith("/bin/sh -c")
    assert (tmp_path / "logs" / "a.log").read_text(encoding="utf-8") == "3\n"


def test_a_command_that_fails_and_goes_on(tmp_path: Path):
    script = "echo attempt; test -e there || { touch there; echo ValueError: bad; exit 3; }"
    for status, state in ((3, "failed"), (0, "finished")):
        ended = run(tmp_path, "a", "--", "/bin/sh", "-c", script)
        assert (ended.returncode, record(tmp_path)["state"]) == (status, state)
    assert record(tmp_path)["attempts"] == 2
    assert (tmp_path / "logs" / "a.log").read_text(encoding="utf-8").count("attempt") == 2


def test_the_last_line_of_a_failure_is_kept(tmp_path: Path):
    ended = run(tmp_path, "a", "--", "/bin/sh", "-c", "echo one; echo ValueError: bad; exit 1")
    assert record(tmp_path)["last_line"] == "ValueError: bad"
    assert "ValueError: bad\na failed; the whole log is" in ended.stderr


@pytest.mark.parametrize(("words", "code"), [(["--some"], 0), ([], 2)])
def test_some_cases_that_could_not_be_taken(tmp_path: Path, words: list[str], code: int):
    ended = run(tmp_path, "a", *words, "--", "/bin/sh", "-c", "echo 3 of 4 cases; exit 2")
    assert ended.returncode == code
    assert record(tmp_path)["state"] == ("finished in part" if words else "failed")


@pytest.mark.parametrize("words", [["a"], ["a", "--"], ["a", "b"], []])
def test_no_command(tmp_path: Path, words: list[str]):
    assert run(tmp_path, *words).returncode == 2
    assert not (tmp_path / "jobs").exists()


def test_a_command_that_is_not_installed(tmp_path: Path):
    assert run(tmp_path, "a", "--", "nnUNetv2_absent").returncode == 127
    assert "nnUNetv2_absent is not installed" in record(tmp_path)["last_line"]


def test_a_signal_ends_the_command_and_all_that_it_started(tmp_path: Path):
    """As a cluster does shortly before it kills: a worker that ignores the signal goes, too."""
    script = "(trap '' TERM; echo $$ > child; sleep 60; sleep 60) & echo $! > worker; wait"
    process = subprocess.Popen([*JOB, "a", "--", "/bin/sh", "-c", script], cwd=tmp_path)
    wait_for(tmp_path / "worker")
    assert record(tmp_path)["state"] == "running"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert record(tmp_path)["state"] == "cut off"
    worker = int((tmp_path / "worker").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(worker, 0)
            time.sleep(0.05)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not (path.is_file() and path.read_text(encoding="utf-8").strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def two_gpus(tmp_path: Path) -> str:
    """A PATH on which nvidia-smi lists two GPUs."""
    programs = fake_program(tmp_path / "programs", "nvidia-smi", 'echo "GPU 0: A (UUID: x)"; echo "GPU 1: B (UUID: y)"')
    return f"{programs}:{os.environ['PATH']}"


def test_trainings_beside_each_other_have_gpus_of_their_own(tmp_path: Path, two_gpus: str):
    environment = {**os.environ, "PATH": two_gpus}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    script = "echo $CUDA_VISIBLE_DEVICES > gpu_{0}; while [ ! -e stop_{0} ]; do sleep 0.02; done"
    processes = {}
    for name in ("a", "b"):
        words = [*JOB, name, "--gpus", "1", "--", "/bin/sh", "-c", script.format(name)]
        processes[name] = subprocess.Popen(words, cwd=tmp_path, env=environment)
        wait_for(tmp_path / f"gpu_{name}")
    third = subprocess.Popen(
        [*JOB, "c", "--gpus", "1", "--", "/bin/sh", "-c", script.format("c")], cwd=tmp_path, env=environment
    )
    gpus = {name: (tmp_path / f"gpu_{name}").read_text(encoding="utf-8").strip() for name in ("a", "b")}
    assert gpus == {"a": "0", "b": "1"}
    assert not (tmp_path / "jobs" / "c.json").exists(), "the third waits"
    processes["b"].kill()  # the lock goes with the process, and not with the file
    wait_for(tmp_path / "gpu_c")
    assert (tmp_path / "gpu_c").read_text(encoding="utf-8").strip() == "1"
    for name in ("a", "b", "c"):
        (tmp_path / f"stop_{name}").touch()
    assert [processes["a"].wait(30), third.wait(30)] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "gpus", "seen"),
    [
        ({}, "2", "0,1"),
        ({}, "0", ""),
        ({"CUDA_VISIBLE_DEVICES": "5,7"}, "1", "5"),
        ({"CUDA_VISIBLE_DEVICES": "3", "SLURM_JOB_ID": "12"}, "1", "3"),
    ],
)
def test_which_gpus(tmp_path: Path, two_gpus: str, changes: dict[str, str], gpus: str, seen: str):
    script = "echo $CUDA_VISIBLE_DEVICES"
    assert run(tmp_path, "a", "--gpus", gpus, "--", "/bin/sh", "-c", script, PATH=two_gpus, **changes).returncode == 0
    assert (tmp_path / "logs" / "a.log").read_text(encoding="utf-8").strip() == seen


def test_counting_gpus(two_gpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", two_gpus)
    assert count_gpus() == 2
    monkeypatch.setenv("PATH", str(fake_program(tmp_path / "broken", "nvidia-smi", "echo no driver; exit 9")))
    assert count_gpus() == 0
    monkeypatch.setenv("PATH", str(tmp_path))
    assert count_gpus() == 0
