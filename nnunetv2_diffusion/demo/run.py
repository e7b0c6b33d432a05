"""`run_demo`: the pipeline from data to table and pictures, as `spinesegdiff demo` runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.demo.cohort import choose_patients
from nnunetv2_diffusion.demo.models import OPTIMISER_STEPS
from nnunetv2_diffusion.demo.output import PICTURES, TABLE, open_folder
from nnunetv2_diffusion.demo.pictures import draw_case, draw_samples, save_png
from nnunetv2_diffusion.demo.steps import DRAWN_SAMPLES, PREDICTIONS, SCORES, Demo, sample_folder
from nnunetv2_diffusion.demo.table import CASES_FILE, as_text, collect
from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.imaging.volumes import UNCERTAINTY_SUFFIX
from nnunetv2_diffusion.inference.runtime import choose_device
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, MAPS
from nnunetv2_diffusion.pipeline.processes import describe_seconds
from nnunetv2_diffusion.pipeline.steps import LOGS, Cost
from nnunetv2_diffusion.scoring.labels import read_labels

MASK = ".nii.gz"


def run_demo(
    folder: Path | str,
    *,
    data: Path | str | None = None,
    patients: int | None = None,
    seed: int = 0,
    device: str | None = None,
    compare: bool = False,
    overwrite: bool = False,
) -> None:
    """Run what is not finished yet in `folder`, print the table and write results.csv and pictures/<case>.png.

    Args:
        folder: everything is written below it.
        data: a folder in SPIDER's layout; None for phantoms.
        patients: how many patients; the last fifth stays unseen. None for all of SPIDER, or 30 phantoms.
        seed: of the phantoms, at least 0.
        device: "cpu" or "cuda"; None chooses.
        compare: also train IISDM, and draw single samples.
        overwrite: begin anew.

    Raises:
        ValueError, OSError: bad arguments or data.
        RuntimeError: a step failed.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    folder, data = Path(folder).absolute(), None if data is None else Path(data).absolute()
    training, unseen = choose_patients(data, patients)
    demo = Demo(folder, data, training, unseen, seed, choose_device(device).type, compare)
    open_folder(demo, overwrite)
    introduce(demo)
    costs = demo.runner().run(demo.steps())
    _report(demo, costs)


def introduce(demo: Demo) -> None:
    """Say on whom it runs, and what to type before a command of it."""
    environment = demo.environment()
    names = sorted(name for name in environment if name.startswith("nnUNet_"))
    kind = "phantoms" if demo.data is None else f"patients of {demo.data}"
    print(f"{len(demo.training)} {kind} to train on, {len(demo.unseen)} unseen; every command below can be typed after")
    print(f"$ cd {demo.folder}")
    for name in names:
        print(f"$ export {name}={environment[name]}")


def _report(demo: Demo, costs: Mapping[str, Cost]) -> None:
    table = collect(demo.models, demo.folder / SCORES, demo.folder / PREDICTIONS)
    write_csv(table, demo.folder / TABLE)
    _draw_cases(demo)
    if demo.compare:
        _draw_samples(demo)
    seconds, cpu_seconds = (sum(values) for values in zip(*costs.values(), strict=True))
    kind = "phantoms" if demo.data is None else "patients"
    print(f"\nDice on {len(demo.unseen)} unseen {kind}, mean ± standard deviation, after {OPTIMISER_STEPS} steps each:")
    print(as_text(table))
    print(f"\n{describe_seconds(seconds)} in all ({describe_seconds(cpu_seconds)} of processor time) on {demo.device}")
    print(f"table: {demo.folder / TABLE}\npictures: {demo.folder / PICTURES}\nlogs: {demo.folder / LOGS}")
    if demo.data is None:
        print("Phantoms stand in for patients: the figures show that the pipeline works, not how well it segments MRI.")


def _draw_cases(demo: Demo) -> None:
    """A picture of every unseen case."""
    labels = read_labels(demo.unseen_folder / DATASET_FILE)
    scores = {model: pd.read_csv(demo.folder / SCORES / model.slug / CASES_FILE) for model in demo.models}
    for case in tqdm(_unseen_cases(demo), desc="pictures", unit="case", disable=None):
        masks, maps = {}, {}
        for model, table in scores.items():
            name = f"{model.name}\nDice {table.loc[table['case'] == case, 'dice'].mean():.3f}"
            masks[name] = demo.folder / PREDICTIONS / model.slug / f"{case}{MASK}"
            maps[name] = demo.folder / PREDICTIONS / model.slug / MAPS / f"{case}{UNCERTAINTY_SUFFIX}{MASK}"
        figure = draw_case(*_image_and_reference(demo, case), masks, maps, labels, case)
        save_png(figure, demo.folder / PICTURES / f"{case}.png")


def _draw_samples(demo: Demo) -> None:
    """The single samples of the first unseen case."""
    case = _unseen_cases(demo)[0]
    samples = {
        model.name: [demo.folder / sample_folder(model, seed) / f"{case}{MASK}" for seed in range(1, DRAWN_SAMPLES + 1)]
        for model in demo.models
        if model.draws
    }
    labels = read_labels(demo.unseen_folder / DATASET_FILE)
    figure = draw_samples(*_image_and_reference(demo, case), samples, labels, f"Single samples of {case}")
    save_png(figure, demo.folder / PICTURES / f"samples_{case}.png")


def _unseen_cases(demo: Demo) -> list[str]:
    return sorted(path.name.removesuffix(MASK) for path in (demo.unseen_folder / "labelsTr").glob(f"*{MASK}"))


def _image_and_reference(demo: Demo, case: str) -> tuple[Path, Path]:
    return demo.unseen_folder / "imagesTr" / f"{case}_0000{MASK}", demo.unseen_folder / "labelsTr" / f"{case}{MASK}"
