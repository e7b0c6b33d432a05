"""One SPIDER series -> one case of an nnU-Net dataset, and many of them in parallel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.dataset_conversion.spider_labels import spider_to_labels
from nnunetv2_diffusion.imaging.grid import central_sagittal_index, model_grid, sagittal_slice, to_ras
from nnunetv2_diffusion.imaging.intensity import normalize_intensity
from nnunetv2_diffusion.imaging.reading import read_scan
from nnunetv2_diffusion.imaging.resampling import resample_to_grid
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.spider import IMAGES, MASKS, Series

FILE_ENDING = ".nii.gz"
PARTIAL_FOLDER = ".partial"
# A mask's header may differ from its image's by rounding; beyond half a voxel the two show different places.
_MAX_GEOMETRY_DIFFERENCE = 0.5


@dataclass(frozen=True)
class GridSettings:
    """The form of the cases: "2d" (central sagittal slice) or "3d" (whole volume), with (height, width) in the plane.

    `size` is in pixels, or None for the whole field of view; `spacing` in millimetres.
    """

    dimension: str
    size: tuple[int, int] | None
    spacing: tuple[float, float]


@dataclass(frozen=True)
class CaseJob:
    """What a worker needs to convert one case."""

    series: Series
    root: Path
    folder: Path
    settings: GridSettings

    @property
    def sources(self) -> tuple[Path, Path]:
        """The scan and its mask."""
        return self.root / IMAGES / self.series.file_name, self.root / MASKS / self.series.mask_file_name

    @property
    def targets(self) -> tuple[Path, Path]:
        """The case's image and label file."""
        image = self.folder / "imagesTr" / f"{self.series.case}_0000{FILE_ENDING}"
        return image, self.folder / "labelsTr" / f"{self.series.case}{FILE_ENDING}"


def convert_case(job: CaseJob) -> int:
    """Write the case's image and label; returns the number of foreground voxels lost by cropping.

    ValueError or OSError, naming the file, where scan or mask is missing, damaged or not SPIDER's.
    """
    image_path, mask_path = job.sources
    for path, other in ((image_path, mask_path), (mask_path, image_path)):
        if other.is_file() and not path.is_file():
            raise FileNotFoundError(f"{path} is missing, while {other} is there")
    scan, mask = read_scan(image_path), read_scan(mask_path)
    _check_same_place(scan, image_path, mask, mask_path)
    mask.CopyInformation(scan)
    image = to_ras(_naming(image_path, normalize_intensity, scan))
    labels = to_ras(_naming(mask_path, spider_to_labels, mask))
    if job.settings.dimension == "2d":
        index = central_sagittal_index(image)
        image, labels = sagittal_slice(image, index), sagittal_slice(labels, index)
    grid = model_grid(image, job.settings.spacing, job.settings.size)
    whole = resample_to_grid(labels, model_grid(image, job.settings.spacing), "nearest")
    label = resample_to_grid(whole, grid, "nearest")
    lost = _count_foreground(whole) - _count_foreground(label)
    image_target, label_target = job.targets
    # The label first: nnU-Net lists cases by imagesTr, where a case must never stand without its label.
    # Their partial files stay out of imagesTr, where nnU-Net would list them.
    partial_folder = job.folder / PARTIAL_FOLDER
    write_image(label, label_target, partial_folder=partial_folder)
    write_image(resample_to_grid(image, grid, "linear"), image_target, partial_folder=partial_folder)
    return lost


def _naming(path: Path, function, image: sitk.Image) -> sitk.Image:
    """`function(image)`, with the file's name before the message of its ValueError."""
    try:
        return function(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_same_place(scan: sitk.Image, image_path: Path, mask: sitk.Image, mask_path: Path) -> None:
    """ValueError where the mask has another size than its scan, or lies elsewhere in space."""
    if scan.GetSize() != mask.GetSize():
        raise ValueError(f"{mask_path} has size {mask.GetSize()}, but its image {image_path} has {scan.GetSize()}")
    corners = [(0, 0, 0), *(tuple(int(i == axis) * (n - 1) for i in range(3)) for axis, n in enumerate(scan.GetSize()))]
    seen = np.array(
        [mask.TransformPhysicalPointToContinuousIndex(scan.TransformIndexToPhysicalPoint(c)) for c in corners]
    )
    difference = np.abs(seen - np.array(corners)).max()
    if difference > _MAX_GEOMETRY_DIFFERENCE:
        raise ValueError(
            f"{mask_path} lies elsewhere than its image {image_path}: their origins, spacings or directions put them "
            f"{difference:.1f} voxels apart"
        )


def _count_foreground(labels: sitk.Image) -> int:
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(labels)))


def convert_cases(jobs: Sequence[CaseJob], processes: int) -> Iterator[tuple[CaseJob, int | None, str | None]]:
    """Convert all jobs; yields (job, foreground voxels lost, None) or (job, None, what went wrong), as they end.

    RuntimeError where a worker process is killed from outside, as by the system when memory runs out.
    """
    processes = min(processes, len(jobs))
    if processes <= 1:
        for job in jobs:
            yield (job, *_attempt(job))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_use_one_thread) as pool:
        futures = {pool.submit(_attempt, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield (futures[future], *future.result())
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a conversion process was killed, perhaps because memory ran out: run the command again with a smaller "
                "-np; finished cases are kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _attempt(job: CaseJob) -> tuple[int | None, str | None]:
    """(lost voxels, None), or (None, message) where the input is bad; a bug in the code is left to be seen."""
    try:
        return convert_case(job), None
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split())


def _use_one_thread() -> None:
    """Each worker has a core of its own: SimpleITK's own threads would only compete."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
