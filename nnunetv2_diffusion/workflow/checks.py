"""What would stop a study, told before it starts: Snakemake, Slurm's commands, GPUs, space."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from nnunetv2_diffusion.workflow.costs import gigabytes_to_come
from nnunetv2_diffusion.workflow.grid import Grid
from nnunetv2_diffusion.workflow.job import count_gpus

SLURM, LOCAL = "slurm", "local"


def check_machine(study: Path, grid: Grid, executor: str) -> None:
    """Demand what the executor needs.

    Raises:
        RuntimeError: a program, a plugin or a GPU is missing.
        OSError: too little space.
    """
    if executor == SLURM:
        _check_slurm(grid)
    elif importlib.util.find_spec(f"snakemake_executor_plugin_{executor}") is None and executor != LOCAL:
        raise RuntimeError(
            f"Snakemake has no executor {executor!r} here; pip install snakemake-executor-plugin-{executor}"
        )
    elif executor == LOCAL and grid.device == "cuda":
        _check_gpus(study, grid)
    needed, free = gigabytes_to_come(study, grid), shutil.disk_usage(study).free / 1e9
    if free < needed:
        raise OSError(
            f"too little space in {study}: about {needed:.0f} GB are needed and {free:.1f} GB are free; make space, or "
            "name another folder with --out"
        )


def _check_gpus(study: Path, grid: Grid) -> None:
    found, needed = count_gpus(), grid.config.get("gpus_per_training", 1)
    if found == 0:
        raise RuntimeError(
            f"this machine has no NVIDIA GPU; run on a cluster with --executor slurm, or set device: cpu in {study}/"
            "config.yaml, with which days become months"
        )
    if found < needed:
        raise RuntimeError(
            f"a training asks for {needed} GPUs and this machine has {found}; lower gpus_per_training in {study}/"
            "config.yaml"
        )


def _check_slurm(grid: Grid) -> None:
    missing = [program for program in ("sbatch", "squeue", "scancel") if shutil.which(program) is None]
    if missing:
        raise RuntimeError(
            f"the command {missing[0]} is not on the PATH: start from a login node of the Slurm cluster, or leave out "
            "--executor slurm to run on this machine"
        )
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise RuntimeError("Snakemake has no executor slurm here; pip install 'nnunetv2-diffusion[grid]'")
    if grid.device != "cuda":
        return
    partition = grid.config.get("cluster", {}).get("partition")
    words = ["sinfo", "--noheader", "--format=%G", *(["--partition", partition] if partition else [])]
    found = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if found.returncode == 0 and "gpu" not in found.stdout:
        where = f"partition {partition}" if partition else "every partition"
        raise RuntimeError(
            f"{where} of this cluster has no GPU (sinfo lists none); name one that has in config.yaml's cluster, "
            "or set device: cpu"
        )
