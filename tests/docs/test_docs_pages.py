"""Links, pictures, Python and files that the documentation names are there; each page has its place in the site."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from helpers.documents import PAGES, ROOT, anchors, code_blocks, code_spans, links, text_of
from nnunetv2_diffusion import scans

PYTHON = [(page, block) for page, path in PAGES.items() for block in code_blocks(text_of(path), "python")]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    for link in links(text_of(PAGES[page])):
        target, _, anchor = link.partition("#")
        place = PAGES[page].parent / target if target else PAGES[page]
        if target in ("contributing.md", "changelog.md"):
            continue
        assert place.exists(), link
        assert not anchor or anchor in anchors(text_of(place)), link


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str):
    named = [
        span for span in code_spans(text_of(PAGES[page])) if re.fullmatch(r"(tests|benchmarks|docs)/[\w/.]+", span)
    ]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(("page", "block"), PYTHON)
def test_python(page: str, block: str):
    for node in ast.walk(ast.parse(block, page)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def test_calls_of_ours_take_their_keywords():
    """`load_model` and `segment` are called as they are declared."""
    calls = [
        node
        for _, block in PYTHON
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in scans.__all__
    ]
    assert calls
    for call in calls:
        signature = inspect.signature(getattr(scans, ast.unparse(call.func)))
        signature.bind(*call.args, **{keyword.arg: keyword.value for keyword in call.keywords})


def test_every_page_has_its_place_in_the_site():
    navigation = set(
        re.findall(r"- (?:\w+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert navigation == pages | {"contributing.md", "changelog.md"}


def test_documented_objects_exist():
    marks = re.findall(r"^::: ([\w.]+)$", text_of(ROOT / "docs" / "python.md"), re.MULTILINE)
    assert marks
    for mark in marks:
        module, _, name = mark.rpartition(".")
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(mark), mark


def test_nothing_of_the_results_is_forgotten():
    """Every table and picture of the benchmarks is linked to from a page."""
    linked = {(path.parent / link).resolve() for path in PAGES.values() for link in links(text_of(path))}
    results = {path.resolve() for path in (ROOT / "benchmarks" / "results").iterdir() if path.suffix == ".md"}
    assert sorted(Path(path).name for path in results - linked) == []
