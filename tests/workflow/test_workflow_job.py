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
from nnunetv2_diffusion.workflow.attempts import LOCK, identity
from nnunetv2_diffusion.workflow.job import count_gpus
from nnunetv2_diffusion.workflow.progress import LOST

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_and_all_that_it_started(tmp_path: Path, number: int):
    """As a cluster does shortly before it kills, and a terminal that is closed: a worker that ignores it goes, too."""
    script = "(trap '' TERM; echo $$ > child; sleep 60; sleep 60) & echo $! > worker; wait"
    process = subprocess.Popen([*JOB, "a", "--", "/bin/sh", "-c", script], cwd=tmp_path)
    wait_for(tmp_path / "worker")
    assert record(tmp_path)["state"] == "running"
    process.send_signal(number)
    assert process.wait(30) == 128 + number
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


def start(study: Path, script: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*JOB, "a", "--", "/bin/sh", "-c", script], cwd=study, **options)


def test_what_nohup_ignores_stays_ignored(tmp_path: Path):
    words = ["nohup", *JOB, "a", "--", "/bin/sh", "-c", "echo > begun; while [ ! -e stop ]; do sleep 0.02; done"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_file(tmp_path / "begun")
    process.send_signal(signal.SIGHUP)
    (tmp_path / "stop").touch()
    assert process.wait(30) == 0


@pytest.mark.parametrize(("code", "begun"), [(0, 1), (3, 2)])
def test_an_attempt_that_still_runs_is_waited_for(tmp_path: Path, code: int, begun: int):
    """A killed Snakemake left it on the cluster, the study is started again: it runs once, or once more if it fails."""
    (tmp_path / LOCK).write_text("by process 1 on node1\n", encoding="utf-8")
    script = f"echo >> begun; test -e second && exit 0; while [ ! -e stop ]; do sleep 0.02; done; exit {code}"
    first = start(tmp_path, script)
    wait_for_file(tmp_path / "begun")
    second = start(tmp_path, script, stderr=subprocess.PIPE)
    time.sleep(1.5)
    assert second.poll() is None and record(tmp_path)["attempts"] == 1
    (tmp_path / "second").touch()
    (tmp_path / "stop").touch()
    assert (first.wait(30), second.wait(30)) == (code, 0)
    assert len((tmp_path / "begun").read_text(encoding="utf-8").splitlines()) == begun
    assert (record(tmp_path)["attempts"], record(tmp_path)["state"]) == (begun, "finished")
    told = b"a has been finished by an earlier attempt meanwhile" in second.communicate()[1]
    assert told == (begun == 1)


@pytest.mark.parametrize(("running", "begun"), [("by process 1 on node1\n", 1), ("", 2)])
def test_an_attempt_that_stood_in_the_queue_behind_another(tmp_path: Path, running: str, begun: int):
    """The study was started again before the earlier one ended; what ended before nobody knows is run again."""
    (tmp_path / LOCK).write_text(running, encoding="utf-8")
    for _ in range(2):
        assert start(tmp_path, "echo >> begun").wait(30) == 0
    assert len((tmp_path / "begun").read_text(encoding="utf-8").splitlines()) == begun
    os.utime(tmp_path / LOCK, (time.time() + 60, time.time() + 60))
    assert start(tmp_path, "echo >> begun").wait(30) == 0
    assert record(tmp_path)["attempts"] == begun + 1, "a study that was started later runs it again"


def test_the_command_that_a_killed_attempt_left_is_ended(tmp_path: Path):
    """It trains on in a session of its own, and nobody notes how it ends."""
    first = start(tmp_path, "test -e child && exit 0; echo $$ > child; sleep 60; sleep 60")
    wait_for(tmp_path / "child")
    while "command_process" not in record(tmp_path):
        time.sleep(0.02)
    first.kill()
    first.wait()
    orphan = int((tmp_path / "child").read_text(encoding="utf-8"))
    os.kill(orphan, 0)
    assert start(tmp_path, "exit 0").wait(30) == 0
    assert not identity(orphan)
    assert (record(tmp_path)["attempts"], record(tmp_path)["state"]) == (2, "finished")


def test_an_attempt_on_another_machine_is_lost_when_it_is_silent(tmp_path: Path):
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "a.json"
    about = {"state": "running", "host": "node7", "process": [os.getpid(), 0.0], "attempts": 1, "started": 0.0}
    path.write_text(json.dumps(about), encoding="utf-8")
    second = start(tmp_path, "exit 0")
    time.sleep(2)
    assert second.poll() is None, "it was heard of just now"
    os.utime(path, (0, time.time() - LOST - 1))
    assert second.wait(30) == 0
    assert record(tmp_path)["attempts"] == 2


def wait_for_file(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.02)
