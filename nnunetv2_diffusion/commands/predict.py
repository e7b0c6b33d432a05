"""`spinesegdiff predict`: every flag of nnUNetv2_predict, the sampling settings, and maps of the masks."""

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
from nnunetv2_diffusion.nnunet_names import MAPS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """nnUNetv2_predict's flags and ours."""
    parser.add_argument("-i", required=True, metavar="FOLDER", help="images, named <case>_0000 and so on")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="where the masks go")
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    maps = parser.add_argument_group(f"maps, on the image's grid, in the output's folder {MAPS}")
    maps.add_argument("--uncertainty", action="store_true", help="write <case>_uncertainty.nii.gz, in [0, 1]")
    maps.add_argument(
        "--disagreement",
        action="store_true",
        help="also write <case>_variance.nii.gz and <case>_mutual_information.nii.gz",
    )
    add_samples_argument(parser)
    parser.add_argument("-step_size", type=float, default=0.5, help="step of the sliding window; default: %(default)s")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring of the samples")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--save_probabilities", action="store_true", help="also write <case>.npz")
    parser.add_argument("--continue_prediction", action="store_true", help="keep masks that exist")
    parser.add_argument("-npp", type=int, default=3, help="processes that preprocess; default: %(default)s")
    parser.add_argument("-nps", type=int, default=3, help="processes that export; 0 for both: this process alone")
    parser.add_argument("-prev_stage_predictions", metavar="FOLDER", help="masks of the previous stage, for a cascade")
    parser.add_argument("-num_parts", type=int, default=1, help="into how many calls the cases are parted")
    parser.add_argument("-part_id", type=int, default=0, help="which of them this call is, from 0")
    parser.add_argument("--disable_progress_bar", action="store_true")
    parser.add_argument("--not_on_device", action="store_true", help="keep results in main memory")


def run(args: argparse.Namespace) -> None:
    """Predict a folder."""
    from nnunetv2_diffusion.inference.image_folder import predict_folder
    from nnunetv2_diffusion.inference.predictor import DiffusionPredictor

    folder = named_model(args)
    predictor = DiffusionPredictor(
        sampling_overrides(args),
        uncertainty=args.uncertainty,
        disagreement=args.disagreement,
        save_samples=args.save_samples,
        runtime=runtime_of(args),
        tile_step_size=args.step_size,
        use_mirroring=not args.disable_tta,
        perform_everything_on_device=not args.not_on_device,
        verbose=args.verbose,
        verbose_preprocessing=args.verbose,
        allow_tqdm=not args.disable_progress_bar,
    )
    predictor.initialize_from_trained_model_folder(folder, args.f, args.chk)
    predict_folder(
        predictor,
        args.i,
        args.o,
        save_probabilities=args.save_probabilities,
        overwrite=not args.continue_prediction,
        preprocessing_processes=args.npp,
        export_processes=args.nps,
        previous_stage=args.prev_stage_predictions,
        num_parts=args.num_parts,
        part_id=args.part_id,
    )
