"""Levels and measurements of a trained model's masks of its validation cases against those of their references.

Reads what `spinesegdiff validate --save-samples` left. Errors, the samples' intervals, and intervals calibrated on all
patients but the one that is measured: results/validated_measurements_<name>.csv, _levels.csv and .md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from command_line import RESULTS, execute


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="validated_measurements.py",
        description="Compare measurements of a model's validated masks with those of their references.",
        epilog="nnUNet_raw or nnUNet_preprocessed must hold the data that it was trained on.",
    )
    add = parser.add_argument
    add("--model", required=True, type=Path, metavar="FOLDER", help="validated with --save-samples")
    add("--name", required=True, help="of the results: validated_measurements_NAME.csv")
    add("--folds", nargs="+", type=int, default=[0, 1, 2, 3, 4], metavar="F", help="(%(default)s)")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the tables go (results/)")
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure and write the tables."""
    from intervals.validated import measure_validation, write_validated
    from nnunetv2_diffusion.anatomy.structures import named_values
    from nnunetv2_diffusion.files import read_json
    from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PREPROCESSED, RAW, optional_nnunet_folder
    from nnunetv2_diffusion.report.datasets import find_dataset

    folder = args.model.resolve()
    values = named_values(read_json(folder / DATASET_FILE)["labels"], str(folder / DATASET_FILE))
    homes = [optional_nnunet_folder(variable) for variable in (PREPROCESSED, RAW)]
    dataset = find_dataset(folder.parent.name, folder.parent.parent, *homes)
    if dataset is None:
        raise FileNotFoundError(f"{folder.parent} does not exist: train the model first")
    # The tables are published: not where somebody keeps his models.
    command = command.replace(str(args.model), f"$nnUNet_results/{folder.parent.name}/{folder.name}")
    print(write_validated(measure_validation(folder, dataset, args.folds, values), args.results, args.name, command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
