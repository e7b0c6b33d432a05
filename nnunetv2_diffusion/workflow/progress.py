"""How far a study has come: every job of its grid with its state, from what the jobs have left in its folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.workflow.grid import DONE, JOBS, LOGS, Grid, Job

RUNNING, FINISHED, FAILED, PARTLY = "running", "finished", "failed", "finished in part"
CUT_OFF, WAITING = "cut off", "waiting"
# A job that runs touches its record so often (seconds); one that has not for some time was cut off.
HEARTBEAT = 20.0
LOST = 6 * HEARTBEAT


def progress(study: Path, grid: Grid) -> list[dict[str, Any]]:
    """A row a job, in the grid's order: job, rule, state, attempts, minutes, host, log, last_line."""
    return [_row(study, job) for job in grid.jobs()]


def _row(study: Path, job: Job) -> dict[str, Any]:
    record = job_record(study, job.name)
    state = _state(study, job, record)
    log = f"{LOGS}/{job.name}.log"
    return {
        "job": job.name,
        "rule": job.rule,
        "state": state,
        "attempts": record.get("attempts", 0),
        "minutes": round((record.get("ended", time.time()) - record["started"]) / 60, 1) if record else None,
        "host": record.get("host", ""),
        "log": log if (study / log).is_file() else "",
        "last_line": record.get("last_line", "") if state in (FAILED, PARTLY) else "",
    }


def _state(study: Path, job: Job, record: Mapping[str, Any]) -> str:
    state = record.get("state", WAITING)
    if (study / DONE / job.name).is_file():
        return PARTLY if state == PARTLY else FINISHED
    if state == RUNNING:
        try:
            silent = time.time() - (study / JOBS / f"{job.name}.json").stat().st_mtime
        except FileNotFoundError:
            return WAITING
        return CUT_OFF if silent > LOST else RUNNING
    return WAITING if state in (FINISHED, PARTLY) else state  # a marker that was removed: the job is to run again


def job_record(study: Path, name: str) -> dict[str, Any]:
    """What a job has noted of itself; empty where it has not begun."""
    try:
        return read_json(study / JOBS / f"{name}.json")
    except (OSError, ValueError):
        return {}


def unfinished(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence on everything that did not go as it should: failed and cut-off jobs, cases that were left out."""
    told = {FAILED: "failed", CUT_OFF: "was cut off", PARTLY: "could not take everything"}
    found = [
        "".join(
            [
                f"{row['job']} {told[row['state']]}",
                f": {row['last_line']}" if row["last_line"] else "",
                f" ({row['log']})" if row["log"] else "",
            ]
        )
        for row in rows
        if row["state"] in told
    ]
    waiting = [row["job"] for row in rows if row["state"] == WAITING and row["job"] != "report"]
    if waiting and found:
        found.append(f"{len(waiting)} jobs wait for these: {', '.join(waiting[:8])}{' …' if len(waiting) > 8 else ''}")
    return found


def commands_in_order(study: Path) -> list[str]:
    """Every command that has run, the earliest first, with time, host, attempts and state."""
    records = [job_record(study, path.stem) for path in (study / JOBS).glob("*.json")]
    ordered = sorted((record for record in records if record), key=lambda record: record["started"])
    return [
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record['started']))} {shlex.quote(record['host'])} "
        f"{record['state']}, attempt {record['attempts']}: {record['command']}"
        for record in ordered
    ]
