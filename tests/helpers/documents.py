"""What the written pages hold: code blocks, command lines, links, headings and tables, for the tests of docs/."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SEPARATORS = {"&&", "||", "|", ";", "do", "then"}


def text_of(path: Path) -> str:
    """A page's text."""
    return path.read_text(encoding="utf-8")


def code_blocks(text: str, language: str) -> list[str]:
    """The fenced blocks in a language, without what they are indented by."""
    found = [(match[1], match[3]) for match in _FENCE.finditer(text) if match[2] == language]
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def code_spans(text: str) -> list[str]:
    """What stands between backticks in a page's prose."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def command_lines(block: str) -> Iterator[list[str]]:
    """The words of every simple command in a shell block; loops, lists and substitutions are taken apart."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in (re.sub(r'"?\$\(.*?\)"?', "SUBSTITUTED", line), *re.findall(r"\$\((.*?)\)", line)):
            yield from _simple_commands(part)


def _simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            command.append(word)
            continue
        if command:
            yield command
        command = []


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its header and ruler left out."""
    below = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    rows = re.search(r"^\|.*\n\|[ |-]+\n((?:\|.*\n)+)", below, re.MULTILINE)[1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures that lie in the checkout."""
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The names by which a page's headings are linked to, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    plain = [
        re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()).strip().lower() for heading in headings
    ]
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}
