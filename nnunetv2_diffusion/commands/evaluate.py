"""`spinesegdiff evaluate`: scores of one folder of masks against another."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.nnunet_names import MAPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Folders in, folder out."""
    parser.add_argument(
        "-ref",
        required=True,
        nargs="+",
        metavar="DIR",
        help="reference masks; of several raters a folder each, or one folder with <case>__<rater>",
    )
    parser.add_argument(
        "-pred",
        required=True,
        metavar="DIR",
        help="predicted masks, named as the references; samples of predict --save-samples are found below it",
    )
    parser.add_argument(
        "-uncertainty",
        metavar="DIR",
        help=f"maps <case>_uncertainty.* (default: those in the predictions' folder {MAPS}, if any)",
    )
    parser.add_argument("-o", required=True, metavar="OUT", help="folder for the csv files")
    parser.add_argument(
        "--dataset-json",
        metavar="FILE",
        help="label names (default: dataset.json beside the predictions or references)",
    )
    parser.add_argument(
        "--central-slice",
        action="store_true",
        help="predictions are volumes and the references single slices (convert --dimension 2d): score the slice of "
        "each volume that its reference shows, so that 2D and 3D models are compared on the same pixels; the slices "
        "go to OUT/central_slices",
    )
    parser.add_argument("-np", type=int, metavar="N", help="worker processes (default: the processors, at most 8)")


def run(args: argparse.Namespace) -> None:
    """Score, write the csv files and print the summary."""
    from pathlib import Path

    from nnunetv2_diffusion.scoring.central_slices import take_slices
    from nnunetv2_diffusion.scoring.folders import describe, evaluate_folders, write_evaluation

    predictions, uncertainty = args.pred, args.uncertainty
    if args.central_slice:
        predictions = Path(args.o) / "central_slices"
        take_slices(args.ref, args.pred, predictions, uncertainty, args.dataset_json)
        uncertainty = None
    evaluation = evaluate_folders(args.ref, predictions, uncertainty, args.dataset_json, args.np)
    write_evaluation(evaluation, args.o)
    print(describe(evaluation))
