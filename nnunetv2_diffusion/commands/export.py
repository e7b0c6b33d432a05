"""`spinesegdiff export`: a trained model as one zip file, with a model card and without what names patients."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunetv2_diffusion.commands._flags import add_model_arguments, folder_of_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, where to, and what only people can say of it."""
    parser.add_argument("-o", required=True, metavar="FILE", help="the zip file to write")
    model = parser.add_argument_group("model (either its folder, or its names in nnUNet_results)")
    model.add_argument("--model", metavar="FOLDER", help="a trained model's folder, wherever it lies")
    add_model_arguments(model, required=False, device=False)
    card = parser.add_argument_group(
        "model card (default: for research, untested beyond its training data, no licence)"
    )
    card.add_argument("--intended-use", metavar="TEXT", help="what it is for")
    card.add_argument("--limits", metavar="TEXT", help="what it is not fit for")
    card.add_argument("--licence", metavar="TEXT", help="e.g. CC-BY-4.0")


def run(args: argparse.Namespace) -> None:
    """Export."""
    folder = folder_of_model(args.model, args)

    from nnunetv2_diffusion.models.card import Statements
    from nnunetv2_diffusion.models.export import export_model

    given = {name: getattr(args, name) for name in ("intended_use", "limits", "licence")}
    statements = Statements(**{name: text for name, text in given.items() if text is not None})
    found = export_model(
        folder, Path(args.o), folds=args.f, checkpoint=args.chk, statements=statements, trust=args.trust
    )
    print(f"{args.o}: SHA-256 {found}")
