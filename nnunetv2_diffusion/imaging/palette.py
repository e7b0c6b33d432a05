"""The colours of all pictures."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

STYLE = Path(__file__).with_name("figures.mplstyle")
INK, AXIS, GRID = "#1b2733", "#9aa5b1", "#d9dfe5"
WITH, WITHOUT = "#d9822b", "#2f7fc1"


def colour(index: int) -> str:
    """The style's colour number `index`, round and round."""
    cycle = mpl.rc_params_from_file(str(STYLE), use_default_template=False)["axes.prop_cycle"].by_key()["color"]
    return f"#{cycle[index % len(cycle)].lstrip('#')}"
