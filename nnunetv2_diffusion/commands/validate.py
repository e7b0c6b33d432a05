"""`spinesegdiff validate`: masks and uncertainty maps of the folds' validation cases, for the report."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.commands._flags import (
    add_model_arguments,
    add_samples_argument,
    add_sampling_arguments,
    named_model,
    runtime_of,
    sampling_overrides,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, which folds, which sampling settings."""
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    add_samples_argument(parser)
    parser.add_argument("--npz", action="store_true", help="also write the fused probabilities, <case>.npz")
    parser.add_argument("-nps", type=int, default=1, help="processes that export; default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Predict every fold's validation cases by that fold."""
    from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
    from nnunetv2_diffusion.inference.validation import predict_validation

    folder = named_model(args)
    if "all" in args.f:
        raise ValueError("fold `all` has no validation cases of its own; name folds by number")
    runtime = runtime_of(args)
    for fold in args.f:
        predictor = DiffusionPredictor(
            sampling_overrides(args), uncertainty=True, save_samples=args.save_samples, runtime=runtime
        )
        predictor.initialize_from_trained_model_folder(folder, [fold], args.chk)
        written = predict_validation(
            predictor, folder, int(fold), save_probabilities=args.npz, export_processes=args.nps
        )
        print(f"fold {fold}: masks and uncertainty maps in {written}")
