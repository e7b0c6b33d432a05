"""How numbers and names are printed, in the page and in the figures."""

from __future__ import annotations

from typing import Any

import pandas as pd

NONE = "–"


def fixed(value: Any, digits: int = 3) -> str:
    """A number with a fixed count of decimals; an en dash where there is none."""
    return NONE if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """As `fixed`, with its sign."""
    return NONE if value is None or pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value as it is printed: three decimals, or p < 0.001."""
    if pd.isna(p_value):
        return NONE
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def unbroken(name: str) -> str:
    """A model's name that does not break at "T = 30"."""
    return name.replace(" = ", "\u00a0=\u00a0")


def rounded(value: Any) -> float | None:
    """A number with four decimals for the page's scripts; None where there is none."""
    return None if value is None or pd.isna(value) else round(float(value), 4)
