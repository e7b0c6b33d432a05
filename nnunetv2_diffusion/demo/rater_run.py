"""`run_rater_demo`: from phantoms with several raters to energy distances, frequencies and pictures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.demo.cohort import CONTRAST, choose_patients
from nnunetv2_diffusion.demo.output import CASES_TABLE, PICTURES, TABLE, open_folder
from nnunetv2_diffusion.demo.pictures import save_png
from nnunetv2_diffusion.demo.rater_pictures import draw_frequencies, draw_raters
from nnunetv2_diffusion.demo.rater_scores import (
    MASK,
    SAMPLES,
    as_text,
    masks_of_methods,
    measure_cases,
    read_case,
    summarise,
    training_shares,
)
from nnunetv2_diffusion.demo.rater_steps import RaterDemo
from nnunetv2_diffusion.demo.run import introduce
from nnunetv2_diffusion.demo.steps import PHANTOMS
from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.inference.runtime import choose_device
from nnunetv2_diffusion.nnunet_names import DATASET_FILE
from nnunetv2_diffusion.phantoms.patients import draw_conventions
from nnunetv2_diffusion.phantoms.raters import RATERS_FILE, SHARES, by_rater, every_convention
from nnunetv2_diffusion.pipeline.processes import describe_seconds
from nnunetv2_diffusion.scoring.labels import read_labels
from nnunetv2_diffusion.spider import case_name

DRAWN = 5  # samples in a picture


def run_rater_demo(
    folder: Path | str,
    *,
    raters: int = 3,
    patients: int | None = None,
    seed: int = 0,
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Run what is not finished yet in `folder`, print the table and write results.csv, cases.csv and pictures.

    Args:
        folder: everything is written below it.
        raters: how many segment every phantom, at least 2.
        patients: how many patients; the last fifth stays unseen. None for 30.
        seed: of the phantoms, at least 0.
        device: "cpu" or "cuda"; None chooses.
        overwrite: begin anew.

    Raises:
        ValueError, OSError: bad arguments, or a folder with something else.
        RuntimeError: a step failed.
    """
    if raters < 2:
        raise ValueError(f"several raters are 2 or more, not {raters}; leave --raters out for the plain demo")
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    training, unseen = choose_patients(None, patients)
    demo = RaterDemo(Path(folder).absolute(), None, training, unseen, seed, choose_device(device).type, raters=raters)
    open_folder(demo, overwrite)
    introduce(demo)
    costs = demo.runner().run(demo.steps())
    table = summarise(report(demo))
    seconds, cpu_seconds = (sum(values) for values in zip(*costs.values(), strict=True))
    print(f"\nGeneralised energy distance to the true distribution of masks, {len(demo.unseen)} unseen phantoms:")
    print(as_text(table))
    print(_known(demo))
    print(f"\n{describe_seconds(seconds)} in all ({describe_seconds(cpu_seconds)} of processor time) on {demo.device}")
    print(f"table: {demo.folder / TABLE}\npictures: {demo.folder / PICTURES}")


def report(demo: RaterDemo) -> pd.DataFrame:
    """Measure every method, write the tables and draw the pictures; returns a row a method and case."""
    cases = measure_cases(demo)
    table = summarise(cases)
    write_csv(cases, demo.folder / CASES_TABLE)
    write_csv(table, demo.folder / TABLE)
    for patient in tqdm(demo.unseen, desc="pictures", unit="case", disable=None):
        _draw_case(demo, patient)
    save_png(draw_frequencies(table), demo.folder / PICTURES / "frequencies.png")
    return cases


def _draw_case(demo: RaterDemo, patient: int) -> None:
    """The raters' masks of an unseen patient and the control's, over the samples."""
    case, labels = case_name(patient, CONTRAST), read_labels(demo.unseen_folder / DATASET_FILE)
    rated = read_case(demo, case)
    drawn = masks_of_methods(demo, rated, labels)
    names = {convention: name for name, convention in every_convention().items()}
    raters = by_rater(draw_conventions(patient, CONTRAST, demo.seed, demo.raters))
    shown = {rater: rated.masks[names[convention]] for rater, convention in raters.items()}
    samples = {f"sample {number}": mask for number, mask in enumerate(drawn[SAMPLES][:DRAWN], start=1)}
    image = demo.unseen_folder / "imagesTr" / f"{case}_0000.nii.gz"
    rows = [{**shown, MASK.replace(", ", ",\n"): drawn[MASK][0]}, samples]
    save_png(draw_raters(image, rated, rows, labels, case), demo.folder / PICTURES / f"raters_{case}.png")


def _known(demo: RaterDemo) -> str:
    """The frequencies that are known, and those of the few raters that were trained on."""
    trained = training_shares(pd.read_csv(demo.folder / PHANTOMS / RATERS_FILE))
    known, found = ({name: f"{name} {share[name]:.2f}" for name in SHARES} for share in (SHARES, trained))
    return f"known: {', '.join(known.values())}; among the training patients' raters: {', '.join(found.values())}"
