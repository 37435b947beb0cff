r"""Mean fourth powers of states and gradients: how far a measured mean square may be off.

The fourth power of a norm is the square of what `second_moment` averages, so with it comes
the standard error of a mean over n networks, :math:`\sqrt{\text{relative variance}/n}`. The
error that a sample states of itself will not do: a heavy-tailed sample misses its largest
values, and is then wrong and confident at once.

The recursions close on :math:`(E|h|^4, E|h|_4^4, E|h|^2)` for every law of weights with a
fourth moment, see `analysis.theory._transition`; Gaussian weights need no :math:`|h|_4^4`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.theory._transition import (
    Transition,
    alive_probability,
    check_no_ties,
    stem_alive_probability,
    transition,
)
from analysis.theory.second_moment import log_gradient_mean_square, log_mean_square
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = [
    "displacement_relative_variance",
    "gradient_displacement_relative_variance",
    "gradient_relative_variance",
    "log_fourth_moment",
    "log_gradient_fourth_moment",
    "relative_variance",
]

_LARGE = 1e100  # a factor to rescale by


def relative_variance(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Variance of the squared norm over its squared mean, :math:`E|h_l|^4/(E|h_l|^2)^2 - 1`.

    With :math:`w` this number, :math:`f = E|h|_4^4 / (E|h|^2)^2` and no biases, in the
    notation of `log_mean_square` for a branch Y,

    .. math:: w' (c^2 + t)^2 = m\, w + \frac{4 c^2 t}{d} + (b_0 - t^2) + b_1 f

    where :math:`E|Y|^4 = b_0 |h|^4 + b_1 |h|_4^4` and m is the factor of
    :math:`|h|^4` in :math:`E|h'|^4`; f has a recursion of the same kind. For Gaussian
    weights :math:`b_1 = 0`, and for res3 with ReLU, all widths d and constant variances 1/d,
    :math:`w + 1 = m_4^l` with :math:`m_4 (1 + a^2/2)^2 = 1 + a^2 + 2a^2/d + a^4 (1/4 +
    5/(4d))(1 + 2/d)`.

    Parameters
    ----------
    ensemble : Ensemble
    input : int
        Which of the inputs; it matters for given inputs, since their fourth powers do.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; 0 at the input. Divided by the number of networks and square-rooted,
        the standard error of a mean square relative to its truth; inf beyond float64.

    Raises
    ------
    Unsupported
        As `log_mean_square`; and if the weights have no fourth moment.

    Notes
    -----
    Status: exact for all depths and widths. Assumes independent symmetric weights of finite
    kurtosis; they need not be Gaussian. Accurate however small the branches. Cost O(depth).

    References
    ----------
    The form above is elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=30, width=10), Power(beta=0.5))
    >>> m_4 = 1 + 1 / 30 + 2 / 300 + (0.25 + 5 / 40) * 1.2 / 900
    >>> bool(np.isclose(1 + relative_variance(critical)[-1], (m_4 / (1 + 1 / 60) ** 2) ** 30))
    True
    """
    with np.errstate(over="ignore"):
        return np.expm1(_log_kurtosis(ensemble, input, "relative_variance"))


