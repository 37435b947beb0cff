"""A scheme given number by number: every coefficient and every variance explicit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["GivenScheme"]


@Scheme.family.register("given")
@dataclass(frozen=True, kw_only=True)
class GivenScheme(Scheme):
    """Explicit skip, branch and variance: the scheme to write your own in.

    Any array is accepted and kept as tuples of floats.

    Parameters
    ----------
    skip, branch : float or sequence of depth floats
        h' = skip h + branch F(h). Defaults 1. A plain net has no skip.
    variance : float, sequence of depth floats, or depth sequences of m floats
        Variance of an entry: for all matrices, for all matrices of a layer, or for each
        matrix, a skip matrix last. 0 is a zero matrix. A stem is He's.
    variance_over_fan_in : bool
        Whether ``variance`` is to be divided by the fan-in of its matrix (default False).

    Examples
    --------
    >>> scheme = GivenScheme(branch=(0.5, -1.0), variance=((1.0, 4.0), (16.0, 0.0)),
    ...                      variance_over_fan_in=True)
    >>> table = scheme.layers(Network(depth=2, width=4))
    >>> (table.scale**2).tolist()
    [[0.25, 1.0], [4.0, 0.0]]
    """

    formula: ClassVar[str] = "skip, branch and Var w as given, layer by layer."
    source: ClassVar[str] = "the user"

    branch: float | tuple[float, ...] = 1.0
    variance: float | tuple[Any, ...]
    variance_over_fan_in: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("skip", "branch", "variance"):
            value = getattr(self, name)
            put(self, name, value.tolist() if isinstance(value, np.ndarray) else value)
        super().__post_init__()
        put(self, "branch", _numbers("branch", self.branch))
        put(self, "variance", _numbers("variance", self.variance, nested=True, low=0.0))
        if not isinstance(self.variance_over_fan_in, (bool, np.bool_)):
            raise SpecError(
                f"variance_over_fan_in must be True or False, got {self.variance_over_fan_in!r}: "
                "it says whether variances are divided by the fan-in."
            )
        put(self, "variance_over_fan_in", bool(self.variance_over_fan_in))

    def layers(self, network: Network) -> LayerTable:
        depth, matrices = network.depth, network.matrices
        for name in ("branch", "variance"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != depth:
                raise SpecError(
                    f"{name} names {len(value)} layers, but depth is {depth}. Give one number, or "
                    "one for each layer."
                )
        variance = np.empty((depth, matrices))
        rows = self.variance if isinstance(self.variance, tuple) else (self.variance,) * depth
        for layer, row in enumerate(rows):
            if isinstance(row, tuple) and len(row) != matrices:
                raise SpecError(
                    f"variance names {len(row)} matrices in layer {layer + 1}, but block "
                    f"{network.block!r} has {matrices}. Give one number a layer, or {matrices}."
                )
            variance[layer] = row
        if self.variance_over_fan_in:
            variance /= self.fans(network)[0]
        return self.table(
            network,
            variance=variance,
            branch=np.array(self.branch),
            stem_variance=he_variance(network) if network.form.post else None,
        )


def _numbers(name: str, value: Any, *, nested: bool = False, low: float = -math.inf) -> Any:
    """Return a float, or a tuple of floats (of tuples of floats where ``nested``)."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str):
        return check_number(name, value, low=low)
    if nested:
        return tuple(_numbers(name, entry, low=low) for entry in value)
    return tuple(check_number(f"each {name}", entry, low=low) for entry in value)
