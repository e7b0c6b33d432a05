"""Puts the flags of a command where a line of a page is `<!-- flags of COMMAND -->`, from the command's own parser."""

from __future__ import annotations

import argparse
import html
import re
from typing import Any

from nnunetv2_diffusion import cli

MARK = re.compile(r"^<!-- flags of (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' event: the page's text with every mark replaced."""
    return MARK.sub(lambda mark: flag_tables(mark[1]), markdown)


def command_parser(command: str) -> argparse.ArgumentParser:
    """The parser of `spinesegdiff command` alone.

    Raises:
        ValueError: there is no such command.
    """
    if command not in cli.COMMANDS:
        raise ValueError(f"a page asks for the flags of {command!r}; the commands are {', '.join(cli.COMMANDS)}")
    whole = cli.build_parser(command)
    (subparsers,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    return subparsers.choices[command]


def flag_tables(command: str) -> str:
    """HTML: a table for each group of the command's arguments, in the parser's order and words."""
    parser = command_parser(command)
    formatter = parser._get_formatter()
    parts = []
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if not actions:
            continue
        if group.title not in ("positional arguments", "options"):
            parts.append(f"<p>{_as_html(group.title[0].upper() + group.title[1:])}</p>")
        rows = "".join(_row(action, formatter) for action in actions)
        parts.append(f"<table><thead><tr><th>flag</th><th>meaning</th></tr></thead><tbody>{rows}</tbody></table>")
    if parser.epilog:
        parts.append(f"<p>{_as_html(parser.epilog)}</p>")
    return "\n\n".join(parts)


def _row(action: argparse.Action, formatter: argparse.HelpFormatter) -> str:
    flag = html.escape(formatter._format_action_invocation(action), quote=False)
    needed = " <em>required</em>" if action.required and action.option_strings else ""
    meaning = _as_html(formatter._expand_help(action)) if action.help else ""
    return f"<tr><td><code>{flag}</code>{needed}</td><td>{meaning}</td></tr>"


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
