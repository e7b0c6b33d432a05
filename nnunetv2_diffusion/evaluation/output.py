"""Writing files whole or not at all: each is written beside its final name and then put in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in `path`'s folder (same suffixes), then move it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as csv (UTF-8, no index, six significant digits)."""
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False, float_format="%.6g"))


def write_text(text: str, path: Path) -> None:
    """Write a text file (UTF-8)."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
