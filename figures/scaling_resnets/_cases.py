"""What the figures beyond the paper follow: the state or the gradient, through which block."""

from __future__ import annotations

from typing import NamedTuple

from analysis.theory.critical import critical_exponent
from figures._base import Progress

__all__ = ["CASES", "Case", "predicted", "share"]


class Case(NamedTuple):
    """A panel: its block and quantity, its title, and the predicted critical exponent in words."""

    block: str
    quantity: str
    title: str
    formula: str


CASES = {
    "state": Case("res3", "displacement", r"state, $h + L^{-\beta} V \varphi(W h)$", "max(1/2, H)"),
    "gradient": Case(
        "res3", "gradient_displacement", "gradient of the same block", "max(1/2, 2H−1)"
    ),
    "res1": Case("res1", "displacement", r"state, $h + L^{-\beta} V \varphi(h)$", "max(H, 1/4)"),
}


def predicted(case: str, hurst: float) -> float:
    """The critical exponent of a case, at infinite width and then infinite depth."""
    chosen = CASES[case]
    return float(critical_exponent(hurst, quantity=chosen.quantity, block=chosen.block))


def share(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of one of several equal parts."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, parts * total)
