"""`spinesegdiff calibrate`: intervals of measurements that cover, from the folds' validation cases."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.commands._flags import (
    add_model_arguments,
    add_sampling_arguments,
    named_model,
    runtime_of,
    sampling_overrides,
)
from nnunetv2_diffusion.nnunet_names import CALIBRATION_FILE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, which folds, which samples."""
    add_model_arguments(parser)
    parser.add_argument(
        "--structures",
        nargs="+",
        metavar="NAME=LABELS",
        help="which of the model's labels are canal, vertebrae and discs, as in canal=1 vertebrae=2 discs=3 (default: "
        "by their names)",
    )
    parser.add_argument(
        "-np", type=int, metavar="N", help="processes that measure (default: the processors, at most 8)"
    )
    add_sampling_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Calibrate; validation cases without samples are predicted first."""
    if "all" in args.f:
        raise ValueError("fold `all` has no validation cases of its own; name folds by number")

    from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
    from nnunetv2_diffusion.inference.validation import predict_validation
    from nnunetv2_diffusion.scans.calibrating import Request, calibrate, described

    folder, overrides = named_model(args), sampling_overrides(args)

    def predict(fold: int) -> None:
        predictor = DiffusionPredictor(overrides, uncertainty=True, save_samples=True, runtime=runtime_of(args))
        predictor.initialize_from_trained_model_folder(folder, [str(fold)], args.chk)
        predict_validation(predictor, folder, fold)

    anew = bool(overrides.keys() - {"samples"})
    request = Request(folder, [int(fold) for fold in args.f], args.structures, args.samples, anew)
    calibration = calibrate(request, predict, args.np)
    print("\n".join([*described(calibration), f"kept in {folder / CALIBRATION_FILE}"]))
