"""nnU-Net, IISDM, SpineSegDiff and SpineSegDiff after pre-segmentation on real MRI, at equal optimiser steps.

Trains each on every fold with nnU-Net's own commands and augmentation, scores and times the held-out cases, asks
whether the denoisers use x_t, and writes what it measured: results/compare_models_<dataset>.csv and .md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import RESULTS, execute
from nnunetv2_diffusion.processors import available_threads

HERE = Path(__file__).resolve().parent
DATASETS = ("spider_layout", "spider_volumes", "discs_and_vertebrae_2d")
MODELS = ("nnunet", "control", "onestep", "iisdm", "paper", "spinesegdiff", "preseg")
CPU_STEPS, CPU_SIZE, CUDA_SIZE = 500, 128, 320
CPU_IISDM_STEPS, IISDM_STEPS = 100, 1000


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="compare_models.py",
        description="Train and compare nnU-Net, IISDM, SpineSegDiff and SpineSegDiff after pre-segmentation on real "
        "MRI, k-fold, at equal optimiser steps and with nnU-Net's own augmentation.",
        epilog="Run it again with the same --work to go on where it stopped: finished trainings are kept, predictions "
        "are made and timed anew. Keep the machine free of other work: it is timed.",
    )
    add = parser.add_argument
    add(
        "--work",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for nnU-Net's data, trainings, logs and a picture",
    )
    add("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), metavar="NAME", help=_choices(DATASETS))
    add("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME", help=_choices(MODELS))
    add("--timesteps", nargs="+", type=int, default=[30, 1000], metavar="T", help="of pre-segmentation (30 1000)")
    add(
        "--steps",
        type=int,
        metavar="N",
        help=f"optimiser steps of every training (cpu: {CPU_STEPS}; cuda: each trainer's own, full length)",
    )
    add("--folds", type=int, default=3, metavar="K", help="patient-wise folds (%(default)s)")
    add(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help=f"cpu: {CPU_SIZE} pixels, configuration 2d_small; cuda: {CUDA_SIZE} pixels, configuration 2d_spinesegdiff "
        "(nnU-Net: 2d) (%(default)s)",
    )
    add(
        "--iisdm-sampling-steps",
        type=int,
        metavar="N",
        help=f"DDPM steps of IISDM at prediction (cpu: {CPU_IISDM_STEPS}; cuda: {IISDM_STEPS}, as it was published)",
    )
    add("--size", type=int, metavar="PIXELS", help=f"sides of the slices (cpu: {CPU_SIZE}; cuda: {CUDA_SIZE})")
    add("--probe-slices", type=int, default=3, metavar="N", help="held-out slices a fold for the probe (%(default)s)")
    add("--threads", type=int, default=available_threads(), metavar="N", help="of PyTorch (all cores)")
    _add_comparison(parser)
    add(
        "--mri",
        type=Path,
        default=HERE.parent.parent / "shared" / "mri",
        metavar="DIR",
        help="folder that holds the datasets' folders (../shared/mri, seen from the project)",
    )
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the tables go (results/)")
    return parser


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    """Which trainings and predictions are compared, beside the models' own."""
    add = parser.add_argument
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="of the trainings; each model once a seed (0)")
    add(
        "--variant",
        nargs=3,
        action="append",
        default=[],
        metavar=("KIND", "NAME", "JSON"),
        help="also a control, onestep or spinesegdiff that is trained with these settings in place of the plan's",
    )
    add(
        "--sampling",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "JSON"),
        help="also predict with these sampling settings in place of the model's, with spinesegdiff and its variants",
    )
    add("--only-folds", nargs="+", type=int, metavar="F", help="train and measure these alone (all)")
    add("--only-train", action="store_true", help="measure nothing")


def _choices(names: Sequence[str]) -> str:
    return f"some of {', '.join(names)} (all)"


def run(args: argparse.Namespace, command: str) -> None:
    """Train, measure and write the tables of each dataset."""
    # Read by nnU-Net when it is imported, here and in its commands: pools of one process.
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    from comparison.models import as_settings, chosen_models, variants
    from comparison.workspace import Workspace

    _check(args)
    on_cpu = args.device == "cpu"
    steps = args.steps if args.steps or not on_cpu else CPU_STEPS
    size = args.size or (CPU_SIZE if on_cpu else CUDA_SIZE)
    base = "2d_small" if on_cpu else "2d_spinesegdiff"
    sampling = args.iisdm_sampling_steps or (CPU_IISDM_STEPS if on_cpu else IISDM_STEPS)
    models = chosen_models(args.models, args.timesteps, base, steps, sampling)
    models += variants(args.variant, base, steps)
    workspaces = [Workspace(args.work.resolve(), args.device, steps, args.threads, seed) for seed in args.seeds]
    workspaces[0].check_setup({"size": size, "folds": args.folds, "device": args.device})
    workspaces[0].enter()
    sampled = {name: as_settings(settings, f"--sampling {name}") for name, settings in args.sampling}
    for name in args.datasets:
        _compare(args, workspaces, name, models, sampled, base, size, command)


def _check(args: argparse.Namespace) -> None:
    for name in ("steps", "iisdm_sampling_steps", "size", "probe_slices", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def _compare(
    args: argparse.Namespace,
    workspaces: list,
    name: str,
    models: list,
    sampled: dict,
    base: str,
    size: int,
    command: str,
) -> None:
    from comparison.data_sets import write_raw
    from comparison.measuring import measure
    from comparison.pictures import draw
    from comparison.tables import write_tables
    from comparison.training import folds_of, plan, train_all

    data = write_raw(name, args.mri, workspaces[0].raw, size, args.folds)
    plan(workspaces[0], data, base, models)
    folds = folds_of(workspaces[0], data, args.only_folds)
    results = []
    for workspace in workspaces:
        workspace.enter()
        train_all(workspace, data, models, folds)
        for model in () if args.only_train else models:
            _say(f"{name}, seed {workspace.seed}: predicting and probing with {model.name}")
            results += measure(workspace, data, model, folds, sampled, args.probe_slices)
    if args.only_train:
        return
    stem = f"compare_models_{name}"
    # The images are other people's data: their picture stays out of the results, which are published.
    draw(results, workspace.raw / data.name, workspace.root / f"{stem}.png")
    _say(f"{name}: image, reference and masks of some cases in {workspace.root / stem}.png")
    print(write_tables(results, args.results, stem, args.device, command, data.notes))


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
