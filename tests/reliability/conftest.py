"""Fixtures of the campaigns: the commands that they disturb, made once a session."""

from __future__ import annotations

import pytest

from helpers.faulty_commands import Commands
from helpers.nnunet_samples import TinyProject


@pytest.fixture(scope="session")
def commands(tiny_project: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """The commands with their inputs and their undisturbed results."""
    return Commands(tmp_path_factory.mktemp("faulty_commands"), tiny_project)
