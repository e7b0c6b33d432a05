"""Dice, calibration and seconds a slice over the sampling settings: the curve behind the defaults of S, steps and T_s.

Predicts the validation cases of a trained model, by the fold that did not see them, with one setting after another.
Writes results/sampling_<name>.csv, .md, .png and .pdf.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import add_machine, execute


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="sampling.py",
        description="Sweep sampling steps, samples and fused steps of a trained SpineSegDiff model.",
        epilog="nnUNet_preprocessed must hold the data that it was trained on. Keep the machine free of other work.",
    )
    add = parser.add_argument
    add("--model", required=True, type=Path, metavar="FOLDER", help="trained, with numbered folds")
    add("--name", required=True, help="of the results: sampling_NAME.csv")
    add("--folds", nargs="+", type=int, metavar="F", help="default: all that are trained")
    add("--steps", nargs="+", type=int, default=[1, 2, 3, 5, 10, 20, 50], metavar="N", help="(%(default)s)")
    add("--samples", nargs="+", type=int, default=[1, 2, 4, 8, 15], metavar="S", help="(%(default)s)")
    add("--ensemble-steps", nargs="*", type=int, default=[1, 3, 5, 10], metavar="T_S", help="(%(default)s)")
    add("--start-timesteps", nargs="*", type=int, default=[], metavar="T", help="a stage's: also start there (none)")
    add("--early-stops", nargs="*", type=float, default=[0.001, 0.01], metavar="SHARE", help="(%(default)s)")
    add_machine(parser, results="where the files go (results/)")
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure every row and write the table and the figure."""
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    import torch

    from comparison.sweep import ValidationCases, settings_of, sweep_rows
    from comparison.sweep_results import draw_sweep, write_sweep

    torch.set_num_threads(args.threads)
    cases = ValidationCases(args.model.resolve(), args.folds, torch.device(args.device))
    rows = sweep_rows(
        cases.default,
        cases.process,
        steps=args.steps,
        samples=args.samples,
        ensemble_steps=args.ensemble_steps,
        start_timesteps=args.start_timesteps,
        early_stops=args.early_stops,
    )
    table = cases.measure(rows)
    stem = f"sampling_{args.name}"
    print(write_sweep(table, args.results, stem, args.device, command, settings_of(cases.default)))
    draw_sweep(table, args.results / stem)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
