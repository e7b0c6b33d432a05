"""Does SpineSegDiff sample masks as raters draw them? `spinesegdiff demo --raters 3` over seeds, with a fold ensemble.

Each seed has its own phantoms, trainings and sampling noise. Writes results/ambiguity.csv and results/ambiguity.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import add_machine, execute

STEPS, PATIENTS = 1250, 30
SMALL_STEPS, SMALL_PATIENTS = 2, 10  # five training patients at least, for nnU-Net's five folds


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="ambiguity.py",
        description="Energy distances, to a known distribution of masks, of SpineSegDiff's samples and of what the "
        "same U-Net without diffusion can give; how often each counts in what raters disagree on.",
        epilog="Run it again with the same --work to go on where it stopped.",
    )
    add = parser.add_argument
    add("--work", required=True, type=Path, metavar="DIR", help="folder for phantoms, nnU-Net's data and trainings")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="of phantoms and trainings (0 1 2)")
    add("--raters", type=int, default=3, metavar="N", help="of every training patient (%(default)s)")
    add("--patients", type=int, default=PATIENTS, metavar="N", help="the last fifth stays unseen (%(default)s)")
    add("--steps", type=int, default=STEPS, metavar="N", help="optimiser steps of every training (%(default)s)")
    add("--small", action="store_true", help="does everything run? few patients, two steps, one seed")
    add_machine(parser)
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Train, measure and write the tables."""
    from ambiguity_runs.runs import measure_seeds
    from ambiguity_runs.tables import write_ambiguity

    seeds, patients, steps = args.seeds, args.patients, args.steps
    if args.small:
        seeds, patients, steps = args.seeds[:1], SMALL_PATIENTS, SMALL_STEPS
    if steps < 1 or args.raters < 2 or min(seeds) < 0:
        raise ValueError("at least one step and two raters are needed, and seeds of 0 or more")
    cases, trained = measure_seeds(
        args.work.resolve(),
        seeds,
        patients=patients,
        raters=args.raters,
        steps=steps,
        device=args.device,
        threads=args.threads,
    )
    about = f"{patients} phantoms a seed, {args.raters} raters, {steps} optimiser steps a training; seeds {seeds}"
    print(write_ambiguity(cases, trained, args.results, device=args.device, about=about, command=command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
