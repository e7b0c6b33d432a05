"""`spinesegdiff ablate`: Table 2, the pre-segmentation stage for several T beside nnU-Net itself."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.nnunet_names import PLANS, PRESEG, TRAINER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The dataset and the T, and what names the trainings."""
    parser.add_argument("-d", "--dataset", required=True, help="number or name of the dataset")
    parser.add_argument(
        "--timesteps", nargs="+", type=int, required=True, metavar="T", help="the T to compare; 0 is nnU-Net itself"
    )
    parser.add_argument("-p", "--plans", default=PLANS, help="name of the plans (default: %(default)s)")
    parser.add_argument("--previous-trainer", default=TRAINER, help="trainer of the first stage (default: %(default)s)")
    parser.add_argument("-tr", default=PRESEG, help="trainer of the stages (default: %(default)s)")
    parser.add_argument(
        "--base",
        choices=("2d", "2d_spinesegdiff", "2d_small"),
        default="2d",
        help="what the stages inherit from, as for `spinesegdiff plan` (default: %(default)s)",
    )
    parser.add_argument("-o", required=True, metavar="DIR", help="folder for ablation.csv and the figure")
    parser.add_argument("-np", type=int, metavar="N", help="worker processes (default: the processors, at most 8)")


def run(args: argparse.Namespace) -> None:
    """Gather the table, write it and print it."""
    from nnunetv2_diffusion.nnunet_names import PREPROCESSED, RAW, RESULTS, nnunet_folder, optional_nnunet_folder
    from nnunetv2_diffusion.report.ablation import AblationRequest, ablation, describe_ablation, write_ablation

    request = AblationRequest(args.dataset, args.timesteps, args.plans, args.previous_trainer, args.tr, args.base)
    folders = nnunet_folder(RESULTS), nnunet_folder(PREPROCESSED)
    table = ablation(request, *folders, optional_nnunet_folder(RAW), args.np)
    write_ablation(table, args.o)
    print(describe_ablation(table))
