"""The command `spinesegdiff`: names its subcommands and imports only the one that was asked for."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from nnunetv2_diffusion.nnunet_names import EXTERNAL_TRAINERS

COMMANDS = {
    "download": "SPIDER's four files from Zenodo, checked and unpacked",
    "convert": "SPIDER's files -> an nnU-Net raw dataset",
    "trainers": f"print the folder that {EXTERNAL_TRAINERS} must name",
    "plan": "add the paper's configurations and pre-segmentation stages to a plans file",
    "predict": "nnUNetv2_predict for our trainers, with sampling flags and uncertainty maps",
    "segment": "any scan in, its mask, uncertainty map and preview on its own grid out",
    "export": "a trained model as one zip file with a model card",
    "install": "a model from a zip file or the web, for --model NAME",
    "models": "list, show and remove installed models",
    "validate": "masks and uncertainty maps of the folds' validation cases",
    "measure": "levels, and measurements in millimetres, of masks of canal, vertebrae and discs",
    "calibrate": "intervals of measurements that cover, from the folds' validation cases",
    "evaluate": "Dice, surface distances and uncertainty quality of a folder of masks",
    "report": "tables, statistics and a web page from nnU-Net's results folders",
    "ablate": "the pre-segmentation stage for several timesteps T beside nnU-Net itself",
    "reproduce": "the paper's whole grid, on this machine or a cluster",
    "demo": "convert, plan, train, predict and score on built-in phantoms",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of `spinesegdiff`; only `command`'s module is imported and its arguments added."""
    parser = argparse.ArgumentParser(
        prog="spinesegdiff", description="Diffusion-based segmentation of lumbar spine MRI on top of nnU-Net v2."
    )
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if name == command:
            module = importlib.import_module(f"nnunetv2_diffusion.commands.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 when it succeeded, 2 with one line on stderr when its input was bad."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if word in COMMANDS), None)
    args = build_parser(command).parse_args(argv)
    try:
        return args.run(args) or 0
    except (ValueError, OSError, RuntimeError) as error:
        if args.debug:
            raise
        message = " ".join(str(error).split())
        print(f"spinesegdiff {args.command}: error: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
