"""`spinesegdiff validate`: masks and uncertainty maps of the folds' validation cases, for the report."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.commands.predict import (
    add_model_arguments,
    add_sampling_arguments,
    sampling_overrides,
    trainer_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, which folds, which sampling settings."""
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument("--npz", action="store_true", help="also write the fused probabilities, <case>.npz")
    parser.add_argument("-nps", type=int, default=1, help="processes that export; default: %(default)s")


def run(args: argparse.Namespace) -> None:
    """Predict every fold's validation cases by that fold."""
    overrides = sampling_overrides(args)

    from nnunetv2_diffusion.inference.prediction import choose_device, model_folder, predict_validation
    from nnunetv2_diffusion.inference.predictor import DiffusionPredictor

    folder = model_folder(args.d, trainer_of(args), args.p, args.c)
    if "all" in args.f:
        raise ValueError("fold `all` has no validation cases of its own; name folds by number")
    device = choose_device(args.device)
    for fold in args.f:
        predictor = DiffusionPredictor(
            overrides, uncertainty=True, batch_size=args.batch_size, precision=args.precision, device=device
        )
        predictor.initialize_from_trained_model_folder(folder, [fold], args.chk, args.trust)
        written = predict_validation(predictor, folder, int(fold), args.npz, args.nps)
        print(f"fold {fold}: masks and uncertainty maps in {written}")
