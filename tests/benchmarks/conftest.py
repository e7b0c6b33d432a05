"""What the benchmarks' tests share: tiny trained models, and an environment put back after a script set its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nnunet_samples import TinyProject


@pytest.fixture
def restored_environment() -> Iterator[None]:
    """The scripts name folders of their own in the environment; afterwards it is what it was."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture
def folders(tiny: TinyProject) -> dict[str, Path]:
    """Tiny trained models."""
    return {"baseline": tiny.model(trainer="TinyPlainTrainer"), "model": tiny.model()}
