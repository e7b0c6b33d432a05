"""`spinesegdiff convert`: SPIDER's files -> an nnU-Net raw dataset."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.dataset_conversion import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The converter's own arguments."""
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Convert; 2 where some of the cases could not be converted."""
    from nnunetv2_diffusion.dataset_conversion import Dataset501_SPIDER

    return Dataset501_SPIDER.run(args)
