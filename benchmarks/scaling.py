"""How time grows: the slices of a volume against as many single slices, and the converter with the number of cores.

Writes results/scaling.csv and results/scaling.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import add_machine, execute

HERE = Path(__file__).resolve().parent


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="scaling.py",
        description="Time the slices of a volume against single slices, and the converter with 1, 2 … cores.",
        epilog="Keep the machine free of other work. --slices, --scans or --commands 0 leaves their rows out.",
    )
    add = parser.add_argument
    add("--size", type=int, default=320, metavar="PIXELS", help="sides of a slice (%(default)s)")
    add("--slices", nargs="+", type=int, default=[1, 5, 20, 40], metavar="N", help="of a volume (%(default)s)")
    add("--samples", nargs="+", type=int, default=[1, 0], metavar="S", help="0: the model's own (%(default)s)")
    add("--scans", nargs="+", type=int, default=[20], metavar="N", help="slices for `segment` (%(default)s)")
    add("--commands", nargs="+", type=int, default=[20], metavar="N", help="for `spinesegdiff segment` (%(default)s)")
    add("--processes", nargs="+", type=int, default=[1, 2], metavar="N", help="of the converter (%(default)s)")
    add("--copies", type=int, default=20, metavar="N", help="of the scans, as other patients' (%(default)s)")
    add("--repeats", type=int, default=3, metavar="N", help="turns (%(default)s)")
    add(
        "--spider",
        type=Path,
        default=HERE.parent.parent / "shared" / "mri" / "spider_layout",
        metavar="DIR",
        help="scans to convert, in SPIDER's layout (../shared/mri/spider_layout, seen from the project)",
    )
    add_machine(parser)
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure and write the tables."""
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    import torch

    from speed.growth import command_rows, converter_rows, network_rows, scan_rows
    from speed.planned import SyntheticProject
    from speed.tables import write_scaling

    torch.set_num_threads(args.threads)
    slices, scans, commands = ([n for n in counts if n] for counts in (args.slices, args.scans, args.commands))
    with tempfile.TemporaryDirectory() as scratch:
        # first: a bad --spider should not come up after half an hour
        converted = list(converter_rows(args.spider, args.copies, args.processes, args.repeats, Path(scratch)))
        project = SyntheticProject(Path(scratch))
        project.enter()
        project.plan(args.size)
        model = project.untrained("model")
        device = torch.device(args.device)
        rows = [
            *network_rows(model, slices, args.samples, args.size, device, args.repeats),
            *scan_rows(model, scans, args.size, args.device, args.repeats),
            *command_rows(model, commands, args.size, args.device, args.repeats, Path(scratch)),
        ]
    print(write_scaling(rows, converted, args.results, args.device, args.size, command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