def _log_kurtosis(ensemble: Ensemble, input: int, name: str) -> np.ndarray:
    """log(1 + w) of `relative_variance`, which itself may be beyond float64."""
    steps = transition(ensemble, input, name=name, order=4, projected=True)
    logs = log_mean_square(ensemble, input)
    w, f, one, shift = 0.0, steps.start, 1.0, 0.0  # w and f in units of e^shift, as is one
    out = np.zeros(len(logs))
    for k, (whole, excess) in enumerate(zip(steps.whole, steps.excess)):
        biased = whole[2, 3] > 0
        if np.isneginf(logs[k + 1]):  # the state is zero
            w, f, one, shift = 0.0, 0.0, 1.0, 0.0
        elif biased and logs[k] < -300:  # the signal is lost in the bias
            w, f = excess[3] / whole[2, 3] ** 2, whole[1, 3] / whole[2, 3] ** 2
            one, shift = 1.0, 0.0
        else:
            # In units of the mean square at layer k, a constant of degree 2 is `unit`.
            unit = math.exp(-logs[k]) if biased else 0.0
            gain = whole[2, 2] + whole[2, 3] * unit
            tail = np.array([one, f, unit * one, unit**2 * one])
            w, f = (
                (whole[0, 0] * w + excess @ tail) / gain**2,
                (whole[1, 0] * w + whole[1] @ tail) / gain**2,
            )
            if w > _LARGE:
                w, f, one, shift = w / _LARGE, f / _LARGE, one / _LARGE, shift + math.log(_LARGE)
        out[k + 1] = math.log1p(w) if shift == 0 else math.log(w) + shift
    return out - math.log(stem_alive_probability(ensemble, name))  # zero otherwise


def log_fourth_moment(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Log of :math:`E|h_l|^4 / |h_0|^4`: `log_mean_square` twice, plus log(1 + w).

    Parameters, raises, status, assumptions and cost as `relative_variance`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> one = Ensemble(Network(depth=1, width=6, block="plain"), He())  # 1 + 5/n
    >>> bool(np.isclose(np.exp(log_fourth_moment(one)[-1]), 1 + 5 / 6))
    True
    """
    name = "log_fourth_moment"
    return 2 * log_mean_square(ensemble, input) + _log_kurtosis(ensemble, input, name)


def gradient_relative_variance(ensemble: Ensemble) -> np.ndarray:
    r"""Variance of :math:`|p_l|^2 / |p_L|^2` over its squared mean, p_L isotropic.

    For isotropic z at layer l and p at the top, both of unit norm, and J the Jacobian
    between them,

    .. math:: n_l (n_l + 2)\, E|Jz|^4 = 2 \operatorname{tr} (J^T J)^2 + (\operatorname{tr}
              J^T J)^2 = n_L (n_L + 2)\, E|J^T p|^4 ,

    so the tangent, which obeys the recursion of `relative_variance` without biases and
    with :math:`f = 3/(n_l + 2)` at its start, gives the gradient.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; its last entry is 0.

    Raises
    ------
    Unsupported
        As `relative_variance` and `log_gradient_mean_square`.

    Notes
    -----
    Status: exact for all depths and widths, under the assumptions of
    `log_gradient_mean_square` and a finite kurtosis. Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=9, width=5), Power(beta=0.5))  # Gaussian weights
    >>> bool(np.allclose(gradient_relative_variance(law)[::-1], relative_variance(law)))
    True
    """
    with np.errstate(over="ignore"):
        return np.expm1(_log_gradient_kurtosis(ensemble, "gradient_relative_variance"))


def _log_gradient_kurtosis(ensemble: Ensemble, name: str) -> np.ndarray:
    check_no_ties(ensemble, name)
    steps = transition(ensemble, name=name, order=4, tangent=True, projected=True)
    # (w, f, 1) after a layer is linear in (w, f, 1) before it; the row is the first
    # component at the top as a function of the vector at layer l, in units of e^shift.
    row, shift = np.array([1.0, 0.0, 0.0]), 0.0
    top = float(steps.widths[-1])
    out = np.zeros(len(steps.widths))
    for k in reversed(range(len(steps.skip))):
        whole, excess, gain = steps.whole[k], steps.excess[k], steps.gain[k]
        if gain == 0:  # below here the gradient is zero
            break
        step = np.array(
            [
                [whole[0, 0], excess[1], excess[0]],
                [whole[1, 0], whole[1, 1], whole[1, 0]],
                [0.0, 0.0, gain**2],
            ]
        )
        row = row @ step / gain**2
        if row[2] > _LARGE:
            row, shift = row / _LARGE, shift + math.log(_LARGE)
        n = float(steps.widths[k])
        tangent = row[1] * 3 / (n + 2) + row[2]
        out[k] = math.log1p(tangent) if shift == 0 else math.log(tangent) + shift
        out[k] += math.log1p(2 * (top - n) / (n * (top + 2)))  # (1 + 2/n) / (1 + 2/top)
    return out - np.log(alive_probability(ensemble, name))  # zero otherwise


def log_gradient_fourth_moment(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E|p_l|^4 / |p_L|^4` for an isotropic gradient at the top.

    Raises, status, assumptions and cost as `gradient_relative_variance`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> one = Ensemble(Network(depth=1, width=6, block="plain"), He())
    >>> bool(np.isclose(np.exp(log_gradient_fourth_moment(one)[0]), 1 + 5 / 6))
    True
    """
    name = "log_gradient_fourth_moment"
    return 2 * log_gradient_mean_square(ensemble) + _log_gradient_kurtosis(ensemble, name)


