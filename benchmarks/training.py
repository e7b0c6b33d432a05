"""Seconds an iteration, where they go, and peak memory: SpineSegDiff's training against nnU-Net's own.

On the same plan, batch size and data: synthetic slices that nnU-Net plans itself, or a preprocessed dataset of yours.
Writes results/training_<device>.csv and results/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_line import add_machine, execute
from nnunetv2_diffusion.nnunet_names import PREPROCESSED, SPINESEGDIFF, TRAINER

BASELINE, OURS = TRAINER, SPINESEGDIFF
PAPER_BATCH = 4


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="training.py",
        description=f"Time training iterations of {BASELINE} and {OURS}, in turns.",
        epilog="Keep the machine free of other work.",
    )
    add = parser.add_argument
    add("--iterations", type=int, default=10, metavar="N", help="turns, after one that is not counted (%(default)s)")
    add("--batch-size", type=int, default=PAPER_BATCH, metavar="B", help="of both; 0: as planned (%(default)s)")
    add("--trainer", default=OURS, help=f"compared with {BASELINE} (%(default)s)")
    add("--size", type=int, default=320, metavar="PIXELS", help="sides of the synthetic slices (%(default)s)")
    add("--small", action="store_true", help="64 pixels, batch 2, two turns: does everything run?")
    add(
        "--preprocessed",
        type=Path,
        metavar="FOLDER",
        help="a dataset's folder in nnUNet_preprocessed, in place of them",
    )
    add("--configuration", default="2d", metavar="NAME", help="of its plans nnUNetPlans.json (%(default)s)")
    add("--no-memory", action="store_true", help="no peak memory, which takes fresh processes")
    add_machine(parser)
    add("--memory-of", type=json.loads, help=argparse.SUPPRESS)
    return parser


def compare(task: dict[str, Any], trainers: tuple[str, str], iterations: int, memory: bool = True) -> list[dict]:
    """A row a trainer: median seconds an iteration and of its parts, peak memory, and ratios to the first trainer's.

    Args:
        task: preprocessed, configuration, batch_size (None as planned), device and threads.
        trainers: nnU-Net's and the one compared with it.
        iterations: turns, after one that is not counted.
        memory: measure it, in fresh processes.
    """
    import torch

    from speed.iterations import TimedIterations, start_trainer
    from speed.measuring import in_a_fresh_process, median_ratio

    arguments = (Path(task["preprocessed"]), task["configuration"], task["batch_size"], torch.device(task["device"]))
    timed = [TimedIterations(start_trainer(name, *arguments)) for name in trainers]
    for _ in range(iterations + 1):
        for iteration in timed:
            iteration()
    rows = []
    for name, iteration in zip(trainers, timed, strict=True):
        counted = iteration.times[1:]
        parts = {part: statistics.median(times[part] for times in counted) for part in counted[0]}
        seconds, reference = ([times["seconds"] for times in each.times[1:]] for each in (iteration, timed[0]))
        rows.append({"trainer": name, **parts, "times_nnunet": median_ratio(seconds, reference), "turns": iterations})
    if memory:
        for row in rows:
            row |= in_a_fresh_process(__file__, {**task, "trainer": row["trainer"]})
            row["memory_times_nnunet"] = row["peak_memory_mib"] / rows[0]["peak_memory_mib"]
    return rows


def run(args: argparse.Namespace, command: str) -> None:
    """Compare, and write the tables."""
    if args.memory_of is not None:
        from speed.iterations import memory_of

        print(json.dumps(memory_of(args.memory_of)))
        return
    if args.small:
        args.size, args.batch_size, args.iterations = 64, 2, 2
    import torch

    from speed.planned import SyntheticProject
    from speed.tables import write_training

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        project = SyntheticProject(Path(scratch))
        project.enter()
        if args.preprocessed is None:
            project.plan(args.size)
            preprocessed, about = project.preprocessed, f"synthetic slices of {args.size} x {args.size} pixels"
        else:
            preprocessed, about = args.preprocessed.resolve(), args.preprocessed.name
            os.environ[PREPROCESSED] = str(preprocessed.parent)
        task = {
            "preprocessed": str(preprocessed),
            "configuration": args.configuration,
            "batch_size": args.batch_size or None,
            "device": args.device,
            "threads": args.threads,
        }
        rows = compare(task, (BASELINE, args.trainer), args.iterations, not args.no_memory)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    about += f", configuration {args.configuration}, batch {args.batch_size or 'as planned'}"
    write_training(rows, args.results, device=args.device, about=about, command=command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
