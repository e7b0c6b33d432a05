"""`spinesegdiff install`: a model from a zip file or the web, for `--model NAME`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the model comes from, and what it is called."""
    parser.add_argument("source", metavar="FILE|URL", help="zip file of spinesegdiff export or of nnU-Net's exporter")
    parser.add_argument("--sha256", metavar="HASH", help="that the file must have, as export printed it")
    parser.add_argument("--name", help="for --model (default: the file's own)")


def run(args: argparse.Namespace) -> None:
    """Install."""
    from nnunetv2_diffusion.models.install import install

    model = install(args.source, args.name, args.sha256)
    print(
        f"installed {model.name} (SHA-256 {model.record['sha256']}): spinesegdiff segment SCAN OUT --model {model.name}"
    )
