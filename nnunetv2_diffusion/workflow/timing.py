"""`--time-it`: seconds a training step, memory and size of a checkpoint of every model of a study, on this machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.nnunet_names import RESULTS
from nnunetv2_diffusion.workflow.costs import TIMING_FILE
from nnunetv2_diffusion.workflow.grid import Grid, Model

STEPS, WARM_UP = 10, 3
# Of a validation step, which has no backward pass, in training steps.
VALIDATION_SHARE = 1 / 3


def timed_datasets(grid: Grid) -> list[int]:
    """The first dataset of each dimension: all of a dimension have images of one size."""
    first: dict[str, int] = {}
    for dataset, (_, dimension) in grid.datasets.items():
        first.setdefault(dimension, dataset)
    return list(first.values())


def time_models(study: Path, grid: Grid) -> None:
    """Write timing.csv; a stage, which waits for its baseline's masks, takes as long as what it is trained on.

    Raises:
        RuntimeError: a training cannot begin; the message ends with its last line.
    """
    models = [(d, m) for d in timed_datasets(grid) for m in grid.models_of(d) if m.refines is None]
    rows = []
    for dataset, model in tqdm(models, desc="timing", unit="model", disable=None):
        rows.append(_in_a_process_of_its_own(study, grid, dataset, model))
    write_csv(pd.DataFrame(rows), study / TIMING_FILE)


def _in_a_process_of_its_own(study: Path, grid: Grid, dataset: int, model: Model) -> dict[str, Any]:
    """Nothing of it goes into the study's results; a GPU's memory is that of this training alone."""
    with tempfile.TemporaryDirectory() as results:
        environment = {**os.environ, **grid.environment(study), RESULTS: results}
        words = [str(dataset), model.configuration, model.trainer, grid.device, "--steps", str(STEPS)]
        command = [sys.executable, "-m", __name__, *words]
        ended = subprocess.run(
            command, env=environment, cwd=study, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    lines = ended.stdout.splitlines()
    if ended.returncode or not lines:
        reason = (ended.stderr.strip() or ended.stdout.strip() or "it printed nothing").splitlines()[-1]
        raise RuntimeError(f"the training of {model.key} cannot be timed: {reason}")
    return {"model": model.key, **json.loads(lines[-1])}


def main() -> None:
    """Time one training; a line of json at the end."""
    parser = argparse.ArgumentParser(prog="python -m nnunetv2_diffusion.workflow.timing")
    for name in ("dataset", "configuration", "trainer", "device"):
        parser.add_argument(name)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    print("\n" + json.dumps(time_training(args.dataset, args.configuration, args.trainer, args.device, args.steps)))


def time_training(dataset: str, configuration: str, trainer_name: str, device: str, steps: int) -> dict[str, Any]:
    """Seconds a step (loading included), steps in all, peak memory of the GPU in MiB, gigabytes of a checkpoint."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(dataset, configuration, 0, trainer_name, device=torch.device(device))
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = _now(device)
        trainer.train_step(next(trainer.dataloader_train))
    seconds = (_now(device) - start) / steps
    path = Path(trainer.output_folder) / "timing.pth"
    trainer.save_checkpoint(str(path))
    validation = VALIDATION_SHARE * trainer.num_val_iterations_per_epoch
    on_gpu = device == "cuda"
    return {
        "seconds_per_step": seconds,
        "steps": trainer.num_epochs * (trainer.num_iterations_per_epoch + validation),
        "gpu_memory_mib": torch.cuda.max_memory_reserved() / 2**20 if on_gpu else None,
        "checkpoint_gigabytes": path.stat().st_size / 1e9,
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
    }


def _now(device: str) -> float:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the loaders that nnU-Net started would be waited for
