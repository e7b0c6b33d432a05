"""Takes the place of the processes that a pipeline starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class Recorder:
    """Notes the commands instead of running them; fails from the command on that holds `failing`."""

    def __init__(self, failing: str | None = None):
        self.failing = failing
        self.calls: list[tuple[list[str], Path, Mapping[str, str]]] = []

    def __call__(self, command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> int:
        self.calls.append((command, folder, environment))
        log.write_text("first line\nthe last line\n")
        return int(self.failing is not None and self.failing in command)

    def commands(self, program: str) -> list[list[str]]:
        return [command for command, _, _ in self.calls if command[0] == program]
