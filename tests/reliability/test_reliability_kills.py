"""`kill -9` at any moment, before any change of a file and in the middle of one; then the same command again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import campaign
from helpers.faulty_commands import NAMES, Commands, Undisturbed

# Of each of the three kinds; a report takes seconds.
SHORT = {"convert": 2, "plan": 2, "predict": 1, "segment": 1, "validate": 1, "report": 1}


def kills(name: str, undisturbed: Undisturbed, number: int) -> Iterator[dict[str, Any]]:
    """`number` moments of the run's duration, changes of files that it makes, and lengths of files that it writes."""
    generator = random.Random(f"kill {name}")
    for _ in range(number):
        yield {"kill_after": generator.uniform(0, undisturbed.ended.seconds)}
        yield {"kill_at_step": generator.randrange(undisturbed.ended.steps)}
        yield {"kill_at_byte": generator.randrange(1, generator.choice(undisturbed.sizes))}


def survive(name: str, commands: Commands, number: int) -> dict[str, int]:
    """Kill and repeat; how many runs were ended by the kill, and how many by having done their work before."""
    undisturbed = commands.undisturbed(name)
    command, whole = undisturbed.command, undisturbed.files
    counts = {"killed": 0, "ended before": 0}
    for kill in kills(name, undisturbed, number):
        command.reset()
        killed = command.run(**kill)
        counts["ended before" if killed.status == 0 else "killed"] += 1
        assert command.visible_faults(whole) == [], f"after {kill}"
        again = command.run()
        assert again.status == 0, f"after {kill}: {again.output}"
        found = command.files()
        assert set(found) ^ set(whole) == set(), f"after {kill}"
        assert [file for file in whole if found[file] != whole[file]] == [], f"after {kill}"
    return counts


@pytest.mark.parametrize("name", NAMES)
def test_killed_and_repeated(commands: Commands, name: str):
    assert survive(name, commands, SHORT[name])["killed"] > 0


@pytest.mark.campaign
@pytest.mark.parametrize("name", NAMES)
def test_killed_and_repeated_many_times(commands: Commands, name: str):
    counts = survive(name, commands, campaign.size(campaign.KILLS))
    campaign.note("kill -9", name, **counts)
    assert counts["killed"] > counts["ended before"]
