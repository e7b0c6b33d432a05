"""Studies on a real Slurm of one node: a job cancelled, a node drained, Snakemake killed and started again."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from helpers import slurm
from helpers.stub_commands import calls, fake_spider, reproduce, start, stub_environment
from nnunetv2_diffusion.workflow.configuration import PHANTOMS
from nnunetv2_diffusion.workflow.study import make_study

SMALL = yaml.safe_load(PHANTOMS.read_text(encoding="utf-8"))
SMALL |= {"phantoms": None, "modalities": ["T2w"], "folds": [0, 1], "pre_segmentation": None}
TRAIN = "nnUNetv2_train 502 2d_small 1 -tr nnUNetTrainerDiceLoss_10steps -device cpu --c"
# A cluster without accounting, asked more often than a real one should be.
FLAGS = ("slurm-no-account", "slurm-status-command=squeue", "slurm-init-seconds-before-status-checks=1")
FLAGS += ("seconds-between-status-checks=1", "latency-wait=10")
WAITING = 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of Slurm's commands."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="Snakemake needs Python 3.11")
    if slurm.why_not():
        pytest.skip(slurm.why_not())
    with slurm.slurm(tmp_path_factory.mktemp("slurm") / "s") as environment:
        yield environment


@pytest.fixture
def study(tmp_path: Path, cluster: dict[str, str]) -> Callable:
    """`study(starter, …)` runs a small study of stubs on the cluster; `study.folder` is its folder."""
    python = stub_environment(tmp_path / "venv")
    spider = fake_spider(tmp_path / "SPIDER")
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(SMALL), encoding="utf-8")

    def run(starter: Callable = reproduce, **environment: str):
        words = (
            spider,
            "--out",
            "study",
            "--config",
            config,
            "--executor",
            "slurm",
            "--jobs",
            4,
            "--snakemake",
            *FLAGS,
        )
        return starter(python, *words, cwd=tmp_path, **cluster, **environment)

    run.folder = tmp_path / "study"
    return run


def ask(cluster: dict[str, str], *words: str) -> str:
    environment = {**os.environ, **cluster}
    return subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=True).stdout


def until(condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + WAITING
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)


def record(study: Callable, name: str) -> dict:
    return json.loads((study.folder / "jobs" / f"{name}.json").read_text(encoding="utf-8"))


def finished(study: Callable) -> int:
    """How many jobs Snakemake has finished: it has made a file of each, and no longer calls it incomplete."""
    marks = (study.folder / ".snakemake" / "incomplete").iterdir()
    incomplete = {base64.urlsafe_b64decode(mark.name).decode() for mark in marks}
    return len({f"done/{file.name}" for file in (study.folder / "done").iterdir()} - incomplete)


def test_a_job_cancelled_and_snakemake_killed(study: Callable, cluster: dict[str, str]):
    """A training is cancelled and goes on in its next attempt; then Snakemake is killed, and the command runs again."""
    process = study(start, STUB_WAITS=f"{TRAIN}*")
    until(lambda: TRAIN in calls(study.folder, "begin"), process)
    ask(cluster, "scancel", record(study, "train-502-nnunet-1")["slurm_job"])
    until(lambda: Counter(calls(study.folder, "begin"))[TRAIN] == 2, process)
    assert record(study, "train-502-nnunet-1")["attempts"] == 2
    # all but it and the report, and none of them in the queue: one that is cancelled in its last moments runs again
    until(lambda: finished(study) == 8 and len(ask(cluster, "squeue", "--noheader").splitlines()) == 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ask(cluster, "scancel", "--full", "--user=root")
    until(lambda: not ask(cluster, "squeue", "--noheader").strip())
    before = calls(study.folder)
    done = study()
    assert "10 of 10 jobs are finished" in done.stdout, done.stderr[-3000:]
    after = Counter(calls(study.folder))
    assert set(before) <= set(after)
    assert max(after.values()) == 1, "nothing that was finished ran again"
    assert after[TRAIN] == 1


@pytest.mark.campaign
def test_a_node_drained_and_resumed(study: Callable, cluster: dict[str, str]):
    process = study(start, STUB_SECONDS="3")
    until(lambda: TRAIN in calls(study.folder, "begin"), process)
    node = ask(cluster, "sinfo", "--noheader", "--format=%N").strip()
    ask(cluster, "scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    until(lambda: not ask(cluster, "squeue", "--noheader", "--states=RUNNING").strip(), process)
    begun = calls(study.folder, "begin")
    time.sleep(5)
    assert calls(study.folder, "begin") == begun, "a drained node begins nothing"
    ask(cluster, "scontrol", "update", f"NodeName={node}", "State=RESUME")
    output, errors = process.communicate(timeout=WAITING)
    assert "10 of 10 jobs are finished" in output, errors[-3000:]
    assert max(Counter(calls(study.folder)).values()) == 1


def test_jobs_that_a_killed_snakemake_left_on_the_cluster_run_once(study: Callable, cluster: dict[str, str]):
    """The study is started again while they run: its own attempt waits, or stands in the queue, and takes their end."""
    smallest = SMALL | {"models": {"nnunet": SMALL["models"]["nnunet"]}, "folds": [1]}
    config = study.folder.parent / "small.yaml"
    config.write_text(yaml.safe_dump(smallest), encoding="utf-8")
    make_study(study.folder, study.folder.parent / "SPIDER", config=config)
    (study.folder / "done").mkdir()
    for name in ("convert-502", "preprocess-502", "plan-502"):
        (study.folder / "done" / name).touch()
    process = study(start, STUB_WAITS=f"{TRAIN}*")
    until(lambda: TRAIN in calls(study.folder, "begin"), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    left = record(study, "train-502-nnunet-1")["slurm_job"]
    process = study(start)
    until(lambda: set(ask(cluster, "squeue", "--noheader", "--format=%i").split()) - {left}, process)
    (study.folder / "go_on").touch()
    output, errors = process.communicate(timeout=WAITING)
    assert "5 of 5 jobs are finished" in output, errors[-3000:]
    assert max(Counter(calls(study.folder, "begin")).values()) == 1
    assert record(study, "train-502-nnunet-1")["slurm_job"] == left
