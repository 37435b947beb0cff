r"""Is a sample Gaussian? With estimated mean and variance, hence with the right null law.

A sample that is compared with the Gaussian of its own mean and variance lies closer to it than
to the true one, so the tables of Kolmogorov, of Anderson and Darling and of :math:`\chi^2_2`
do not apply: with them a test almost never fires. The null law is simulated here, from a seed,
for the size of the sample at hand.

A test that does not fire proves nothing by itself. Each answer says which skewness and which
excess kurtosis would have been found with probability `POWER`, and one that would have missed
too much is ``inconclusive``.

================= =====================================================================
test              statistic
================= =====================================================================
anderson_darling  weighted squared distance of the distribution functions; sees the tails
lilliefors        largest distance of the distribution functions
jarque_bera       :math:`n (\text{skewness}^2 / 6 + \text{kurtosis}^2 / 24)`
================= =====================================================================
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, ndtr

from sigprop import rng
from sigprop.errors import SpecError, UnknownName
from sigprop.registry import did_you_mean
from sigprop.spec import check_count, check_number

__all__ = ["POWER", "TESTS", "Gaussianity", "gaussianity", "result_gaussianity"]

POWER = 0.9
_DRAWS = 4999  # of the null law: p-values are multiples of 1/5000
_TRIALS = 400  # of an alternative: its power is known to 1.5%
_FEWEST = 8
_CELLS = 2_000_000  # numbers held at once


# -------------------------------------------------------------------- statistics

# Each takes sorted rows, shape (samples, n), standardised by their own mean and deviation,
# and is scaled so that its null law hardly depends on n beyond the size to which it is
# simulated (Stephens 1974 for the first two).


def _anderson_darling(x: np.ndarray) -> np.ndarray:
    n = x.shape[1]
    weight = 2 * np.arange(1, n + 1) - 1
    total = (weight * (log_ndtr(x) + log_ndtr(-x[:, ::-1]))).sum(axis=1)
    return (-n - total / n) * (1 + 0.75 / n + 2.25 / n**2)


def _lilliefors(x: np.ndarray) -> np.ndarray:
    n = x.shape[1]
    u = ndtr(x)
    above = (np.arange(1, n + 1) / n - u).max(axis=1)
    below = (u - np.arange(n) / n).max(axis=1)
    return np.maximum(above, below) * (math.sqrt(n) - 0.01 + 0.85 / math.sqrt(n))


def _jarque_bera(x: np.ndarray) -> np.ndarray:
    n = x.shape[1]
    skewness, kurtosis = _shape(x)
    return n * (skewness**2 / 6 + kurtosis**2 / 24)


def _shape(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(skewness, excess kurtosis) of rows, whatever their mean and deviation."""
    x = x - x.mean(axis=1, keepdims=True)
    square = x * x
    variance = square.mean(axis=1)
    kurtosis = (square * square).mean(axis=1) / variance**2 - 3
    return (square * x).mean(axis=1) / variance**1.5, kurtosis


@dataclass(frozen=True)
class _Test:
    """A statistic, and the sample size beyond which its null law no longer changes."""

    statistic: Callable[[np.ndarray], np.ndarray]
    settled: int


TESTS = {
    "anderson_darling": _Test(_anderson_darling, 1000),
    "lilliefors": _Test(_lilliefors, 1000),
    "jarque_bera": _Test(_jarque_bera, 5000),  # its convergence is slow
}


def _standardised(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True) / (x.shape[1] - 1))


# ----------------------------------------------------------------------- the answer


@dataclass(frozen=True)
class Gaussianity:
    """Whether a sample is Gaussian, and what was there to be seen.

    Attributes
    ----------
    verdict : str
        ``gaussian``: not refuted, although deviations of the size asked for would have been
        found. ``not gaussian``: refuted. ``inconclusive``: neither.
    test : str
    statistic, p : float
        p is the chance of a statistic as large in a Gaussian sample of this size.
    level : float
        p below which the Gaussian is refuted.
    size : int
        Of the sample.
    skewness, kurtosis : float
        Of the sample; excess kurtosis.
    detectable_skewness, detectable_kurtosis : float
        What would have been found with probability `POWER`: the skewness of a log-normal law,
        of either sign; the excess kurtosis, positive, of the law of sinh(a Z).
    """

    verdict: str
    test: str
    statistic: float
    p: float
    level: float
    size: int
    skewness: float
    kurtosis: float
    detectable_skewness: float
    detectable_kurtosis: float

    def __str__(self) -> str:
        what = {
            "gaussian": "The sample is Gaussian as far as can be seen",
            "not gaussian": "The sample is not Gaussian",
            "inconclusive": "The sample is too small to tell whether it is Gaussian",
        }[self.verdict]
        return (
            f"{what}: {self.test.replace('_', '-')} p = {self.p:.2g}, skewness "
            f"{self.skewness:+.2g}, excess kurtosis {self.kurtosis:+.2g}; of {self.size} values, "
            f"a skewness of {self.detectable_skewness:.2g} or an excess kurtosis of "
            f"{self.detectable_kurtosis:.2g} is found with 90% probability."
        )


