"""`spinesegdiff plan`: the paper's configurations and pre-segmentation stages in an nnU-Net plans file."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.nnunet_names import PLANS, TRAINER, stage_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Dataset and plans as nnU-Net names them, then what to add beside `2d_spinesegdiff`."""
    parser.add_argument("-d", "--dataset", required=True, help="number or name of the dataset, as for nnU-Net")
    parser.add_argument("-p", "--plans", default=PLANS, help="name of the plans (default: %(default)s)")
    parser.add_argument(
        "--timesteps",
        nargs="+",
        default=[],
        metavar="T",
        help=f"add a pre-segmentation stage {stage_name('2d', '<T>')} for each T, the length of its cosine schedule",
    )
    parser.add_argument(
        "--base",
        choices=("2d", "2d_spinesegdiff", "2d_small"),
        default="2d",
        help="what the stages inherit from; those on 2d_small refine 2d_small, all others 2d (default: %(default)s)",
    )
    parser.add_argument(
        "--previous-trainer",
        default=TRAINER,
        help="trainer whose predictions the stages refine (default: %(default)s)",
    )
    parser.add_argument("--small", action="store_true", help="add 2d_small, a narrow network for laptops and CPUs")
    parser.add_argument(
        "--paper-baselines",
        action="store_true",
        help="add 2d_paper (patch 256 x 64, batch 197) and, with 3d_fullres, 3d_paper (56 x 224 x 192, batch 2)",
    )
    parser.epilog = (
        "Configurations that others wrote are never overwritten, settings tuned in ours are kept, the former plans "
        "stay beside the new as <plans>.json.bak. Repeat it after nnUNetv2_plan_experiment, which unlinks the stages."
    )


def run(args: argparse.Namespace) -> None:
    """Edit the plans and print a sentence a change."""
    from nnunetv2_diffusion.planning.planner import plan_dataset

    sentences = plan_dataset(
        args.dataset,
        args.plans,
        timesteps=args.timesteps,
        base=args.base,
        previous_trainer=args.previous_trainer,
        small=args.small,
        paper_baselines=args.paper_baselines,
    )
    print("\n".join(sentences))
