"""`spinesegdiff segment`: any scan in, its mask and uncertainty map on its own grid out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_diffusion.commands._flags import (
    add_model_arguments,
    add_sampling_arguments,
    folder_of_model,
    model_of_name,
    runtime_of,
    sampling_overrides,
)

if TYPE_CHECKING:
    from nnunetv2_diffusion.scans.formats.images import ImageFiles
    from nnunetv2_diffusion.scans.model import SegmentationModel
    from nnunetv2_diffusion.scans.segmentation import Options

CONTRASTS = ("T1=", "T2=")
SLICER, DICOM = "seg.nrrd", "dicom-seg"
FORMATS = ("nii.gz", "mha", "nrrd", SLICER, DICOM)
# What a result depends on beside the model, its folds and the sampling.
_ASKED = ("slices", "save_probabilities", "disagreement", "measure", "structures", "review", "precision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A scan or folder, where to write, and which model."""
    parser.add_argument(
        "input", metavar="SCAN", help="NIfTI, MHA, MHD, NRRD, a DICOM folder, DICOMDIR or zip, or a folder of scans"
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        nargs="?",
        help="folder for masks, uncertainty maps, previews and json files; with --bids: SCAN/derivatives/spinesegdiff",
    )
    model = parser.add_argument_group("model (its folder, its installed name, or its names in nnUNet_results)")
    model.add_argument(
        "--model",
        nargs="+",
        metavar="FOLDER|NAME",
        help="a trained model's folder, wherever it lies, or an installed model's name; or T1=A T2=B: each takes the "
        "scans of its contrast, by DICOM headers or names as in BIDS",
    )
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
    _add_results(parser)
    _add_many_scans(parser)
    add_sampling_arguments(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    """What is written of a scan."""
    parser.add_argument("--save-probabilities", action="store_true", help="also write <name>_probabilities")
    parser.add_argument(
        "--disagreement",
        action="store_true",
        help="also write <name>_variance and <name>_mutual_information, of samples or of a plain nnU-Net's folds",
    )
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
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the images written (default: the scan's; DICOM: mha); seg.nrrd: a segmentation for 3D Slicer, of "
        "structures, or of levels with --measure; dicom-seg: a DICOM segmentation and parametric map, of DICOM series",
    )
    parser.add_argument(
        "--bids",
        action="store_true",
        help="SCAN is a BIDS data set: its T1w and T2w images are segmented, and OUT becomes a derivative data set",
    )
    parser.add_argument(
        "--review",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="thresholds of the review flag: uncertainty, smallest_piece_mm2, canals, side_border_mm, end_border_mm",
    )


def _add_many_scans(parser: argparse.ArgumentParser) -> None:
    """How a folder of scans is gone through."""
    parser.add_argument("--overwrite", action="store_true", help="segment also the scans whose results are there")
    parser.add_argument(
        "--exclude",
        metavar="CSV",
        help="verdicts that the page of results exported: scans that were rejected are left out",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help="go on with what arrives in the folder of scans, until Ctrl-C; a scan is taken when it stops changing",
    )
    parser.add_argument(
        "-np",
        type=int,
        default=1,
        metavar="N",
        help="scans read ahead and results written behind the model; 0: all one by one; default: %(default)s",
    )
    parser.add_argument(
        "--slice-batch",
        type=int,
        metavar="N",
        help="slices predicted at a time; default: 4 on a GPU, a cache's fill on a CPU",
    )


def run(args: argparse.Namespace) -> int:
    """Segment; 2 where some of the scans could not be."""
    models = _models(args)
    if args.watch and len(models) > 1:
        raise ValueError("--watch takes one model: start one for each contrast, each with a folder of its own")
    if args.structures and not args.measure:
        raise ValueError("--structures is for --measure: add it, or leave --structures out")
    changes = dict(_threshold(text) for text in args.review)
    output, form = _output(args)

    from nnunetv2_diffusion.scans.page.verdicts import rejected_scans

    excluded = rejected_scans(args.exclude) if args.exclude else ()
    if args.watch:
        _watch(args, *models.values(), changes, output, series=args.series, form=form, excluded=excluded)
        return 0
    failures = []
    for contrast, folder in models.items():
        share = (contrast, tuple(models)) if contrast else None
        failures += _segment(args, folder, changes, share, output, series=args.series, form=form, excluded=excluded)
    for failure in failures:
        print(f"spinesegdiff segment: error: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _output(args: argparse.Namespace) -> tuple[Path, ImageFiles]:
    """Where and how results are written."""
    if not args.bids:
        if args.output is None:
            raise ValueError("name a folder for the results, OUT, after the scan")
        return Path(args.output), _form(args.format)
    if args.format or args.series or args.watch:
        raise ValueError("--bids takes no --format, --series or --watch: a BIDS data set is NIfTI, whole, and in place")
    from nnunetv2_diffusion.scans.formats.bids_files import DERIVATIVES, BidsFiles

    root = Path(args.input)
    return Path(args.output or root / DERIVATIVES), BidsFiles(root=root)


def _form(name: str | None) -> ImageFiles:
    """What is written, by the name that --format has for it."""
    if name == SLICER:
        from nnunetv2_diffusion.scans.formats.slicer import SlicerFiles

        return SlicerFiles()
    if name == DICOM:
        from nnunetv2_diffusion.scans.formats.dicom_files import DicomFiles

        return DicomFiles()
    from nnunetv2_diffusion.scans.formats.images import ImageFiles

    return ImageFiles(name and f".{name}")


def _segment(
    args: argparse.Namespace,
    folder: Path,
    changes: dict[str, float],
    contrast: tuple[str, tuple[str, ...]] | None,
    output: Path,
    **how,
) -> list[str]:
    """The scans that are a model's; a sentence for each failure. PyTorch is loaded where there is something to do."""
    from nnunetv2_diffusion.scans.resuming import Asked, all_finished
    from nnunetv2_diffusion.scans.sharing import Share

    how = {**how, "share": Share(*contrast) if contrast else None}
    words = {name: getattr(args, name) for name in _ASKED}
    asked = Asked(folder, args.f and tuple(args.f), args.chk, {**words, "sampling": sampling_overrides(args)})
    said = None if args.overwrite else all_finished(Path(args.input), output, asked, **how)
    if said is not None:
        for line in said:
            print(line, flush=True)
        return []

    from nnunetv2_diffusion.scans.segmentation import segment_files

    loaded = _loaded(args, folder, changes)
    return segment_files(args.input, output, *loaded, overwrite=args.overwrite, workers=args.np, asked=asked, **how)


def _watch(args: argparse.Namespace, folder: Path, changes: dict[str, float], output: Path, **how) -> None:
    from nnunetv2_diffusion.scans.watching import stopped_by_signals, watch_folder

    with stopped_by_signals() as stop:
        watch_folder(args.input, output, *_loaded(args, folder, changes), stop, workers=args.np, **how)


def _models(args: argparse.Namespace) -> dict[str, Path]:
    """The models' folders by their contrast, which is empty where a single model takes all scans."""
    named = [text.partition("=") for text in args.model or () if text.startswith(CONTRASTS)]
    if not named:
        if args.model and len(args.model) > 1:
            raise ValueError("--model takes one model, or several as T1=A T2=B")
        return {"": folder_of_model(args.model and args.model[0], args)}
    models = {contrast: model_of_name(name) for contrast, _, name in named}
    if args.d is not None or len(models) < len(args.model):
        raise ValueError("--model takes one model for each contrast, as T1=A T2=B, and then no -d DATASET")
    return models


def _loaded(args: argparse.Namespace, folder: Path, changes: dict[str, float]) -> tuple[SegmentationModel, Options]:
    """A model, and how to segment with it; `changes` are those of the thresholds."""
    from nnunetv2_diffusion.scans.model import load_model
    from nnunetv2_diffusion.scans.review import ReviewThresholds
    from nnunetv2_diffusion.scans.segmentation import Options

    thresholds = ReviewThresholds().updated(changes)
    model = load_model(
        folder,
        folds=args.f,
        checkpoint=args.chk,
        sampling=sampling_overrides(args),
        runtime=runtime_of(args, slice_batch=args.slice_batch),
        disagreement=args.disagreement,
    )
    measuring = None
    if args.measure:
        from nnunetv2_diffusion.scans.measuring import measuring_of

        measuring = measuring_of(model, args.structures)
    return model, Options(args.slices, args.save_probabilities, thresholds, progress=True, measuring=measuring)


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"--review takes NAME=VALUE with a number as value, not {text!r}") from None
