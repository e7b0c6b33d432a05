"""The samples of a folder of predictions, and the measures of their distribution: a row a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from nnunetv2_diffusion.imaging.reading import read_image
from nnunetv2_diffusion.imaging.volumes import Volume, check_same_grid
from nnunetv2_diffusion.nnunet_names import SAMPLES, samples_file, split_rater
from nnunetv2_diffusion.scoring.case_distributions import case_distribution
from nnunetv2_diffusion.scoring.case_files import read_mask
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.raters import RATER
from nnunetv2_diffusion.scoring.workers import spread


def distribution_jobs(cases: pd.DataFrame, predictions: Path) -> list[dict[str, Any]]:
    """What there is to compare of each image: case, samples (file or None), prediction and references (files).

    The cases `<image>__<rater>` of a data set that is expanded by raters show one image and are one job.

    Args:
        cases: as `folders.pair_cases` gives them.
        predictions: the folder of predictions, whose folder `samples` holds the samples.

    Returns:
        none where no image has samples or more than one reference.

    Raises:
        ValueError: some of the images have samples and others have none.
    """
    raters = cases[RATER] if RATER in cases else pd.Series("", index=cases.index)
    images = [case if rater else split_rater(case)[0] for case, rater in zip(cases["case"], raters, strict=True)]
    jobs = []
    for image, rows in cases.groupby(images, sort=False):
        files = [file for file in (samples_file(predictions, case) for case in rows["case"]) if file.is_file()]
        about = {"samples": files[0] if files else None, "prediction": rows["prediction"].iloc[0]}
        jobs.append({"case": image, **about, "references": rows["reference"].tolist()})
    without = [job["case"] for job in jobs if job["samples"] is None]
    if len(without) == len(jobs):
        return jobs if RATER in cases else []
    if without:
        raise ValueError(
            f"{predictions / SAMPLES} holds no samples of {len(without)} of {len(jobs)} cases, the first being "
            f"{without[0]}; predict them with --save-samples too, or move the folder away"
        )
    return jobs


def measure_distributions(
    jobs: list[dict[str, Any]], labels: LabelScheme, processes: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """`case_distribution` of every job, a row each; a case without samples is judged as one that gives its mask alone.

    Raises:
        FileNotFoundError, ValueError: a file that is missing, unreadable, or on another grid than the first reference.
    """
    measured = spread(partial(measure_distribution, labels=labels), jobs, processes)
    bar = tqdm(measured, total=len(jobs), desc="Distributions", unit="case", disable=not progress or not jobs)
    return pd.DataFrame([{"case": job["case"], **row} for job, row in zip(jobs, bar, strict=True)])


def measure_distribution(job: Mapping[str, Any], labels: LabelScheme) -> dict[str, float]:
    """The measures of one job, see `measure_distributions`."""
    first = read_mask(job["references"][0], labels)
    others = [read_mask(path, labels, first).array for path in job["references"][1:]]
    mask = read_mask(job["prediction"], labels, first).array
    samples = mask[None] if job["samples"] is None else read_samples(job["samples"], first, labels)
    return case_distribution(samples, np.stack([first.array, *others]), labels, mask)


def read_samples(path: Path, reference: Volume, labels: LabelScheme) -> np.ndarray:
    """The samples [S, ...] in a label map with one dimension more, on the reference's grid.

    Raises:
        FileNotFoundError, ValueError: it is missing, unreadable, on another grid, or of other labels.
    """
    image = read_image(path).image
    array = sitk.GetArrayFromImage(image)
    labels.check_values(array, path)
    if array.shape[1:] == (1, *reference.array.shape):
        array = array[:, 0]
        volume = replace(reference, path=path, array=array[0])
    else:
        volume = Volume(path, array[0], image.GetSpacing()[-2::-1], _orientation(image))
    check_same_grid(volume, reference)
    return array


def _orientation(samples: sitk.Image) -> str | None:
    """The orientation code of the volume that each sample is; None where it is a plane."""
    if samples.GetDimension() != 4:
        return None
    direction = np.reshape(samples.GetDirection(), (4, 4))[:3, :3]
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction.ravel().tolist())
