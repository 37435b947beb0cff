r"""What theory says of a module as it stands: mean squares, gradients and cosines, node by node.

The module's own graph of operations (`sigprop.modules.anatomy`) is walked forward and backward in
the limit of great width. A node is held as a sample of its entries for two inputs: of a linear or
convolutional layer these are Gaussian with the covariance

.. math:: \mathrm{fan\_in}\; \overline{w^2}\; E[x_a x_b] + \overline{b^2},

fresh and independent of all else, since its weights are; any other operation that acts entry by
entry is applied to the sample itself, so that blocks which activate the sum of trunk and branch,
for which no closed recursion exists, are followed as well. Weights enter by their mean square
:math:`\overline{w^2}` alone: they are taken as independent and centred. A matrix that is used
twice or made of +/- pairs, and a kernel some of whose taps are 0 throughout, is seen not to be, and
behind it there is no prediction. Where the image has a border of zeros the share of taps that see
it is counted; its power is taken as even.

Backward, each entry of the sample holds the mean square of its gradient. A layer gives all entries
the mean of these times :math:`\mathrm{fan\_in}\;\overline{w^2}`, an activation multiplies each by
:math:`\varphi'(x)^2`, and they add up where ways meet: what is off along the trunk stays off.

Batch normalisation in training mode makes the mean square of its output a known number, forgets
what stood before it, and divides the gradient by a deviation that is not known without the whole
batch: forward goes on, cosines and gradients end there. Behind an operation that is not known here
(pooling by maxima, attention, padding by channels) there is no prediction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from sigprop.modules.anatomy import Anatomy
    from sigprop.modules.recording import Node
    from sigprop.modules.roles import WeightLayer

__all__ = ["predict_module"]

_PARTICLES = 50_000
_SEED = 20221
_SAMPLED = (
    0.02  # error of the logarithm of a mean square of so many entries, of ReLUs, two deviations
)
_SHAPES = frozenset({
    "view", "reshape", "contiguous", "clone", "flatten", "unsqueeze", "squeeze", "detach",
    "identity", "to", "transpose", "permute",
})  # fmt: skip


def predict_module(model: Any, found: xr.Dataset, anatomy: Anatomy, batch: Any) -> xr.Dataset:
    """Predict what `sigprop.modules.probe` measures, where that is known.

    Parameters
    ----------
    model : Module
        As it stands: its weights enter by their mean squares.
    found : Dataset
        Measured with it, or with others of its law: names, mode and the cotangent are read.
    anatomy : Anatomy
        Of the model.
    batch : Tensor
        The inputs: their mean square and their mean cosine.

    Returns
    -------
    Dataset
        ``log_second_moment_mean``, ``log_gradient_second_moment_mean`` and ``cosine_mean``, over
        ``layer``, and those of ``sum``, each with ``_slack``; nan where nothing is known.
        Attributes of a variable say ``status`` (limit) and ``assumptions``.

    Notes
    -----
    Status: limit, width to infinity. ``_slack`` is the size of the correction: of a logarithm the
    accumulated variance of a layer's mean square, 5 / width a layer of ReLUs, shared between
    trunk and branch as their squares are, and 1 / width behind batch normalisation; of a cosine it
    is the root of 2/45 of that. The sample has a fixed seed; 0.02 is added for it. Gradients of
    convolutions come closest to their slack: a matrix is read by all pixels, and remembers more of
    what it has read than one of a dense layer.
    """
    walk = _Walk(model, anatomy, training=found.attrs["mode"] == "training")
    walk.forward(batch)
    walk.backward(found.attrs["backward"].partition(" at ")[2])
    out: dict[str, Any] = {}
    for dim, prefix in (("layer", ""), ("sum", "sum_")):
        if dim not in found.sizes:
            continue
        nodes = walk.rows(found.layer.values) if dim == "layer" else walk.sums(found["sum"].values)
        out |= walk.variables(nodes, dim, prefix, found[f"{prefix}entries"].values)
    return xr.Dataset(out, {dim: found[dim] for dim in ("layer", "sum") if dim in found.sizes})


class _Walk:
    """The graph with a sample, a slack and a gradient at every node that is known."""

    def __init__(self, model: Any, anatomy: Anatomy, training: bool) -> None:
        from sigprop.modules.roles import layers_of

        self.nodes, self.anatomy, self.training = anatomy.graph.nodes, anatomy, training
        self.parameters = dict(model.named_parameters())
        self.modules = dict(model.named_modules())
        self.weights = layers_of(model, anatomy.graph)
        self.uses = Counter(
            layer.weight for layers in self.weights.values() for layer in layers if layer.weight
        )
        self.sample: dict[int, np.ndarray] = {}
        self.variance: dict[int, float] = {}  # of the logarithm of a mean square, accumulated
        self.angled: set[int] = set()  # nodes whose cosine is known
        # Mean squares of the gradient, entry by entry, in units in which the mean is the squared
        # length; and what one node multiplies them by, behind which all entries are alike or not.
        self.gradient: dict[int, np.ndarray] = {}
        self.gain: dict[int, float | np.ndarray] = {}
        self.mixed: set[int] = set()
        self.random = np.random.default_rng(_SEED)

    # ------------------------------------------------------------------ forward

    def forward(self, batch: Any) -> None:
        """Fill ``sample``, ``variance`` and ``gain``."""
        rows = np.asarray(batch.detach().cpu(), float).reshape(len(batch), -1)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        cosine = (np.sum(unit.sum(0) ** 2) - len(rows)) / max(1, len(rows) * (len(rows) - 1))
        square = float(np.mean(rows**2))
        for node in self.nodes:
            if node.op == "input":
                self._set(node, self._gaussian(square * np.array([[1, cosine], [cosine, 1]])), 0.0)
                self.angled.add(node.index)
            elif node.moved:
                self._step(node)

    def _step(self, node: Node) -> None:
        before = [p for p in node.parents if p.moved]
        if any(p.index not in self.sample for p in before):
            self._passed(node, before)
            return
        x, variance = self.sample[before[0].index], self.variance[before[0].index]
        angled = all(p.index in self.angled for p in before)
        op = node.op.rstrip("_") if not node.op.startswith("__") else node.op.strip("_")
        if node.index in self.weights:
            known = self._weighted(node, self.weights[node.index], before, x, variance)
        elif op in ("add", "radd", "iadd"):
            known = self._added(node, before)
        elif op in _ENTRYWISE:
            function, slope = _ENTRYWISE[op]
            self.gain[node.index] = slope(x[:, 0]) ** 2
            known = self._set(node, function(x), variance)
        elif op in ("mul", "rmul", "imul"):
            known = self._scaled(node, before, x, variance)
        elif op == "batch_norm":
            known = self._normalised(node, x, variance)
            angled = angled and not self.training
        elif op in _SHAPES or (op == "dropout" and (not self.training or _idle(node))):
            self.gain[node.index] = 1.0
            known = self._set(node, x, variance)
        else:
            self._passed(node, before)
            return
        if known and angled:
            self.angled.add(node.index)

    def _passed(self, node: Node, before: list[Node]) -> None:
        """What a gradient needs of a node whose state is not known."""
        layers = self.weights.get(node.index, ())
        if len(layers) == 1 and self._independent(layers[0]):
            self.mixed.add(node.index)
            self.gain[node.index] = self._layer_gain(node, layers[0], before[0])
        elif node.op in _SHAPES:
            self.gain[node.index] = 1.0
        elif node.op in ("adaptive_avg_pool2d", "avg_pool2d") and len(node.shape) == 4:
            # A mean of m entries passes 1/m of the square on. Of the state, pixel by pixel, the
            # covariance would be needed.
            self.mixed.add(node.index)
            self.gain[node.index] = math.prod(node.shape[2:]) / math.prod(before[0].shape[2:])

    def _layer_gain(self, node: Node, layer: WeightLayer, before: Node) -> float:
        assert layer.weight is not None
        gain = layer.fan_in * self._square(layer.weight)
        if layer.multiplier is not None:
            gain *= self._square(layer.multiplier)
        return gain * (_taps_seen(node, layer, before.shape) if layer.kind == "conv" else 1.0)

    def _set(self, node: Node, sample: np.ndarray, variance: float) -> bool:
        self.sample[node.index], self.variance[node.index] = sample, variance
        return True

    def _gaussian(self, covariance: np.ndarray) -> np.ndarray:
        """Sample with the second moments asked for, up to rounding."""
        z = self.random.standard_normal((_PARTICLES, 2))
        z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / len(z))).T
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(z @ (vectors * np.sqrt(np.maximum(values, 0))).T)

    def _weighted(
        self,
        node: Node,
        layers: tuple[WeightLayer, ...],
        before: list[Node],
        x: np.ndarray,
        variance: float,
    ) -> bool:
        layer = layers[0]
        if len(layers) > 1 or not self._independent(layer):
            return False
        gain = self._layer_gain(node, layer, before[0])
        bias = 0.0 if layer.bias is None else self._square(layer.bias)
        self.gain[node.index] = gain
        self.mixed.add(node.index)
        width = node.shape[1] if layer.kind == "conv" else node.shape[-1]
        return self._set(
            node, self._gaussian(gain * (x.T @ x) / len(x) + bias), variance + 5 / width
        )

    def _independent(self, layer: WeightLayer) -> bool:
        """Whether its weights may be taken as independent, by all that can be seen of them."""
        if layer.weight is None or layer.kind not in ("linear", "conv"):
            return False
        weight = self.parameters[layer.weight].detach()
        weight = weight.reshape(*weight.shape[:2], -1)  # row, column, tap
        if not weight.any():
            return True
        silent_taps = not bool((weight != 0).flatten(0, 1).any(0).all())
        return self.uses[layer.weight] == 1 and not silent_taps and not _paired(weight)

    def _square(self, name: str) -> float:
        return float((self.parameters[name].detach().double() ** 2).mean())

    def _added(self, node: Node, before: list[Node]) -> bool:
        if len(before) != 2 or any(p.shape != node.shape for p in before):
            return False
        a, b = (self.sample[p.index] for p in before)
        squares = np.array([np.mean(a**2), np.mean(b**2)])
        share = squares / squares.sum() if squares.sum() else np.full(2, 0.5)
        variance = share @ [self.variance[p.index] for p in before]
        self.gain[node.index] = 1.0
        return self._set(node, a + b, float(variance))

    def _scaled(self, node: Node, before: list[Node], x: np.ndarray, variance: float) -> bool:
        factor = None
        for value in node.arguments[:2]:
            if isinstance(value, (int, float)):
                factor = float(value)
            elif getattr(value, "op", "") == "parameter" and math.prod(value.shape) == 1:
                factor = float(self.parameters[value.parameters[0]].detach().reshape(()))
        if factor is None or len(before) != 1:
            return False
        self.gain[node.index] = factor**2
        return self._set(node, factor * x, variance)

    def _normalised(self, node: Node, x: np.ndarray, variance: float) -> bool:
        module = self.modules.get(node.module)
        if not hasattr(module, "running_var") or module is None or module.weight is None:
            return False
        gamma, beta = module.weight.detach().double(), module.bias.detach().double()
        if self.training:
            square = float((gamma**2 + beta**2).mean())
            # What is left to chance is how far the law of a unit is from Gaussian, unit by unit.
            return self._set(node, self._gaussian(square * np.eye(2)), 1 / node.shape[1])
        if module.running_var is None or float(module.running_mean.abs().max()) > 0:
            return False
        scale = float((gamma**2 / (module.running_var.double() + module.eps)).mean())
        if float(beta.abs().max()) > 0:
            return False
        self.gain[node.index] = scale
        return self._set(node, math.sqrt(scale) * x, variance)

    # ------------------------------------------------------------------ backward

    def backward(self, end: str) -> None:
        """Fill ``gradient``, from 1 at the row where it enters, where all ways on are known."""
        ends = [self.nodes[-1]] if end == "the output" else self.sums([end]) + self.rows([end])
        last = next((node for node in ends if node is not None), None)
        if last is None or not last.moved:
            return
        self.gradient[last.index] = np.ones(_PARTICLES)
        for node in reversed(self.nodes[: last.index]):
            ways = [c for c in node.children if c.moved and last.after(c)]
            if not node.moved or not ways:
                continue
            known = all(c.index in self.gradient and c.index in self.gain for c in ways)
            if known:
                self.gradient[node.index] = np.sum([self._through(c) for c in ways], axis=0)

    def _through(self, child: Node) -> np.ndarray:
        after = self.gradient[child.index]
        if child.index in self.mixed:
            after = np.full_like(after, after.mean())
        return np.asarray(self.gain[child.index] * after)

    # ------------------------------------------------------------------ told

    def rows(self, labels: Iterable[str]) -> list[Node | None]:
        """The node of every row of layers: the n-th that its module left."""
        left: dict[str, Node] = {}
        count: Counter[str] = Counter()
        for node in self.nodes:
            for name in node.left_by:
                count[name] += 1
                left[name if count[name] == 1 else f"{name}#{count[name]}"] = node
        return [left.get(str(label)) for label in labels]

    def sums(self, labels: Iterable[str]) -> list[Node | None]:
        """The node of every residual sum."""
        calls = {node.call: node for node in self.nodes if node.call >= 0}
        named = {one.name or "sum": calls.get(one.call) for one in self.anatomy.sums}
        return [named.get(str(label)) for label in labels]

    def variables(
        self, nodes: list[Node | None], dim: str, prefix: str, entries: np.ndarray
    ) -> dict[str, Any]:
        """Predictions with their slacks, nan where nothing is known."""
        names = (f"log_{prefix}second_moment_mean", f"log_{prefix}gradient_second_moment_mean")
        told = (*names, f"{prefix}cosine_mean")
        values = {name: np.full((2, len(nodes)), np.nan) for name in told}
        most = max(self.variance.values(), default=0.0)
        for place, node in enumerate(nodes):
            if node is None:
                continue
            x = self.sample.get(node.index)
            variance = self.variance.get(node.index, 0.0)
            if x is not None and (square := float(np.mean(x**2))) > 0:
                values[names[0]][:, place] = math.log(square), variance + _SAMPLED
                if node.index in self.angled:
                    cosine = float(np.mean(x[:, 0] * x[:, 1])) / square
                    spread = math.sqrt(2 * variance / 45) + _SAMPLED
                    values[f"{prefix}cosine_mean"][:, place] = cosine, spread
            length = float(self.gradient.get(node.index, np.zeros(1)).mean())
            if length > 0:
                log = math.log(length / entries[place])
                values[names[1]][:, place] = log, most - variance + 5 / node.shape[1] + _SAMPLED
        about = {
            "status": "limit",
            "assumptions": "independent centred weights of the mean square that they have; width "
            "to infinity",
        }
        out: dict[str, Any] = {}
        for name, (value, slack) in values.items():
            out[name], out[f"{name}_slack"] = (dim, value, about), (dim, np.abs(slack), about)
        return out


def _paired(weight: Any) -> bool:
    """Whether one half of the rows or columns is the other with the opposite sign."""
    for dim in (0, 1):
        half, odd = divmod(weight.shape[dim], 2)
        if half and not odd:
            one, other = weight.narrow(dim, 0, half), weight.narrow(dim, half, half)
            if bool((one == -other).all()):
                return True
    return False


def _taps_seen(node: Node, layer: WeightLayer, shape: tuple[int, ...]) -> float:
    """Share of a kernel's taps that see the image and not its border, mean over outputs."""
    padding = node.options.get("padding", node.arguments[4] if len(node.arguments) > 4 else 0)
    sides = len(layer.kernel)
    pads = (padding,) * sides if isinstance(padding, int) else padding
    if isinstance(pads, str):
        pads = tuple((k - 1) // 2 if pads == "same" else 0 for k in layer.kernel)
    share = 1.0
    pads = pads if len(pads) == sides else pads * sides
    for size, out, k, stride, pad in zip(
        shape[2:], node.shape[2:], layer.kernel, layer.stride, pads, strict=True
    ):
        at = np.arange(out)[:, None] * stride - pad + np.arange(k)
        share *= float(np.mean((at >= 0) & (at < size)))
    return share


def _idle(node: Node) -> bool:
    """Whether a dropout drops nothing."""
    p = node.options.get("p", node.arguments[1] if len(node.arguments) > 1 else 0.5)
    return p == 0


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


_ENTRYWISE: dict[str, tuple[Any, Any]] = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * (1 - _sigmoid(x))),
    "silu": (
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
    ),
}
