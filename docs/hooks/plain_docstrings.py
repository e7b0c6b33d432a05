"""Docstrings are plain text: `<name>.json` is a name, where Markdown would take it for an HTML tag and drop it."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """Griffe's extension, see `mkdocs.yml`: what looks like a tag, and stands outside of backticks, is escaped."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe's event for every object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"`[^`]*`|<", lambda found: "&lt;" if found[0] == "<" else found[0], obj.docstring.value
            )
