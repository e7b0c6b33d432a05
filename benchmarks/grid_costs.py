"""Floating point operations of the paper's models, from which a grid that was not timed is estimated.

Writes results/grid_costs.csv. Nothing is computed or timed, so the machine may be busy. nnU-Net plans datasets of
SPIDER's size: 218 slices of 320 x 320 pixels, and volumes of 18 x 512 x 400 voxels of 4 x 0.6 x 0.6 mm.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_line import RESULTS, execute

CASES = 218
SIZES = {"2d": ([1, 320, 320], [4.0, 1.0, 1.0]), "3d": ([18, 512, 400], [4.0, 0.6, 0.6])}
MODELS = (
    ("2d", "nnUNetTrainerSpineSegDiffPaper", "2d_spinesegdiff"),
    ("2d", "nnUNetTrainerIISDMEpsilon", "2d_iisdm"),
    ("2d", "nnUNetTrainerDiceLoss_250epochs", "2d"),
    ("3d", "nnUNetTrainerDiceLoss_250epochs", "3d_paper"),
)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="grid_costs.py", description="Count operations of the paper's models.")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the table goes (results/)")
    return parser


def plan(dimension: str) -> dict[str, Any]:
    """Plans of a dataset of SPIDER's size, with the paper's configurations."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    from nnunetv2_diffusion.files import read_json, write_json
    from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PLANS, RAW
    from nnunetv2_diffusion.planning.planner import plan_dataset
    from speed.planned import DATASET, FOLDERS, NAME, SyntheticProject, quietly

    shape, spacing = SIZES[dimension]
    with tempfile.TemporaryDirectory() as scratch:
        project = SyntheticProject(Path(scratch))
        project.enter()
        project.plan(64)
        fingerprint = project.preprocessed / "dataset_fingerprint.json"
        sizes = {"shapes_after_crop": [shape] * CASES, "spacings": [spacing] * CASES}
        write_json({**read_json(fingerprint), **sizes}, fingerprint)
        about = project.root / FOLDERS[RAW] / NAME / DATASET_FILE
        write_json({**read_json(about), "numTraining": CASES}, about)
        (project.preprocessed / f"{PLANS}.json").unlink()  # the planner would keep the small configurations
        with quietly():
            plan_experiments([DATASET])
            plan_dataset(DATASET, paper_baselines=True)
        return read_json(project.preprocessed / f"{PLANS}.json")


def count(plans: dict[str, Any], trainer: str, configuration: str) -> dict[str, Any]:
    """A row: patch, batch, 10^12 operations of an evaluation of one patch and of a training step."""
    import torch
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from torch.utils.flop_counter import FlopCounterMode

    from nnunetv2_diffusion.inference.trainer_search import find_trainer
    from nnunetv2_diffusion.networks.diffusion_network import DiffusionNetwork, NoisedImage
    from speed.planned import LABELS

    manager = PlansManager(plans)
    planned = manager.get_configuration(configuration)
    heads, patch = len(LABELS), planned.patch_size
    network = find_trainer(trainer).build_network_architecture(manager, planned, 1, heads, True).to("meta")
    with torch.device("meta"):  # shapes alone: nothing is computed
        image = torch.zeros(1, 1, *patch)
        if isinstance(network, DiffusionNetwork):
            image = NoisedImage(image, torch.zeros(1, heads, *patch), torch.zeros(1, dtype=torch.long))
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        network(image)
    with FlopCounterMode(display=False) as step:
        outputs = network(image)
        sum(output.sum() for output in (outputs if isinstance(outputs, list | tuple) else [outputs])).backward()
    return {
        "trainer": trainer,
        "configuration": configuration,
        "patch": " x ".join(map(str, patch)),
        "batch": planned.batch_size,
        "tflop_an_evaluation": forward.get_total_flops() / 1e12,
        "tflop_a_step": planned.batch_size * step.get_total_flops() / 1e12,
    }


def run(args: argparse.Namespace, command: str) -> None:
    """Plan, count, and write the table."""
    import pandas as pd

    from machine import machine
    from nnunetv2_diffusion.files import write_csv

    plans = {dimension: plan(dimension) for dimension in SIZES}
    table = pd.DataFrame([count(plans[dimension], *model) for dimension, *model in MODELS])
    print(table.to_string(index=False))
    write_csv(table.assign(date=machine("cpu")["date"], command=command), args.results / "grid_costs.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
