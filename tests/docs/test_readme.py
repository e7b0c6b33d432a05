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
    """A row of README.md's table has the figures of the comparison's own, under the same headings' columns."""
    text = text_of(README.parent / "benchmarks" / "results" / "compare_models_spider_volumes.md")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    of_map = ["error-detection AUROC", "area under risk-coverage", "calibration error"]
    columns = [header.index(column) for column in ("Vertebrae: Dice", *of_map, "s per slice")]
    found = {row[0]: [row[column] for column in columns] for row in rows}
    shown = {model: figures for model, *figures in table(TEXT, "What it has reached")}
    assert len(shown) == 2 and shown == {model: found[model] for model in shown}
