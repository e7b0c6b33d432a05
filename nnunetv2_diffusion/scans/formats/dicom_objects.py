"""DICOM segmentations and parametric maps, made with highdicom (Bridge et al. 2022, doi 10.1007/s10278-022-00683-y)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from highdicom.content import AlgorithmIdentificationSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.palette import red_green_blue
from nnunetv2_diffusion.scans.dicom import Series
from nnunetv2_diffusion.scans.dicom.headers import quiet_pydicom
from nnunetv2_diffusion.scans.formats.codes import CATEGORY, code_of
from nnunetv2_diffusion.scans.formats.dicom_sources import SourceImages, refer, source_images
from nnunetv2_diffusion.scans.formats.segments import Segment, segments_of
from nnunetv2_diffusion.scans.found import Segmentation

_PACKAGE, _MODEL = "nnunetv2-diffusion", "SpineSegDiff"
_SEGMENTATION, _MAP = 1, 2
_NUMBER_WITHOUT = 90
_BODY_PART = "LSPINE"
_LONGEST = 64  # of what DICOM calls a long string


def write_segments(found: Segmentation, series: Series, labels: Mapping[str, Any], path: Path) -> None:
    """Write a binary DICOM segmentation: a segment a structure, or a level where they were found; no empty frames.

    Args:
        found: on the stack's grid.
        series: the stack.
        labels: the model's structures.
        path: the file.

    Raises:
        ValueError: its headers hold what no new DICOM object may carry on.
        OSError: the disk refused.
    """
    image, segments = segments_of(found, labels)
    array, numbers = sitk.GetArrayFromImage(image), np.zeros(256, np.uint8)
    for number, segment in enumerate(segments, start=1):
        numbers[segment.value] = number
    algorithm = _algorithm(found.report)
    described = [_describe(number, segment, algorithm) for number, segment in enumerate(segments, start=1)]
    sources = source_images(series)
    with _carried_on():
        made = hd.seg.Segmentation(
            source_images=sources.images,
            pixel_array=numbers[array],
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            content_label="SPINESEGDIFF",
            content_description="Segmentation of the lumbar spine",
            series_description=f"{_MODEL} segmentation",
            **_new_object(sources, found.report, _SEGMENTATION),
        )
        _finish(made, sources)
    _save(made, path)


def write_map(found: Segmentation, series: Series, path: Path) -> None:
    """Write the uncertainty map as a DICOM parametric map in float32; slices without any value are left out.

    Raises:
        ValueError, OSError: as `write_segments`.
    """
    array, sources = sitk.GetArrayFromImage(found.uncertainty), source_images(series)
    filled = np.flatnonzero(array.any(axis=(1, 2)))
    kept = filled.tolist() or [len(array) // 2]
    mapping = RealWorldValueMapping(
        lut_label="uncertainty",
        lut_explanation="Uncertainty of the segmentation, from 0 to 1",
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1,
        intercept=0,
    )
    with _carried_on():
        made = ParametricMap(
            source_images=[sources.images[index] for index in kept],
            pixel_array=np.ascontiguousarray(array[kept], np.float32),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
            content_label="UNCERTAINTY",
            content_description="Uncertainty of the segmentation",
            series_description=f"{_MODEL} uncertainty",
            **_new_object(sources, found.report, _MAP),
        )
        _finish(made, sources)
    _save(made, path)


@contextmanager
def _carried_on() -> Iterator[None]:
    """What highdicom refuses becomes a sentence without the headers' values, which may name a patient."""
    try:
        with quiet_pydicom():
            yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"its DICOM headers hold a value that no new object may carry on ({type(error).__name__} in highdicom): "
            "correct them, or take another --format"
        ) from error


def _finish(made: Dataset, sources: SourceImages) -> None:
    refer(made, sources)
    made.BodyPartExamined = sources.images[0].get("BodyPartExamined") or _BODY_PART


def _save(made: Dataset, path: Path) -> None:
    with quiet_pydicom():
        write_whole(path, lambda partial: made.save_as(partial, enforce_file_format=True))


def _new_object(sources: SourceImages, report: Mapping[str, Any], kind: int) -> dict[str, Any]:
    """Series, instance and equipment of what is made."""
    number = _NUMBER_WITHOUT if sources.series is None else sources.series
    return {
        "series_instance_uid": hd.UID(),
        "series_number": 100 * number + kind,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": _PACKAGE,
        "manufacturer_model_name": _MODEL,
        "software_versions": str(report["versions"][_PACKAGE]),
        "device_serial_number": str(report["model"]["hash"])[:_LONGEST],
    }


def _algorithm(report: Mapping[str, Any]) -> AlgorithmIdentificationSequence:
    model = report["model"]
    settings = {"model": model["hash"], "folds": model["folds"], "seed": model["seed"], **(model["settings"] or {})}
    return AlgorithmIdentificationSequence(
        name=str(model["trainer"])[:_LONGEST],
        family=codes.DCM.ArtificialIntelligence,
        version=str(report["versions"][_PACKAGE]),
        source=_PACKAGE,
        parameters={name: str(value) for name, value in settings.items()},
    )


def _describe(number: int, segment: Segment, algorithm: AlgorithmIdentificationSequence) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:_LONGEST],
        segmented_property_category=CATEGORY,
        segmented_property_type=code_of(segment),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*red_green_blue(segment.colour)),
    )
