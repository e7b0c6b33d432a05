"""`spinesegdiff models`: which models are installed, what their cards say, and removing them."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which model."""
    actions = ("list", "show", "remove")
    parser.add_argument("action", nargs="?", choices=actions, default="list", help="default: %(default)s")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the model to show or remove")


def run(args: argparse.Namespace) -> None:
    """Print or remove."""
    from nnunetv2_diffusion.models.listing import list_models, show_model
    from nnunetv2_diffusion.models.store import remove

    if (args.action == "list") != (args.name is None):
        raise ValueError("show and remove take the name of an installed model, list takes none")
    if args.action == "remove":
        remove(args.name)
    else:
        print(list_models() if args.action == "list" else show_model(args.name))
