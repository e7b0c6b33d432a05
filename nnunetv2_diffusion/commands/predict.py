"""`spinesegdiff predict`: every flag of nnUNetv2_predict, the sampling settings, and maps beside the masks."""

from __future__ import annotations

import argparse

DEFAULT_TRAINER = "nnUNetTrainerSpineSegDiff"
PRE_SEGMENTATION_TRAINER = "nnUNetTrainerSpineSegDiffPreSeg"
TRAINER_HELP = f"default: {DEFAULT_TRAINER}, with PreSeg at its end for a pre-segmentation stage"


def trainer_of(args: argparse.Namespace) -> str:
    """The trainer that was named, or the one that trains this kind of configuration."""
    return args.tr or (PRE_SEGMENTATION_TRAINER if "_preseg_T" in args.c else DEFAULT_TRAINER)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that name a trained model, as in nnU-Net's commands."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="dataset number or name")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="nnU-Net configuration, e.g. 2d")
    parser.add_argument("-tr", metavar="TRAINER", help=TRAINER_HELP)
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans identifier; default: %(default)s")
    parser.add_argument("-f", nargs="+", default=["0", "1", "2", "3", "4"], metavar="FOLD", help="default: 0 1 2 3 4")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="FILE", help="default: %(default)s")
    parser.add_argument("-device", choices=["cpu", "cuda", "mps"], help="default: cuda where there is one, else cpu")
    parser.add_argument("--trust", action="store_true", help="open checkpoints that could run code")


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that replace a model's sampling settings; each left out keeps the model's own."""
    group = parser.add_argument_group("sampling (default: the settings that the model was trained with)")
    group.add_argument("--samples", type=int, metavar="S", help="samples drawn of every image")
    group.add_argument(
        "--early-stop",
        type=float,
        metavar="SHARE",
        help="stop sampling a slice whose mask changes by less than this share of its foreground from one step to the "
        "next, e.g. 0.01 (default: never)",
    )
    group.add_argument("--sampling-steps", type=int, metavar="N", help="network evaluations a sample")
    group.add_argument("--ensemble-steps", type=int, metavar="T_S", help="last steps that are fused")
    group.add_argument("--start-timestep", type=int, metavar="T", help="noisiest timestep visited")
    group.add_argument("--seed", type=int, help="seed of the sampling noise")
    group.add_argument("--batch-size", type=int, metavar="B", help="samples the network takes at a time")
    group.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of the network; auto: bfloat16 where the processor is fast at it, nnU-Net's own on a GPU",
    )


def sampling_overrides(args: argparse.Namespace) -> dict[str, int]:
    """The sampling settings that were named on the command line."""
    names = ("samples", "sampling_steps", "ensemble_steps", "start_timestep", "early_stop", "seed")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """nnUNetv2_predict's flags and ours."""
    parser.add_argument("-i", required=True, metavar="FOLDER", help="images, named <case>_0000 and so on")
    parser.add_argument("-o", required=True, metavar="FOLDER", help="where the masks go")
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    maps = parser.add_argument_group("maps, on the image's grid")
    maps.add_argument("--uncertainty", action="store_true", help="write <case>_uncertainty.nii.gz, in [0, 1]")
    maps.add_argument(
        "--disagreement",
        action="store_true",
        help="also write <case>_variance.nii.gz and <case>_mutual_information.nii.gz",
    )
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
    overrides = sampling_overrides(args)

    from nnunetv2_diffusion.inference.prediction import choose_device, model_folder, predict_folder
    from nnunetv2_diffusion.inference.predictor import DiffusionPredictor

    folder = model_folder(args.d, trainer_of(args), args.p, args.c)
    predictor = DiffusionPredictor(
        overrides=overrides,
        uncertainty=args.uncertainty,
        disagreement=args.disagreement,
        batch_size=args.batch_size,
        precision=args.precision,
        tile_step_size=args.step_size,
        use_mirroring=not args.disable_tta,
        perform_everything_on_device=not args.not_on_device,
        device=choose_device(args.device),
        verbose=args.verbose,
        verbose_preprocessing=args.verbose,
        allow_tqdm=not args.disable_progress_bar,
    )
    predictor.initialize_from_trained_model_folder(folder, args.f, args.chk, args.trust)
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
