r"""Networks drawn from a tilted law, so that moments carried by rare giants are seen.

The mean of |h_L|^theta in a deep network is carried by networks that a plain sample never meets.
Here they are drawn on purpose: each layer's factor r = |h'|^2 / |h|^2 has its law weighted by
:math:`r^{\theta/2} / E r^{\theta/2}`, exactly, and every replica carries the logarithm of its
weight, the ratio of the true law to the tilted one. Then

.. math:: E |h_l|^s = E_\theta\bigl[ w_l\, |h_l|^s \bigr], \qquad
          w_l = \prod_{k \le l} E[r_k^{\theta/2}]\, r_k^{-\theta/2},

for every s, with no error at all at s = theta where the factors are independent, and a bounded one
nearby. What makes it exact for Gaussian weights:

* a normal vector z weighted by |phi(z)|^theta has its direction weighted by |phi(z/|z|)|^theta,
  which is bounded, so rejection draws it, and |z|^2 becomes chi-square with d + theta degrees;
* |c e + tau z|^2 is tau^2 times a chi-square of d + 2J degrees, J Poisson of mean c^2 / (2 tau^2).
  Weighted, J has the weight Gamma(d/2 + j + theta/2) / Gamma(d/2 + j), which lies under a tangent
  that is linear in j, so J or J + 1 is proposed and rejection is rare; the degrees gain theta.
  The part along e is sqrt of a Beta share, of either sign with the odds of two normal densities;
* the size S of the branch before its last matrix is drawn freely (from a chi-square widened by b
  for ReLU, whose count of active units is left alone, so that a dead branch keeps its chance) and
  weighted by :math:`E[r^{\theta/2} | S]`.

``chain`` carries lengths alone, ``conditional`` whole vectors: the same law where both apply, and
the latter for every block and positively homogeneous activation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import expit, gammaln, polygamma

from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.base import Sampler
from sigprop.errors import SpecError
from sigprop.layer_factor import LayerFactor, slopes_of
from sigprop.spec import Ensemble, check_number

__all__ = ["FIELDS", "Tilted"]

FIELDS = frozenset({"log_tilted_norm", "log_weight"})
_PURPOSE = 9  # fourth word of the counter: no other sampler uses it with these keys
_HIGHEST = 4.0  # of the tilt, in a plain net; 2 where there is a trunk
_MOST_ODDS = 1e8  # of c^2 / (2 tau^2): beyond, a layer moves log |h| by less than 1e-4
_NODES = 20  # of a Chebyshev panel of width 1 in log lambda: exact to rounding
_EXPANDED = 1e4  # of lambda: beyond, an expansion about the mean of J is exact to 1e-12


@dataclass(frozen=True)
class Tilted(Sampler):
    """One input, Gaussian weights: replicas of a tilted law, with their weights.

    Parameters
    ----------
    tilt : float
        theta > 0; at most 4 in a plain net and 2 beside a trunk.
    by : str
        ``chain`` (lengths alone) or ``conditional`` (vectors).
    """

    name: ClassVar[str] = "tilted"
    version: ClassVar[int] = 1
    block: ClassVar[int] = 1024
    about: ClassVar[str] = (
        "networks weighted by |h|^tilt, with their weights: moments at any depth (--tilt)"
    )

    tilt: float = 1.0
    by: str = "chain"

    def __post_init__(self) -> None:
        why = "It is the power of the norm by which networks are weighted."
        tilt = check_number("tilt", self.tilt, low=0.0, high=_HIGHEST, open_low=True, why=why)
        object.__setattr__(self, "tilt", tilt)
        if self.by not in ("chain", "conditional"):
            raise SpecError(
                f"a tilt is followed by sampler chain or conditional, got {self.by!r}: others draw "
                "matrices, whose tilted law has no closed form. Use --population instead."
            )

    @property
    def options(self) -> dict[str, object]:
        return {"tilt": self.tilt, "by": self.by}

    def applicable(self, ensemble: Ensemble, *, on_request: bool = False) -> frozenset[str]:
        return FIELDS

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        network, table = ensemble.network, ensemble.table
        elsewhere = "Use --population N, which follows every law."
        if not fields <= FIELDS:
            return (
                f"a tilted law gives moments of the norm alone, not {sorted(fields - FIELDS)}. "
                "Observe moment, or leave out the tilt."
            )
        if network.convolutional or table.batch_norm:
            return "it follows lengths, and images or a normalised batch are more. Leave it out."
        if network.form.post or table.structured or network.convolutional or table.batch_norm:
            return (
                f"block {network.block!r} or its convolutions, batches or structured matrices see "
                "more of a state than its length. Simulate without a tilt."
            )
        if table.law.kind != "gaussian":
            return f"a tilt is exact for Gaussian weights only, got {table.law.kind!r}. {elsewhere}"
        if table.correlated or table.centred:
            what = "layers that depend on each other" if table.correlated else "centred rows"
            return f"{what} have no closed tilt. {elsewhere if table.centred else ''}"
        if ensemble.inputs.count > 1:
            return f"it follows one input, got {ensemble.inputs.count}. Ask for --inputs point."
        if not network.phi.homogeneous:
            return (
                f"activation {network.phi.kind!r} is not positively homogeneous, so a layer's "
                f"factor depends on the state. {elsewhere}"
            )
        if network.form.trunk:
            return self._trunk_refusal(ensemble, elsewhere)
        if self.by == "chain" and network.phi.negative_slope is None:
            return (
                f"activation {network.phi.kind!r} has units that are not alike. Use --sampler "
                "conditional."
            )
        return None

    def _trunk_refusal(self, ensemble: Ensemble, elsewhere: str) -> str | None:
        network, table = ensemble.network, ensemble.table
        if self.tilt > 2:
            return f"beside a trunk the tilt is at most 2, got {self.tilt:g}."
        if table.biased:
            return f"biases on a branch have no closed tilt. {elsewhere}"
        if bool(np.any(table.skip == 0)):
            return f"a skip coefficient is 0, and the tilt is relative to what is kept. {elsewhere}"
        if self.by == "chain" and network.form.pre:
            return (
                f"block {network.block!r} applies its activation to the trunk itself, whose "
                "coordinates a length does not know. Use --sampler conditional."
            )
        if self.by == "chain" and network.phi.negative_slope is None and network.matrices > 1:
            return (
                f"activation {network.phi.kind!r} has units that are not alike. Use --sampler "
                "conditional."
            )
        return None

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        # A block is always drawn whole, so that a replica does not depend on how many are wanted.
        stream = np.random.Philox(key=key.astype(np.uint64), counter=[0, 0, first, _PURPOSE])
        walk = _Walk(ensemble, self.tilt, self.by, self.block, np.random.Generator(stream))
        log_norm = np.empty((self.block, len(layers), 1))
        log_weight = np.empty_like(log_norm)
        slot = 0
        for layer in range(ensemble.network.depth + 1):
            if layer:
                walk.step(layer - 1)
            if slot < len(layers) and layers[slot] == layer:
                log_norm[:, slot, 0], log_weight[:, slot, 0] = walk.log_norm, walk.log_weight
                slot += 1
        return {"log_tilted_norm": log_norm[:count], "log_weight": log_weight[:count]}


# -------------------------------------------------------------------------- one walk


class _Walk:
    """The states of a block of replicas on their way through the layers."""

    def __init__(
        self, ensemble: Ensemble, tilt: float, by: str, size: int, generator: np.random.Generator
    ) -> None:
        network = ensemble.network
        self.network, self.table, self.tilt = network, ensemble.table, tilt
        self.size, self.generator, self.vectors = size, generator, by == "conditional"
        self.low, self.high = slopes_of(network.phi)
        self.keep = float(getattr(network.phi, "keep", 1.0))
        self.log_norm, self.log_weight = np.zeros(size), np.zeros(size)
        given = ensemble.inputs.array(network.width)
        start = math.sqrt(network.width) if given is None else float(np.linalg.norm(given[0]))
        self.log_start = math.log(start)
        if self.vectors and given is not None:
            self.unit = np.tile(np.asarray(given[0], float) / start, (size, 1))
        elif self.vectors:
            self.unit = self._direction(network.width)

    def _direction(self, d: int) -> np.ndarray:
        z = self.generator.standard_normal((self.size, d))
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    def step(self, layer: int) -> None:
        if self.network.form.trunk:
            self._residual(layer)
        else:
            self._plain(layer)

    # ----------------------------------------------------------------- plain

    def _plain(self, layer: int) -> None:
        d = int(self.network.fans[1][layer, 0])
        theta = self.tilt
        if self.low == self.high == 0 and not self.vectors:
            count = np.searchsorted(_tilted_counts(d, theta), self.generator.random(self.size)) + 1
            square = 2 * self.generator.standard_gamma((count + theta) / 2)
        else:
            share = self._tilted_share(d)
            square = share * self.generator.chisquare(d + theta, self.size)
        log_q = np.log(square)
        self.log_weight += _log_mean(self.low, self.high, self.keep, d, theta) - theta / 2 * log_q
        log_size = 2 * (self.log_norm + math.log(self.table.scale[layer, 0]))
        bias = self.table.bias_scale[layer, 0]
        if bias:
            log_size = np.logaddexp(log_size, 2 * (math.log(bias) - self.log_start))
        self.log_norm = (log_size + log_q) / 2 + math.log(abs(self.table.branch[layer]))

    def _tilted_share(self, d: int) -> np.ndarray:
        """|phi(v)|^2 of a direction v whose law is weighted by |phi(v)|^theta."""
        steepest = max(1.0, self.low**2, self.high**2) / self.keep**2
        share = np.ones(self.size)
        isometric = self.low == self.high == self.keep == 1
        left = np.arange(0 if isometric else self.size)
        while left.size:
            if self.vectors:
                proposed = self._share_of_vector(d, left.size)
            else:
                proposed = self._share_of_counts(d, left.size)
            kept = self.generator.random(left.size) < (proposed / steepest) ** (self.tilt / 2)
            share[left[kept]] = proposed[kept]
            left = left[~kept]
        return share

    def _share_of_vector(self, d: int, size: int) -> np.ndarray:
        z = self.generator.standard_normal((size, d))
        image = self._activated(z)
        return np.sum(image**2, axis=1) / np.sum(z**2, axis=1)

    def _share_of_counts(self, d: int, size: int) -> np.ndarray:
        plus, minus = self._counted(d, size)
        return (plus + self.low**2 * minus) / (plus + minus)

    def _counted(self, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Square sums of the positive and of the negative ones among n normals."""
        count = self.generator.binomial(n, 0.5, size)
        plus = 2 * self.generator.standard_gamma(count / 2)
        return plus, 2 * self.generator.standard_gamma((n - count) / 2)

    def _activated(self, u: np.ndarray) -> np.ndarray:
        phi = self.network.phi
        if isinstance(phi, RandomisedLeakyReLU):
            return phi(u, phi.slopes(self.generator, u.shape))
        return phi(u)

    # -------------------------------------------------------------- residual

    def _residual(self, layer: int) -> None:
        table, d = self.table, self.network.width
        c, a = float(table.skip[layer]), float(table.branch[layer])
        size, log_ratio = self._branch(layer, c, a)  # tau^2, in units of |h|^2 = 1
        self.log_weight += log_ratio
        s = self.tilt / 2
        log_r = np.full(self.size, 2 * math.log(abs(c)))
        # What is hardly moved goes on freely, with no weight: its counts would lose digits.
        odds = c**2 / (2 * np.maximum(size, 1e-300))
        tilted, free = odds <= _MOST_ODDS, (odds > _MOST_ODDS) & (size > 0)
        if free.any():
            log_r[free] += self._free(free, c, np.sqrt(size[free]))
        odds, tau2 = odds[tilted], size[tilted]
        j = self._tilted_poisson(odds, d / 2, s)
        square = self.generator.chisquare(d + 2 * j + self.tilt)
        log_r[tilted] = np.log(tau2 * square)
        self.log_weight[tilted] += _log_power(odds, d, s) + s * np.log(2 * tau2) - s * log_r[tilted]
        self.log_norm += log_r / 2
        if self.vectors:
            self._turn(tilted, j, square, c, tau2)

    def _free(self, free: np.ndarray, c: float, tau: np.ndarray) -> np.ndarray:
        """log |c h + tau z|^2 / c^2, z normal; vectors are moved."""
        d, u = self.network.width, tau / c
        if not self.vectors:
            z = self.generator.standard_normal(len(u))
            rest = 2 * self.generator.standard_gamma(np.full(len(u), (d - 1) / 2))
            return np.log1p(2 * u * z + u**2 * (z**2 + rest))
        z = self.generator.standard_normal((len(u), d))
        along = np.sum(z * self.unit[free], axis=1)
        grown = np.log1p(2 * u * along + u**2 * np.sum(z**2, axis=1))
        new = math.copysign(1.0, c) * (self.unit[free] + u[:, None] * z)
        self.unit[free] = new / np.linalg.norm(new, axis=1, keepdims=True)
        return grown

    def _turn(
        self, alive: np.ndarray, j: np.ndarray, square: np.ndarray, c: float, tau2: np.ndarray
    ) -> None:
        """The direction of c h + tau z, given J and |.|^2 / tau^2 = ``square``."""
        d, old = self.network.width, self.unit[alive]
        share = self.generator.beta(j + 0.5, (d - 1) / 2) if d > 1 else np.ones(len(j))
        along = np.sqrt(share * square)
        odds = np.clip(2 * c * along / np.sqrt(tau2), -700, 700)
        along = np.where(self.generator.random(len(j)) < expit(odds), along, -along)
        z = self.generator.standard_normal((len(j), d))
        z -= np.sum(z * old, axis=1, keepdims=True) * old
        length = np.linalg.norm(z, axis=1)
        across = np.sqrt((1 - share) * square) / np.where(length > 0, length, 1.0)
        new = along[:, None] * old + across[:, None] * z
        self.unit[alive] = new / np.linalg.norm(new, axis=1, keepdims=True)

    def _branch(self, layer: int, c: float, a: float) -> tuple[np.ndarray, np.ndarray]:
        """(tau^2, log of a weight): the variance that the branch adds to a coordinate."""
        table, network = self.table, self.network
        scale = table.scale[layer].copy()
        scale[0] *= table.input_scale[layer]
        unit = float(a * np.prod(scale)) ** 2
        hidden = network.fans[1][layer, :-1].tolist()
        if not (self.vectors and network.form.pre):
            if self.network.phi.negative_slope is not None:
                return self._branch_of_counts(hidden, unit, c)
            return self._branch_of_vectors(hidden, None) * unit, np.zeros(self.size)
        return self._branch_of_vectors(hidden, self.unit) * unit, np.zeros(self.size)

    def _branch_of_counts(
        self, hidden: list[int], unit: float, c: float
    ) -> tuple[np.ndarray, np.ndarray]:
        log_ratio = np.zeros(self.size)
        square = np.full(self.size, unit)
        for n in hidden:
            count = self.generator.binomial(n, 0.5, self.size)
            s = 2 * self.generator.standard_gamma(count / 2)
            if self.low == 0 and len(hidden) == 1 and unit > 0:
                b = _widening(unit, n, c, self.network.width, self.tilt / 2)
                s *= b
                log_ratio = count / 2 * math.log(b) - s / 2 * (1 - 1 / b)
            else:
                s = s + self.low**2 * 2 * self.generator.standard_gamma((n - count) / 2)
            square = square * s
        return square, log_ratio

    def _branch_of_vectors(self, hidden: list[int], x: np.ndarray | None) -> np.ndarray:
        """|.|^2 before the last matrix, all standard deviations being 1."""
        square = np.ones(self.size)
        if x is not None:
            square = np.sum(self._activated(x) ** 2, axis=1)
        for n in hidden:
            z = self.generator.standard_normal((self.size, n))
            square = square * np.sum(self._activated(z) ** 2, axis=1)
        return square

    def _tilted_poisson(self, mean: np.ndarray, half: float, s: float) -> np.ndarray:
        """J of weight Poisson(mean) Gamma(half + j + s) / Gamma(half + j), 0 < s <= 1.

        Gamma(x + s) / Gamma(x) <= x^s <= x0^(s-1) (s x + (1 - s) x0), a tangent at x0.
        """
        j = np.empty(len(mean))
        left = np.arange(len(mean))
        while left.size:
            lam = mean[left]
            x0 = half + lam
            more = self.generator.random(left.size) < s * lam / (s * (half + lam) + (1 - s) * x0)
            proposed = self.generator.poisson(lam) + more
            x = half + proposed
            bound = np.log(s * x + (1 - s) * x0) + (s - 1) * np.log(x0)
            log_chance = _log_rising(x, s) - bound
            kept = np.log(self.generator.random(left.size)) < log_chance
            j[left[kept]] = proposed[kept]
            left = left[~kept]
        return j


