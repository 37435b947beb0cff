"""The look of every figure, applied within a context and never to the process.

Colours tell quantities apart for all kinds of colour vision (the first four differ in lightness
or along blue and yellow); what is theory is dark and without markers, and its line says how far
it can be trusted.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ParamSpec, TypeVar

import matplotlib.style
from matplotlib.figure import Figure

__all__ = ["PALETTE", "STATUS_LINE", "THEORY", "frame", "style", "styled"]

PALETTE = ("#0b5394", "#d55e00", "#009e73", "#a5559b", "#e69f00", "#555555")
THEORY = "#222222"
STATUS_LINE = {"exact": "-", "limit": "--", "approximation": ":", "conjecture": "-."}
_SHEET = Path(__file__).with_name("sigprop.mplstyle")

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws as the package does, and not after it."""
    context: AbstractContextManager[None] = matplotlib.style.context(["default", str(_SHEET)])
    return context


def styled(draw: Callable[_Arguments, _Returned]) -> Callable[_Arguments, _Returned]:
    """Run ``draw`` in the context of `style`."""

    @functools.wraps(draw)
    def within(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Returned:
        with style():
            return draw(*arguments, **named)

    return within


def frame(figure: Figure, title: str, setting: str, caption: str, legend_rows: int = 0) -> None:
    """Put a title and the setting above the panels and a caption below, and lay all out.

    Parameters
    ----------
    title : str
        What is seen, in one sentence.
    setting : str
        Of what: network, law, effort, seed.
    caption : str
        How to read it and what to mind; wrapped to the width of the figure.
    legend_rows : int
        Rows of a legend of the whole figure, which then stands between panels and caption.
    """
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(width * 16.5))
    bottom = 0.13 * len(lines) + 0.06
    figure.text(0.08 / width, 1 - 0.06 / height, title, weight="bold", size=10, va="top")
    figure.text(0.08 / width, 1 - 0.27 / height, setting, size=8, va="top", color="0.3")
    place = (0.08 / width, 0.04 / height)
    figure.text(*place, "\n".join(lines), size=7.5, color="0.3", linespacing=1.25)
    if legend_rows:
        figure.legends[0].set_loc("lower left")
        figure.legends[0].set_bbox_to_anchor((0.0, bottom / height))
        bottom += 0.17 * legend_rows + 0.04
    figure.tight_layout(rect=(0, bottom / height, 1, 1 - 0.42 / height))
