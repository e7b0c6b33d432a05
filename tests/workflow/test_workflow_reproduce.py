"""Whole studies by the real Snakemake, their commands replaced by stubs: order, counts, failures, kills, bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.stub_commands import calls, fake_program, fake_spider, reproduce, start, stub_environment
from nnunetv2_diffusion.report.studies import read_study
from nnunetv2_diffusion.workflow.attempts import sole_run
from nnunetv2_diffusion.workflow.configuration import PAPER, PHANTOMS

SMALL = {**yaml.safe_load(PHANTOMS.read_text(encoding="utf-8")), "phantoms": None, "folds": [0, 1, 2, 3, 4]}
SMALL |= {"modalities": ["T2w"]}
ALL_CALLS = {"convert": 1, "preprocess": 1, "plan": 1, "train": 15, "validate": 10, "ablate": 1, "report": 1}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of the environment with the stubs."""
    pytest.importorskip("snakemake", reason="Snakemake needs Python 3.11")
    return stub_environment(tmp_path_factory.mktemp("stubs") / "venv")


@pytest.fixture
def spider(tmp_path: Path) -> Path:
    return fake_spider(tmp_path / "SPIDER")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration of one modality and five folds: 15 trainings."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return path


def kinds(lines: list[str]) -> Counter:
    """How often each kind of command was called."""
    names = {"nnUNetv2_train": "train", "nnUNetv2_plan_and_preprocess": "preprocess"}
    return Counter(names.get(line.split()[0], line.split()[1]) for line in lines)


def position(lines: list[str], part: str) -> int:
    return next(number for number, line in enumerate(lines) if part in line)


def test_a_small_study(python: Path, spider: Path, small: Path, tmp_path: Path):
    done = reproduce(python, spider, "--out", "study", "--config", small, "--jobs", 2, cwd=tmp_path, STUB_SECONDS="0.1")
    study = tmp_path / "study"
    ended = calls(study)
    assert kinds(ended) == ALL_CALLS, done.stderr
    assert "30 of 30 jobs are finished" in done.stdout
    # three patients are not SPIDER's 218: told, and the exit code says so
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"{spider} holds 3 of SPIDER's 218 patients")
    order = [position(ended, part) for part in ("convert", "plan_and_preprocess", "diff plan", "nnUNetv2_train")]
    assert order == sorted(order) == [0, 1, 2, 3]
    stages = position(calls(study, "begin"), "2d_small_preseg_T30")
    assert all(position(calls(study), f"2d_small {fold} -tr nnUNetTrainerDiceLoss") < stages for fold in range(5))
    assert "report" in ended[-1]
    every = [line.split() for line in (study / "calls.txt").read_text(encoding="utf-8").splitlines()]
    running = most = 0
    for kind, *_ in every:
        running += 1 if kind == "begin" else -1
        most = max(most, running)
    assert most == 2  # never more than cores
    written = read_study(study)
    assert set(written.progress.loc[written.progress["rule"] == "train", "state"]) == {"finished"}
    assert written.software["snakemake"] and written.data["files"] == 12
    commands = (study / "commands.txt").read_text(encoding="utf-8").splitlines()
    assert "spinesegdiff convert" in commands[0] and "finished, attempt 1" in commands[0]

    words = (spider, "--out", "study", "--jobs", 2, "--snakemake", "report=snakemake.html")
    again = reproduce(python, *words, cwd=tmp_path)
    assert calls(study) == ended, "a second run does nothing, and Snakemake's own report neither"
    assert "30 of 30 jobs are finished" in again.stdout
    page = (study / "snakemake.html").read_text(encoding="utf-8")
    assert all(f'"{rule}"' in page for rule in ("convert", "preprocess", "plan", "train", "validate", "ablate"))


def test_a_training_that_fails_stops_only_what_waits_for_it(python: Path, spider: Path, small: Path, tmp_path: Path):
    words = (spider, "--out", "study", "--jobs", 4)
    failing = "nnUNetv2_train*2d_small 3 -tr nnUNetTrainerSpineSegDiff*"
    done = reproduce(python, *words, "--config", small, cwd=tmp_path, STUB_FAILS=failing)
    study = tmp_path / "study"
    assert done.returncode == 2
    listed = done.stderr.splitlines()
    assert "train-502-spinesegdiff-3 failed: RuntimeError: the stub fails (logs/train-502-spinesegdiff-3.log)" in listed
    assert listed[-1] == "1 jobs wait for these: validate-502-spinesegdiff-3"
    first = kinds(calls(study))
    assert first == {**ALL_CALLS, "train": 14, "validate": 9}, "the report of what is there is made"
    progress = pd.read_csv(study / "progress.csv", index_col="job")
    assert progress["state"].value_counts().to_dict() == {"finished": 27, "waiting": 2, "failed": 1}

    done = reproduce(python, *words, cwd=tmp_path)
    assert "30 of 30 jobs are finished" in done.stdout
    second = Counter(calls(study))
    assert max(second[line] for line in second if "report" not in line) == 1, "nothing that was finished ran twice"


