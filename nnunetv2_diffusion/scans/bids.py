"""A BIDS data set's scans (Gorgolewski et al. 2016, doi 10.1038/sdata.2016.44), found by their names alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nnunetv2_diffusion.scans.sources import OUTPUT_ENDINGS, ScanSource, doubted

EXPECTED = "sub-*/[ses-*/]anat/*_T1w.nii.gz or *_T2w.nii.gz"
_ENTITY = "[a-zA-Z]+-[a-zA-Z0-9]+"
_NAME = re.compile(rf"(sub-[a-zA-Z0-9]+(?:_{_ENTITY})*)_(T[12]w)(\.nii(?:\.gz)?)")
_FOLDERS = ("sub-*", "sub-*/ses-*")
# In BIDS' order of entities these come after the space.
_AFTER_SPACE = ("split", "recording", "chunk")


@dataclass(frozen=True)
class BidsName:
    """A scan's place in its data set.

    Attributes:
        folder: as in sub-01/ses-1/anat.
        entities: as in sub-01, ses-1, run-2, in BIDS' order.
        suffix: "T1w" or "T2w".
        ending: ".nii" or ".nii.gz".
    """

    folder: str
    entities: tuple[str, ...]
    suffix: str
    ending: str

    @classmethod
    def of(cls, file: Path) -> BidsName | None:
        """From a file's name and folders; None where they are not those of BIDS, or tell two subjects or sessions."""
        match = _NAME.fullmatch(file.name)
        if match is None:
            return None
        entities = tuple(match[1].split("_"))
        session = [entity for entity in entities if entity.startswith("ses-")]
        folders = (entities[0], *session, "anat")
        if file.parent.parts[-len(folders) :] != folders or len({e.split("-")[0] for e in entities}) < len(entities):
            return None
        return cls("/".join(folders), entities, match[2], match[3])

    @property
    def scan(self) -> str:
        """The file's name without its ending."""
        return "_".join((*self.entities, self.suffix))

    @property
    def path(self) -> str:
        """From the data set's root."""
        return str(PurePosixPath(self.folder, f"{self.scan}{self.ending}"))

    @property
    def derived(self) -> str:
        """How the names of its derivatives begin: its entities and its own space, which tells T1w from T2w."""
        after = [entity for entity in self.entities if entity.split("-")[0] in _AFTER_SPACE]
        before = [entity for entity in self.entities if entity not in after]
        return "_".join((*before, f"space-{self.suffix}", *after))


def find_bids_scans(root: Path, contrasts: tuple[str, ...] | None = None) -> tuple[list[ScanSource], list[str]]:
    """The T1w and T2w images of a BIDS data set, and what there is to say about those that are left out.

    Args:
        root: of the data set; what lies in its derivatives and other folders is no scan.
        contrasts: that the model was trained on: of each session those images are taken, the others only where it has
            none of these; None for all.

    Raises:
        FileNotFoundError: there is no such image.
    """
    files = sorted(file for folder in _FOLDERS for file in root.glob(f"{folder}/anat/*_T[12]w.nii*"))
    named = [(file, BidsName.of(file)) for file in files]
    wrong = [file for file, name in named if name is None]
    remarks = [f"left out, since its name or folder is not as in BIDS: {file.relative_to(root)}" for file in wrong]
    sources = [ScanSource(name.scan, name.ending, OUTPUT_ENDINGS[name.ending], file) for file, name in named if name]
    if not sources:
        raise FileNotFoundError(f"there is no scan in {root}: expected {EXPECTED}, as BIDS names them")
    fitting = _of_contrast(sources, contrasts)
    if len(fitting) < len(sources):
        left = len(sources) - len(fitting)
        remarks.append(f"left out, since the model was trained on {' and '.join(contrasts)}: {left} images")
    return doubted(fitting, contrasts), remarks


def _of_contrast(sources: Sequence[ScanSource], contrasts: tuple[str, ...] | None) -> list[ScanSource]:
    if not contrasts:
        return list(sources)
    served = {source.where.parent for source in sources if source.contrast in contrasts}
    return [source for source in sources if source.contrast in contrasts or source.where.parent not in served]
