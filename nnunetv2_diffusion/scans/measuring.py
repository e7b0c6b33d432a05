"""Levels and measurements of a scan's mask: in its mid-sagittal slice, with intervals where the model draws samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_diffusion.anatomy.conformal import Calibration
from nnunetv2_diffusion.anatomy.landmarks import Landmarks
from nnunetv2_diffusion.anatomy.midsagittal import check_sagittal
from nnunetv2_diffusion.anatomy.sample_masks import Samples
from nnunetv2_diffusion.anatomy.structures import Values, named_values, parse_values
from nnunetv2_diffusion.anatomy.volume import measure_volume
from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.measures import COLUMNS
from nnunetv2_diffusion.nnunet_names import CALIBRATION_FILE, DATASET_FILE
from nnunetv2_diffusion.scans.model import SegmentationModel
from nnunetv2_diffusion.scans.sagittal import SagittalVolume
from nnunetv2_diffusion.scans.samples import samples_on_scan

_REMEDY = "make it anew with `spinesegdiff calibrate`, or remove it"


@dataclass(frozen=True)
class Measuring:
    """How a model's masks are measured: the labels of each structure, and its calibration if there is one."""

    values: Values
    calibration: Calibration | None = None


@dataclass(frozen=True)
class ScanMeasurements:
    """What was measured of a scan in RAS+ orientation; `levels` and `index` are None where it could not be measured.

    Attributes:
        table: of `measures.COLUMNS`; where it could not be measured, one row whose remark says why.
        report: for the json file.
        warnings: for the terminal and the json file.
        levels: uint8 [z, y, x] in SPIDER's numbering.
        landmarks, index: of the slice that was measured.
    """

    table: pd.DataFrame
    report: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    levels: np.ndarray | None = None
    landmarks: Landmarks | None = None
    index: int | None = None


def measuring_of(model: SegmentationModel, structures: Sequence[str] | None = None) -> Measuring:
    """How the masks of a model are measured.

    Args:
        model: its folder may hold a calibration.
        structures: which label is which, see `structures.parse_values`; None takes the names of its labels.

    Raises:
        ValueError: the model names no vertebrae and `structures` does not either, or the calibration is damaged.
    """
    values = parse_values(structures) if structures else named_values(model.labels, str(model.folder / DATASET_FILE))
    return Measuring(values, read_calibration(model.folder))


def read_calibration(folder: Path) -> Calibration | None:
    """What `spinesegdiff calibrate` left in a model's folder; None where it was not run.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / CALIBRATION_FILE
    if not file.is_file():
        return None
    content = read_json(file, remedy=_REMEDY)
    with naming(file, _REMEDY):
        return Calibration.from_json(content)


def measure_scan(
    volume: SagittalVolume,
    mask: np.ndarray,
    model: SegmentationModel,
    measuring: Measuring,
    drawn: dict[int, np.ndarray],
) -> ScanMeasurements:
    """Measure a scan's mask [z, y, x]; a mask that cannot be measured is no error, but said.

    Args:
        volume: the scan.
        mask: 0 in slices that were not segmented.
        model: that segmented it.
        measuring: how.
        drawn: samples by the index of their slice, label maps [S, z, y]; those of another slice are drawn now. Noise
            depends on the seed alone, so that they are the ones that its mask was fused of.
    """

    def take(index: int) -> np.ndarray:
        return drawn[index] if index in drawn else draw_samples(volume, model, index)

    samples = Samples(take, len(model.folds), measuring.calibration) if model.draws_samples else None
    try:
        check_sagittal(volume.image, "the scan")
        found = measure_volume(mask, volume.image.GetSpacing()[::-1], measuring.values, samples=samples)
    except ValueError as error:
        why = f"not measured: {' '.join(str(error).split())}"
        row = {**dict.fromkeys(COLUMNS, ""), "value": np.nan, "low": np.nan, "high": np.nan, "samples": None}
        table = pd.DataFrame([{**row, "remark": why}], columns=list(COLUMNS))
        return ScanMeasurements(table, {"remarks": [why], "measurements": []}, [why])
    doubts = found.report["levels_doubt"]
    warnings = [f"levels in doubt: {'; '.join(doubts)}"] if doubts else []
    return ScanMeasurements(found.table, found.report, warnings, found.levels, found.landmarks, found.index)


def draw_samples(volume: SagittalVolume, model: SegmentationModel, index: int) -> np.ndarray:
    """The samples of one slice as label maps [S, z, y] on the scan's own pixels."""
    taken = list(range(volume.slices)) if model.whole_volume else [index]
    spacing = volume.grid(0, volume.slices).spacing[::-1]
    found = next(iter(model.predict(volume.model_array(taken), spacing, [taken.index(index)], True)))
    return samples_on_scan(found, volume, index, model.predictor.label_manager)
