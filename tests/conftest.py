"""Fixtures shared by all tests: the folder of real lumbar MRI beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_mri() -> Path:
    """`../shared/mri` (or the folder that SPINESEGDIFF_REAL_MRI names); its README says what it holds."""
    folder = Path(os.environ.get("SPINESEGDIFF_REAL_MRI", ROOT.parent / "shared" / "mri"))
    if not folder.is_dir():
        pytest.skip(f"no real MRI: {folder} does not exist (name another folder with SPINESEGDIFF_REAL_MRI)")
    return folder
