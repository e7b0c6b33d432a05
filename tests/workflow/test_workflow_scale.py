"""The paper's whole grid with stubs that sleep, forty jobs at a time: what Snakemake itself costs; run by hand."""

from __future__ import annotations

import resource
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from helpers.stub_commands import calls, fake_spider, reproduce, stub_environment
from nnunetv2_diffusion.workflow.configuration import PAPER

JOBS, AT_A_TIME, SECONDS = 265, 40, 2


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.campaign
def test_the_papers_grid_forty_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("snakemake", reason="Snakemake needs Python 3.11")
    python, spider = stub_environment(tmp_path / "venv"), fake_spider(tmp_path / "SPIDER", patients=218)
    config = yaml.safe_load(PAPER.read_text(encoding="utf-8")) | {"device": "cpu"}
    config["resources"] = {name: {**need, "threads": 1} for name, need in config["resources"].items()}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = (spider, "--out", "study", "--config", "config.yaml", "--jobs", AT_A_TIME)
    begun, used = time.perf_counter(), processor_seconds()
    assert reproduce(python, *words, "--dry-run", cwd=tmp_path).returncode == 0
    dry, dry_used = time.perf_counter() - begun, processor_seconds() - used
    # The stubs write nothing: the space that real trainings need must not be demanded.
    rows = [f"{model},0.1,1000,0.001" for model in config["models"]]
    timing = "\n".join(["model,seconds_per_step,steps,checkpoint_gigabytes", *rows])
    (tmp_path / "study" / "timing.csv").write_text(timing, encoding="utf-8")
    begun, used = time.perf_counter(), processor_seconds()
    done = reproduce(python, *words, cwd=tmp_path, STUB_SECONDS=str(SECONDS))
    whole, whole_used = time.perf_counter() - begun, processor_seconds() - used
    assert done.returncode == 0 and f"{JOBS} of {JOBS} jobs are finished" in done.stdout, done.stderr
    trained = [line for line in calls(tmp_path / "study") if line.startswith("nnUNetv2_train")]
    assert len(trained) == 135 and max(Counter(trained).values()) == 1
    with capsys.disabled():
        print(
            f"\ndry run {dry:.1f} s ({dry_used:.1f} s of processor time); {JOBS} jobs of {SECONDS} s, {AT_A_TIME} at a "
            f"time: {whole:.1f} s, processor time {whole_used:.1f} s, {whole_used / JOBS:.2f} s a job"
        )
    assert dry_used < 20
