r"""Bounds on the displacement of a residual net, as the scaling paper states them.

For branches :math:`\alpha V g(h)` with independent layers and
:math:`|h|^2 / 2 \le E|g(h)|^2 \le |h|^2`. They hold for many laws at once, and are wide: at width
100 and :math:`\delta = 1/2` the interval of `critical_bound` is (-0.25, 5.25) where half of all
networks lie in (0.56, 0.72). Where a law is given, the exact results of this package say more. A
bound marked ``recalled`` is quoted from memory of the paper: its constants may differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sigprop.spec import check_count, check_number

__all__ = ["Bound", "critical_bound", "markov_bound", "mean_bound", "scaling_bound"]

_SOURCE = "Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929"


@dataclass(frozen=True)
class Bound:
    """An interval of |h_L - h_0|^2 / |h_0|^2, or of its mean, and what it takes to hold.

    Attributes
    ----------
    lower, upper : float
    probability : float
        With which it holds at least; 1 for a bound on a mean.
    conditions : tuple of (str, bool)
        What is assumed of the numbers, and whether it is so.
    recalled : bool
        Whether constants are quoted from memory rather than derived here.
    source : str
    status : str
        Always ``bound``.
    """

    lower: float
    upper: float
    probability: float
    conditions: tuple[tuple[str, bool], ...]
    recalled: bool
    source: str = _SOURCE
    status: str = "bound"

    @property
    def holds(self) -> bool:
        """Whether all conditions are met, so that the interval says anything."""
        return all(met for _, met in self.conditions)


def mean_bound(depth: int, branch: float) -> Bound:
    r"""Bounds on the mean: :math:`(1 + \alpha^2/2)^L - 1` and :math:`(1 + \alpha^2)^L - 1`.

    Parameters
    ----------
    depth : int
    branch : float
        alpha, the same in all layers.

    Returns
    -------
    Bound

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: bound, exact at its ends: the lower for a ReLU after symmetric weights, the upper
    for a linear branch. The same holds for an isotropic gradient. The ends are inf where they
    overflow. Cost O(1).

    Examples
    --------
    >>> found = mean_bound(1000, 1000**-0.5)
    >>> round(found.lower, 3), round(found.upper, 3)
    (0.649, 1.717)
    """
    depth, branch = _numbers(depth, branch)
    low, high = (_expm1(depth * math.log1p(c * branch**2)) for c in (0.5, 1.0))
    return Bound(low, high, 1.0, (), recalled=False)


def markov_bound(depth: int, branch: float, failure: float) -> Bound:
    r"""At most :math:`2 L \alpha^2 / \delta` with probability :math:`1 - \delta`; L alpha^2 <= 1.

    Parameters
    ----------
    depth : int
    branch : float
    failure : float
        delta, in (0, 1).

    Returns
    -------
    Bound

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: bound, by Markov's inequality and e^x - 1 <= 2 x on [0, 1]. Holds for the gradient too.
    Cost O(1).

    Examples
    --------
    >>> markov_bound(1000, 1e-3, 0.1).upper
    0.02
    """
    depth, branch = _numbers(depth, branch)
    delta = _failure(failure)
    size = depth * branch**2
    conditions = (("L alpha^2 <= 1", size <= 1.0),)
    return Bound(0.0, 2.0 * size / delta, 1.0 - delta, conditions, recalled=False)


def scaling_bound(
    depth: int, branch: float, width: int, failure: float, sub_gaussian: float = 1.0
) -> Bound:
    r"""An interval of the displacement of one network, any branch.

    .. math:: e^{3 L \alpha^2 / 8 - \sqrt{11 L \alpha^2 / (d \delta)}} - 1 <
              \frac{|h_L - h_0|^2}{|h_0|^2} < e^{L \alpha^2 + \sqrt{5 L \alpha^2 / (d \delta)}} + 1

    Parameters
    ----------
    depth : int
    branch : float
    width : int
    failure : float
        delta, in (0, 1).
    sub_gaussian : float
        s: weights times sqrt(width) are s^2-sub-Gaussian; 1 for Gaussian ones.

    Returns
    -------
    Bound

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: bound, recalled. The paper also asks that alpha be small, by a constant that is not
    known here, so `Bound.holds` cannot say so. Cost O(1).

    Examples
    --------
    >>> found = scaling_bound(1000, 1000**-0.5, 400, 0.5)
    >>> round(found.lower, 2), round(found.upper, 2), found.holds
    (0.15, 4.18, True)
    """
    depth, branch = _numbers(depth, branch)
    width, delta = check_count("width", width), _failure(failure)
    s = check_number("sub_gaussian", sub_gaussian, low=0.0, open_low=True)
    size = depth * branch**2
    lower = _expm1(0.375 * size - math.sqrt(11 * size / (width * delta)))
    upper = _expm1(size + math.sqrt(5 * size / (width * delta))) + 2.0
    tail = 2 * depth * math.exp(-width / (64 * branch**2 * s**2)) if branch else 0.0
    conditions = (
        ("width >= 64", width >= 64),
        ("2 L exp(-d / (64 alpha^2 s^2)) <= delta / 11", tail <= delta / 11),
    )
    return Bound(lower, upper, 1.0 - delta, conditions, recalled=True)


def critical_bound(width: int, failure: float) -> Bound:
    r"""The interval for alpha = L^-1/2 as L goes to infinity.

    .. math:: e^{3/8 - \sqrt{22 / (d \delta)}} - 1 < \frac{|h_L - h_0|^2}{|h_0|^2}
              < e^{1 + \sqrt{10 / (d \delta)}} + 1

    Parameters
    ----------
    width : int
    failure : float
        delta, in (0, 1).

    Returns
    -------
    Bound

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: bound, recalled. The lower end is negative, hence empty, unless d delta > 156.
    Cost O(1).

    Examples
    --------
    >>> found = critical_bound(100, 0.5)
    >>> round(found.lower, 2), round(found.upper, 2), found.holds
    (-0.25, 5.25, True)
    """
    width, delta = check_count("width", width), _failure(failure)
    lower = _expm1(0.375 - math.sqrt(22 / (width * delta)))
    upper = _expm1(1 + math.sqrt(10 / (width * delta))) + 2.0
    return Bound(lower, upper, 1.0 - delta, (("width >= 64", width >= 64),), recalled=True)


def _numbers(depth: int, branch: float) -> tuple[int, float]:
    return check_count("depth", depth), check_number("branch", branch)


def _failure(value: float) -> float:
    why = "It is the probability with which the bound may fail."
    return check_number("failure", value, low=0.0, high=1.0, open_low=True, open_high=True, why=why)


def _expm1(x: float) -> float:
    return math.expm1(x) if x < 700 else math.inf