# --------------------------------------------------------------------------- powers


@lru_cache(maxsize=256)
def _log_mean(low: float, high: float, keep: float, d: int, theta: float) -> float:
    """log E Q^(theta/2) of a plain layer."""
    return float(LayerFactor(width=d, slopes=(low, high), keep=keep).log_moment(theta / 2))


@lru_cache(maxsize=64)
def _tilted_counts(d: int, theta: float) -> np.ndarray:
    """P(N <= n) for n = 1 .. d: weights C(d, n) Gamma((n + theta)/2) / Gamma(n/2)."""
    n = np.arange(1, d + 1)
    log = gammaln(d + 1) - gammaln(n + 1) - gammaln(d - n + 1) + _log_rising(n / 2, theta / 2)
    total = np.cumsum(np.exp(log - log.max()))
    return total / total[-1]


def _log_rising(x: np.ndarray, s: float) -> np.ndarray:
    """log Gamma(x + s) / Gamma(x), also where x is large and gammaln would cancel."""
    near = gammaln(np.minimum(x, 1e3) + s) - gammaln(np.minimum(x, 1e3))
    # Expansion in 1 / w, w = x + (s - 1) / 2, even in w (Tricomi and Erdelyi; Fields).
    w = np.maximum(x, 1e3) + (s - 1) / 2
    far = s * np.log(w) + np.log1p(
        -s * (s - 1) * (s + 1) / 24 / w**2
        + s * (s - 1) * (s - 2) * (s - 3) * (5 * (s + 1) + 2) / 5760 / w**4
    )
    return np.where(x < 1e3, near, far)


