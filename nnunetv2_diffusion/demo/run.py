"""`run_demo`: the pipeline from data to table and pictures, as `spinesegdiff demo` runs it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.demo.models import OPTIMISER_STEPS
from nnunetv2_diffusion.demo.pictures import draw_case, draw_samples, save_png
from nnunetv2_diffusion.demo.pipeline import DRAWN_SAMPLES, Demo, choose_patients, open_folder
from nnunetv2_diffusion.demo.scores import as_text, collect
from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.inference.prediction import choose_device
from nnunetv2_diffusion.pipeline.stages import describe_seconds
from nnunetv2_diffusion.scoring.labels import read_labels

MASK = ".nii.gz"


def run_demo(
    folder: Path | str,
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
        RuntimeError: a stage failed.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    folder, data = Path(folder).absolute(), None if data is None else Path(data).absolute()
    training, unseen = choose_patients(data, patients)
    demo = Demo(folder, data, training, unseen, seed, choose_device(device).type, compare)
    open_folder(demo, overwrite)
    _introduce(demo)
    costs = demo.runner().run(demo.stages())
    _report(demo, costs)


def _introduce(demo: Demo) -> None:
    environment = demo.environment()
    names = sorted(name for name in environment if name.startswith("nnUNet_"))
    kind = "phantoms" if demo.data is None else f"patients of {demo.data}"
    print(f"{len(demo.training)} {kind} to train on, {len(demo.unseen)} unseen; every command below can be typed after")
    print(f"$ cd {demo.folder}")
    for name in names:
        print(f"$ export {name}={environment[name]}")


def _report(demo: Demo, costs: dict[str, dict[str, float]]) -> None:
    table = collect(demo.models, demo.folder / "scores", demo.folder / "predictions")
    write_csv(table, demo.folder / "results.csv")
    pictures = _draw(demo)
    seconds, cpu = (sum(cost[key] for cost in costs.values()) for key in ("seconds", "cpu_seconds"))
    kind = "phantoms" if demo.data is None else "patients"
    print(f"\nDice on {len(demo.unseen)} unseen {kind}, mean ± standard deviation, after {OPTIMISER_STEPS} steps each:")
    print(as_text(table))
    print(f"\n{describe_seconds(seconds)} in all ({describe_seconds(cpu)} of processor time) on {demo.device}")
    print(f"table: {demo.folder / 'results.csv'}\npictures: {pictures}\nlogs: {demo.folder / 'logs'}")
    if demo.data is None:
        print("Phantoms stand in for patients: the figures show that the pipeline works, not how well it segments MRI.")


def _draw(demo: Demo) -> Path:
    """A picture of every unseen case; with --compare also the single samples of the first."""
    pictures, unseen = demo.folder / "pictures", demo.unseen_folder
    labels = read_labels(unseen / "dataset.json")
    scores = {model: pd.read_csv(demo.folder / "scores" / model.slug / "cases.csv") for model in demo.models}
    cases = sorted(path.name.removesuffix(MASK) for path in (unseen / "labelsTr").glob(f"*{MASK}"))
    for case in tqdm(cases, desc="pictures", unit="case", disable=None):
        masks, maps = {}, {}
        for model, table in scores.items():
            name = f"{model.name}\nDice {table.loc[table['case'] == case, 'dice'].mean():.3f}"
            masks[name] = demo.folder / "predictions" / model.slug / f"{case}{MASK}"
            maps[name] = demo.folder / "predictions" / model.slug / f"{case}_uncertainty{MASK}"
        save_png(draw_case(*_files(unseen, case), masks, maps, labels, case), pictures / f"{case}.png")
    samples = {
        model.name: [
            demo.folder / "samples" / model.slug / f"seed_{seed}" / f"{cases[0]}{MASK}"
            for seed in range(1, DRAWN_SAMPLES + 1)
        ]
        for model in demo.models
        if model.draws and demo.compare
    }
    if samples:
        figure = draw_samples(*_files(unseen, cases[0]), samples, labels, f"Single samples of {cases[0]}")
        save_png(figure, pictures / f"samples_{cases[0]}.png")
    return pictures


def _files(unseen: Path, case: str) -> tuple[Path, Path]:
    return unseen / "imagesTr" / f"{case}_0000{MASK}", unseen / "labelsTr" / f"{case}{MASK}"
