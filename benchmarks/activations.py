"""Memory of a training step's activations: SpineSegDiff's and IISDM's against nnU-Net's, on nnU-Net's plans.

Writes results/activations.csv and results/activations.md. Nothing is timed, so the machine may be busy.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import RESULTS, execute

PLANNERS = ("ExperimentPlanner", "nnUNetPlannerResEncM")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="activations.py", description="Count what autograd keeps for the backward pass of a training step."
    )
    add = parser.add_argument
    add("--size", type=int, default=320, metavar="PIXELS", help="sides of the planned slices (%(default)s)")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the tables go (results/)")
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Plan, count, and write the tables."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunetv2_diffusion.files import read_json
    from speed.activations import activation_rows
    from speed.planned import DATASET, LABELS, SyntheticProject, quietly
    from speed.tables import write_activations

    rows, planned = [], []
    with tempfile.TemporaryDirectory() as scratch:
        project = SyntheticProject(Path(scratch))
        project.enter()
        project.plan(args.size)
        for planner in PLANNERS:
            with quietly():
                name = plan_experiments([DATASET], planner)
            configuration = PlansManager(read_json(project.preprocessed / f"{name}.json")).get_configuration("2d")
            rows += activation_rows(configuration, 1, len(LABELS))
            planned.append(f"{name} batch {configuration.batch_size}")
    size = " x ".join(str(pixels) for pixels in configuration.patch_size)
    about = f"configuration 2d, patch {size}, {len(LABELS)} labels; {', '.join(planned)}"
    print(write_activations(rows, args.results, about, command))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
