"""`spinesegdiff reproduce`: the paper's whole grid, on this machine or a cluster, by Snakemake."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data and the study, and where it runs."""
    add = parser.add_argument
    add("data", nargs="?", type=Path, metavar="DATA", help="SPIDER's folder, see spinesegdiff download")
    add("--phantoms", action="store_true", help="drawn spines in place of DATA, the grid in miniature")
    add("--out", required=True, type=Path, metavar="STUDY", help="folder of the study; the same command goes on there")
    add("--config", type=Path, metavar="FILE", help="a config.yaml (default: the study's, at first the paper's)")
    add("--splits", type=Path, metavar="FOLDER", help="folder of published folds, SPIDER_<modality>.json")
    add("--dry-run", action="store_true", help="what would run, and its cost")
    add("--time-it", action="store_true", help="time some steps of every training on this machine for the cost")
    group = parser.add_argument_group("Snakemake")
    group.add_argument("--executor", default="local", metavar="NAME", help="local, slurm, kubernetes (%(default)s)")
    group.add_argument("--jobs", type=int, metavar="N", help="jobs at a time; on this machine: cores")
    group.add_argument("--profile", metavar="FOLDER", help="a profile of yours in place of ours")
    group.add_argument(
        "--snakemake",
        nargs="+",
        default=[],
        metavar="FLAG",
        help="further flags of Snakemake's without their dashes, FLAG or FLAG=VALUE, e.g. slurm-no-account",
    )


def run(args: argparse.Namespace) -> int:
    """Run the study; 2 where something of it is not finished."""
    if (args.data is None) != args.phantoms:
        raise ValueError("name either SPIDER's folder or --phantoms")
    try:
        import snakemake  # noqa: F401

        from nnunetv2_diffusion.workflow.reproduce import Request, reproduce
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"{error.name} is not installed; the grid needs Python 3.11 or later and: "
            "pip install 'nnunetv2-diffusion[grid]'"
        ) from error
    return reproduce(
        Request(
            None if args.data is None else args.data.absolute(),
            args.out,
            args.config,
            args.splits,
            args.dry_run,
            args.time_it,
            args.executor,
            args.jobs,
            args.profile,
            tuple(f"--{flag}" for flag in args.snakemake),
        )
    )
