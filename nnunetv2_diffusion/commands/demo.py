"""`spinesegdiff demo`: the whole pipeline on built-in phantoms, or on SPIDER."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, on what, and which models."""
    parser.add_argument("--out", type=Path, default=Path("spinesegdiff_demo"), help="default: ./spinesegdiff_demo")
    parser.add_argument("--spider", type=Path, metavar="ROOT", help="SPIDER's folder instead of phantoms")
    parser.add_argument("--compare", action="store_true", help="also train IISDM, and draw its samples' variance")
    parser.add_argument("--patients", type=int, metavar="N", help="default: 25 phantoms, or all of SPIDER")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms; default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="start anew; without it finished stages are kept")


def run(args: argparse.Namespace) -> None:
    """Run the demo and print its table."""
    from nnunetv2_diffusion.demo.pipeline import Demo, run_demo

    spider = args.spider.resolve() if args.spider else None
    demo = Demo(args.out.resolve(), spider, args.compare, args.patients, args.device, args.seed)
    print(run_demo(demo, args.overwrite))
