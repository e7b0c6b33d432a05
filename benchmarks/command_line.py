"""What the scripts' command lines have in common: options, exit codes, the command that the results name."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunetv2_diffusion.processors import available_threads

RESULTS = Path(__file__).resolve().parent / "results"


def add_machine(parser: argparse.ArgumentParser, results: str = "where the tables go (results/)") -> None:
    """--device, --threads and --results."""
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    add("--threads", type=int, default=available_threads(), metavar="N", help="of PyTorch (all cores)")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help=results)


def execute(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace, str], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Exit code of `run(args, command)`: 0, or 2 with one line on stderr.

    Args:
        parser: its `prog` is the script's file name.
        run: gets the arguments and the command, for the results.
        arguments: default: those of this process.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    args = parser.parse_args(argv)
    try:
        run(args, shlex.join(["python", f"benchmarks/{parser.prog}", *argv]))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
