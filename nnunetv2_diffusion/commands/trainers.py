"""`spinesegdiff trainers`: the folder for nnU-Net's environment variable nnUNet_extTrainer."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command takes no arguments of its own."""
    parser.epilog = 'export nnUNet_extTrainer="$(spinesegdiff trainers)"'


def run(args: argparse.Namespace) -> None:
    """Print the extension folder."""
    print(Path(__file__).resolve().parent.parent / "extension")
