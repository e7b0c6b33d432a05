"""Methods: what was counted, by which rules and tests, in the words that the numbers need."""

from __future__ import annotations

from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.report.statistics import ALPHA
from nnunetv2_diffusion.scoring.calibration import CALIBRATION_BINS
from nnunetv2_diffusion.scoring.crops import FOREGROUND_MARGIN
from nnunetv2_diffusion.scoring.metrics import EMPTY_MASK_RULE
from nnunetv2_diffusion.scoring.tables import missed

CSV_FILES = ()


def section(context: Context) -> Section:
    """The rules, with how often they applied here."""
    return Section(
        id="methods",
        title="Methods",
        template="methods.html.j2",
        variables={
            "oblique": context.results.oblique_scans,
            "missed": int(missed(context.evaluated.structures).sum()),
            "empty_mask_rule": EMPTY_MASK_RULE,
            "alpha": ALPHA,
            "bins": CALIBRATION_BINS,
            "margin": FOREGROUND_MARGIN,
            "pfirrmann": context.pfirrmann,
            "paper_source": paper.SOURCE,
        },
    )