def gaussianity(
    values: ArrayLike,
    *,
    test: str = "anderson_darling",
    level: float = 0.01,
    resolution: float = 0.5,
    seed: int = 0,
) -> Gaussianity:
    """Test whether independent values come from some Gaussian law.

    Parameters
    ----------
    values : array_like, shape (n,)
        At least 8 finite numbers.
    test : str
        Of `TESTS`.
    level : float
        Chance of refuting a Gaussian, 0.001 or more.
    resolution : float
        The skewness that must be found with probability `POWER` for the answer ``gaussian``;
        of the excess kurtosis four times as much.
    seed : int
        Of the simulated null law; the p-value is known to about sqrt(p / 5000).

    Returns
    -------
    Gaussianity

    Raises
    ------
    SpecError, UnknownName
        If there are too few values, or some that are not finite, or no two that differ.

    Notes
    -----
    Status: exact null law up to its simulation, for up to 1000 values (Jarque-Bera: 5000).
    Beyond, the law at that size is taken: scaled as it is, it no longer changes visibly, but
    Jarque-Bera at a level of 1% then fires in 0.8% of cases. Cost about 1 s for the first
    sample of its size, then O(n log n).

    References
    ----------
    Lilliefors (1967); Stephens (1974), *EDF statistics for goodness of fit*; Jarque and
    Bera (1980); recalled.

    Examples
    --------
    >>> import numpy as np
    >>> sample = np.random.default_rng(0).normal(5, 2, 2000)
    >>> gaussianity(sample).verdict, gaussianity(np.exp(sample)).verdict
    ('gaussian', 'not gaussian')
    """
    if test not in TESTS:
        raise UnknownName(
            f"{test!r} is no test of Gaussianity.{did_you_mean(test, TESTS)} "
            f"Known: {', '.join(TESTS)}."
        )
    level = check_number("level", level, low=2 / (_DRAWS + 1), high=0.5)
    resolution = check_number("resolution", resolution, low=0, open_low=True)
    seed = check_count("seed", seed, least=0)
    x = _checked(values)
    statistic = float(TESTS[test].statistic(_standardised(np.sort(x)[None, :]))[0])
    null = _null(test, min(len(x), TESTS[test].settled), seed)
    p = (1 + int((null >= statistic).sum())) / (len(null) + 1)
    skewness, kurtosis = (float(s[0]) for s in _shape(x[None, :]))
    seen = _detectable(test, len(x), level, seed)
    if p < level:
        verdict = "not gaussian"
    else:
        enough = seen[0] <= resolution and seen[1] <= 4 * resolution
        verdict = "gaussian" if enough else "inconclusive"
    return Gaussianity(verdict, test, statistic, p, level, len(x), skewness, kurtosis, *seen)


def result_gaussianity(
    result: xr.Dataset,
    *,
    field: str = "log_norm",
    layer: int | None = None,
    input: int = 0,
    test: str = "anderson_darling",
    level: float = 0.01,
    resolution: float = 0.5,
    seed: int = 0,
) -> Gaussianity:
    """Test one field of a result at one layer; `simulate` must have kept its values there.

    Parameters
    ----------
    result : Dataset
        Of ``sigprop.simulate(..., keep=[layer])``.
    field : str
        Of `sigprop.trace.FIELDS`: ``log_norm``, ``log_gradient``, ...
    layer : int, optional
        Default: the last that was kept.
    input : int
        Position along the inputs, or the pairs, of the field.
    test, level, resolution, seed
        As in `gaussianity`, which also says what is returned and raised.

    Raises
    ------
    SpecError
        If the values were not kept.

    Notes
    -----
    Status and cost as `gaussianity`.
    """
    name = f"replica_{field}"
    kept = result["kept_layer"].values.tolist() if "kept_layer" in result.coords else []
    if name not in result or (layer is not None and layer not in kept):
        raise SpecError(
            f"the values of {field!r} in every replica were not kept"
            f"{'' if layer is None else f' at layer {layer}'}; kept are layers "
            f"{', '.join(map(str, kept)) or 'none'}. Simulate with keep=[layer] (--keep LAYER)."
        )
    at = result[name].sel(kept_layer=kept[-1] if layer is None else layer)
    axes = [dim for dim in at.dims if dim != "replica"]
    values = at.isel({dim: input for dim in axes}).values
    return gaussianity(values, test=test, level=level, resolution=resolution, seed=seed)


