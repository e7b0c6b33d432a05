"""`spinesegdiff segment`: any scan in, its mask and uncertainty map on its own grid out."""

from __future__ import annotations

import argparse
import sys

from nnunetv2_diffusion.commands._flags import (
    add_model_arguments,
    add_sampling_arguments,
    named_model,
    runtime_of,
    sampling_overrides,
)

FORMATS = ("nii.gz", "mha", "nrrd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A scan or folder, where to write, and which model."""
    parser.add_argument("input", metavar="SCAN", help="NIfTI, MHA, MHD, NRRD, a DICOM folder, or a folder of scans")
    parser.add_argument("output", metavar="OUT", help="folder for masks, uncertainty maps, previews and json files")
    model = parser.add_argument_group("model (either its folder, or its names in nnUNet_results)")
    model.add_argument("--model", metavar="FOLDER", help="a trained model's folder, wherever it lies")
    add_model_arguments(model, required=False)
    parser.add_argument(
        "--slices",
        default="central",
        metavar="central|all|K",
        help="which sagittal slices: the central one, all, or the K about the centre; default: %(default)s",
    )
    parser.add_argument(
        "--series",
        metavar="S",
        help="DICOM series by number (5.2: a stack of it), part of its description or UID; or all (default: the best)",
    )
    parser.add_argument("--save-probabilities", action="store_true", help="also write <name>_probabilities")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also find levels and measure them in mm, with an interval from the samples (take --samples 16): "
        "<name>_levels, <name>_measurements.csv",
    )
    parser.add_argument(
        "--structures",
        nargs="+",
        metavar="NAME=LABELS",
        help="with --measure: which of the model's labels are canal, vertebrae and discs, as in canal=1 vertebrae=2 "
        "discs=3 (default: by their names)",
    )
    parser.add_argument("--format", choices=FORMATS, help="of the images written (default: the scan's; DICOM: mha)")
    parser.add_argument(
        "--slice-batch",
        type=int,
        metavar="N",
        help="slices predicted at a time; default: 4 on a GPU, a cache's fill on a CPU",
    )
    parser.add_argument(
        "--review",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="thresholds of the review flag: uncertainty, smallest_piece_mm2, canals, side_border_mm, end_border_mm",
    )
    add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Segment; 2 where some of the scans could not be."""
    if (args.model is None) == (args.d is None):
        raise ValueError("name the model either by --model FOLDER or by -d DATASET, one of the two")
    if args.structures and not args.measure:
        raise ValueError("--structures is for --measure: add it, or leave --structures out")
    changes = dict(_threshold(text) for text in args.review)

    from nnunetv2_diffusion.scans.measuring import measuring_of
    from nnunetv2_diffusion.scans.model import load_model
    from nnunetv2_diffusion.scans.review import ReviewThresholds
    from nnunetv2_diffusion.scans.segmentation import Options, segment_files

    thresholds = ReviewThresholds().updated(changes)
    model = load_model(
        args.model or named_model(args),
        folds=args.f,
        checkpoint=args.chk,
        sampling=sampling_overrides(args),
        runtime=runtime_of(args, slice_batch=args.slice_batch),
    )
    measuring = measuring_of(model, args.structures) if args.measure else None
    options = Options(args.slices, args.save_probabilities, thresholds, progress=True, measuring=measuring)
    ending = None if args.format is None else f".{args.format}"
    failures = segment_files(args.input, args.output, model, options, series=args.series, ending=ending)
    for failure in failures:
        print(f"spinesegdiff segment: error: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--review takes NAME=VALUE with a number as value, not {text!r}") from None
