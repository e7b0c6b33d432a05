"""SNOMED CT codes of structures and levels, from the context groups of DICOM's dictionary as pydicom has it."""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from nnunetv2_diffusion.scans.formats.segments import Segment
from nnunetv2_diffusion.spider import CANAL, DISCS, VERTEBRAE

# CID 7150 "Segmentation Property Category"
CATEGORY: Code = codes.SCT.AnatomicalStructure
# No context group names discs in general, only single ones (CID 7604): SNOMED CT's own concept.
_ANY_DISC = Code("360499006", "SCT", "Intervertebral disc")
# CID 6114 and 6115; "spinal canal" is the same concept.
_OF_STRUCTURE = {CANAL: codes.SCT.VertebralCanal, VERTEBRAE: codes.SCT.Vertebra, DISCS: _ANY_DISC}


def code_of(segment: Segment) -> Code:
    """What a segment shows: a single vertebra or disc (CID 7603, 7604), a structure, or else just a structure.

    A level without a code of its own, such as those above C1, has that of its structure.
    """
    general = _OF_STRUCTURE.get(segment.structure, CATEGORY)
    if not segment.level:
        return general
    kind = "Disc" if segment.structure == DISCS else "Vertebra"
    return getattr(codes.SCT, f"{segment.level.replace('/', '')}{kind}", general)
