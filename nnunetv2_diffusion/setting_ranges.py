"""What a setting may be: ranges in words and as tests, and dataclasses that check every field against its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Range:
    """What a setting may be: in words, as a test of a value, and whether None (left open) is allowed, too."""

    words: str
    holds: Callable[[Any], bool]
    optional: bool = False


def is_a(kind: type | tuple[type, ...], value: Any) -> bool:
    """Whether it is of the kind; true and false are no numbers, though Python takes them for some."""
    return isinstance(value, kind) and not isinstance(value, bool)


def whole(low: int, high: int | None = None, optional: bool = False) -> Range:
    """Whole numbers from `low`, up to `high` where there is one."""
    words = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Range(words, lambda v: is_a(int, v) and low <= v and (high is None or v <= high), optional)


def number(words: str, holds: Callable[[float], bool]) -> Range:
    """Numbers for which `holds`, as `words` say."""
    return Range(f"a number {words}", lambda v: is_a((int, float), v) and holds(v))


def one_of(*names: str) -> Range:
    """One of the names."""
    return Range(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def setting(default: Any, allowed: Range) -> Any:
    """A field of a `Checked` dataclass."""
    return field(default=default, metadata={"range": allowed})


SHARE = number("from 0 to 1", lambda value: 0 <= value <= 1)
INSIDE = number("above 0 and below 1", lambda value: 0 < value < 1)
SWITCH = Range("true or false", lambda value: isinstance(value, bool))


class Checked:
    """Checks every field's value against its range."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value, allowed = getattr(self, one.name), one.metadata["range"]
            if not (allowed.holds(value) or (value is None and allowed.optional)):
                raise ValueError(f"{one.name} must be {allowed.words}, not {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary, by the names of the settings."""
        return asdict(self)
