"""Every command line in the documentation is understood by the program that it calls, down to its flags."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import re
import sys

import pytest

from helpers.documents import PAGES, ROOT, code_blocks, code_spans, command_lines, text_of
from nnunetv2_diffusion import cli

SHELL = {"export", "for", "done", "source", "cd", "git", "pip", "python3", "pytest", "ruff", "mkdocs", "twine"}
NNUNET = {
    point.name: point
    for point in importlib.metadata.entry_points(group="console_scripts")
    if point.name.startswith("nnUNetv2_")
}
COMMANDS = [
    (page, " ".join(words))
    for page, path in PAGES.items()
    for block in code_blocks(text_of(path), "bash")
    for words in command_lines(block)
]
SPANS = sorted({span for path in PAGES.values() for span in code_spans(text_of(path))})


class Parsed(Exception):  # noqa: N818 -- it is no error
    """Raised in place of running a program whose command line was understood."""


def parse_with_nnunet(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one of nnU-Net's programs parse its command line, and stop it there; SystemExit where it does not."""
    understood = argparse.ArgumentParser.parse_args

    def parse_args(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        understood(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed):
        NNUNET[words[0]].load()()


def options_of(command: str) -> set[str]:
    """The flags of a command of ours."""
    parser = cli.build_parser(command)
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {*parser._option_string_actions, *subparsers.choices[command]._option_string_actions}


def test_pages_have_commands():
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/spider.md", "docs/scans.md", "benchmarks/README.md"}


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_block(page: str, line: str, monkeypatch: pytest.MonkeyPatch):
    program, *arguments = words = line.split(" ")
    if program == "spinesegdiff":
        command = next((word for word in arguments if word in cli.COMMANDS), None)
        cli.build_parser(command).parse_args(arguments)
    elif program.startswith("nnUNetv2_"):
        parse_with_nnunet(words, monkeypatch)
    elif program == "python":
        script = ROOT / arguments[0]
        assert script.parent == ROOT / "benchmarks"
        importlib.import_module(script.stem).build_parser().parse_args(arguments[1:])
    else:
        assert program in SHELL or re.match(r"\w+=", program), f"{page} calls {program}"


@pytest.mark.parametrize("span", [span for span in SPANS if re.match(r"spinesegdiff [a-z]", span)])
def test_in_a_sentence(span: str):
    _, command, *arguments = span.split()
    if command != "COMMAND":
        assert {word for word in arguments if word.startswith("-")} <= options_of(command)


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("nnUNetv2_")])
def test_programs_of_nnunet_exist(span: str):
    assert span.split()[0] in NNUNET


def test_flags_that_a_sentence_names():
    known = set().union(*(options_of(command) for command in cli.COMMANDS))
    pages = [path for page, path in PAGES.items() if page != "benchmarks/README.md"]  # whose flags are its scripts'
    named = {span.split()[0] for path in pages for span in code_spans(text_of(path)) if re.match(r"--?[a-z]", span)}
    named -= {"-npfp", "-e"}  # nnU-Net's planning, pip
    assert sorted(named - known) == []
