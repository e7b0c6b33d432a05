"""Any scan in, its mask and uncertainty map on its own grid out: `segment` for one, `segment_files` for folders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunetv2_diffusion.scans.cohort import Work, say_line, work_through
from nnunetv2_diffusion.scans.finished import request_hash
from nnunetv2_diffusion.scans.formats.images import ImageFiles
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.scans.model import SegmentationModel, load_model
from nnunetv2_diffusion.scans.outputs import check_output_folder
from nnunetv2_diffusion.scans.picture import Picture
from nnunetv2_diffusion.scans.resuming import Asked
from nnunetv2_diffusion.scans.review import ReviewThresholds
from nnunetv2_diffusion.scans.sagittal import SagittalVolume, slice_indices
from nnunetv2_diffusion.scans.samples import samples_on_scan
from nnunetv2_diffusion.scans.sharing import Share
from nnunetv2_diffusion.scans.sources import Scan, find_scans, scan_from_image, trained_contrasts
from nnunetv2_diffusion.scans.summary import describe_model, findings, software, what_was_covered
from nnunetv2_diffusion.scans.zipped import unzipped
from nnunetv2_diffusion.scoring.overlaps import Overlaps, pairwise_dice

if TYPE_CHECKING:
    from nnunetv2_diffusion.scans.measuring import Measuring

# Image files of the scan's own format.
AS_SCANNED = ImageFiles()


@dataclass(frozen=True)
class Options:
    """How to segment: see `segment`; `progress` shows a bar over the slices in a terminal, `measuring` measures."""

    slices: str | int = "central"
    probabilities: bool = False
    thresholds: ReviewThresholds = field(default_factory=ReviewThresholds)
    progress: bool = False
    measuring: Measuring | None = None


@dataclass
class _Found:
    """On a scan's own pixels, 0 in slices that are not asked for: its mask [z, y, x], maps [M, z, y, x] of the
    predictor's `map_names`, and probabilities [K, z, y, x] where they are asked for.

    Also the seconds of the model, and what the samples of all slices have in common, where there are samples.
    """

    mask: np.ndarray
    maps: np.ndarray
    probabilities: np.ndarray | None
    seconds: float = 0.0
    overlaps: Overlaps | None = None

    @property
    def pairwise_dice(self) -> float | None:
        """Of the samples, see `overlaps.pairwise_dice`; None where there are not two of them."""
        dice = math.nan if self.overlaps is None else pairwise_dice(self.overlaps)
        return None if math.isnan(dice) else round(dice, 4)


def segment(
    image: str | Path | sitk.Image,
    model: str | Path | SegmentationModel,
    *,
    slices: str | int = "central",
    probabilities: bool = False,
    series: str | None = None,
    thresholds: ReviewThresholds | None = None,
    measure: bool = False,
    structures: Sequence[str] | None = None,
) -> Segmentation:
    """Segment one scan.

    Args:
        image: a file, a folder, zip file or DICOMDIR with one DICOM series, or a SimpleITK image, of any orientation,
            spacing and size; a 2-D image is taken as a sagittal slice whose columns run to posterior and whose rows
            run to inferior.
        model: from `load_model`, which serves many scans; or a model folder.
        slices: "central", "all", or a number K: the K sagittal slices about the central one.
        probabilities: also return the probabilities.
        series: which series of a DICOM folder, by number, part of its description or UID.
        thresholds: when a segmentation needs a review.
        measure: also find levels and measure them, with intervals where the model draws samples.
        structures: which of the model's labels are canal, vertebrae and discs, as `["canal=1", "vertebrae=2"]`; None
            takes them by name.

    Raises:
        FileNotFoundError: no such scan or model.
        ValueError: the scan or model is damaged or cannot be segmented; the message says why.
    """
    if not isinstance(model, SegmentationModel):
        model = load_model(model)
    measuring = None
    if measure:
        from nnunetv2_diffusion.scans.measuring import measuring_of

        measuring = measuring_of(model, structures)
    options = Options(slices, probabilities, thresholds or ReviewThresholds(), measuring=measuring)
    if isinstance(image, sitk.Image):
        return _segment_scan(scan_from_image(image), None, model, options)
    with unzipped(Path(image)) as path:
        sources, _ = find_scans(path, series, trained_contrasts(model.predictor.dataset_json))
        if len(sources) > 1:
            names = ", ".join(source.name for source in sources)
            raise ValueError(f"{image} holds {len(sources)} scans ({names}): name one of them, or its series")
        scan = sources[0].read()
    return _segment_scan(scan, sources[0].shown_name, model, options)


def segment_files(
    path: str | Path,
    output: str | Path,
    model: SegmentationModel,
    options: Options,
    *,
    series: str | None = None,
    form: ImageFiles = AS_SCANNED,
    overwrite: bool = False,
    workers: int = 1,
    excluded: Collection[str] = (),
    share: Share | None = None,
    asked: Asked | None = None,
    say: Callable[[str], None] = say_line,
) -> list[str]:
    """Segment a scan, or all scans of a folder, and write <name> mask, map, json and picture for each.

    Of several scans the web page and the table of all results in the output folder are written, too.

    A scan whose result is there, made of the same files by the same model, settings and options, is left alone.

    Args:
        path, series: see `scans.find_scans`; also a zip file of what a folder may hold.
        output: folder to write to.
        model: from `load_model`.
        options: how to segment.
        form: of what is written, see `scans.formats`; by default images of the scan's own format (DICOM becomes .mha).
        overwrite: segment also what is finished.
        workers: how many scans are read ahead and written behind; 0 does one thing after the other.
        excluded: names of scans to leave out, also of page and table.
        share: the scans that are this model's, of those that several models share; None for all.
        asked: what is asked for in words, by which `resuming.all_finished` knows the results again.
        say: told of every scan that is done, of DICOM series and of warnings.

    Returns:
        One sentence for each scan that could not be segmented; the others are written.

    Raises:
        FileNotFoundError: there is no scan.
        OSError: the output folder cannot be written to.
    """
    contrasts = share.among if share else trained_contrasts(model.predictor.dataset_json)
    work = work_of(model, options, form, overwrite=overwrite, workers=workers)
    if asked is not None:
        work = replace(work, asked=cache(asked.hash))
    with unzipped(Path(path)) as given:
        sources, remarks = form.find(given, series, contrasts, options.progress)
        for remark in remarks:
            say(remark)
        check_output_folder(Path(output), sources, form)
        form.begin(Path(output))
        wanted = [source for source in sources if source.name not in excluded]
        unknown = share.unknown(wanted) if share else []
        failures = work_through(share.own(wanted) if share else wanted, Path(output), work, model.labels, say)
    if len(sources) > 1:
        from nnunetv2_diffusion.scans.page.page import write_page  # here: a single scan need not wait for it

        for remark in write_page(Path(output), excluded):
            say(remark)
    return [*unknown, *failures]


def work_of(
    model: SegmentationModel, options: Options, form: ImageFiles, *, overwrite: bool = False, workers: int = 1
) -> Work:
    """What is done with each scan of a folder; see `segment_files`."""
    if workers < 0:
        raise ValueError(f"the number of scans that are read ahead must be at least 0, not {workers}")
    described = {**describe_model(model), "maps": model.predictor.map_names}
    return Work(
        lambda scan, name: _segment_scan(scan, name, model, options),
        lambda own: request_hash(described, options, own),
        form,
        _line,
        overwrite,
        workers,
        options.progress,
    )


def _line(name: str, found: Segmentation) -> str:
    report = found.report
    notes = [*report["warnings"], *(f"review: {reason}" for reason in report["review_reasons"])]
    return "; ".join([f"{name}: {report['seconds']['total']:.1f} s", *notes])


def _segment_scan(scan: Scan, name: str | None, model: SegmentationModel, options: Options) -> Segmentation:
    started = time.perf_counter()
    volume = SagittalVolume.of(scan.volume, model.spacing, model.size)
    indices = slice_indices(options.slices, volume.image)
    drawn: dict[int, np.ndarray] = {}
    found = _predict(volume, indices, model, options, name, drawn)
    mask, maps, probabilities, uncertainty = found.mask, found.maps, found.probabilities, found.maps[0]
    measured = None
    if options.measuring is not None:
        from nnunetv2_diffusion.scans.measuring import measure_scan  # here: other scans need not wait for it

        measured = measure_scan(volume, mask, model, options.measuring, drawn)
    report = {
        "input": name,
        "model": describe_model(model),
        "device": str(model.predictor.device),
        "versions": software(),
        "covered": what_was_covered(volume, indices, model),
        "maps": {"names": model.predictor.map_names, **model.predictor.described_members()},
        **findings(volume, mask[..., indices], uncertainty[..., indices], model, options.thresholds),
        "pairwise_dice": found.pairwise_dice,
        "warnings": [*scan.warnings, *volume.remarks(), *model.remarks()],
    }
    middle, landmarks = indices[len(indices) // 2], None
    if measured is not None:
        report["measured"] = measured.report
        report["warnings"] += measured.warnings
        middle, landmarks = measured.index if measured.index is not None else middle, measured.landmarks
    image = sitk.GetArrayViewFromImage(volume.image)
    picture = [array[..., middle].copy() for array in (image, mask, uncertainty)]
    heads = None
    if probabilities is not None:
        heads = sitk.JoinSeries([_on_scan(head, volume, scan) for head in probabilities])
    uncertainty_image, *disagreement = (_on_scan(values, volume, scan) for values in maps)
    images = (_on_scan(mask, volume, scan), uncertainty_image, heads)
    total = time.perf_counter() - started
    report["seconds"] = {"prediction": round(found.seconds, 3), "total": round(total, 3)}
    shown = Picture(*picture, volume.image.GetSpacing()[:0:-1], landmarks)
    if measured is None:
        return Segmentation(*images, report, shown, disagreement=tuple(disagreement))
    levels = None if measured.levels is None else _on_scan(measured.levels, volume, scan)
    table = measured.table.assign(scan=name or "")
    return Segmentation(*images, report, shown, levels, table, tuple(disagreement))


def _predict(
    volume: SagittalVolume,
    indices: Sequence[int],
    model: SegmentationModel,
    options: Options,
    name: str | None,
    drawn: dict[int, np.ndarray],
) -> _Found:
    """What a model finds in a scan.

    The mask is decided on the scan's pixels from interpolated probabilities, so its outlines are smooth there. The
    samples of a single slice that is to be measured go to `drawn`; of several, the one to measure is not known yet.
    """
    shape = volume.image.GetSize()[::-1]
    label_manager = model.predictor.label_manager
    names, heads = model.predictor.map_names, label_manager.num_segmentation_heads
    probabilities = np.zeros((heads, *shape), np.float32) if options.probabilities else None
    here = _Found(np.zeros(shape, np.uint8), np.zeros((len(names), *shape), np.float32), probabilities)
    taken = list(range(volume.slices)) if model.whole_volume else list(indices)
    array = volume.model_array(taken)
    spacing = volume.grid(0, volume.slices).spacing[::-1]
    positions = [taken.index(index) for index in indices]
    started = time.perf_counter()
    samples = options.measuring is not None and model.draws_samples and len(positions) == 1
    predicted = model.predict(array, spacing, positions, samples)
    hidden = None if options.progress else True  # None: shown in a terminal only
    for found in tqdm(predicted, name, len(positions), leave=False, unit="slice", disable=hidden):
        here.seconds += time.perf_counter() - started
        index = taken[found.position]
        planes = np.stack([volume.plane_on_scan(head, index) for head in found.probabilities])
        here.mask[..., index] = label_manager.convert_probabilities_to_segmentation(planes)
        for values, plane in zip(here.maps, (found.uncertainty, *found.disagreement), strict=True):
            values[..., index] = volume.plane_on_scan(plane, index)
        if probabilities is not None:
            probabilities[..., index] = planes
        if samples:
            drawn[index] = samples_on_scan(found, volume, index, label_manager)
        if found.overlaps is not None:
            here.overlaps = found.overlaps if here.overlaps is None else here.overlaps + found.overlaps
        started = time.perf_counter()
    return here


def _on_scan(array: np.ndarray, volume: SagittalVolume, scan: Scan) -> sitk.Image:
    """An array [z, y, x] in RAS+ orientation with the geometry of the image that was given, 2-D where it was 2-D."""
    image = volume.to_scan(array)
    if scan.plane is None:
        return image
    plane = image[:, :, 0]
    plane.CopyInformation(scan.plane)
    return plane