def _checked(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim != 1 or len(x) < _FEWEST:
        raise SpecError(
            f"values must be a sequence of at least {_FEWEST} numbers, got shape {x.shape}: fewer "
            "have no shape to speak of. Give more replicas."
        )
    if not np.isfinite(x).all():
        count = int((~np.isfinite(x)).sum())
        raise SpecError(
            f"{count} of {len(x)} values are not finite (the logarithm of a dead network's norm is "
            "-inf), and no Gaussian has such values. Test the networks that are alive."
        )
    if x.std() <= 1e-12 * np.abs(x).max():
        raise SpecError(
            f"all {len(x)} values are equal up to rounding ({x[0]:g}), so they have no shape to be "
            "tested. Is the ensemble deterministic?"
        )
    return x


# ------------------------------------------------------------------- null law and power


def _generator(seed: int, test: str, purpose: str) -> np.random.Generator:
    words = rng.key(seed, f"gaussianity {purpose}", test, 1)
    return np.random.Generator(np.random.Philox(key=[int(word) for word in words]))


def _rows(size: int) -> int:
    return max(1, _CELLS // size)


@functools.lru_cache(maxsize=32)
def _null(test: str, size: int, seed: int) -> np.ndarray:
    """The statistic of `_DRAWS` Gaussian samples, sorted."""
    generator = _generator(seed, test, "null")
    found = []
    for first in range(0, _DRAWS, _rows(size)):
        draws = generator.standard_normal((min(_rows(size), _DRAWS - first), size))
        draws.sort(axis=1)
        found.append(TESTS[test].statistic(_standardised(draws)))
    return np.sort(np.concatenate(found))


# Increasing functions of a Gaussian, so that sorted samples stay sorted; 'amount' 0 is linear.
_ALTERNATIVES: tuple[tuple[Callable[[np.ndarray, float], np.ndarray], float], ...] = (
    (lambda z, amount: np.expm1(amount * z), 2.0),
    (lambda z, amount: np.sinh(amount * z), 1.5),
)


def _log_normal_skewness(amount: float) -> float:
    w = math.exp(amount**2)
    return (w + 2) * math.sqrt(w - 1)


def _sinh_kurtosis(amount: float) -> float:
    """Excess kurtosis of sinh(a Z): E sinh^2 = (w - 1)/2, E sinh^4 = (w^4 - 4 w + 3)/8."""
    w = math.exp(2 * amount**2)
    return (w**4 - 4 * w + 3) / (2 * (w - 1) ** 2) - 3


@functools.lru_cache(maxsize=64)
def _detectable(test: str, size: int, level: float, seed: int) -> tuple[float, float]:
    """(skewness, excess kurtosis) found with probability `POWER`."""
    # Local alternatives: what is seen shrinks as 1 / sqrt(n) once n is large.
    simulated = min(size, 1000)
    critical = np.quantile(_null(test, simulated, seed), 1 - level)
    z = np.sort(_generator(seed, test, "power").standard_normal((_TRIALS, simulated)), axis=1)
    seen = []
    for (bend, most), measure in zip(
        _ALTERNATIVES, (_log_normal_skewness, _sinh_kurtosis), strict=True
    ):

        def power(amount: float, bend: Callable[..., np.ndarray] = bend) -> float:
            found = TESTS[test].statistic(_standardised(bend(z, amount)))
            return float((found > critical).mean())

        low, high = 0.0, most
        if power(high) < POWER:
            seen.append(math.inf)
            continue
        for _ in range(9):
            middle = (low + high) / 2
            low, high = (low, middle) if power(middle) >= POWER else (middle, high)
        seen.append(measure(high) * math.sqrt(simulated / size))
    return seen[0], seen[1]
