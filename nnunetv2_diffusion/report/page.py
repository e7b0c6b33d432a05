"""The report's web page: its sections put into one self-contained index.html by Jinja2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.results import Results
from nnunetv2_diffusion.report.section import Section
from nnunetv2_diffusion.report.wording import fixed, p_text, signed, unbroken
from nnunetv2_diffusion.scoring.cases import Scores
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import TRAINING

TEMPLATES = Path(__file__).with_name("templates")
DISTRIBUTION = "nnunetv2-diffusion"


def render_page(results: Results, evaluated: Scores, sections: Sequence[Section], figures: Mapping[str, str]) -> str:
    """The page as text.

    Args:
        results: what was read, for the head of the page and its notes.
        evaluated: the scores that count.
        sections: in their order.
        figures: inline SVG of every section's figures, by name.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    filters = {"fixed": fixed, "signed": signed, "p": p_text, "structure": display_name, "unbroken": unbroken}
    environment.filters |= filters
    data = {name: value for section in sections for name, value in section.data.items()}
    return environment.get_template("report.html.j2").render(
        title="Lumbar spine segmentation: evaluation",
        style=_text("report.css"),
        scripts=[_text(section.script) for section in sections if section.script],
        data=as_script_json(data),
        facts=_facts(results, evaluated),
        notes=results.notes,
        sections=sections,
        bodies=[_body(environment, section, figures) for section in sections],
        paper_source=paper.SOURCE,
    )


def as_script_json(data: Any) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _body(environment: Environment, section: Section, figures: Mapping[str, str]) -> Markup:
    pictures = {name: Markup(figures[name]) for name in section.figures}
    return Markup(environment.get_template(section.template).render(**section.variables, figures=pictures))


def _text(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _facts(results: Results, evaluated: Scores) -> dict[str, Any]:
    """The numbers at the head of the page, and what its foot says of the software."""
    structures = evaluated.structures
    try:
        software = f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        software = DISTRIBUTION
    return {
        "software": software,
        "date": date.today().isoformat(),
        "datasets": list(dict.fromkeys(results.cases["dataset"])),
        "trainings": len(results.trainings),
        "masks": len(structures.drop_duplicates([*TRAINING, "case"])),
        "patients": structures["patient"].nunique(),
        "missing_folds": int((results.folds["found"] == 0).sum()),
        "oblique": results.oblique_scans,
    }
