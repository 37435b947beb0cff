"""Plain nets of stable weights by one length a layer: the chain in the norm of l_alpha.

With symmetric stable weights W x is made of independent stable numbers of scale c |x|_alpha,
whatever x is otherwise. So |x|_alpha is a Markov chain, exact at any width, and a layer costs its
units and no matrix. The Euclidean norm and gradients see more of a state: they need matrices.
"""

from __future__ import annotations

import math

import numpy as np

from sigprop.backends.base import Sampler
from sigprop.spec import Ensemble

__all__ = ["AlphaChain"]

_PURPOSE = 11  # fourth word of the counter
_FIELDS = frozenset({"log_alpha_norm"})


class AlphaChain(Sampler):
    """The l_alpha norm of one input through a plain net of stable weights."""

    name = "alpha_chain"
    version = 1
    block = 256
    about = "O(width) draws a layer: stable weights in a plain net, the norm of l_alpha alone"

    def applicable(self, ensemble: Ensemble, *, on_request: bool = False) -> frozenset[str]:
        return _FIELDS

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        network, table = ensemble.network, ensemble.table
        if not fields <= _FIELDS:
            return (
                f"it carries the norm of l_alpha alone, not {', '.join(sorted(fields - _FIELDS))}. "
                "Use --sampler dense."
            )
        if table.law.kind != "stable":
            return (
                f"it is of stable weights, got law {table.law.kind!r}: for others no norm of W x "
                "depends on one norm of x alone (but for Gaussian ones). Use --sampler auto."
            )
        if network.form.trunk or table.biased or table.correlated or network.convolutional:
            return (
                f"it follows a plain net of independent layers without biases, got block "
                f"{network.block!r}. Use --sampler dense."
            )
        if not network.phi.homogeneous or network.phi.negative_slope is None:
            return (
                f"activation {network.phi.kind!r} is not linear on either side of 0 with one "
                "slope. Use --sampler dense."
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
        network, table = ensemble.network, ensemble.table
        law, alpha = table.law, table.law.parameter
        stream = np.random.Philox(key=key.astype(np.uint64), counter=[0, 0, first, _PURPOSE])
        generator = np.random.Generator(stream)
        log_norm = np.zeros(self.block)  # a block is drawn whole, whatever is wanted of it
        found = np.zeros((self.block, len(layers), 1))
        slot = int(layers[0] == 0)
        for layer, n in enumerate(network.fans[1][:, 0].tolist()):
            image = np.abs(network.phi(law.sample(generator, (self.block, n))))
            # The largest is divided out: its power alpha may overflow, its logarithm does not.
            top = image.max(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where(top[:, None] > 0, image / top[:, None], 0.0)
                log_q = np.log(top) + np.log(np.sum(share**alpha, axis=1)) / alpha
            log_norm = log_norm + log_q + math.log(table.scale[layer, 0] * abs(table.branch[layer]))
            if slot < len(layers) and layers[slot] == layer + 1:
                found[:, slot, 0] = log_norm
                slot += 1
        return {"log_alpha_norm": found[:count]}
