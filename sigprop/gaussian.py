r"""Averages of functions of one and two Gaussian numbers, with a stated error.

In a wide random network a pre-activation is a Gaussian number, so what an activation does
to a signal is a Gaussian average: :math:`E\,\varphi(Z)^2` is the gain of a layer and
:math:`E\,\varphi(Z_1)\varphi(Z_2)` what becomes of two inputs.

The quadrature is composite Gauss-Legendre, applied to the density itself. Panels end
where the function or its derivative jumps (``kinks``), are short around the origin of the
activation when the variance is large, and are halved where two orders disagree. The
error returned is the sum over panels of that disagreement, plus rounding and the tail
beyond ten standard deviations: an estimate, and in practice a generous one, since the
value is that of the higher order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from sigprop.errors import SpecError
from sigprop.spec import check_number

__all__ = ["Expectation", "Function", "expectation", "product_expectation"]

Function = Callable[[np.ndarray], np.ndarray]

# P(|Z| > 10) = 1.5e-23: below rounding for anything that grows like a polynomial.
_CUT = 10.0
_ORDERS = (12, 20)
_MOST_PANELS = 20_000
_ROUNDING = 8 * np.finfo(float).eps


@dataclass(frozen=True)
class Expectation:
    """A Gaussian average and the error that its quadrature states."""

    value: float
    error: float


@cache
def _rule(order: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(order)


def _nodes(ends: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, density included, of panels [ends[.., i], ends[.., i + 1]]."""
    x, w = _rule(order)
    half = np.diff(ends, axis=-1)[..., None] / 2
    z = ends[..., :-1, None] + half * (1 + x)
    return z, half * w * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _octaves(scale: float) -> np.ndarray:
    """0 and both signs of ``scale`` times 1/2, 1, 2, .. up to 1: a mesh graded to 0."""
    if scale >= 1.0:
        return np.zeros(1)
    steps = scale * 2.0 ** np.arange(-1, math.ceil(-math.log2(scale)) + 1)
    return np.concatenate([-steps[::-1], [0.0], steps])


def _ends(centres: Sequence[np.ndarray]) -> np.ndarray:
    """Panel ends in [-CUT, CUT]: the integers, and the points of ``centres``, sorted.

    Every entry of ``centres`` has shape (rows, points); so has the answer.
    """
    rows = centres[0].shape[0]
    regular = np.broadcast_to(np.arange(-_CUT, _CUT + 1), (rows, int(2 * _CUT) + 1))
    return np.sort(np.clip(np.concatenate([regular, *centres], axis=1), -_CUT, _CUT), axis=1)


def _apply(function: Function, u: np.ndarray) -> np.ndarray:
    values = np.asarray(function(u), float)
    if values.shape != u.shape or not np.isfinite(values).all():
        raise SpecError(
            f"a function to be averaged must give one finite number for each of its "
            f"arguments, but did not between {u.min():.4g} and {u.max():.4g}. A network "
            "would meet the same values: rewrite it so that it does not overflow."
        )
    return values


def expectation(
    function: Function,
    *,
    mean: float = 0.0,
    variance: float = 1.0,
    kinks: Sequence[float] = (),
    tolerance: float = 1e-13,
) -> Expectation:
    r"""Return :math:`E f(\mu + \sigma Z)`, Z standard normal.

    Parameters
    ----------
    function : callable
        Maps an ndarray to an ndarray of its shape; polynomially bounded.
    mean, variance : float
        The variance may be 0.
    kinks : sequence of float
        Points u where ``function`` or a derivative jumps. A kink that is not named costs
        only time, since panels are halved around it; a jump that is not named can hide
        between two nodes and cost 1e-9 or so unseen, so name it.
    tolerance : float
        Panels are halved until the stated error is below this times ``E |f|``, or until
        there are too many of them.

    Examples
    --------
    >>> round(expectation(np.tanh, mean=1.0).value, 12)
    0.550400490793
    """
    variance = check_number("variance", variance, low=0.0)
    if variance == 0.0:
        return Expectation(float(_apply(function, np.full(1, float(mean)))[0]), 0.0)
    deviation = math.sqrt(variance)
    graded = _octaves(1 / deviation)
    centres = [(point - mean) / deviation + graded[None, :] for point in (0.0, *kinks)]
    ends = _ends(centres)[0]
    left, right = ends[:-1], ends[1:]
    value = error = size = 0.0
    panels = 0
    while True:
        low, high = (_panel_sums(function, left, right, mean, deviation, n) for n in _ORDERS)
        doubt = np.abs(high[0] - low[0])
        panels += left.size
        allowed = tolerance * max(size + high[1].sum(), np.finfo(float).tiny)
        redo = doubt > allowed / 64
        # A panel of the last representable width cannot be halved.
        middle = (left + right) / 2
        redo &= (left < middle) & (middle < right)
        if doubt.sum() + error <= allowed or panels > _MOST_PANELS or not redo.any():
            redo[:] = False
        value += float(high[0][~redo].sum())
        size += float(high[1][~redo].sum())
        error += float(doubt[~redo].sum())
        if not redo.any():
            break
        left, middle, right = left[redo], middle[redo], right[redo]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    edge = _apply(function, mean + deviation * np.array([-_CUT, _CUT]))
    tail = float(np.abs(edge).sum()) * math.exp(-(_CUT**2) / 2)
    return Expectation(value, float(error + _ROUNDING * size + tail))


