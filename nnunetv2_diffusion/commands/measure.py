"""`spinesegdiff measure`: levels and measurements in millimetres of any masks of the three structures."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Masks in, folder out."""
    parser.add_argument(
        "-i", required=True, metavar="MASKS", help="a mask, or a folder of masks: predicted or reference"
    )
    parser.add_argument(
        "-o", required=True, metavar="OUT", help="folder for measurements.csv, <case>_levels and <case>.json"
    )
    parser.add_argument(
        "--structures",
        nargs="+",
        metavar="NAME=LABELS",
        help="labels of canal, vertebrae and discs, as in canal=1 vertebrae=2 discs=3 or vertebrae=1-25,101-125 "
        "(default: by the names in a dataset.json beside the masks or above them, else the labels of `spinesegdiff "
        "convert` or SPIDER's own)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure; 2 where some of the masks could not be."""
    from nnunetv2_diffusion.anatomy.folder import measure_folder

    failures = measure_folder(args.i, args.o, args.structures)
    for failure in failures:
        print(f"spinesegdiff measure: error: {failure}", file=sys.stderr)
    return 2 if failures else 0
