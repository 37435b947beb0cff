r"""Plain nets with biases: a random difference equation, its stationary law and its heavy tail.

With Gaussian biases of variance :math:`s_b^2` the square :math:`z = |x|^2` is a Markov chain,

.. math:: z' = (\sigma^2 z + s_b^2)\, Q = A z + B, \qquad A = \sigma^2 Q, \quad B = s_b^2 Q,

Q what a layer of unit weights makes of a unit vector, anew in every layer. If
:math:`E \log A < 0` it has one stationary law (Kesten), as it has wherever layers may die, since a
dead layer forgets all; and where
:math:`E A^{k/2} = 1` for a :math:`k > 0` that law has the tail

.. math:: P(|x| > u) \sim C u^{-k}, \qquad
          C = \frac{E[(Az + B)^{k/2} - (Az)^{k/2}]}{(k/2)\, E[A^{k/2} \log A]}

(Goldie). So the scheme that preserves :math:`E|x|^s` without biases has, with them, a limit whose
tail index is s. The stationary law is found here on a grid of log z, on which the chain is an
integral operator with an analytic kernel: the trapezoid rule is exact to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from analysis.theory._entrywise import check_entrywise
from sigprop.branch_factor import SquareLaw, hidden_law
from sigprop.errors import Unsupported
from sigprop.layer_factor import LayerFactor
from sigprop.spec import Ensemble

__all__ = ["StationaryLaw", "stationary_law", "tail_index"]

_HIGHEST = 10.0  # of k / 2: what `LayerFactor.log_moment` takes
_MOST = 4000  # places of the grid
_FINER = 8.0  # than the grid on which integrals of log Q are exact: it is interpolated
_PLACES = 2.0  # so much finer than that grid are the places
_NEGLIGIBLE = 32.0  # exponents of the tail that the grid holds


@dataclass(frozen=True, eq=False)
class StationaryLaw:
    """The law that log |x_l|^2 tends to, whatever the input.

    Attributes
    ----------
    log_square : ndarray, shape (places,)
        Even grid of log |x|^2.
    density : ndarray, shape (places,)
        Of log |x|^2 there; its integral is ``alive``.
    alive : float
        Probability that the state is not zero.
    tail_index : float
        k: E|x|^r is finite for r < k alone.
    goldie : float
        C, where P(|x| > u) ~ C u^-k.
    lyapunov : float
        The mean of log A / 2, given that a layer is alive.
    """

    log_square: np.ndarray
    density: np.ndarray
    alive: float
    tail_index: float
    goldie: float
    lyapunov: float

    @property
    def relaxation_depth(self) -> float:
        """Layers after which the input is forgotten by a factor e: shrunk, or cut by a death."""
        return 1 / (max(-self.lyapunov, 0.0) - math.log(self.alive))

    def sf(self, norm: ArrayLike) -> np.ndarray:
        """P(|x| > norm): the grid while it reaches, then the tail."""
        norm = np.asarray(norm, float)
        step = self.log_square[1] - self.log_square[0]
        # The integral of the cubic through the density, from the right.
        spline = CubicSpline(self.log_square, self.density)
        place = 2 * np.log(np.maximum(norm, 1e-300))
        inside = np.clip(place, self.log_square[0], self.log_square[-1])
        whole = spline.integrate(self.log_square[0], self.log_square[-1])
        primitive = spline.antiderivative()
        above = whole - (primitive(inside) - primitive(self.log_square[0]))
        end = self.log_square[-1] - 8 * step
        tail = self.tail(norm)
        # Where the difference of integrals has lost its digits the tail has all of them.
        return np.asarray(np.where((place > end) | (above < 1e-10), tail, above))

    def tail(self, norm: ArrayLike) -> np.ndarray:
        """C norm^-k, which P(|x| > norm) tends to."""
        return np.asarray(self.goldie * np.asarray(norm, float) ** -self.tail_index)


def tail_index(ensemble: Ensemble) -> float:
    r"""The k > 0 with :math:`E A^{k/2} = 1`: the tail index of the limit with biases.

    Parameters
    ----------
    ensemble : Ensemble
        A plain net of one width with Gaussian weights, the same in every layer. It need not have
        biases: any of a positive variance lead to this index.

    Returns
    -------
    float
        Dimensionless; E|x|^r of the limit is finite for r < k alone.

    Raises
    ------
    Unsupported
        If the log norm does not fall on average and no layer dies, so that there is no limit; if
        k is above 20;
        or if the ensemble is another.

    Notes
    -----
    Status: exact, by Brent's method on log E A^(k/2), which is convex. Cost: 1 ms.

    References
    ----------
    Kesten (1973), *Random difference equations and renewal theory for products of random
    matrices*, Acta Math. 131; recalled.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=9, width=30, block="plain"), He(bias_variance=0.1))
    >>> round(tail_index(he), 10)
    2.0
    """
    layer, log_variance = _layer(ensemble, "tail_index")
    _, exponent = _solved(layer, log_variance)
    return 2 * exponent


def stationary_law(ensemble: Ensemble) -> StationaryLaw:
    r"""The law that :math:`|x_l|` tends to with biases, with its tail and Goldie's constant.

    Parameters
    ----------
    ensemble : Ensemble
        As `tail_index`, with biases.

    Returns
    -------
    StationaryLaw

    Raises
    ------
    Unsupported
        As `tail_index`; and if there are no biases, or the tail is so heavy or the width so great
        that the law takes more than 4000 places.

    Notes
    -----
    Status: exact law of the limit of depth, on a grid; probabilities to about 1e-7. Cost: of a
    dense linear system, 0.1 to 10 s.

    References
    ----------
    Kesten (1973); Goldie (1991), *Implicit renewal theory and tails of solutions of random
    equations*, Ann. Appl. Probab. 1; recalled.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import Fractional
    >>> network = Network(depth=9, width=4, block="plain")
    >>> law = stationary_law(Ensemble(network, Fractional(s=1.0, bias_variance=1.0)))
    >>> round(law.tail_index, 9), round(law.goldie, 3)
    (1.0, 1.502)
    """
    name = "stationary_law"
    layer, log_variance = _layer(ensemble, name)
    table = ensemble.table
    if not table.biased:
        raise Unsupported(
            f"{name} needs biases: without them a state that shrinks on average tends to 0. Give "
            "a bias_variance."
        )
    lyapunov, exponent = _solved(layer, log_variance)
    log_bias = float(2 * np.log(table.bias_scale[0, 0] * abs(table.branch[0])))
    law = hidden_law((layer.width,), layer.slopes, _FINER)
    places, density, dead = _stationary(law, log_variance, log_bias, exponent)
    step = float(places[1] - places[0])

    # E over Q of (Az + B)^k - (Az)^k is E Q^k ((sigma^2 z + s_b^2)^k - (sigma^2 z)^k).
    alone = np.exp(exponent * (log_variance + places))
    both = np.exp(exponent * np.logaddexp(log_variance + places, log_bias))
    relative = np.where(
        alone > 0,
        alone * np.expm1(exponent * np.log1p(np.exp(log_bias - log_variance - places))),
        both,
    )
    gained = step * float(density @ relative) + dead * math.exp(exponent * log_bias)
    gained *= math.exp(layer.log_moment(exponent))
    width = 1e-4
    slope = layer.log_moment(exponent + width) - layer.log_moment(exponent - width)
    goldie = gained / (exponent * (slope / (2 * width) + log_variance))
    return StationaryLaw(
        log_square=places,
        density=density,
        alive=1 - dead,
        tail_index=2 * exponent,
        goldie=goldie,
        lyapunov=lyapunov,
    )


def _layer(ensemble: Ensemble, name: str) -> tuple[LayerFactor, float]:
    """The factor of every layer, and log sigma^2."""
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, name)
    alike = all(
        bool((column == column[0]).all())
        for column in (table.scale, table.branch, table.bias_scale)
    )
    widths = network.state_widths
    if network.form.trunk or not alike or bool((widths != widths[0]).any()):
        raise Unsupported(
            f"{name} is of a plain net whose layers are all alike, got block {network.block!r}"
            f"{'' if network.form.trunk else ' with layers that differ'}. Use --block plain, one "
            "width and one variance."
        )
    if table.law.kind != "gaussian" or table.correlated or table.centred:
        raise Unsupported(
            f"{name} needs independent Gaussian weights: with others a layer's factor depends on "
            "the direction of the state. Use law 'gaussian'."
        )
    layer = LayerFactor.of(network.phi, int(widths[0]))
    with np.errstate(divide="ignore"):
        return layer, float(2 * np.log(abs(table.scale[0, 0] * table.branch[0])))


def _solved(layer: LayerFactor, log_variance: float) -> tuple[float, float]:
    """(lambda, k / 2)."""
    lyapunov = (log_variance + float(layer.log_cumulants()[0])) / 2
    if lyapunov >= 0 and layer.silence == 0:
        raise Unsupported(
            f"the norm grows on average, by exp({lyapunov:.3g}) a layer, so that with biases there "
            "is no limit and no tail index. Use a smaller variance: s > 0 in scheme fractional."
        )

    def log_power(p: float) -> float:
        return p * log_variance + layer.log_moment(p)

    if log_power(_HIGHEST) < 0:
        raise Unsupported(
            f"the tail index is above {2 * _HIGHEST:g}: moments up to that order are finite, and "
            "the tail is too thin to matter. Use a larger variance."
        )
    low = 1e-3
    while log_power(low) >= 0:
        low /= 10
    return lyapunov, float(brentq(log_power, low, _HIGHEST, xtol=1e-14, rtol=1e-14))


def _stationary(
    law: SquareLaw, log_variance: float, log_bias: float, exponent: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """(places, density, probability of 0) of log z."""
    seen = law.weights > 1e-25 * law.weights.max()
    logs = law.logs[seen]
    density = CubicSpline(logs, np.log(law.weights[seen] / law.step), extrapolate=False)
    step = law.step * _FINER / _PLACES
    low = log_bias + logs[0]
    high = log_bias + logs[-1] + _NEGLIGIBLE / exponent
    count = math.ceil((high - low) / step)
    if count > _MOST:
        raise Unsupported(
            f"the stationary law takes {count} places and {_MOST} are the limit: its tail of index "
            f"{2 * exponent:.3g} is heavy and a layer of this width moves a state by little. Use "
            "a smaller width or a larger order s."
        )
    places = low + step * np.arange(count)
    pushed = np.logaddexp(log_variance + places, log_bias)
    with np.errstate(invalid="ignore"):
        kernel = np.nan_to_num(np.exp(density(places[:, None] - pushed)), nan=0.0)
    fresh = np.nan_to_num(np.exp(density(places - log_bias)), nan=0.0)  # from the state 0
    dead = 1 - law.alive
    # f = step K f + dead * fresh, f of mass `alive`: one equation gives way to the mass.
    system = np.eye(count) - step * kernel
    right = dead * fresh
    system[0] = step
    right[0] = law.alive
    found = np.linalg.solve(system, right)
    return places, np.maximum(found, 0.0), dead
