"""What every kind of layer does to the mean and the variance of the numbers that enter it.

The numbers are taken as Gaussian where they meet an activation or the largest of several, and as
independent where several are averaged or added. Whether two tensors that are added or multiplied
are independent is not taken on trust: each carries the random weights that it comes from, and two
with one of them in common are refused.

Formulas are those of Bingham and Miikkulainen (2023), *AutoInit: Analytic signal-preserving weight
initialization for neural networks*, as publicly described, and elementary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr
from torch import nn
from torch.nn import functional as F

from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import expectation

__all__ = ["ACTIVATIONS", "Moments", "activated", "added", "averaged", "concatenated", "dropped",
           "elementwise", "largest", "multiplied", "normalised"]  # fmt: skip

Elementwise = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Moments:
    """Mean and variance of the entries of a tensor.

    Attributes
    ----------
    mean, variance : float
    sources : frozenset of str
        Inputs and weight layers whose randomness it carries.
    """

    mean: float
    variance: float
    sources: frozenset[str] = frozenset()

    @property
    def square(self) -> float:
        """Mean of the square."""
        return self.variance + self.mean**2

    def moved(self, factor: float = 1.0, shift: float = 0.0) -> Moments:
        """Of ``factor x + shift``."""
        return replace(self, mean=factor * self.mean + shift, variance=factor**2 * self.variance)


# Module type -> where it or its derivative jumps. Elementwise, without parameters or randomness.
ACTIVATIONS: dict[type[nn.Module], tuple[float, ...]] = {
    nn.ReLU: (0.0,),
    nn.ReLU6: (0.0, 6.0),
    nn.LeakyReLU: (0.0,),
    nn.ELU: (0.0,),
    nn.SELU: (0.0,),
    nn.CELU: (0.0,),
    nn.GELU: (),
    nn.SiLU: (),
    nn.Mish: (),
    nn.Tanh: (),
    nn.Sigmoid: (),
    nn.LogSigmoid: (),
    nn.Softplus: (),
    nn.Softsign: (0.0,),
    nn.Tanhshrink: (),
    nn.Hardsigmoid: (-3.0, 3.0),
    nn.Hardswish: (-3.0, 3.0),
}


def elementwise(module: nn.Module) -> tuple[Elementwise, tuple[float, ...]] | None:
    """Return the function of an activation module and its kinks; None if it is none."""
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one of them
        return module, (float(module.min_val), float(module.max_val))
    if isinstance(module, (nn.Softshrink, nn.Hardshrink)):
        return module, (-float(module.lambd), float(module.lambd))
    if isinstance(module, nn.Threshold):
        return module, (float(module.threshold),)
    kinks = ACTIVATIONS.get(type(module))
    return None if kinks is None else (module, kinks)


def activated(x: Moments, function: Elementwise, kinks: Sequence[float]) -> Moments:
    """Of ``function`` of Gaussian numbers; the integrals are exact to 1e-12 or so."""

    def values(u: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(function(torch.tensor(u, dtype=torch.float64)))

    def average(of: Callable[[np.ndarray], np.ndarray]) -> float:
        return expectation(of, mean=x.mean, variance=x.variance, kinks=kinks).value

    mean = average(values)
    square = average(lambda u: values(u) ** 2)
    return replace(x, mean=mean, variance=max(square - mean**2, 0.0))


def parametric_relu(x: Moments, slopes: torch.Tensor) -> Moments:
    """Of a leaky ReLU whose slope is one of ``slopes``, equally often."""
    each = [
        activated(x, lambda u, a=float(slope): F.leaky_relu(u, a), (0.0,))  # type: ignore[misc]
        for slope in slopes.detach().double().flatten().tolist()
    ]
    return _mixture([(1.0, one) for one in each])


def dropped(x: Moments, probability: float) -> Moments:
    """Of inverted dropout: the second moment is divided by what is kept."""
    if not 0 <= probability < 1:
        raise SpecError(
            f"dropout with probability {probability} leaves no signal to carry. Use one below 1."
        )
    square = x.square / (1 - probability)
    return replace(x, variance=square - x.mean**2)


def normalised(x: Moments, module: nn.Module) -> Moments:
    """Of a normalisation with its gain and its bias, as they are."""
    mean, variance = 0.0, 1.0
    if hasattr(nn, "RMSNorm") and isinstance(module, nn.RMSNorm):
        mean, variance = x.mean / math.sqrt(x.square), x.variance / x.square
    gain, bias = (module._parameters.get(name) for name in ("weight", "bias"))
    if gain is not None:
        own = gain.detach().double()
        square = (variance + mean**2) * float(own.square().mean())
        mean *= float(own.mean())
        variance = square - mean**2
    if bias is not None:
        own = bias.detach().double()
        mean += float(own.mean())
        variance += float(own.var(correction=0))
    return replace(x, mean=mean, variance=variance)


def averaged(x: Moments, count: int) -> Moments:
    """Of the mean of ``count`` independent numbers."""
    return replace(x, variance=x.variance / count)


def largest(x: Moments, count: int) -> Moments:
    """Of the largest of ``count`` independent Gaussian numbers."""

    def power(k: int) -> float:
        return expectation(lambda z: count * ndtr(z) ** (count - 1) * z**k).value

    deviation, first = math.sqrt(x.variance), power(1)
    variance = x.variance * (power(2) - first**2)
    return replace(x, mean=x.mean + deviation * first, variance=variance)


def added(x: Moments, y: Moments, sign: float = 1.0) -> Moments:
    """Of the sum, or difference, of independent numbers."""
    return Moments(x.mean + sign * y.mean, x.variance + y.variance, _apart(x, y, "added"))


def multiplied(x: Moments, y: Moments) -> Moments:
    """Of the product of independent numbers."""
    mean = x.mean * y.mean
    return Moments(mean, x.square * y.square - mean**2, _apart(x, y, "multiplied"))


def concatenated(parts: Iterable[tuple[float, Moments]]) -> Moments:
    """Of an entry of one of the parts, chosen by their sizes."""
    return _mixture(list(parts))


def _mixture(parts: Sequence[tuple[float, Moments]]) -> Moments:
    total = math.fsum(size for size, _ in parts)
    mean = math.fsum(size * x.mean for size, x in parts) / total
    square = math.fsum(size * x.square for size, x in parts) / total
    sources = frozenset().union(*(x.sources for _, x in parts))
    return Moments(mean, square - mean**2, sources)


def _apart(x: Moments, y: Moments, verb: str) -> frozenset[str]:
    shared: Any = x.sources & y.sources
    if shared:
        raise Unsupported(
            f"two tensors that both come from {min(shared)!r} are {verb}: they are not "
            "independent, and what becomes of their moments depends on how they hang "
            "together. Put a weight layer on one of the ways, or use lsuv, which measures."
        )
    return x.sources | y.sources