def _log_power(lam: np.ndarray, d: int, s: float) -> np.ndarray:
    """log E Gamma(d/2 + J + s) / Gamma(d/2 + J), J Poisson of mean lam; by panels of log lam."""
    found = np.empty(len(lam))
    y = np.log(lam)
    panel = np.floor(y).astype(int)
    for p in np.unique(panel).tolist():
        here = panel == p
        found[here] = np.polynomial.chebyshev.chebval(2 * (y[here] - p) - 1, _panel(p, d, s))
    return found


@lru_cache(maxsize=4096)
def _panel(panel: int, d: int, s: float) -> np.ndarray:
    angle = (np.arange(_NODES) + 0.5) * math.pi / _NODES
    nodes = np.cos(angle)
    values = np.array([_log_power_at(math.exp(panel + (1 + x) / 2), d, s) for x in nodes.tolist()])
    coefficients = 2 / _NODES * np.polynomial.chebyshev.chebvander(nodes, _NODES - 1).T @ values
    coefficients[0] /= 2
    return coefficients


def _log_power_at(lam: float, d: int, s: float) -> float:
    if lam < _EXPANDED:
        reach = 12 * math.sqrt(lam) + 40
        j = np.arange(max(0, math.floor(lam - reach)), math.ceil(lam + reach))
        log_chance = j * math.log(lam) - lam - gammaln(j + 1)
        rising = _log_rising(d / 2 + j, s)
        top = float(rising.max())
        return top + math.log(float(np.sum(np.exp(log_chance + rising - top))))
    x = d / 2 + lam
    one, two, three, four = (float(polygamma(k, x + s) - polygamma(k, x)) for k in range(4))
    second = two + one**2
    third = three + 3 * one * two + one**3
    fourth = four + 4 * one * three + 3 * two**2 + 6 * one**2 * two + one**4
    more = lam / 2 * second + lam / 6 * third + (lam + 3 * lam**2) / 24 * fourth
    return float(_log_rising(np.array([x]), s)[0]) + math.log1p(more)


@lru_cache(maxsize=4096)
def _widening(unit: float, n: int, c: float, d: int, s: float) -> float:
    """b: the tilted mean of S over its mean n/2, to first order (any b gives the right law)."""
    here = unit * n / 2 * np.array([1.0, 1.01])
    log = _log_power(c**2 / (2 * here), d, s) + s * np.log(2 * here)
    elasticity = float(np.diff(log)[0]) / math.log(1.01)
    return 1 + 5 * elasticity / n
