"""`reproduce`: a study made, its cost told, Snakemake run, and what is there reported, to whatever end it came."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_diffusion.workflow.attempts import sole_run
from nnunetv2_diffusion.workflow.checks import LOCAL, check_machine
from nnunetv2_diffusion.workflow.costs import costs, describe_costs
from nnunetv2_diffusion.workflow.grid import DONE, REPORT, Grid
from nnunetv2_diffusion.workflow.job import count_gpus
from nnunetv2_diffusion.workflow.progress import FINISHED, PARTLY, progress, unfinished
from nnunetv2_diffusion.workflow.provenance import write_provenance
from nnunetv2_diffusion.workflow.study import RECORD, make_study
from nnunetv2_diffusion.workflow.timing import time_models, timed_datasets

HERE = Path(__file__).parent
SNAKEFILE, PROFILES = HERE / "Snakefile", HERE / "profiles"
MANY_GPUS = 40


@dataclass(frozen=True)
class Request:
    """What is to be run, and how.

    Attributes:
        data: SPIDER's folder; None for phantoms.
        out: the study's folder.
        config: a configuration in place of the default one, or None.
        splits: folder of published folds, or None.
        dry_run: only tell what would run, and its cost.
        time_it: time the trainings on this machine first.
        executor: Snakemake's: local, slurm, kubernetes, …
        jobs: how many at a time, or None for the profile's.
        profile: a Snakemake profile in place of ours, or None.
        words: further arguments for Snakemake.
    """

    data: Path | None
    out: Path
    config: Path | None = None
    splits: Path | None = None
    dry_run: bool = False
    time_it: bool = False
    executor: str = LOCAL
    jobs: int | None = None
    profile: str | None = None
    words: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether anything is run, and not only told."""
        return self.time_it or not self.dry_run


def reproduce(request: Request) -> int:
    """Run a study; 0 where everything is finished and the data are whole, else 2 with the list of what is not.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: bad data, folder or configuration.
        RuntimeError, OSError: something without which nothing can run is missing.
    """
    study = request.out.absolute()
    with contextlib.ExitStack() as held:
        if (study / RECORD).is_file() and request.runs:
            held.enter_context(sole_run(study))
            grid, lacking = _made(study, request)
        else:
            grid, lacking = _made(study, request)
            if request.runs:
                held.enter_context(sole_run(study))
        return _run(study, grid, lacking, request)


def _made(study: Path, request: Request) -> tuple[Grid, list[str]]:
    return make_study(study, request.data, config=request.config, splits=request.splits)


def _run(study: Path, grid: Grid, lacking: list[str], request: Request) -> int:
    for sentence in lacking:
        print(f"note: {sentence}", flush=True)
    if request.runs:
        check_machine(study, grid, request.executor)
    if request.time_it:
        _snakemake(study, grid, request, [f"{DONE}/plan-{dataset}" for dataset in timed_datasets(grid)])
        time_models(study, grid)
    print(describe_costs(costs(study, grid), MANY_GPUS), flush=True)
    if request.dry_run:
        _snakemake(study, grid, request, ["all"], ("--dry-run", "--quiet", "all"))
        return _list_at_the_end(lacking)
    status = _snakemake(study, grid, request, ["all"])
    return _conclude(study, grid, lacking, status)


def _snakemake(study: Path, grid: Grid, request: Request, targets: Sequence[str], flags: Sequence[str] = ()) -> int:
    """Snakemake's exit code; an earlier Snakemake that was killed has left its lock, which is not that of this run."""
    profile = request.profile or str(_profile(request.executor))
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(study)]
    words += ["--profile", profile, *_limits(grid, request)]
    words += [] if request.executor == LOCAL and request.profile is None else ["--executor", request.executor]
    if request.runs and (study / ".snakemake" / "locks").is_dir():
        subprocess.run([*words[:7], "--unlock", "all"], capture_output=True, check=False)
    # it inherits the lock of `sole_run`, and has the study to itself even if this process is killed
    words += [*request.words, *flags, "--", *targets]  # flags such as --resources take all words up to the --
    return subprocess.run(words, check=False, close_fds=False).returncode


def _profile(executor: str) -> Path:
    own = PROFILES / executor
    return own if own.is_dir() else PROFILES / "slurm"


def _limits(grid: Grid, request: Request) -> list[str]:
    jobs = [] if request.jobs is None else [f"--{'cores' if request.executor == LOCAL else 'jobs'}", str(request.jobs)]
    gpus = count_gpus() if request.executor == LOCAL and grid.device == "cuda" else 0
    return [*jobs, *(["--resources", f"gpu={gpus}"] if gpus else [])]


def _conclude(study: Path, grid: Grid, lacking: list[str], status: int) -> int:
    """Report what is there, and list what is not."""
    rows = progress(study, grid)
    write_provenance(study, grid)
    finished = all(row["state"] in (FINISHED, PARTLY) for row in rows)
    if not finished:
        _report_so_far(study, grid)
    problems = [*lacking, *unfinished(rows)]
    done = sum(row["state"] in (FINISHED, PARTLY) for row in rows)
    page = study / REPORT / "index.html"
    print(f"{done} of {len(rows)} jobs are finished{f'; {page}' if page.is_file() else ''}", flush=True)
    if not finished and not problems:
        problems = [f"Snakemake ended with exit code {status}; the same command goes on from here"]
    return _list_at_the_end(problems)


def _list_at_the_end(problems: Sequence[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr, flush=True)
    return 2 if problems else 0


def _report_so_far(study: Path, grid: Grid) -> None:
    """The report of what has been validated; where nothing has, there is none."""
    words = [sys.executable, "-m", "nnunetv2_diffusion.workflow.job", "report-so-far", "--"]
    command = [*words, "spinesegdiff", "report", *shlex.split(grid.report_words()), "-np", "1"]
    environment = {**os.environ, **grid.environment(study)}
    subprocess.run(command, cwd=study, env=environment, capture_output=True, check=False)
