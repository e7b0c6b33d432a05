"""The colours of all pictures: of structures, which look alike wherever they are drawn, of series, ink and paper."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl

from nnunetv2_diffusion.spider import STRUCTURES

STYLE = Path(__file__).with_name("figures.mplstyle")
INK, PAPER, AXIS, GRID = "#1b2733", "#ffffff", "#9aa5b1", "#d9dfe5"
WITH, WITHOUT = "#d9822b", "#2f7fc1"
# Which way a level's colour goes from its structure's, towards black or white, and how far.
_SHADES = ((255, 0.25), (255, 0.5), (0, 0.35))


def _cycle() -> list[str]:
    style = mpl.rc_params_from_file(str(STYLE), use_default_template=False)
    return [f"#{tint.lstrip('#')}" for tint in style["axes.prop_cycle"].by_key()["color"]]


def colour(index: int) -> str:
    """The style's colour number `index`, round and round."""
    cycle = _cycle()
    return cycle[index % len(cycle)]


def structure_colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each structure of a dataset.

    SPIDER's structures have their own ones in every dataset; others get those that are left, in order, round and round.
    """
    names, cycle = list(names), _cycle()
    own = {name: tint for name, tint in zip(STRUCTURES, cycle, strict=False) if name in names}
    left = itertools.cycle(tint for tint in cycle if tint not in own.values())
    return {name: own[name] if name in own else next(left) for name in names}


def level_colour(tint: str, number: int) -> str:
    """The colour of a structure's part `number`: shades of the structure's, so that neighbours can be told apart."""
    towards, share = _SHADES[number % len(_SHADES)]
    return "#" + "".join(f"{round(value + (towards - value) * share):02x}" for value in red_green_blue(tint))


def red_green_blue(tint: str) -> tuple[int, int, int]:
    """A colour such as #2f7fc1 as three numbers from 0 to 255."""
    return tuple(int(tint[place : place + 2], 16) for place in (1, 3, 5))
