"""How far a study has come, and its costs, by hand from records of which everything is known."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.documents import ROOT
from nnunetv2_diffusion.workflow.configuration import PAPER, PHANTOMS
from nnunetv2_diffusion.workflow.costs import costs, describe_costs, gigabytes_to_come, training_hours
from nnunetv2_diffusion.workflow.estimates import WORK, estimated_hours
from nnunetv2_diffusion.workflow.grid import Grid
from nnunetv2_diffusion.workflow.progress import commands_in_order, progress, unfinished

SMALL = Grid(yaml.safe_load(PHANTOMS.read_text(encoding="utf-8")), "phantoms")
LARGE = Grid(yaml.safe_load(PAPER.read_text(encoding="utf-8")), "/data/SPIDER")


def note(study: Path, name: str, state: str, *, done: bool = False, silent: float = 0.0, **about: object) -> None:
    (study / "jobs").mkdir(exist_ok=True)
    (study / "done").mkdir(exist_ok=True)
    path = study / "jobs" / f"{name}.json"
    record = {"command": f"run {name}", "host": "node1", "attempts": 1, "started": 1000.0, "state": state, **about}
    path.write_text(json.dumps(record), encoding="utf-8")
    os.utime(path, (time.time() - silent,) * 2)
    if done:
        (study / "done" / name).touch()


def test_every_state(tmp_path: Path):
    note(tmp_path, "phantoms", "finished", done=True, ended=1120.0)
    note(tmp_path, "convert-501", "finished in part", done=True, ended=1060.0, last_line="3 of 4 cases")
    note(tmp_path, "convert-502", "failed", ended=1030.0, last_line="OSError: full", attempts=3)
    note(tmp_path, "preprocess-501", "running")
    note(tmp_path, "preprocess-502", "running", silent=500.0)
    note(tmp_path, "plan-501", "cut off", ended=1001.0)
    note(tmp_path, "plan-502", "finished", ended=1001.0)  # its marker was removed
    rows = {row["job"]: row for row in progress(tmp_path, SMALL)}
    assert len(rows) == 30
    assert {name: rows[name]["state"] for name in ("phantoms", "convert-501", "convert-502", "preprocess-501")} == {
        "phantoms": "finished",
        "convert-501": "finished in part",
        "convert-502": "failed",
        "preprocess-501": "running",
    }
    assert rows["preprocess-502"]["state"] == rows["plan-501"]["state"] == "cut off"
    assert rows["plan-502"]["state"] == rows["report"]["state"] == "waiting"
    assert (rows["phantoms"]["minutes"], rows["convert-502"]["attempts"]) == (2.0, 3)
    told = unfinished(list(rows.values()))
    assert told[0] == "convert-501 could not take everything: 3 of 4 cases"
    assert told[1] == "convert-502 failed: OSError: full"
    assert told[-1].startswith("23 jobs wait for these: plan-502, train-501-spinesegdiff-0")


def test_damaged_records(tmp_path: Path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "phantoms.json").write_text("{", encoding="utf-8")
    assert {row["state"] for row in progress(tmp_path, SMALL)} == {"waiting"}
    assert commands_in_order(tmp_path) == []


def test_commands_are_in_the_order_in_which_they_began(tmp_path: Path):
    note(tmp_path, "b", "finished", started=20.0)
    note(tmp_path, "a", "finished", started=30.0, attempts=2)
    lines = commands_in_order(tmp_path)
    assert [line.rpartition(": ")[2] for line in lines] == ["run b", "run a"]
    assert lines[1].endswith("node1 finished, attempt 2: run a")


def timing(study: Path) -> None:
    about = {"seconds_per_step": 0.36, "steps": 26_000, "checkpoint_gigabytes": 0.25, "device": "GPU"}
    rows = [{"model": key, **about} for key in ("spinesegdiff", "iisdm", "nnunet", "nnunet_3d")]
    pd.DataFrame(rows).to_csv(study / "timing.csv", index=False)


def test_hours_by_hand():
    assert training_hours({"seconds_per_step": 0.36, "steps": 26_000}) == pytest.approx(2.6)


def test_costs_of_the_papers_grid(tmp_path: Path):
    untimed = costs(tmp_path, LARGE)
    assert untimed["jobs"].sum() == 265 and untimed["gpu_hours"].isna().any()
    timing(tmp_path)
    timed = costs(tmp_path, LARGE).set_index("part")
    hours = 2.6
    assert timed.loc["train iisdm", "gpu_hours"] == pytest.approx(15 * hours)
    assert timed.loc["train preseg_T30", "gpu_hours"] == pytest.approx(15 * hours), "as what it is trained on"
    assert timed.loc["train iisdm", "gigabytes"] == pytest.approx(15 * 2 * 0.25)
    for fold in range(5):
        note(tmp_path, f"train-501-iisdm-{fold}", "finished", done=True)
    later = costs(tmp_path, LARGE).set_index("part")
    assert later.loc["train iisdm", "finished"] == 5
    assert later.loc["train iisdm", "gpu_hours"] == pytest.approx(10 * hours)
    assert gigabytes_to_come(tmp_path, LARGE) == pytest.approx(timed["gigabytes"].sum() - 5 * 2 * 0.25)


def test_what_is_printed(tmp_path: Path):
    timing(tmp_path)
    text = describe_costs(costs(tmp_path, LARGE), 40)
    hours = 135 * 2.6
    assert f"{hours:.1f} GPU hours: {hours / 24:.1f} days on one GPU, {hours / 24 / 40:.1f} on 40" in text
    assert "265 jobs, 0 finished" in text and "not timed" in text


def test_what_is_not_timed_is_estimated(tmp_path: Path):
    """SpineSegDiff of T1w by hand: 202 500 steps, and 810 epochs of 50 / 3 more, of 0.983 TFLOP at 20 a second."""
    spinesegdiff = LARGE.models["spinesegdiff"]
    hours = estimated_hours(spinesegdiff, "T1w", training=True)
    assert hours == pytest.approx((202_500 + 810 * 50 / 3) * 0.983 / 20 / 3600, rel=0.001)
    table = costs(tmp_path, LARGE).set_index("part")
    assert table.loc["train spinesegdiff", "estimated_hours"] == pytest.approx(15 * hours, rel=0.001)
    assert table.loc["train preseg_T30", "estimated_hours"] == table.loc["train spinesegdiff", "estimated_hours"]
    total = table["estimated_hours"].sum()
    printed = f"{total:.1f} GPU hours: {total / 24:.1f} days on one GPU, {total / 24 / 40:.1f} on 40, estimated"
    assert printed in describe_costs(costs(tmp_path, LARGE), 40)
    timing(tmp_path)
    assert costs(tmp_path, LARGE).set_index("part").loc["train spinesegdiff", "estimated_hours"] == 0
    short = SMALL.models["nnunet"]
    assert math.isnan(estimated_hours(short, "T1w", training=True)), "ten steps were not counted"


def test_estimates_are_of_what_was_counted():
    """The table of benchmarks/grid_costs.py, to the digits that estimates.py gives."""
    counted = pd.read_csv(ROOT / "benchmarks" / "results" / "grid_costs.csv").set_index(["trainer", "configuration"])
    assert set(counted.index) == set(WORK)
    evaluations = {"2d_spinesegdiff": 20, "2d_iisdm": 5000, "2d": 4, "3d_paper": 16 * 8}
    for model, row in counted.iterrows():
        assert WORK[model].tflop_a_step == pytest.approx(row["tflop_a_step"], rel=0.005)
        expected = evaluations[model[1]] * row["tflop_an_evaluation"]
        assert WORK[model].tflop_a_case == pytest.approx(expected, rel=0.005)


def test_the_sums_in_the_documentation(tmp_path: Path):
    table = costs(tmp_path, LARGE)
    hours, page = table["estimated_hours"].sum(), (ROOT / "docs" / "grid.md").read_text(encoding="utf-8")
    assert f"{table['gigabytes'].sum():.0f} GB for the paper's grid" in page
    assert f"{hours:.0f} GPU hours: {hours / 24:.0f} days on one GPU, {hours / 40:.0f} hours on forty" in page


def test_a_damaged_timing(tmp_path: Path):
    (tmp_path / "timing.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"timing\.csv"):
        costs(tmp_path, LARGE)