def test_a_baseline_that_fails_keeps_its_stages_back(python: Path, spider: Path, small: Path, tmp_path: Path):
    failing = "nnUNetv2_train*2d_small 1 -tr nnUNetTrainerDiceLoss*"
    words = (spider, "--out", "study", "--config", small, "--jobs", 4)
    done = reproduce(python, *words, cwd=tmp_path, STUB_FAILS=failing)
    trained = calls(tmp_path / "study")
    assert not [line for line in trained if "preseg" in line]
    assert kinds(trained)["train"] == 9
    assert "11 jobs wait for these: train-502-preseg_T30-0" in done.stderr


def test_snakemake_killed_and_started_again(python: Path, spider: Path, small: Path, tmp_path: Path):
    """SIGKILL to everything in the middle of two trainings: these run again, nothing that was finished does."""
    study, words = tmp_path / "study", (spider, "--out", "study", "--jobs", 2)
    waits = "nnUNetv2_train*2d_small 4*"
    process = start(python, *words, "--config", small, cwd=tmp_path, STUB_WAITS=waits)
    deadline = time.monotonic() + 120
    while len([line for line in calls(study, "begin") if " 2d_small 4 " in line]) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kill_stubs(python)
    before = calls(study)
    progress = reproduce(python, *words, "--dry-run", cwd=tmp_path)
    assert progress.returncode == 2, progress.stderr
    done = reproduce(python, *words, cwd=tmp_path)
    assert "30 of 30 jobs are finished" in done.stdout, done.stderr
    after = Counter(calls(study))
    assert set(before) <= set(after) and max(after.values()) == 1
    begun = Counter(calls(study, "begin"))
    assert {line.split()[3] for line in begun if begun[line] == 2} == {"4"}


def kill_stubs(python: Path) -> None:
    """End the trainings that killed jobs have left in sessions of their own: on a cluster they would be gone.

    Of this study's environment alone: other tests, and other people, train at the same time.
    """
    stub = os.fsencode(python.with_name("nnUNetv2_train"))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if stub in (folder / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue


def test_a_dry_run_of_the_papers_grid(python: Path, tmp_path: Path):
    """Snakemake's own count of jobs is the grid's."""
    spider = fake_spider(tmp_path / "SPIDER", patients=218)
    words = (spider, "--out", "study", "--dry-run", "--executor", "slurm")
    done = reproduce(python, *words, cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) == 2)
    wanted = {"convert": 6, "preprocess": 6, "plan": 6, "train": 135, "validate": 105, "central_slices": 3}
    wanted |= {"ablate": 3, "report": 1, "all": 1, "total": 266}
    assert {name: int(rows[name]) for name in wanted} == wanted
    assert "265 jobs, 0 finished" in done.stdout
    assert not calls(tmp_path / "study")


def test_splits_of_others(python: Path, spider: Path, small: Path, tmp_path: Path):
    (tmp_path / "published").mkdir()
    split = '[{"train": ["SPIDER_001", "SPIDER_009"], "test": ["SPIDER_002"]}]'
    (tmp_path / "published" / "SPIDER_T2w.json").write_text(split, encoding="utf-8")
    words = (spider, "--out", "study", "--config", small, "--splits", "published", "--dry-run")
    assert reproduce(python, *words, cwd=tmp_path).returncode == 2
    written = yaml.safe_load((tmp_path / "study" / "splits" / "502.json").read_text(encoding="utf-8"))
    assert written == [{"train": ["SPIDER_001_t2"], "val": ["SPIDER_002_t2"]}]


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (("t2",), "SPIDER holds no t1 scan: T1w is left out; download the rest"),
        ((), "holds no scan: expected files like"),
    ],
)
def test_a_missing_modality(python: Path, tmp_path: Path, series: tuple[str, ...], message: str):
    spider = fake_spider(tmp_path / "SPIDER", series=series)
    done = reproduce(python, spider, "--out", "study", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    if series:
        assert "no t1 scan: T1wT2w is left out" in done.stdout
        assert "no t1 scan: T1wT2w is left out" in done.stderr.splitlines()[-2], "told again at the end"
        assert "89 jobs" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name either SPIDER's folder or --phantoms"),
        (("SPIDER", "--phantoms"), "name either SPIDER's folder or --phantoms"),
        (("nowhere",), "nowhere is not a SPIDER folder"),
        (("SPIDER", "--config", "absent.yaml"), "absent.yaml"),
        (("SPIDER", "--splits", "absent"), "absent is no folder with SPIDER_<modality>.json"),
        (("SPIDER", "--config", "wrong.yaml"), "there is no entry 'modalites' (did you mean 'modalities'?)"),
        (("SPIDER", "--executor", "slurm"), "the command sbatch is not on the PATH: start from a login node"),
        (("SPIDER", "--executor", "lsf"), "pip install snakemake-executor-plugin-lsf"),
        (("SPIDER",), "this machine has no NVIDIA GPU; run on a cluster with --executor slurm"),
        (("SPIDER", "--config", "folds.yaml"), "pre_segmentation needs all folds, 0, 1, 2, 3, 4, of its baseline"),
    ],
)
def test_bad_input(python: Path, spider: Path, tmp_path: Path, words: tuple[str, ...], message: str):
    text = PAPER.read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text + "modalites: [T1w]\n", encoding="utf-8")
    (tmp_path / "folds.yaml").write_text(text.replace("folds: [0, 1, 2, 3, 4]", "folds: [0, 1]"), encoding="utf-8")
    bare = str(fake_program(tmp_path / "bare", "nothing", "exit 0"))
    done = reproduce(python, *words, "--out", "study", cwd=tmp_path, PATH=bare)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not calls(tmp_path / "study")


