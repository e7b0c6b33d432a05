"""A study's config.yaml, read and held to its schema: whatever is misspelt or out of range is named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

HERE = Path(__file__).parent
PAPER, PHANTOMS = HERE / "paper.yaml", HERE / "phantoms.yaml"
_BASELINES = {"2d": "2d", "2d_spinesegdiff": "2d", "2d_small": "2d_small"}


def read_configuration(path: Path) -> dict[str, Any]:
    """What a config.yaml says, valid.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or an entry is unknown, missing or out of range; the sentence names it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())}); correct it") from error
    check_configuration(content, path)
    return content


def check_configuration(content: Any, path: Path) -> None:
    """Demand what the schema demands, and that the parts fit together.

    Raises:
        ValueError: the first entry that does not.
    """
    schema = yaml.safe_load((HERE / "schema.yaml").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(content))
    if error is not None:
        raise ValueError(f"{path}: {_sentence(error)}")
    _check_stages(content, path)


def _sentence(error: jsonschema.ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path))
    inside = f" in {place}" if place else ""
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = error.schema.get("properties", {})
        unknown = next(key for key in error.instance if key not in known)
        return f"there is no entry {unknown!r}{inside}{_nearest(unknown, known)}; it knows {', '.join(known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the entry {missing!r} is missing{inside}; take it from {PAPER.name}"
    return f"{place or 'the file'} must be otherwise: {' '.join(error.message.split())}"


def _nearest(word: Any, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _check_stages(content: Mapping[str, Any], path: Path) -> None:
    """The baseline of the stages must be a model of the grid, of the configuration that they refine."""
    stages, models = content["pre_segmentation"], content["models"]
    if stages is None:
        return
    baseline = stages["baseline"]
    if baseline not in models:
        raise ValueError(
            f"{path}: pre_segmentation.baseline names {baseline!r}, which is no model{_nearest(baseline, models)}; "
            f"models are {', '.join(models)}"
        )
    needed = _BASELINES[stages["base"]]
    if models[baseline]["configuration"] != needed:
        raise ValueError(
            f"{path}: stages on {stages['base']} refine a model of configuration {needed}, but {baseline} is of "
            f"{models[baseline]['configuration']}; name another baseline or base"
        )
