"""A probability law over networks: a shape, a scheme, and what enters layer 0."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.image import Size
from sigprop.spec.families import Inputs
from sigprop.spec.network import Network
from sigprop.spec.scheme import Scheme
from sigprop.spec.table import LayerTable

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble:
    """A probability law: a network, a scheme, and what enters layer 0.

    Parameters
    ----------
    network : Network
    scheme : Scheme
    inputs : Inputs, optional
        Default: a pair at cosine 0.5, so that separability is measured too.
    """

    network: Network
    scheme: Scheme
    inputs: Inputs = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, value, base in (
            ("network", self.network, Network),
            ("scheme", self.scheme, Scheme),
        ):
            if not isinstance(value, base):
                raise SpecError(f"{name} must be a {base.__name__}, got {value!r}.")
        object.__setattr__(self, "network", self.scheme.prepared(self.network))
        if self.inputs is None:
            from sigprop.inputs import Pair

            object.__setattr__(self, "inputs", Pair())
        elif not isinstance(self.inputs, Inputs):
            raise SpecError(
                f"inputs must be Point, Pair, Equiangular or Given of sigprop.inputs, got "
                f"{self.inputs!r}."
            )
        from sigprop import memory

        memory.check_network(self.network)
        self.inputs.check(self.network)
        _check_processes(self.network, self.table)  # a table that does not fit is refused early
        _check_batch(self)

    @cached_property
    def table(self) -> LayerTable:
        return self.scheme.layers(self.network)

    def convolution(self, layer: int | None, j: int = 0) -> tuple[Size, int, int, str]:
        """Of matrix j of a layer: size of the image it reads, kernel, stride and padding.

        None is the stem. A delta kernel counts as one of a single tap.
        """
        network = self.network
        place = network.stem_convolution if layer is None else network.convolution(layer, j)
        return (place[0], 1, *place[2:]) if self.table.delta else place

    def to_dict(self) -> dict[str, Any]:
        """The whole law as plain JSON values; `from_dict` reads it back."""
        return {
            "network": self.network.to_dict(),
            "scheme": self.scheme.to_dict(),
            "inputs": self.inputs.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ensemble:
        import sigprop.activations
        import sigprop.inputs
        import sigprop.laws
        import sigprop.processes
        import sigprop.schemes  # noqa: F401  the five fill their registries

        return cls(
            Network.from_dict(data["network"]),
            Scheme.from_dict(data["scheme"]),
            Inputs.from_dict(data["inputs"]),
        )

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the law; the default label of its random streams."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _check_processes(network: Network, table: LayerTable) -> None:
    """Raise unless matrices that depend on each other along depth can be drawn."""
    if len(table.processes) != network.matrices:
        raise SpecError(
            f"the table names {len(table.processes)} processes, but a layer of block "
            f"{network.block!r} has {network.matrices} matrices. Give one process a matrix."
        )
    if not table.correlated:
        return
    if network.convolutional:
        raise Unsupported(
            "a process along depth was asked for in a convolutional network, and neither a "
            "sampler nor a theory of that is here. Leave out the image, or use process "
            "'independent'."
        )
    kinds = {process.kind for process in table.processes if not process.independent}
    if network.form.post:
        raise Unsupported(
            f"process {min(kinds)!r} was asked for with block {network.block!r}, but weights "
            "that depend on each other along depth are offered where the state is not activated. "
            "Use block 'res3' or 'inner', or process 'independent'."
        )
    if table.law.kind != "gaussian":
        raise Unsupported(
            f"process {min(kinds)!r} was asked for with law {table.law.kind!r}, but a process "
            "makes its paths of Gaussian numbers: a law and a covariance along depth do not "
            "determine the joint law of other weights. Use law 'gaussian', or process "
            "'independent'."
        )
    shapes = np.stack(network.fans, axis=-1)
    for j, process in enumerate(table.processes):
        if process.independent:
            continue
        if bool((shapes[:, j] != shapes[0, j]).any()):
            raise Unsupported(
                f"process {process.kind!r} follows one entry of a matrix through all layers, but "
                f"matrix {j + 1} changes its shape with depth. Use one width and one "
                "inner_width for all layers, or process 'independent' for that matrix."
            )
        process.check(network.depth)


def _check_batch(ensemble: Ensemble) -> None:
    """Raise unless there is something to normalise over."""
    if not ensemble.table.batch_norm:
        return
    count = ensemble.inputs.count * int(math.prod(ensemble.network.images[-1]))
    if count < 2:
        raise Unsupported(
            f"scheme {ensemble.scheme.kind!r} normalises over a batch, but there is {count} input "
            "of one pixel, whose deviation from itself is 0. Use inputs 'batch', which are many."
        )
