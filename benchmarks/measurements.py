"""Intervals of measurements by samples of SpineSegDiff against what the same U-Net can offer, on patients left out.

Trains SpineSegDiff and the control, its U-Net with its training, on K folds of phantoms and of real MRI, predicts
patients that no fold saw with every rival, and compares coverage, width and continuous ranked probability score of each
measurement: results/measurements_<cohort>.csv and .md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import add_machine, execute
from nnunetv2_diffusion.processors import available_threads

HERE = Path(__file__).resolve().parent
COHORTS = ("phantoms", "spider_layout")
SMALL = {"patients": [4, 2], "folds": 2, "steps": 1, "size": 64, "samples": 2, "cohorts": ["phantoms"]}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="measurements.py",
        description="Compare intervals of measurements: samples of SpineSegDiff, and folds, mirrorings and pixels of "
        "the control, the same U-Net with SpineSegDiff's training.",
        epilog="Hours on a CPU. Run it again with the same --work to go on where it stopped.",
    )
    add = parser.add_argument
    add("--work", required=True, type=Path, metavar="DIR", help="folder for scans, trainings, masks and logs")
    add("--cohorts", nargs="+", choices=COHORTS, default=list(COHORTS), help="default: all")
    add("--patients", nargs=2, type=int, default=[120, 200], metavar=("TRAIN", "TEST"), help="phantoms (120 200)")
    add("--folds", type=int, default=5, metavar="K", help="patient-wise folds (%(default)s)")
    add("--steps", type=int, default=2000, metavar="N", help="optimiser steps of every training (%(default)s)")
    add("--size", type=int, default=160, metavar="PIXELS", help="sides of the slices, over 320 mm (%(default)s)")
    add("--samples", type=int, default=16, metavar="S", help="masks of each image (%(default)s)")
    add("--seed", type=int, default=0, help="of the trainings and draws (%(default)s)")
    add(
        "--variant",
        nargs=2,
        metavar=("NAME", "JSON"),
        help="SpineSegDiff is trained with these settings in place of the plan's",
    )
    add("--only-folds", nargs="+", type=int, metavar="F", help="with --only-train: train these alone (all)")
    add("--only-train", action="store_true", help="predict and measure nothing")
    add("--small", action="store_true", help="minutes: that everything runs; its figures mean nothing")
    add(
        "--mri",
        type=Path,
        default=HERE.parent.parent / "shared" / "mri",
        metavar="DIR",
        help="folder that holds spider_layout (../shared/mri, seen from the project)",
    )
    add_machine(parser)
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Train, predict, compare and write the tables of each cohort."""
    # Read by nnU-Net when it is imported, here and in its commands: pools of one process.
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    if args.small:
        vars(args).update(SMALL)
    for name in ("folds", "steps", "size", "samples"):
        if getattr(args, name) < (2 if name in ("folds", "samples") else 1):
            raise ValueError(f"--{name} must be at least {2 if name in ('folds', 'samples') else 1}")
    if args.only_folds and not args.only_train:
        raise ValueError("--only-folds is for --only-train: masks are made by all folds")
    for name in args.cohorts:
        _compare(args, name, command)


def _compare(args: argparse.Namespace, name: str, command: str) -> None:
    from comparison.training import folds_of, plan, train_all
    from comparison.workspace import Workspace
    from intervals.cohorts import make_cohort
    from intervals.report import write_report
    from intervals.rivals import RIVALS, Tested
    from intervals.scores import collect

    base = "2d_small" if args.device == "cpu" else "2d_spinesegdiff"
    models = _models(args, base)
    threads = args.threads or available_threads()
    workspace = Workspace(args.work.resolve() / name, args.device, args.steps, threads, args.seed)
    workspace.check_setup({setting: getattr(args, setting) for setting in ("size", "folds", "patients", "device")})
    workspace.enter()
    root = workspace.root / "scans"
    sizes = {"size": args.size, "folds": args.folds, "patients": tuple(args.patients)}
    cohort = make_cohort(name, root, workspace.raw, args.mri, **sizes)
    plan(workspace, cohort.data, base, models)
    train_all(workspace, cohort.data, models, folds_of(workspace, cohort.data, args.only_folds))
    if args.only_train:
        return
    diffusion = models[-1]
    masks = f"masks_{args.samples}_{args.steps}steps_{diffusion.configuration}_seed_{args.seed}"
    output = workspace.root / masks
    tested = Tested(cohort.tested / "imagesTr", output, cohort.cases, args.device, args.samples, args.seed)
    folders = [workspace.model_folder(cohort.data, model) for model in models]
    seconds = _predict(workspace, tested, folders, range(args.folds))
    rows, failures = collect(cohort, RIVALS, output, lambda line: print(line, flush=True))
    about = {name: getattr(args, name) for name in ("steps", "folds", "samples", "device", "variant")}
    about |= {"failures": failures, "seconds": seconds}
    print(write_report(args.results, cohort, rows, about, command))


def _models(args: argparse.Namespace, base: str) -> list:
    """The control, and SpineSegDiff with its own settings or the variant's."""
    from comparison.models import CONTROL, SPINESEGDIFF, chosen_models, variants

    if not args.variant:
        return chosen_models([CONTROL, SPINESEGDIFF], [], base, args.steps, 1)
    control = chosen_models([CONTROL], [], base, args.steps, 1)
    return control + variants([(SPINESEGDIFF, *args.variant)], base, args.steps)


def _predict(workspace, tested, folders: Sequence[Path], folds: Sequence[int]) -> dict[str, float]:
    """Both models' masks as steps that resume; seconds a slice of each rival, kept beside the masks."""
    from intervals.rivals import OF_CONTROL, OF_DIFFUSION, predict_control, predict_diffusion
    from nnunetv2_diffusion.files import read_json, write_json
    from nnunetv2_diffusion.pipeline.steps import Step

    file = tested.output / "seconds.json"
    seconds = read_json(file) if file.is_file() else {}

    def step(name: str, folder: Path, predict, rivals: Sequence[str]) -> Step:
        def work() -> None:
            log = workspace.log(tested.output.name, name)
            with log.open("w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
                predict(tested, folder, folds, seconds)
            write_json(seconds, file)

        title = f"masks of {len(tested.cases)} images: {', '.join(rivals)}"
        return Step(f"{tested.output.name}_{name}", title, work=work, finished=lambda: not tested.missing(rivals))

    control, diffusion = folders
    steps = [step("control", control, predict_control, OF_CONTROL)]
    steps.append(step("diffusion", diffusion, predict_diffusion, OF_DIFFUSION))
    workspace.runner().run(steps)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
