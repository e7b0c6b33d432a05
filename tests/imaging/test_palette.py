"""A structure has one colour, wherever it is drawn."""

from __future__ import annotations

import re

import pytest

from nnunetv2_diffusion.imaging.palette import STYLE, colour, level_colour, red_green_blue, structure_colours
from nnunetv2_diffusion.spider import CANAL, DISCS, STRUCTURES, VERTEBRAE

CYCLE = [f"#{tint}" for tint in re.findall(r'"([0-9a-f]{6})"', STYLE.read_text().partition("prop_cycle")[2])]


def test_the_style_s_cycle_goes_round():
    assert len(CYCLE) == 8
    assert [colour(number) for number in range(10)] == [*CYCLE, *CYCLE[:2]]


@pytest.mark.parametrize("names", [STRUCTURES, STRUCTURES[::-1], (VERTEBRAE,), (DISCS, "sacrum", CANAL)])
def test_structures_of_spider_keep_their_colours_in_every_dataset(names):
    expected = {CANAL: CYCLE[0], VERTEBRAE: CYCLE[1], DISCS: CYCLE[2]}
    found = structure_colours(names)
    assert list(found) == list(names)
    assert {name: tint for name, tint in found.items() if name in expected} == {
        name: expected[name] for name in names if name in expected
    }


def test_other_structures_take_what_is_left_in_order():
    assert list(structure_colours(["a", "b", "c"]).values()) == CYCLE[:3]
    assert structure_colours(["a", DISCS, "b", "c"]) == {"a": CYCLE[0], DISCS: CYCLE[2], "b": CYCLE[1], "c": CYCLE[3]}
    many = structure_colours([CANAL, *"abcdefgh"])
    assert [many[name] for name in "abcdefgh"] == [*CYCLE[1:], CYCLE[1]]


def test_levels_are_shades_of_their_structure_and_differ_from_their_neighbours():
    assert red_green_blue("#2f7fc1") == (47, 127, 193)
    shades = [level_colour("#2f7fc1", number) for number in range(6)]
    assert shades[:3] == shades[3:] and len({*shades, "#2f7fc1"}) == 4
    assert shades[1] == "#97bfe0"  # half way to white