def displacement_relative_variance(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Variance of :math:`|h_l - h_0|^2` over its squared mean, for a residual net.

    Write :math:`h_l = C_l h_0 + g`, :math:`x = g \cdot h_0` and :math:`|h_0| = 1`. The moments
    :math:`E|g|^2, E x^2, E x|g|^2, E|g|^4` obey a linear recursion of positive terms, and
    :math:`D = (C - 1)^2 + 2 (C - 1) x + |g|^2`.

    Parameters, raises, status and assumptions as `relative_variance`; a plain net is
    Unsupported. Cost O(depth).

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; 0 where the state has not moved, inf beyond float64.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=50, width=20), Power(beta=0.5))
    >>> round(float(displacement_relative_variance(law)[-1] ** 0.5 * (1.01**50 - 1)), 5)
    0.28108
    """
    name = "displacement_relative_variance"
    _check_trunk(ensemble, name)
    steps = transition(ensemble, input, name=name, order=4)
    _check_range(log_mean_square(ensemble, input), name)
    spread = _Spread.begin(1, steps.start)
    out = [0.0]
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(len(steps.skip)):
            spread = spread.step(steps, k)
            out.append(float(spread.relative_variance()[0]))
    return np.array(out)


def gradient_displacement_relative_variance(ensemble: Ensemble) -> np.ndarray:
    r"""Variance of :math:`|p_l - p_L|^2` over its squared mean, p_L isotropic.

    The traces of `gradient_relative_variance` for J - 1 in place of J: the numbers of
    `displacement_relative_variance` for the layers above l alone, begun isotropic.

    Raises, status and assumptions as `gradient_relative_variance`; a plain net is
    Unsupported. Cost O(depth^2), 0.1 s at depth 1000.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; its last entry is 0.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=9, width=5), Power(beta=0.5))  # Gaussian weights
    >>> forward = displacement_relative_variance(law)
    >>> bool(np.allclose(gradient_displacement_relative_variance(law)[::-1], forward))
    True
    """
    name = "gradient_displacement_relative_variance"
    check_no_ties(ensemble, name)
    _check_trunk(ensemble, name)
    steps = transition(ensemble, name=name, order=4, tangent=True)
    _check_range(log_gradient_mean_square(ensemble)[::-1], name)
    isotropic = 3 / (ensemble.network.width + 2)
    spread = _Spread.begin(0, isotropic)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(len(steps.skip)):  # starts 0 .. k are on their way
            spread = spread.joined(_Spread.begin(1, isotropic)).step(steps, k)
        return np.append(spread.relative_variance(), 0.0)


@dataclass(frozen=True)
class _Spread:
    """Moments of g = h - C h_0, one entry a start, in units in which |h_0| is ``unit``.

    The number behind each name is its degree, so that one factor rescales all.
    """

    unit: np.ndarray  # 1: |h_0|
    mean: np.ndarray  # 1: C |h_0|
    square: np.ndarray  # 2: E|g|^2
    along: np.ndarray  # 2: E x^2, x the part of g along h_0
    cubic: np.ndarray  # 3: E x|g|^2
    fourth: np.ndarray  # 4: E|g|^4
    state: np.ndarray  # 4: E|h|^4
    entries: np.ndarray  # 4: E|h|_4^4

    DEGREES = (1, 1, 2, 2, 3, 4, 4, 4)

    @classmethod
    def begin(cls, count: int, start: float) -> _Spread:
        one, zero = np.ones(count), np.zeros(count)
        return cls(one, one, zero, zero, zero, zero, one, start * one)

    def _parts(self) -> tuple[np.ndarray, ...]:
        return (
            self.unit,
            self.mean,
            self.square,
            self.along,
            self.cubic,
            self.fourth,
            self.state,
            self.entries,
        )

    def joined(self, other: _Spread) -> _Spread:
        pairs = zip(self._parts(), other._parts())
        return _Spread(*(np.concatenate(pair) for pair in pairs))

    def step(self, steps: Transition, k: int) -> _Spread:
        c, d, b, whole = steps.skip[k], float(steps.widths[k]), steps.branch[k], steps.whole[k]
        t, tau = b[2, 2], b[2, 3] * self.unit**2
        mean_square = self.mean**2 + self.square
        added = t * mean_square + tau  # E|Y|^2
        # E r x and E r |g|^2, r = |h|^2 = mean^2 + 2 mean x + |g|^2
        r_x = 2 * self.mean * self.along + self.cubic
        r_g = self.mean**2 * self.square + 2 * self.mean * self.cubic + self.fourth
        x = (self.state, self.entries, mean_square * self.unit**2, self.unit**4)
        moved = (
            self.unit,
            c * self.mean,
            c**2 * self.square + added,
            c**2 * self.along + added / d,
            c**3 * self.cubic + c * (1 + 2 / d) * t * r_x,
            c**4 * self.fourth
            + 2 * c**2 * (1 + 2 / d) * (t * r_g + tau * self.square)
            + _dot(b[0], x),
            _dot(whole[0], x),
            _dot(whole[1], x),
        )
        size = np.maximum(np.sqrt(moved[1] ** 2 + moved[2]), moved[0])
        return _Spread(*(part / size**n for part, n in zip(moved, self.DEGREES)))

    def relative_variance(self) -> np.ndarray:
        shift = self.mean - self.unit
        first = shift**2 + self.square
        second = (
            shift**4
            + 4 * shift**2 * self.along
            + self.fourth
            + 2 * shift**2 * self.square
            + 4 * shift * self.cubic
        )
        moved = first > 0
        ratio = second / np.where(moved, first, 1.0) ** 2
        # Beyond float64 an infinite fourth power meets a zero factor: it is infinite.
        return np.where(moved, np.where(np.isnan(ratio), np.inf, ratio - 1), 0.0)


def _dot(row: np.ndarray, x: tuple[np.ndarray, ...]) -> np.ndarray:
    return row[0] * x[0] + row[1] * x[1] + row[2] * x[2] + row[3] * x[3]


def _check_trunk(ensemble: Ensemble, name: str) -> None:
    if not ensemble.network.form.trunk:
        raise Unsupported(
            f"{name} is a law of residual nets: the layers of block 'plain' live in unrelated "
            "spaces, so their difference means nothing. Use block 'res3' or another with a trunk."
        )


def _check_range(logs: np.ndarray, name: str) -> None:
    """Fourth powers relative to |h_0|^4 underflow where the state shrinks below 1e-75."""
    lost = np.minimum.accumulate(logs) < -340
    if np.any(lost & (logs > -60)):
        raise Unsupported(
            f"{name} cannot follow a mean square that falls below 1e-147 and recovers: its "
            "fourth powers leave the range of float64. Take the skip coefficients nearer to 1."
        )
