"""`spinesegdiff segment`: any scan in, its mask and uncertainty map on its own grid out."""

from __future__ import annotations

import argparse
import sys

from nnunetv2_diffusion.commands.predict import TRAINER_HELP, add_sampling_arguments, sampling_overrides, trainer_of

FORMATS = ("nii.gz", "mha", "nrrd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A scan or folder, where to write, and which model."""
    parser.add_argument("input", metavar="SCAN", help="NIfTI, MHA, MHD, NRRD, a DICOM folder, or a folder of scans")
    parser.add_argument("output", metavar="OUT", help="folder for masks, uncertainty maps, previews and json files")
    _add_model_arguments(parser)
    parser.add_argument(
        "--slices",
        default="central",
        metavar="central|all|K",
        help="which sagittal slices: the central one, all, or the K about the centre; default: %(default)s",
    )
    parser.add_argument(
        "--series",
        metavar="S",
        help="DICOM series by number, part of its description or UID; or all (default: the best)",
    )
    parser.add_argument("--save-probabilities", action="store_true", help="also write <name>_probabilities")
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


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model (either its folder, or its names in nnUNet_results)")
    group.add_argument("--model", metavar="FOLDER", help="a trained model's folder, wherever it lies")
    group.add_argument("-d", metavar="DATASET", help="dataset number or name")
    group.add_argument("-c", default="2d", metavar="CONFIGURATION", help="default: %(default)s")
    group.add_argument("-tr", metavar="TRAINER", help=TRAINER_HELP)
    group.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans identifier; default: %(default)s")
    group.add_argument("-f", nargs="+", metavar="FOLD", help="folds to average, or all (default: all that are there)")
    group.add_argument("-chk", default="checkpoint_final.pth", metavar="FILE", help="default: %(default)s")
    group.add_argument("-device", choices=["cpu", "cuda", "mps"], help="default: cuda where there is one, else cpu")
    group.add_argument("--trust", action="store_true", help="open checkpoints that could run code")


def run(args: argparse.Namespace) -> int:
    """Segment; 2 where some of the scans could not be."""
    if (args.model is None) == (args.d is None):
        raise ValueError("name the model either by --model FOLDER or by -d DATASET, one of the two")
    changes = dict(_threshold(text) for text in args.review)

    from nnunetv2_diffusion.inference.prediction import model_folder
    from nnunetv2_diffusion.scans.model import load_model
    from nnunetv2_diffusion.scans.review import ReviewThresholds
    from nnunetv2_diffusion.scans.segmentation import Options, segment_files

    options = Options(args.slices, args.save_probabilities, ReviewThresholds().updated(changes), progress=True)
    model = load_model(
        args.model or model_folder(args.d, trainer_of(args), args.p, args.c),
        args.f,
        args.chk,
        sampling_overrides(args),
        args.device,
        args.slice_batch,
        args.batch_size,
        args.trust,
        args.precision,
    )
    ending = None if args.format is None else f".{args.format}"
    failures = segment_files(args.input, args.output, model, options, args.series, ending)
    for failure in failures:
        print(f"spinesegdiff segment: error: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--review takes NAME=VALUE with a number as value, not {text!r}") from None
