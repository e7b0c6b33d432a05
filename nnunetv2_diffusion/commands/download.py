"""`spinesegdiff download`: SPIDER's four files from Zenodo, checked and unpacked."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and from where."""
    parser.add_argument("folder", metavar="DIR", help="SPIDER's folder; a second run goes on where the first broke off")
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="a folder of another server with the four files (default: Zenodo's); the checksums are Zenodo's still, or "
        "where Zenodo cannot be reached, those in the mirror's copy of its record, record.json",
    )


def run(args: argparse.Namespace) -> None:
    """Download what is missing."""
    from nnunetv2_diffusion.spider_download import download

    download(args.folder, mirror=args.mirror)