def _panel_sums(
    function: Function,
    left: np.ndarray,
    right: np.ndarray,
    mean: float,
    deviation: float,
    order: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Integrals of f and of |f| against the density, a panel each."""
    z, weight = _nodes(np.stack([left, right], axis=-1), order)
    terms = _apply(function, mean + deviation * z) * weight
    return terms.sum(axis=(1, 2)), np.abs(terms).sum(axis=(1, 2))


def product_expectation(
    first: Function,
    second: Function,
    *,
    correlation: float,
    variances: tuple[float, float] = (1.0, 1.0),
    kinks: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> Expectation:
    r"""Return :math:`E f(\sigma_1 Z_1)\, g(\sigma_2 Z_2)` at a given correlation.

    :math:`(Z_1, Z_2)` are standard normal with :math:`E Z_1 Z_2` = ``correlation``. The
    inner average is over :math:`Z_2` given :math:`Z_1`, with the kinks of ``second``
    where they lie for that :math:`Z_1`. Cost: some 10^6 values of ``second``.

    Parameters
    ----------
    first, second : callable
        As in `expectation`.
    correlation : float
        Within [-1, 1], ends included.
    variances : tuple of float
    kinks : tuple of sequences of float
        Those of ``first`` and those of ``second``; here one left out is not found, but
        shows in the stated error.

    Examples
    --------
    The arc-sine law of the sign of two correlated Gaussians:

    >>> found = product_expectation(np.sign, np.sign, correlation=0.5, kinks=((0,), (0,)))
    >>> round(found.value, 12), round(2 / math.pi * math.asin(0.5), 12)
    (0.333333333333, 0.333333333333)
    """
    rho = check_number("correlation", correlation, low=-1.0, high=1.0)
    deviations = [math.sqrt(check_number("each variance", v, low=0.0)) for v in variances]
    across = math.sqrt((1 - rho) * (1 + rho))
    if 0.0 in deviations:
        # One of the two is a constant, so the average is of the other alone.
        parts = [
            expectation(f, variance=v, kinks=k)
            for f, v, k in zip((first, second), variances, kinks, strict=True)
        ]
        value = parts[0].value * parts[1].value
        return Expectation(
            value, abs(parts[0].value) * parts[1].error + abs(parts[1].value) * parts[0].error
        )
    if across == 0.0:
        ratio = rho * deviations[1] / deviations[0]
        return expectation(
            lambda u: _apply(first, u) * _apply(second, ratio * u),
            variance=deviations[0] ** 2,
            kinks=(*kinks[0], *(k / ratio for k in kinks[1])),
        )
    outer = [
        np.atleast_2d(point / deviations[0] + _octaves(1 / deviations[0]))
        for point in (0.0, *kinks[0])
    ]
    if rho != 0.0:
        # E[g | Z_1] is g smoothed over across / rho, hence bends on that scale at a kink.
        outer += [
            np.atleast_2d(point / (rho * deviations[1]) + _octaves(scale))
            for point in (0.0, *kinks[1])
            for scale in (across / abs(rho), 1 / (abs(rho) * deviations[1]))
        ]
    ends = _ends(outer)
    ends = np.unique(ends)[None, :]
    low, high = (
        _product_sums(first, second, rho, across, deviations, kinks[1], ends, n) for n in _ORDERS
    )
    edge = np.array([-_CUT, _CUT])
    tail = float(
        np.abs(_apply(first, deviations[0] * edge)).max()
        * np.abs(_apply(second, deviations[1] * edge)).max()
    ) * math.exp(-(_CUT**2) / 2)
    return Expectation(high[0], abs(high[0] - low[0]) + _ROUNDING * high[1] + tail)


def _product_sums(
    first: Function,
    second: Function,
    rho: float,
    across: float,
    deviations: Sequence[float],
    kinks: Sequence[float],
    ends: np.ndarray,
    order: int,
) -> tuple[float, float]:
    z, weight = (a.ravel() for a in _nodes(ends, order))
    f = _apply(first, deviations[0] * z) * weight
    total = size = 0.0
    # In slices of outer nodes, so that memory stays at a few megabytes.
    for rows in np.array_split(np.arange(z.size), max(1, z.size // 64)):
        mean, deviation = deviations[1] * rho * z[rows, None], deviations[1] * across
        graded = _octaves(1 / deviation)
        centres = [(point - mean) / deviation + graded for point in (0.0, *kinks)]
        inner, inner_weight = _nodes(_ends(centres), order)
        terms = _apply(second, mean[..., None] + deviation * inner) * inner_weight
        total += float(f[rows] @ terms.sum(axis=(1, 2)))
        size += float(np.abs(f[rows]) @ np.abs(terms).sum(axis=(1, 2)))
    return total, size
