"""`spinesegdiff trainers`: the folder for nnU-Net's environment variable nnUNet_extTrainer."""

from __future__ import annotations

import argparse

from nnunetv2_diffusion.nnunet_names import EXTENSION, EXTERNAL_TRAINERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command takes no arguments of its own."""
    parser.epilog = f'export {EXTERNAL_TRAINERS}="$(spinesegdiff trainers)"'


def run(args: argparse.Namespace) -> None:
    """Print the extension folder."""
    print(EXTENSION)
