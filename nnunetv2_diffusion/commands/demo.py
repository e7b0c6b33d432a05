"""`spinesegdiff demo`: the whole pipeline on built-in phantoms, or on SPIDER."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, on what, how much of it."""
    parser.add_argument(
        "--out", default="spinesegdiff_demo", metavar="DIR", help="everything is written here; default: ./%(default)s"
    )
    parser.add_argument("--spider", metavar="ROOT", help="SPIDER's folder; default: phantoms in SPIDER's layout")
    parser.add_argument("--compare", action="store_true", help="also train IISDM, and draw single samples")
    parser.add_argument(
        "--raters",
        type=int,
        metavar="N",
        help="phantoms whose N raters differ in known ways: do the samples of a model have the raters' distribution?",
    )
    parser.add_argument(
        "--patients",
        type=int,
        metavar="N",
        help="how many; the last fifth stays unseen; default: 30 phantoms, or all of SPIDER",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one, else cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms; default: %(default)s")
    parser.add_argument("--overwrite", action="store_true", help="begin anew; default: keep finished steps")


def run(args: argparse.Namespace) -> None:
    """Run the demo."""
    from nnunetv2_diffusion.demo.run import run_demo

    if args.raters is not None:
        from nnunetv2_diffusion.demo.rater_run import run_rater_demo

        _refuse_beside_raters(args)
        options = {"patients": args.patients, "seed": args.seed, "device": args.device, "overwrite": args.overwrite}
        run_rater_demo(args.out, raters=args.raters, **options)
        return
    run_demo(
        args.out,
        data=args.spider,
        patients=args.patients,
        seed=args.seed,
        device=args.device,
        compare=args.compare,
        overwrite=args.overwrite,
    )


def _refuse_beside_raters(args: argparse.Namespace) -> None:
    for flag, given in (("--spider", args.spider), ("--compare", args.compare)):
        if given:
            raise ValueError(f"--raters draws phantoms and compares on its own; leave {flag} out")
