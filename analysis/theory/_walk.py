"""Log norms as a random walk: the independent steps of all layers, gathered by their shape.

See `analysis.theory.log_normal` for the mathematics. Layers whose matrices have the same shapes
share the law of their hidden units, which is what costs; a step is then an integral over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import loggamma

from analysis.theory._entrywise import check_entrywise
from analysis.theory._transition import alive_probability, check_no_ties
from sigprop.branch_factor import (
    SquareLaw,
    cumulants,
    gamma_cumulants,
    hidden_law,
    log_power,
    log_transform,
)
from sigprop.errors import Unsupported
from sigprop.layer_factor import slopes_of
from sigprop.spec import Ensemble

__all__ = ["Walk", "walk"]


@dataclass(frozen=True)
class Kind:
    """Layers of one shape: their steps forward and back, of log|.|^2.

    Attributes
    ----------
    trunk : bool
    layers : ndarray of int
        Which layers they are.
    log_skip, log_variance : ndarray, shape (len(layers),)
        Logs of |c| and of a^2 s^2 times the variances of all matrices; -inf for 0.
    below, above : int
        Dimensions of the state before and after.
    law : SquareLaw
        What the hidden units make of a square.
    """

    trunk: bool
    layers: np.ndarray
    log_skip: np.ndarray
    log_variance: np.ndarray
    below: int
    above: int
    law: SquareLaw

    def cumulants(self) -> np.ndarray:
        """Shape (len(layers), 4), given that the state is not zero."""
        found = np.zeros((len(self.layers), 4))
        carried = np.isfinite(self.log_skip)
        alone = ~carried
        if alone.any():
            found[alone] = self.law.cumulants()
            found[alone, 0] += self.log_variance[alone]
            if self.trunk:  # a chi-square of the width
                found[alone] += gamma_cumulants(self.above / 2)
                found[alone, 0] += math.log(2)
            found[alone & np.isneginf(self.log_variance)] = np.nan  # the state is zero for sure
        if carried.any():
            relative = self.log_variance[carried] - 2 * self.log_skip[carried]
            found[carried] = cumulants(self.law, relative, self.above)
            found[carried, 0] += 2 * self.log_skip[carried]
        return found

    def log_power(self, power: float) -> np.ndarray:
        """log E of the step to a power; shape (len(layers),)."""
        found = np.zeros(len(self.layers))
        carried = np.isfinite(self.log_skip)
        if power == 0:
            return found
        if not carried.all():
            mean = float(np.log(self.law.weights @ np.exp(power * self.law.logs)))
            state = _log_chi_square(self.above, power).real if self.trunk else 0.0
            found[~carried] = mean + state + power * self.log_variance[~carried]
        if carried.any():
            relative = self.log_variance[carried] - 2 * self.log_skip[carried]
            found[carried] = log_power(self.law, relative, self.above, power)
            found[carried] += 2 * power * self.log_skip[carried]
        return found

    def gradient_cumulants(self) -> np.ndarray:
        if self.trunk:
            return self.cumulants()
        turned = gamma_cumulants(self.below / 2) - gamma_cumulants(self.above / 2)
        return self.cumulants() + turned

    def gradient_log_power(self, power: float) -> np.ndarray:
        if self.trunk:
            return self.log_power(power)
        turned = _log_chi_square(self.below, power) - _log_chi_square(self.above, power)
        return self.log_power(power) + turned.real

    def log_transform(self, powers: np.ndarray, chosen: np.ndarray, gradient: bool) -> np.ndarray:
        """Sum over the chosen layers of log E[step^p | step > 0], p complex; as ``powers``."""
        found = np.zeros(len(powers), complex)
        carried = np.isfinite(self.log_skip) & chosen
        alone = ~np.isfinite(self.log_skip) & chosen
        if alone.any():
            mean = np.sum(np.exp(powers[:, None] * self.law.logs) * self.law.weights, axis=1)
            one = np.log(mean / self.law.alive)
            if self.trunk:
                one = one + _log_chi_square(self.above, powers)
            found += alone.sum() * one + powers * self.log_variance[alone].sum()
        if carried.any():
            relative = self.log_variance[carried] - 2 * self.log_skip[carried]
            found += log_transform(self.law, relative, self.above, powers).sum(axis=0)
            found += powers * 2 * self.log_skip[carried].sum()
        if gradient and not self.trunk:
            turned = _log_chi_square(self.below, powers) - _log_chi_square(self.above, powers)
            found += chosen.sum() * turned
        return found

    def power_range(self, chosen: np.ndarray, gradient: bool) -> tuple[float, float]:
        """Between which powers `log_transform` is good: tilted, the law is still on its grid."""
        low, high = -_FARTHEST, _FARTHEST
        alone = ~np.isfinite(self.log_skip) & chosen
        if alone.any() and len(self.law.logs) > 1:
            low, high = self.law.power_range()
        if self.trunk:
            low = max(low, -0.45 * self.above)
        elif gradient:
            low = max(low, -0.45 * self.below)
        return low, high

    def highest(self, chosen: np.ndarray) -> float:
        """Twice the imaginary part up to which a grid of log Q has the transform of its law."""
        on_grid = len(self.law.logs) > 1 and bool((~np.isfinite(self.log_skip) & chosen).any())
        return 2 * math.pi / self.law.step if on_grid else math.inf

    def silence(self, chosen: np.ndarray) -> float:
        """Probability that none of the chosen layers adds to a state that is carried on."""
        if not np.isfinite(self.log_skip[chosen]).all():
            return 0.0
        quiet = 1.0 - self.law.alive
        silent = np.isneginf(self.log_variance[chosen])
        return float(np.where(silent, 1.0, quiet).prod())

    @property
    def log_alive(self) -> np.ndarray:
        """Log of the probability that a layer passes anything on; shape (len(layers),)."""
        return np.where(np.isfinite(self.log_skip), 0.0, math.log(self.law.alive))


@dataclass(frozen=True)
class Walk:
    """The independent steps of log|h|^2 and log|p|^2.

    ``alive`` is, of every layer, the probability that what is below lets a gradient arrive.
    """

    kinds: list[Kind]
    alive: np.ndarray

    def norm(self) -> np.ndarray:
        """Cumulants of log |h_l| / |h_0|, shape (depth + 1, 4)."""
        return _summed(self._steps(Kind.cumulants)) / _HALVES

    def gradient(self) -> np.ndarray:
        """Cumulants of log |p_l| / |p_L|, shape (depth + 1, 4)."""
        return _summed(self._steps(Kind.gradient_cumulants)[::-1])[::-1] / _HALVES

    def norm_moment(self, order: float) -> np.ndarray:
        return _summed(self._steps(lambda kind: kind.log_power(order / 2)))

    def gradient_moment(self, order: float) -> np.ndarray:
        steps = self._steps(lambda kind: kind.gradient_log_power(order / 2))
        return _summed(steps[::-1])[::-1] + (np.log(self.alive) if order else 0.0)

    def log_survival(self) -> np.ndarray:
        """Log of the probability that the state is not zero; shape (depth + 1,)."""
        return _summed(self._steps(lambda kind: kind.log_alive))

    def gradient_log_survival(self) -> np.ndarray:
        steps = self._steps(lambda kind: kind.log_alive)
        return _summed(steps[::-1])[::-1] + np.log(self.alive)

    def variances(self, gradient: bool) -> tuple[np.ndarray, np.ndarray]:
        """Variance and fourth cumulant of every step of the log; shape (depth,) each."""
        of = Kind.gradient_cumulants if gradient else Kind.cumulants
        found = self._steps(of) / _HALVES
        return found[:, 1], found[:, 3]

    def _steps(self, of: Callable[[Kind], np.ndarray]) -> np.ndarray:
        parts = np.concatenate([of(kind) for kind in self.kinds])
        order = np.concatenate([kind.layers for kind in self.kinds])
        steps = np.empty_like(parts)
        steps[order] = parts
        return steps


_FARTHEST = 400.0  # of powers, for laws that have them all
_HALVES = 2.0 ** np.arange(1, 5)  # from squares to norms


def _summed(steps: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(steps[:1]), np.cumsum(steps, axis=0)])


def _log_chi_square(degrees: int, power: complex | np.ndarray) -> np.ndarray:
    """log E (chi^2)^power."""
    gammas = loggamma(degrees / 2 + power + 0j) - loggamma(degrees / 2)
    return np.asarray(power * math.log(2) + gammas)


def walk(ensemble: Ensemble, name: str, gradient: bool = False, finer: float = 1.0) -> Walk:
    """The steps of an ensemble.

    ``name`` is that of the public function, for messages; ``finer`` as in `hidden_law`.
    """
    _check(ensemble, name)
    network, table = ensemble.network, ensemble.table
    alive = np.ones(network.depth + 1)
    if gradient:
        check_no_ties(ensemble, name)
        alive = alive_probability(ensemble, name)
    phi, trunk = network.phi, network.form.trunk
    keep = 1 - network.dropout
    if network.dropout:
        slopes = slopes_of(phi)
    else:
        slope = 1.0 if phi.negative_slope is None else phi.negative_slope
        random = phi.homogeneous and phi.negative_slope is None
        slopes = phi.parameters if random else (slope, slope)
    with np.errstate(divide="ignore"):
        log_skip = np.log(np.abs(table.skip))
        log_variance = 2 * np.log(np.abs(table.branch * table.input_scale))
        log_variance += 2 * np.log(table.scale).sum(axis=1)
    rows = network.fans[1]
    hidden = rows[:, :-1] if trunk else rows
    log_variance -= 2 * math.log(keep) * hidden.shape[1]  # kept units are divided by keep
    shape = np.column_stack([network.state_widths[:-1], rows[:, -1], hidden])
    shapes, which = np.unique(shape, axis=0, return_inverse=True)
    kinds = []
    for i, (below, above, *widths) in enumerate(shapes.tolist()):
        layers = np.flatnonzero(which.ravel() == i)
        carried = np.isfinite(log_skip[layers]).all()
        law = hidden_law(tuple(widths), slopes, 1.0 if carried else finer, keep=keep)
        kinds.append(Kind(trunk, layers, log_skip[layers], log_variance[layers], below, above, law))
    return Walk(kinds, alive)


def _check(ensemble: Ensemble, name: str) -> None:
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, name)
    if not network.phi.homogeneous:
        raise Unsupported(
            f"{name} needs a positively homogeneous activation, got {network.phi.kind!r}: for "
            "others the growth of a norm depends on the norm itself. Simulate it."
        )
    if table.law.kind != "gaussian":
        raise Unsupported(
            f"{name} is a law of Gaussian weights, got law {table.law.kind!r}: with others the "
            "growth of a norm depends on where the state points. Use log_normal_limit, or the "
            "second and fourth moments, which hold for them too."
        )
    if table.correlated:
        raise Unsupported(
            f"{name} needs layers that are independent of each other: with correlated weights "
            "log-norms are no random walk. Use mean_field, the limit of infinite width."
        )
    if table.centred:
        raise Unsupported(
            f"{name} needs independent entries, but scheme {ensemble.scheme.kind!r} makes every "
            "row sum to zero: what a row passes on then depends on the mean of the signal, not "
            "on its norm alone. Simulate it."
        )
    if table.biased:
        raise Unsupported(
            f"{name} needs a net without biases: with them a layer adds more to a short state "
            "than to a long one. Use the second and fourth moments, which take biases."
        )
    if network.form.pre and network.phi.kind != "linear" and network.phi.negative_slope != 1:
        raise Unsupported(
            f"{name} does not apply to block {network.block!r} with activation "
            f"{network.phi.kind!r}: the branch reads the trunk itself, and what it adds depends on "
            "the direction of the state. Use activation 'linear', or block 'res3' or 'inner'."
        )
