"""A BIDS data set in, a derivative data set out: masks as dseg with a table of labels, maps as probseg, sidecars."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_diffusion.files import read_json, write_json, write_text, write_whole
from nnunetv2_diffusion.measures import MEASUREMENTS_FILE
from nnunetv2_diffusion.nnunet_names import DISAGREEMENT
from nnunetv2_diffusion.scans.bids import BidsName, find_bids_scans
from nnunetv2_diffusion.scans.formats.images import ImageFiles, ResultFiles
from nnunetv2_diffusion.scans.formats.segments import Segment, level_segments, structure_segments
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.scans.sources import ScanSource
from nnunetv2_diffusion.spider import DOI

DESCRIPTION = "dataset_description.json"
DERIVATIVES = Path("derivatives", "spinesegdiff")
_GENERATOR, _PACKAGE = "spinesegdiff", "nnunetv2-diffusion"
_VERSION = "1.10.0"  # of BIDS
_ENDING = ".nii.gz"
# What BIDS knows no name for.
_IGNORED = f"*.png\n*_{MEASUREMENTS_FILE}\nindex.html\nsummary.csv\n"
_README = """# SpineSegDiff

Segmentations of lumbar MRI by `spinesegdiff segment --bids`: structures, and levels where they were measured, as `dseg`
images with a table of labels; uncertainty in [0, 1], 0 where nothing was segmented, as `desc-uncertainty_probseg`. The
json beside a mask tells the model, its settings, and whether the mask needs a review.
"""
_STRUCTURES = "Structures of the lumbar spine, 0 where nothing was segmented"
_LEVELS = f"Vertebrae and discs by level and the spinal canal, in SPIDER's numbering (doi:{DOI})"
_PROBABILITIES = "Probability of each label, 0 where nothing was segmented"
_UNCERTAINTY = "Uncertainty of the segmentation, from 0 to 1; 0 where nothing was segmented"


@dataclass(frozen=True)
class BidsFiles(ImageFiles):
    """Results as a derivative of the BIDS data set `root`, see `scans.bids`."""

    ending: str = "bids"
    root: Path = Path()

    def find(
        self, path: Path, series: str | None, contrasts: tuple[str, ...] | None, progress: bool
    ) -> tuple[list[ScanSource], list[str]]:
        """The data set's scans."""
        return find_bids_scans(path, contrasts)

    def files(self, source: ScanSource) -> ResultFiles:
        """Names by BIDS' entities."""
        name = BidsName.of(source.where)
        return ResultFiles(
            mask=f"{name.derived}_desc-structures_dseg{_ENDING}",
            uncertainty=f"{name.derived}_desc-uncertainty_probseg{_ENDING}",
            probabilities=f"{name.derived}_desc-structures_probseg{_ENDING}",
            levels=f"{name.derived}_desc-levels_dseg{_ENDING}",
            disagreement=tuple(f"{name.derived}_desc-{_word(one)}_probseg{_ENDING}" for one in DISAGREEMENT),
            measurements=f"{name.derived}_{MEASUREMENTS_FILE}",
            picture=f"{name.derived}.png",
            report=f"{name.derived}_desc-structures_dseg.json",
            folder=name.folder,
        )

    def describe(self, source: ScanSource) -> dict[str, Any]:
        """The sidecar of the mask is the scan's report, too."""
        return {"name": source.name, **_sidecar(source, _STRUCTURES), "Manual": False}

    def write_images(
        self, found: Segmentation, source: ScanSource, labels: Mapping[str, Any], stage: Path
    ) -> list[str]:
        """Images, each with its sidecar, and masks with their tables of labels."""
        files = self.files(source)
        told = {
            files.uncertainty: _sidecar(source, _UNCERTAINTY),
            files.probabilities: {**_sidecar(source, _PROBABILITIES), "LabelMap": _heads(found, labels)},
            files.levels: {**_sidecar(source, _LEVELS), "Manual": False},
        }
        for name, one in zip(files.disagreement, DISAGREEMENT, strict=True):
            told[name] = _sidecar(source, f"{one.replace('_', ' ').capitalize()} of the model's members")
        written = super().write_images(found, source, labels, stage)
        tables = {files.mask: structure_segments(labels)}
        if found.levels is not None:
            tables[files.levels] = level_segments(found.levels, labels)
        for name, segments in tables.items():
            written.append(name.replace(_ENDING, ".tsv"))
            _write_table(segments, stage / written[-1])
        for name in [name for name in written if name in told]:
            written.append(name.replace(_ENDING, ".json"))
            write_json(told[name], stage / written[-1])
        return written

    def begin(self, folder: Path) -> None:
        """Write what makes the folder a derivative data set.

        Raises:
            ValueError: it is another data set.
        """
        made_by = {"Name": _GENERATOR, "Version": importlib.metadata.version(_PACKAGE)}
        description = {
            "Name": "SpineSegDiff segmentations",
            "BIDSVersion": _VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{**made_by, "Description": "Diffusion-based segmentation of lumbar MRI"}],
            "DatasetLinks": {"raw": Path(os.path.relpath(self.root, folder)).as_posix()},
        }
        if (folder / DESCRIPTION).exists() and not _is_ours(folder / DESCRIPTION):
            raise ValueError(f"{folder} is another data set by its {DESCRIPTION}: choose another output folder")
        origin = _origin(self.root / DESCRIPTION)
        write_json({**description, **({"SourceDatasets": [origin]} if origin else {})}, folder / DESCRIPTION)
        write_text(_IGNORED, folder / ".bidsignore")
        if not (folder / "README.md").exists():
            write_text(_README, folder / "README.md")


def _word(name: str) -> str:
    """As the value of an entity, which has letters and digits alone."""
    return name.replace("_", "")


def _is_ours(file: Path) -> bool:
    generators = read_json(file).get("GeneratedBy")
    return isinstance(generators, list) and any(
        isinstance(one, dict) and one.get("Name") == _GENERATOR for one in generators
    )


def _origin(file: Path) -> dict[str, str]:
    """What a derivative says of its source: the DOI, where the source's own description has one."""
    try:
        doi = read_json(file).get("DatasetDOI")
    except (OSError, ValueError):
        return {}
    return {"DOI": str(doi)} if doi else {}


def _sidecar(source: ScanSource, description: str) -> dict[str, Any]:
    """What an image shows, what it was made of, and in whose space it lies."""
    origin = f"bids:raw:{BidsName.of(source.where).path}"
    return {"Description": description, "Sources": [origin], "SpatialReference": origin}


def _heads(found: Segmentation, labels: Mapping[str, Any]) -> list[str]:
    """Names of the volumes of probabilities: the background is first, but for regions, which have none."""
    volumes = 0 if found.probabilities is None else found.probabilities.GetSize()[-1]
    return [*labels] if volumes == len(labels) else ["background", *labels]


def _write_table(segments: list[Segment], path: Path) -> None:
    """A table of labels as BIDS has it: index, name, colour."""
    rows = [(segment.value, segment.name, segment.colour) for segment in segments]
    table = pd.DataFrame(rows, columns=["index", "name", "color"])
    write_whole(path, lambda partial: table.to_csv(partial, sep="\t", index=False))
