"""What the site makes by itself: the flags of the commands, and the pages that lie outside of docs/."""

from __future__ import annotations

import html
import importlib.util
import re
from types import ModuleType

import pytest

from helpers.documents import ROOT, text_of
from nnunetv2_diffusion import cli


def hook(name: str) -> ModuleType:
    """One of the site's hooks, loaded as MkDocs does: from its file."""
    spec = importlib.util.spec_from_file_location(f"docs_hook_{name}", ROOT / "docs" / "hooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FLAGS, FILES = hook("flags"), hook("checkout_files")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_page_says_what_help_says(command: str, monkeypatch: pytest.MonkeyPatch):
    page = FLAGS.on_page_markdown(f"before\n\n<!-- flags of {command} -->\n\nafter")
    assert page.startswith("before\n\n") and page.endswith("\n\nafter")
    shown = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</t[dh]>", " ", page)))
    monkeypatch.setenv("COLUMNS", "9999")
    told = FLAGS.command_parser(command).format_help().partition(cli.COMMANDS[command])[2].replace("`", "")
    lines = [line for line in told.splitlines() if line.startswith("  ") and "--help" not in line]
    assert [word for line in lines for word in line.split() if word not in shown.split()] == []


def test_an_unknown_command_is_refused():
    with pytest.raises(ValueError, match="flags of 'segmentation'"):
        FLAGS.on_page_markdown("<!-- flags of segmentation -->")


def test_the_page_asks_for_every_command():
    assert FLAGS.MARK.findall(text_of(ROOT / "docs" / "commands.md")) == re.findall(
        r"^\| `spinesegdiff (\w+)` \|", text_of(ROOT / "docs" / "commands.md"), re.MULTILINE
    )


def test_files_from_the_checkout():
    files = FILES.site_files()
    assert files["changelog.md"] == ROOT / "CHANGELOG.md"
    assert files["results/sampling_spider_layout.png"].is_file()
    assert all(path.is_file() for path in files.values())


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[table](../benchmarks/results/a.md)", "[table](results/a.md)"),
        ("![curve](../../benchmarks/results/a.png)", "![curve](../results/a.png)"),
        ("[what is new](../CHANGELOG.md)", "[what is new](changelog.md)"),
        ("[page](settings.md)", "[page](settings.md)"),
    ],
)
def test_links_to_them(written: str, shown: str):
    assert FILES.on_page_markdown(written) == shown
