"""Damaged files of every kind that is read: a sentence that names the file, and never a traceback, abort or hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import campaign
from helpers.fuzzing import TARGETS, fuzz

SHORT = 50
SLOW = {"model: plans.json": 15, "model: dataset.json": 15}  # each builds a network


@pytest.mark.parametrize("name", TARGETS)
def test_mutants_are_read_or_refused(tmp_path: Path, name: str):
    found = fuzz(name, tmp_path, SLOW.get(name, SHORT))
    assert found.wrong == []
    assert found.counts["refused"] > 0


@pytest.mark.campaign
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutants_are_read_or_refused(tmp_path: Path, name: str):
    found = fuzz(name, tmp_path, campaign.size(campaign.MUTANTS))
    campaign.note("mutants", name, **found.counts)
    assert found.wrong == []
