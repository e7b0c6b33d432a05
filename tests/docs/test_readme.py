"""README.md: short, with the two commands at the top that continuous integration runs."""

from __future__ import annotations

import re

from helpers.documents import README, code_blocks, table, text_of

TEXT = text_of(README)


def test_is_short():
    assert len(TEXT.split()) <= 900


def test_commands_at_the_top():
    commands = [line.partition("  #")[0].strip() for line in code_blocks(TEXT, "bash")[0].splitlines()]
    assert commands == [
        "pip install -c constraints.txt . && spinesegdiff demo",
        "pip install -c constraints.txt '.[test]' && pytest",
    ]
    assert re.search(r"```(\w*)", TEXT)[1] == "bash"


def test_six_steps():
    assert re.findall(r"^\*\*(\d)\. ", TEXT, re.MULTILINE) == list("123456")


def test_results_are_those_of_the_benchmarks():
    """A row of README.md's table stands in the comparison's own tables."""
    results = README.parent / "benchmarks" / "results"
    spider = text_of(results / "compare_models_spider_layout.md")
    slices = text_of(results / "compare_models_discs_and_vertebrae_2d.md")
    for model, vertebrae, other_vertebrae, discs in table(TEXT, "What it has reached"):
        assert f"| {model} | {vertebrae} |" in spider
        assert f"| {model} | {discs} | {other_vertebrae} |" in slices
