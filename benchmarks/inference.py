"""Seconds, network evaluations, peak memory and Dice a slice: nnU-Net, the published way of sampling, and ours.

Untrained models of the size that nnU-Net plans for 320 x 320 pixels, or trained ones on real cases (--model ...), which
are scored as well. Writes results/inference_<device>.csv and results/inference.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import add_machine, execute
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PRESEG, SPINESEGDIFF

MODELS = ("baseline", "model", "preseg")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="inference.py",
        description="Time prediction: nnU-Net, the published way of sampling, ours, and pre-segmentation.",
        epilog="Keep the machine free of other work. On two cores the table takes 20 minutes with --repeats 2; try "
        "--small first.",
    )
    add = parser.add_argument
    add("--repeats", type=int, default=3, metavar="N", help="turns a row; one above 150 evaluations (%(default)s)")
    add("--samples", nargs="+", type=int, default=[1, 5, 15], metavar="S", help="of ours (1 5 15)")
    add("--steps", nargs="+", type=int, default=[5, 10, 50], metavar="N", help="of ours (5 10 50)")
    add(
        "--presets",
        action="store_true",
        help="the presets' rows alone, beside nnU-Net's; --samples and --steps do nothing",
    )
    add("--size", type=int, default=320, metavar="PIXELS", help="sides of the slice (%(default)s)")
    add("--small", action="store_true", help="64 pixels, S 1 and 3, 2 and 5 steps, one turn: does everything run?")
    add("--no-memory", action="store_true", help="no peak memory, which takes a run of each row in a fresh process")
    add_machine(parser)
    trained = parser.add_argument_group(
        "trained models (in place of untrained ones; rows of those not named are left out)"
    )
    trained.add_argument("--name", help="of the results: inference_NAME.md")
    trained.add_argument("--model", type=Path, metavar="FOLDER", help=f"of {SPINESEGDIFF}")
    trained.add_argument("--baseline", type=Path, metavar="FOLDER", help="of nnU-Net's own trainer")
    trained.add_argument("--preseg", type=Path, metavar="FOLDER", help=f"of {PRESEG}")
    trained.add_argument("--images", type=Path, metavar="DIR", help="cases they did not train on, in nnU-Net's names")
    trained.add_argument("--labels", type=Path, metavar="DIR", help="the cases' masks")
    add("--memory-of", type=json.loads, help=argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure every row and write the tables.

    Raises:
        ValueError: arguments that do not go together.
    """
    if args.memory_of is not None:
        from speed.rows import memory_of

        print(json.dumps(memory_of(args.memory_of)))
        return
    folders = {kind: getattr(args, kind).resolve() for kind in MODELS if getattr(args, kind) is not None}
    if bool(folders) != (args.images is not None) or (args.images is None) != (args.labels is None):
        raise ValueError("trained models, --images and --labels go together: name all of them or none")
    if args.small:
        args.size, args.samples, args.steps, args.repeats = 64, [1, 3], [2, 5], 1
    import torch

    from speed.methods import NNUNET, Method
    from speed.planned import SyntheticProject
    from speed.rows import measure, memory_in_a_fresh_process, methods, presets
    from speed.tables import write_inference

    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    with tempfile.TemporaryDirectory() as scratch:
        project = SyntheticProject(Path(scratch))
        project.enter()
        if not folders:
            project.plan(args.size)
            folders = {kind: project.untrained(kind) for kind in MODELS}
        rows = []
        data_file = Path(scratch) / "slice.pt"
        for method in [Method(NNUNET), *presets()] if args.presets else methods(args.samples, args.steps, folders):
            data = _slice(args, method, folders, device)
            torch.save(data, data_file)
            rows.append(measure(method, folders, data, device, args.repeats))
            if not args.no_memory:
                rows[-1]["peak_memory_mib"] = memory_in_a_fresh_process(
                    __file__, method, folders, data_file, args.device
                )
            if args.labels is not None:
                rows[-1]["dice"] = _dice(args, method, folders, device)
            print(", ".join(f"{name} {value}" for name, value in rows[-1].items() if value is not None), flush=True)
        about = "a real case" if args.labels else f"one slice of {args.size} x {args.size} pixels, untrained models"
        stem = f"inference_{args.name}" if args.name else "inference"
        write_inference(rows, args.results, stem=stem, device=args.device, about=about, command=command)


def _slice(args: argparse.Namespace, method, folders: dict, device):
    from speed.cases import case_files, central_slice, preprocessed, synthetic_slice
    from speed.methods import LoadedMethod

    if args.images is None:
        return synthetic_slice(args.size)
    loaded = LoadedMethod(method, folders, device)
    return central_slice(preprocessed(loaded, case_files(loaded, args.images)[0])[0])


def _dice(args: argparse.Namespace, method, folders: dict, device) -> float:
    from speed.cases import mean_dice
    from speed.methods import FOLDERS, LoadedMethod

    dataset_json = folders[FOLDERS[method.kind][0]] / DATASET_FILE
    return mean_dice(LoadedMethod(method, folders, device), args.images, args.labels, dataset_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
