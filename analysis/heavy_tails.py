r"""What can be said of a sample whose mean cannot be trusted: median of means, and index of a tail.

A mean square in a deep network is carried by giants that a sample does not hold, and with biases or
heavy-tailed weights moments may not exist at all. Two numbers survive:

* the **median of means**: of the means of equal groups, the middle one. Its error is of the order
  of the deviation even where the mean's is far larger, but on a skewed law it is biased low, so
  that it is told with the effective sample size of the plain mean and not in its place;
* the **tail index** k in :math:`P(X > x) \sim C x^{-k}`: by Hill's estimator over a range of
  order statistics, since a single one can be chosen to say anything, and by SciPy's generalised
  Pareto law of the exceedances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, genpareto, norm

from sigprop.errors import SpecError
from sigprop.spec import check_count

__all__ = ["MedianOfMeans", "TailIndex", "median_of_means", "tail_index_of"]

_LEAST = 50  # values that a tail index needs


@dataclass(frozen=True)
class MedianOfMeans:
    """A median of means beside the mean that it does not replace.

    Attributes
    ----------
    value : float
        The median of the means of ``groups`` equal groups.
    low, high : float
        An interval that holds the median of the law of a group's mean with 95% probability or
        more: order statistics of the means.
    mean : float
    ess : float
        Effective sample size of the mean, (sum x)^2 / sum x^2.
    groups : int
    """

    value: float
    low: float
    high: float
    mean: float
    ess: float
    groups: int

    @property
    def reliable(self) -> bool:
        """Whether 100 values or more effectively carry the mean."""
        return self.ess >= 100


def median_of_means(values: ArrayLike, groups: int = 30) -> MedianOfMeans:
    """Median of the means of equal groups of independent positive values.

    Parameters
    ----------
    values : array_like, shape (n,)
        Not negative; in the order in which they were drawn, which is cut into groups. Values
        left over are left out of the groups.
    groups : int
        At least 6; an error as large as twice a group's deviation has probability exp(-groups / 8).

    Returns
    -------
    MedianOfMeans

    Raises
    ------
    SpecError
        If there are fewer values than groups, or values that are negative or not finite.

    Notes
    -----
    Status: the interval is exact for independent values. Biased low for skewed laws, which every
    moment of a deep network has. Cost O(n).

    References
    ----------
    Nemirovski and Yudin (1983); Lugosi and Mendelson (2019), *Mean estimation and regression
    under heavy-tailed distributions*; recalled.

    Examples
    --------
    >>> import numpy as np
    >>> heavy = np.random.default_rng(0).pareto(1.5, 30_000)  # of mean 2 and no variance
    >>> found = median_of_means(heavy)
    >>> found.low < found.value < found.high
    True
    """
    x = _checked(values, least=1)
    groups = check_count("groups", groups, least=6, why="The interval needs six means.")
    if len(x) < groups:
        raise SpecError(
            f"{len(x)} values make no {groups} groups. Give more networks, or fewer groups."
        )
    size = len(x) // groups
    means = np.sort(x[: groups * size].reshape(groups, size).mean(axis=1))
    # The number of means below the median is binomial (groups, 1/2).
    rank = int(binom.ppf(0.025, groups, 0.5))  # P(count < rank) <= 0.025
    square = float((x**2).sum())
    return MedianOfMeans(
        value=float(np.median(means)),
        low=float(means[max(rank - 1, 0)]),
        high=float(means[groups - max(rank, 1)]),
        mean=float(x.mean()),
        ess=float(x.sum()) ** 2 / square if square else 0.0,
        groups=groups,
    )


@dataclass(frozen=True)
class TailIndex:
    """The index of a tail over a range of how much of the sample is called the tail.

    Attributes
    ----------
    counts : ndarray of int
        How many of the largest values were used.
    hill, hill_se : ndarray
        Hill's estimate for each count, and its standard error k / sqrt(count).
    pareto : ndarray
        Index by a generalised Pareto law of the exceedances, 1 / shape; inf for a tail that is
        no power.
    value, se : float
        Hill's estimate in the middle of the range; its error, with the spread over the range
        added, which is what the choice of a count is worth.
    stable : bool
        Whether the estimates of the range agree within their errors. If not, the tail is no
        power on this range, and ``value`` means little.
    """

    counts: np.ndarray
    hill: np.ndarray
    hill_se: np.ndarray
    pareto: np.ndarray
    value: float
    se: float
    stable: bool

    def __str__(self) -> str:
        trust = "" if self.stable else "; it drifts over the range, so the tail is no power there"
        return (
            f"tail index {self.value:.3g} ± {self.se:.2g} from the largest {self.counts[0]} to "
            f"{self.counts[-1]} values{trust}"
        )


def tail_index_of(values: ArrayLike, counts: ArrayLike | None = None) -> TailIndex:
    r"""The k of :math:`P(X > x) \sim C x^{-k}`, with its error, from independent values.

    Parameters
    ----------
    values : array_like, shape (n,)
        Not negative, at least 50.
    counts : array_like of int, optional
        How many of the largest values to use, a range; the default is eight numbers from n / 200
        (at least 20) to n / 20.

    Returns
    -------
    TailIndex

    Raises
    ------
    SpecError
        If there are too few values, or a count is not between 10 and n - 1.

    Notes
    -----
    Status: consistent as n grows and count / n falls; the standard error is that of an exact
    Pareto tail. Cost: some ms a count.

    References
    ----------
    Hill (1975), Ann. Statist. 3; Pickands (1975); recalled. The Pareto law is fitted by SciPy.

    Examples
    --------
    >>> import numpy as np
    >>> heavy = np.random.default_rng(0).pareto(1.5, 30_000)
    >>> found = tail_index_of(heavy)
    >>> bool(abs(found.value - 1.5) < 3 * found.se)
    True
    """
    x = np.sort(_checked(values, least=_LEAST))[::-1]
    n = len(x)
    if counts is None:
        first = min(max(20, n // 200), n // 3)
        counts = np.unique(np.geomspace(first, max(n // 20, 2 * first), 8).astype(int))
    chosen = np.unique(np.atleast_1d(np.asarray(counts)).astype(int))
    if chosen[0] < 10 or chosen[-1] >= n:
        raise SpecError(
            f"counts runs from {chosen[0]} to {chosen[-1]}, but of {n} values the largest 10 to "
            f"{n - 1} can be used: fewer have no index. Choose counts within."
        )
    if x[chosen[-1]] <= 0:
        raise SpecError(
            f"the {chosen[-1]} largest values reach down to {x[chosen[-1]]:g}, and a power tail is "
            "of positive values. Choose smaller counts."
        )
    logs = np.log(x[: chosen[-1] + 1])
    sums = np.cumsum(logs)
    hill = chosen / (sums[chosen - 1] - chosen * logs[chosen])
    se = hill / np.sqrt(chosen)
    pareto = np.array([_pareto(x[:k] - x[k]) for k in chosen])
    middle = len(chosen) // 2
    # Two estimates share values: their difference has the difference of their variances.
    last = hill[-1]
    gap = (hill[:-1] - last) / np.sqrt(np.maximum(se[:-1] ** 2 - se[-1] ** 2, 1e-300))
    stable = bool(len(gap) == 0 or np.abs(gap).max() < norm.isf(0.01 / 2 / max(len(gap), 1)))
    return TailIndex(
        counts=chosen,
        hill=hill,
        hill_se=se,
        pareto=pareto,
        value=float(hill[middle]),
        se=float(math.hypot(se[middle], hill.std())),
        stable=stable,
    )


def _pareto(exceedances: np.ndarray) -> float:
    shape, _, _ = genpareto.fit(exceedances / exceedances.mean(), floc=0)
    return 1 / shape if shape > 0 else math.inf


def _checked(values: ArrayLike, *, least: int) -> np.ndarray:
    x = np.asarray(values, float).ravel()
    if len(x) < least:
        raise SpecError(
            f"{len(x)} values are too few, {least} are needed: a tail is made of the largest few "
            "per cent. Draw more networks."
        )
    if not np.isfinite(x).all() or (x < 0).any():
        raise SpecError(
            f"values must be finite and not negative, got {x.min():g} .. {x.max():g}. Give norms "
            "or their powers, not logarithms."
        )
    return x
