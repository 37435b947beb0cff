r"""A population of networks that grows where a moment lives: splitting, for every law and block.

To estimate E|h_L|^r, N copies walk through the layers together, each with weights of its own. Copy
i has the weight :math:`w_i = (|h_k| / |h_{k-1}|)^r` at layer k. When few copies carry the weight
(effective size below N/2) N new ones are drawn among them, in proportion (systematic
resampling), and go on with weight 1. The product over resamplings of the mean weights, times the
mean of those since the last, is an unbiased estimate of :math:`E |h_l|^r / |h_0|^r` at every layer
l, whatever the law of the weights, the block and the activation. Copies share ancestors, so an
error bar comes from independent populations only: one population is one replica here.

The relative error of one population is about sqrt(L v / N), v the variance of a layer's weight,
or 1.2 times that, since copies are resampled late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.base import Sampler
from sigprop.backends.tilted import FIELDS
from sigprop.spec import Ensemble, check_count, check_number

__all__ = ["Population"]

_PURPOSE = 10  # fourth word of the counter
_BYTES = 2**26  # of the matrices that are drawn at once


@dataclass(frozen=True)
class Population(Sampler):
    """One input, any law: every replica is a population, and its estimate of one moment.

    Parameters
    ----------
    order : float
        r, the order of the moment.
    size : int
        N, copies in a population; at least 2.
    """

    name: ClassVar[str] = "population"
    version: ClassVar[int] = 1
    block: ClassVar[int] = 4
    about: ClassVar[str] = (
        "populations that split where |h|^order lives: one moment, any law and block (--population)"
    )

    order: float = 2.0
    size: int = 1000

    def __post_init__(self) -> None:
        why = "It is the order of the moment that the population follows."
        order = check_number("order", self.order, low=0.0, open_low=True, why=why)
        object.__setattr__(self, "order", order)
        why = "It counts the networks of a population, among which the heaviest are copied."
        object.__setattr__(self, "size", check_count("population", self.size, least=2, why=why))

    @property
    def options(self) -> dict[str, object]:
        return {"order": self.order, "size": self.size}

    def applicable(self, ensemble: Ensemble, *, on_request: bool = False) -> frozenset[str]:
        return FIELDS

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        table = ensemble.table
        if not fields <= FIELDS:
            return (
                f"a population gives one moment of the norm, not {sorted(fields - FIELDS)}. "
                "Observe moment, or leave out --population."
            )
        if self.order >= table.law.moment_limit:
            return (
                f"E|h|^{self.order:g} is infinite: weights of law {table.law.kind!r} have moments "
                f"of order below {table.law.moment_limit:g} only. Ask for a lower order."
            )
        if ensemble.network.convolutional or table.batch_norm:
            return "its copies are single vectors, not images nor a batch. Leave out --population."
        network = ensemble.network
        if network.form.post or table.structured or network.convolutional or table.batch_norm:
            return (
                f"its copies are of plain blocks and unstructured matrices, got block "
                f"{network.block!r}, scheme {ensemble.scheme.kind!r}. Use block plain, res1, res3, "
                "inner or preact, fully connected and without batches."
            )
        if table.correlated:
            return (
                "its copies draw every layer anew, and a process along depth ties layers to "
                "weights drawn before. Use --process independent."
            )
        if ensemble.inputs.count > 1:
            return f"it follows one input, got {ensemble.inputs.count}. Ask for --inputs point."
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
        log_norm = np.empty((count, len(layers), 1))
        for i in range(count):
            stream = np.random.Philox(
                key=key.astype(np.uint64), counter=[0, 0, first + i, _PURPOSE]
            )
            generator = np.random.Generator(stream)
            estimate = _estimate(ensemble, self.order, self.size, generator)
            log_norm[i, :, 0] = estimate[layers] / self.order
        return {"log_tilted_norm": log_norm, "log_weight": np.zeros_like(log_norm)}


def _estimate(
    ensemble: Ensemble, order: float, size: int, generator: np.random.Generator
) -> np.ndarray:
    """log of the estimate of E (|h_l| / |h_0|)^order, shape (depth + 1,)."""
    h = _inputs(ensemble, size, generator)
    rescaled = ensemble.network.phi.homogeneous and not ensemble.table.biased
    length = np.linalg.norm(h, axis=1)
    log_weight, log_mean = np.zeros(size), 0.0
    found = np.zeros(ensemble.network.depth + 1)
    for layer in range(ensemble.network.depth):
        if rescaled:
            # Each copy in units of its own length, so that no depth overflows.
            h = h / np.where(length > 0, length, 1.0)[:, None]
            length = np.where(length > 0, 1.0, 0.0)
        h = _step(ensemble, layer, h, generator)
        before, length = length, np.linalg.norm(h, axis=1)
        # A copy that has died stays dead (or is revived by a bias, with the weight that it lost).
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = order * (np.log(length) - np.log(before))
        log_weight = np.where(np.isneginf(log_weight), log_weight, log_weight + grown)
        top = float(log_weight.max())
        if top == -math.inf:
            found[layer + 1 :] = -math.inf
            return found
        weight = np.exp(log_weight - top)
        total = float(weight.sum())
        found[layer + 1] = log_mean + top + math.log(total / size)
        if total**2 < 0.5 * size * float(weight @ weight):
            log_mean = found[layer + 1]
            places = (np.arange(size) + generator.random()) * (total / size)
            chosen = np.minimum(np.searchsorted(np.cumsum(weight), places), size - 1)
            h, length, log_weight = h[chosen], length[chosen], np.zeros(size)
    return found


def _inputs(ensemble: Ensemble, size: int, generator: np.random.Generator) -> np.ndarray:
    width = ensemble.network.width
    given = ensemble.inputs.array(width)
    if given is not None:
        return np.tile(np.asarray(given[0], float), (size, 1))
    z = generator.standard_normal((size, width))
    return math.sqrt(width) * z / np.linalg.norm(z, axis=1, keepdims=True)


def _step(
    ensemble: Ensemble, layer: int, h: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """One layer of every copy, with weights of its own: the definition of the block."""
    network, table = ensemble.network, ensemble.table
    x = table.input_scale[layer] * h
    for j in range(network.matrices):
        if network.form.pre or j > 0:
            x = _activated(ensemble, x, generator)
        x = _through(ensemble, layer, j, x, generator)
    if not network.form.trunk:
        return table.branch[layer] * _activated(ensemble, x, generator)
    return table.skip[layer] * h + table.branch[layer] * x


def _activated(ensemble: Ensemble, u: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    phi = ensemble.network.phi
    if isinstance(phi, RandomisedLeakyReLU):
        return phi(u, phi.slopes(generator, u.shape))
    return phi(u)


def _through(
    ensemble: Ensemble, layer: int, j: int, x: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """W x + b with a matrix for every copy; a Gaussian one is not formed."""
    table = ensemble.table
    rows = int(ensemble.network.fans[1][layer, j])
    if table.centred:  # (w - mean w).x = w.(x - mean x)
        x = x - x.mean(axis=1, keepdims=True)
    if table.law.kind == "gaussian":
        length = np.linalg.norm(x, axis=1, keepdims=True)
        u = length * generator.standard_normal((len(x), rows))
    else:
        chunk = max(1, _BYTES // (8 * rows * x.shape[1]))
        parts = [x[i : i + chunk] for i in range(0, len(x), chunk)]
        u = np.concatenate(
            [
                np.einsum("nij,nj->ni", table.law.sample(generator, (len(p), rows, p.shape[1])), p)
                for p in parts
            ]
        )
    u = table.scale[layer, j] * u
    if table.bias_scale[layer, j] != 0:
        u = u + table.bias_scale[layer, j] * generator.standard_normal(u.shape)
    return u
