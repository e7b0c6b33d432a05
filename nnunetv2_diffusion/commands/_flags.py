"""Flags that several commands share, and what they mean: the model, its sampling settings, where it computes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_diffusion.nnunet_names import (
    CHECKPOINT,
    PLANS,
    SAMPLES,
    SPINESEGDIFF,
    ModelName,
    default_trainer,
    model_folder,
)
from nnunetv2_diffusion.settings import PRESETS

if TYPE_CHECKING:
    from nnunetv2_diffusion.inference.runtime import Runtime

_SAMPLING = ("samples", "sampling_steps", "ensemble_steps", "start_timestep", "early_stop", "seed")


def add_model_arguments(parser: argparse._ActionsContainer, *, required: bool = True, device: bool = True) -> None:
    """The flags that name a trained model, as in nnU-Net's commands; not required where its folder may be named."""
    parser.add_argument("-d", required=required, metavar="DATASET", help="dataset number or name")
    if required:
        parser.add_argument("-c", required=True, metavar="CONFIGURATION", help="nnU-Net configuration, e.g. 2d")
    else:
        parser.add_argument("-c", default="2d", metavar="CONFIGURATION", help="default: %(default)s")
    trainer = f"default: {SPINESEGDIFF}, with PreSeg at its end for a pre-segmentation stage"
    parser.add_argument("-tr", metavar="TRAINER", help=trainer)
    parser.add_argument("-p", default=PLANS, metavar="PLANS", help="plans identifier; default: %(default)s")
    if required:
        folds = ["0", "1", "2", "3", "4"]
        parser.add_argument("-f", nargs="+", default=folds, metavar="FOLD", help=f"default: {' '.join(folds)}")
    else:
        everything = "folds to average, or all (default: all that are there)"
        parser.add_argument("-f", nargs="+", metavar="FOLD", help=everything)
    parser.add_argument("-chk", default=CHECKPOINT, metavar="FILE", help="default: %(default)s")
    if device:
        parser.add_argument(
            "-device", choices=["cpu", "cuda", "mps"], help="default: cuda where there is one, else cpu"
        )
    parser.add_argument("--trust", action="store_true", help="open checkpoints that could run code")


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that replace a model's sampling settings; each left out keeps the model's own."""
    group = parser.add_argument_group("sampling (default: the settings that the model was trained with)")
    group.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="default",
        help="fast: one step of 4 samples, as many evaluations as nnU-Net's mirroring; samples: 16 samples of at least "
        "5 steps, for intervals and distributions; default: the model's own. The flags below come on top",
    )
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
    group.add_argument("--start-timestep", type=int, metavar="T", help="noisiest timestep of a stage")
    group.add_argument("--seed", type=int, help="seed of the sampling noise")
    group.add_argument("--batch-size", type=int, metavar="B", help="samples the network takes at a time")
    group.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of the network; auto: bfloat16 where the processor is fast at it, nnU-Net's own on a GPU",
    )


def add_samples_argument(parser: argparse.ArgumentParser) -> None:
    """The flag that keeps what is drawn."""
    parser.add_argument(
        "--save-samples",
        action="store_true",
        help=f"also write each sample's mask: <case>_{SAMPLES}.nii.gz in the masks' folder {SAMPLES}, a label map with "
        "one dimension more; of several folds one after the other",
    )


def sampling_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The sampling settings that were named on the command line, singly or as a preset."""
    named = {name: getattr(args, name) for name in _SAMPLING if getattr(args, name) is not None}
    return named if args.preset == "default" else {"preset": args.preset, **named}


def named_model(args: argparse.Namespace) -> Path:
    """The folder of the model that -d, -c, -tr and -p name; without -tr of the trainer of such configurations.

    Raises:
        FileNotFoundError, ValueError: see `nnunet_names.model_folder`.
    """
    return model_folder(args.d, ModelName(args.tr or default_trainer(args.c), args.p, args.c))


def folder_of_model(model: str | None, args: argparse.Namespace) -> Path:
    """The folder that --model names, of a model installed under that name, or of the names as in `named_model`.

    Raises:
        FileNotFoundError, ValueError: see `named_model` and `store.installed_model`; or both ways or none were taken.
    """
    if (model is None) == (args.d is None):
        raise ValueError("name the model either by --model FOLDER or by -d DATASET, one of the two")
    return named_model(args) if model is None else model_of_name(model)


def model_of_name(name: str) -> Path:
    """The folder of that path, or of the model that is installed under that name."""
    if Path(name).is_dir() or len(Path(name).parts) > 1:
        return Path(name)
    from nnunetv2_diffusion.models.store import installed_model

    return installed_model(name)


def runtime_of(args: argparse.Namespace, *, slice_batch: int | None = None) -> Runtime:
    """Where and in which portions to compute; on a CPU with all processors that this process may use."""
    from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, use_processors

    use_processors(choose_device(args.device))
    return Runtime(args.device, args.batch_size, slice_batch, args.precision, args.trust)