@pytest.mark.parametrize(("partition", "where"), [(None, "every partition"), ("cpus", "partition cpus")])
def test_a_partition_without_gpus(python: Path, spider: Path, tmp_path: Path, partition: str | None, where: str):
    programs = tmp_path / "slurm"
    for name in ("sbatch", "squeue", "scancel"):
        fake_program(programs, name, "exit 1")
    fake_program(programs, "sinfo", 'echo "(null)"')
    config = yaml.safe_load(PAPER.read_text(encoding="utf-8")) | {"cluster": {"partition": partition}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = (spider, "--out", "study", "--config", "config.yaml", "--executor", "slurm")
    done = reproduce(python, *words, cwd=tmp_path, PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert f"{where} of this cluster has no GPU (sinfo lists none)" in done.stderr.splitlines()[-1]


def test_a_folder_of_something_else(python: Path, spider: Path, tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()
    done = reproduce(python, spider, "--out", "study", "--dry-run", cwd=tmp_path)
    assert "study is not empty and holds no study; name another folder with --out" in done.stderr
    other = fake_spider(tmp_path / "other")
    assert reproduce(python, spider, "--out", "first", "--dry-run", cwd=tmp_path).returncode == 2
    done = reproduce(python, other, "--out", "first", "--dry-run", cwd=tmp_path)
    assert "first holds a study of" in done.stderr


def test_snakemake_is_missing(spider: Path, tmp_path: Path):
    """As where the extra is not installed: Snakemake cannot be imported."""
    code = "import sys; sys.modules['snakemake'] = None; from nnunetv2_diffusion.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "reproduce", str(spider), "--out", "study"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'nnunetv2-diffusion[grid]'" in done.stderr


def test_folds_beside_each_other_on_the_gpus_of_one_machine(spider: Path, tmp_path: Path):
    """Four GPUs of which each training gets two; Snakemake's own flags, which take many words, take no target."""
    pytest.importorskip("snakemake", reason="Snakemake needs Python 3.11")
    python = stub_environment(tmp_path / "venv")
    stub = tmp_path / "venv" / "bin" / "nnUNetv2_train"
    noted = stub.read_text(encoding="utf-8").replace(
        "sleep", 'echo "$3 on $CUDA_VISIBLE_DEVICES: $*" >> gpus.txt; sleep', 1
    )
    stub.write_text(noted, encoding="utf-8")
    smallest = {"models": {"nnunet": SMALL["models"]["nnunet"]}, "folds": [0, 1], "pre_segmentation": None}
    config = SMALL | smallest | {"device": "cuda", "gpus_per_training": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    listed = fake_program(tmp_path / "smi", "nvidia-smi", "for i in 0 1 2 3; do echo GPU $i: A; done")
    environment = {"PATH": f"{listed}:{os.environ['PATH']}", "STUB_SECONDS": "2", "CUDA_VISIBLE_DEVICES": ""}
    words = (spider, "--out", "study", "--config", "config.yaml", "--jobs", 4)
    done = reproduce(python, *words, cwd=tmp_path, **environment)
    assert "6 of 6 jobs are finished" in done.stdout, done.stderr[-2000:]
    on = [line.split(": ") for line in (tmp_path / "study" / "gpus.txt").read_text(encoding="utf-8").splitlines()]
    assert {gpus.split(" on ")[1] for gpus, _ in on} == {"0,1", "2,3"}
    assert all(command.endswith("-device cuda --c -num_gpus 2") for _, command in on)


def test_a_study_is_run_once_at_a_time(python: Path, spider: Path, small: Path, tmp_path: Path):
    """Its Snakemake has it, even if `reproduce` itself is killed; what would run can be asked meanwhile."""
    study, words = tmp_path / "study", (spider, "--out", "study", "--jobs", 2)
    process = start(python, *words, "--config", small, cwd=tmp_path, STUB_WAITS="*convert*")
    until_begun(study, "convert")
    process.kill()
    process.wait()
    second = reproduce(python, *words, cwd=tmp_path)
    assert second.returncode == 2
    assert f"study is being run already, by process {process.pid} on" in second.stderr.splitlines()[-1]
    dry = reproduce(python, *words, "--dry-run", cwd=tmp_path)
    assert "30 jobs, 0 finished" in dry.stdout, dry.stderr
    os.killpg(process.pid, signal.SIGTERM)  # Snakemake's
    process.communicate()
    with sole_run(study):
        assert not (study / "done" / "report").exists()


def until_begun(study: Path, part: str) -> None:
    deadline = time.monotonic() + 120
    while not any(part in line for line in calls(study, "begin")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
