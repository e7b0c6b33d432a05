"""What all figures share: the style, saving as PNG, PDF and page-ready SVG, and boxes with their cases visible."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunetv2_diffusion.files import replacing
from nnunetv2_diffusion.imaging.palette import AXIS, GRID, INK, STYLE

# What the page's light and dark styles colour for themselves.
_THEMED = {INK: "currentColor", AXIS: "var(--axis)", GRID: "var(--grid)"}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: draw a figure in the report's style, whatever the user's own settings are."""

    def drawn(*args: object, **options: object) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(mpl.rc_params_from_file(str(STYLE), use_default_template=False))
            figure = draw(*args, **options)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not again for each file format
            return figure

    drawn.__name__, drawn.__doc__ = draw.__name__, draw.__doc__
    return drawn


def panels(rows: int, columns: int, size: tuple[float, float], **options: object) -> tuple[Figure, np.ndarray]:
    """A figure without any window, and its axes `[rows, columns]`; `size` in inches."""
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(wspace=0.05, hspace=0.05, w_pad=0.1)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Figure, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.pdf`.

    They are drawn in memory first: on a full disk matplotlib's PDF ends in an error about its own streams.

    Raises:
        OSError: the disk refused.
    """
    for ending, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        with mpl.rc_context({"pdf.fonttype": 3}):
            figure.savefig(buffer, format=ending, dpi=200, metadata=metadata)
        with replacing(stem.with_name(f"{stem.name}.{ending}")) as partial:
            partial.write_bytes(buffer.getvalue())


def as_svg(figure: Figure, name: str) -> str:
    """The figure as an inline SVG element that takes its ink, axes and letters from the page around it.

    Args:
        name: unique in the page; goes in front of the ids, which would clash between figures otherwise.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=110, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font: ?(?:(\w+) )?([\d.]+px) [^;\"]*", r"font-size: \2; font-weight: \1", svg)
    svg = svg.replace("font-weight: ;", ";").replace('font-weight: "', '"')
    for plain, themed in _THEMED.items():
        svg = svg.replace(plain, themed)
    return re.sub(
        r'(<svg [^>]*?)width="[\d.]+pt"', r"\1", re.sub(r'(<svg [^>]*?)height="[\d.]+pt"', r"\1", svg, count=1)
    )


def boxes(
    axes: Axes, groups: Sequence[np.ndarray], positions: Sequence[float], colours: Sequence[str], height: float
) -> None:
    """Horizontal boxes (median, quartiles, whiskers to 1.5 times their distance) over the jittered single cases."""
    filled = [(g, p, c) for g, p, c in zip(groups, positions, colours, strict=True) if len(g)]
    if not filled:
        return
    spread = np.random.default_rng(0)
    for values, position, tint in filled:
        jitter = spread.uniform(-0.36, 0.36, len(values)) * height
        axes.scatter(values, position + jitter, s=5, color=tint, alpha=0.5, linewidths=0, rasterized=True, zorder=2)
    drawn = axes.boxplot(
        [values for values, _, _ in filled],
        positions=[position for _, position, _ in filled],
        widths=height * 0.8,
        orientation="horizontal",
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        zorder=3,
    )
    for index, (_, _, tint) in enumerate(filled):
        drawn["boxes"][index].set(facecolor=(*mpl.colors.to_rgb(tint), 0.22), edgecolor=tint, linewidth=1.2)
        drawn["medians"][index].set(color=tint, linewidth=2.2)
        for line in (*drawn["whiskers"][2 * index : 2 * index + 2], *drawn["caps"][2 * index : 2 * index + 2]):
            line.set(color=tint, linewidth=1.1)
