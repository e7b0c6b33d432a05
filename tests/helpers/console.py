"""The console commands of the environment that runs the tests, as a user calls them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMANDS = Path(sys.executable).parent


def run(command: str, *arguments: object, timeout: float = 3000, **environment: str) -> str:
    """Run a console command; its standard output. A failure shows both streams."""
    done = subprocess.run(
        [COMMANDS / command, *map(str, arguments)],
        env=command_environment(environment),
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def command_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without nnU-Net's variables, but with `changes`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    return {**kept, **changes}
