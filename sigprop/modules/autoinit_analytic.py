r"""AutoInit, analytic: variances of weights from moments that are carried through the network.

Bingham and Miikkulainen (2023), *AutoInit: Analytic signal-preserving weight initialization for
neural networks*. Nothing is run and no data are seen. The mean mu and the variance nu of the
numbers in every tensor follow from those before it by a rule for each kind of layer
(`sigprop.modules.moment_rules`), and a weight layer draws

.. math:: W_{ij} \sim N\!\left(0, \frac{1}{\text{fan\_in}\, (\nu + \mu^2)}\right), \qquad b = 0,

so that what leaves it has mean 0 and variance 1. Behind ReLU that is He's variance 2 / fan_in.
A layer without a rule is named and refused, since a guess would be carried through all that
follows.

Another system of the same name measures Jacobians: `sigprop.modules.autoinit_jacobian`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from sigprop.errors import SpecError, Unsupported
from sigprop.modules import moment_rules as rules
from sigprop.modules.init_result import InitResult
from sigprop.modules.moment_rules import Moments
from sigprop.modules.nested import call
from sigprop.modules.restoring import Run, initialising, trainable
from sigprop.modules.weight_layers import WeightLayer, weight_layers
from sigprop.spec import check_number

__all__ = ["autoinit_analytic"]


def autoinit_analytic(
    model: nn.Module,
    input_mean: float = 0.0,
    input_var: float = 1.0,
    *,
    example: Any = None,
    seed: int = 0,
    apply: bool = True,
) -> InitResult:
    """Draw the weights of linear and convolutional layers so that outputs have moments 0 and 1.

    Parameters
    ----------
    model : nn.Module
        Its forward must be one that torch.fx can trace: no branching on values.
    input_mean, input_var : float
        Of the numbers in every input.
    example : tensor, tuple or dict, optional
        Inputs, of which the shapes alone are used. Needed where the model averages over what it
        does not name (adaptive pooling, means over axes) or concatenates.
    seed : int
        Of the weights.
    apply : bool
        False leaves the model as it was.

    Returns
    -------
    InitResult
        ``history`` has a row a weight layer: its name, mean and variance of what enters it, and
        the standard deviation of its weights.

    Raises
    ------
    Unsupported
        If a layer or function has no rule (it is named), or dependent tensors are added.
    SpecError
        If there is nothing to set, a layer receives zeros, or shapes are needed and unknown.

    Notes
    -----
    Frozen layers, and layers whose weight was set where it acts first, pass on what their own
    weights make of the moments. Dropout is as in training. Borders of convolutions are taken
    as its inside.

    Status: limit of infinite width and independent entries; exact for the second moment behind a
    weight layer if the moments that enter are.
    """
    check_number("input_mean", input_mean)
    check_number("input_var", input_var, low=0.0)
    trainable(model, "analytic AutoInit")
    layers, words = weight_layers(model, "analytic AutoInit")
    settings = {"input_mean": input_mean, "input_var": input_var, "seed": seed}
    with initialising(model, "autoinit_analytic", settings, apply=apply) as run:
        run.warnings += words
        graph = _traced(model)
        shapes = {} if example is None else _shapes(model, graph, run.measured.inputs(example))
        _Walk(model, run, layers, shapes, Moments(input_mean, input_var)).through(graph)
    return run.result


# ----------------------------------------------------------------------- the graph


class _Tracer(fx.Tracer):
    """Keeps torch's own modules whole, as `fx.Tracer` does, and sequences open."""


def _traced(model: nn.Module) -> fx.Graph:
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = True  # dropout counts
    try:
        return _Tracer().trace(model)
    except SpecError:
        raise
    except Exception as error:  # whatever the forward does that cannot be traced
        raise Unsupported(
            f"the forward of {type(model).__name__} cannot be traced ({type(error).__name__}: "
            f"{error}): moments are carried along its graph. Use lsuv, which runs the model."
        ) from error
    finally:
        for module, training in modes:
            module.training = training


class _ShapesOf(fx.Interpreter):
    """Runs a graph and notes the shape of every tensor."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.found: dict[str, torch.Size] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.found[n.name] = value.shape
        return value


def _shapes(model: nn.Module, graph: fx.Graph, example: Any) -> dict[str, torch.Size]:
    holder = _ShapesOf(model, graph)

    class Runner(nn.Module):
        def forward(self, *args: Any, **named: Any) -> Any:
            holders = [node.target for node in graph.nodes if node.op == "placeholder"]
            ordered = [*args, *(named[str(name)] for name in holders[len(args) :])]
            return holder.run(*ordered)

    with torch.no_grad():
        call(Runner(), example)
    return holder.found


# ------------------------------------------------------------------------ the walk

_SAME_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)
_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_MEAN = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_MEAN = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_ADAPTIVE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)

_PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)  # padding by zeros is one of them

# Functions and methods by name: each leaves the numbers as they are.
_SAME = frozenset(
    "flatten view reshape permute transpose t contiguous squeeze unsqueeze clone to float double "
    "chunk split getitem narrow expand movedim swapaxes detach unflatten".split()
)
_ACTIVATION_FUNCTIONS: dict[str, tuple[rules.Elementwise, tuple[float, ...]]] = {
    "relu": (torch.relu, (0.0,)),
    "relu_": (torch.relu, (0.0,)),
    "relu6": (F.relu6, (0.0, 6.0)),
    "tanh": (torch.tanh, ()),
    "sigmoid": (torch.sigmoid, ()),
    "silu": (F.silu, ()),
    "mish": (F.mish, ()),
    "selu": (F.selu, (0.0,)),
    "hardswish": (F.hardswish, (-3.0, 3.0)),
    "softsign": (F.softsign, (0.0,)),
    "sin": (torch.sin, ()),
    "erf": (torch.erf, ()),
    "abs": (torch.abs, (0.0,)),
    "square": (torch.square, ()),
}
_ACTIVATION_WITH_OPTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
}
_SUMS = {"add": 1.0, "iadd": 1.0, "add_": 1.0, "sub": -1.0, "isub": -1.0, "sub_": -1.0}
_PRODUCTS = frozenset({"mul", "imul", "mul_"})
_POOLS = {"max_pool1d": 1, "max_pool2d": 2, "max_pool3d": 3,
          "avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}  # fmt: skip


class _Walk:
    """Carries moments along a graph and draws weights on the way."""

    def __init__(
        self,
        model: nn.Module,
        run: Run,
        layers: list[WeightLayer],
        shapes: dict[str, torch.Size],
        entering: Moments,
    ) -> None:
        self.model = model
        self.run = run
        self.layers = {layer.name: layer for layer in layers}
        self.shapes = shapes
        self.entering = entering
        self.generator = torch.Generator().manual_seed(run.settings["seed"])
        self.drawn: set[str] = set()
        self.fresh = 0
        self.found: dict[str, Any] = {}

    def through(self, graph: fx.Graph) -> None:
        """Walk all nodes."""
        for node in graph.nodes:
            if node.op == "placeholder":
                self.found[node.name] = Moments(
                    self.entering.mean, self.entering.variance, frozenset({str(node.target)})
                )
            elif node.op == "get_attr":
                self.found[node.name] = self._constant(str(node.target))
            elif node.op == "call_module":
                self.found[node.name] = self._module(node)
            elif node.op in ("call_function", "call_method"):
                self.found[node.name] = self._function(node)
        unseen = sorted({x.weight_name for x in self.layers.values()} - self.drawn)
        if unseen:
            self.run.warnings.append(f"Not in the forward pass, so as they were: {unseen}.")

    def _constant(self, name: str) -> Moments:
        """A parameter or buffer that the model uses by itself: its entries as they are."""
        value: Any = self.model
        for part in name.split("."):
            value = getattr(value, part)
        own = value.detach().double()
        return Moments(float(own.mean()), float(own.var(correction=0)), frozenset())

    def _moments(self, value: Any) -> Any:
        """What is known of an argument: moments, a number, or None for a shape or the like."""
        return self.found.get(value.name) if isinstance(value, fx.Node) else value

    # ------------------------------------------------------------------- modules

    def _module(self, node: fx.Node) -> Moments:
        name = str(node.target)
        module = self.model.get_submodule(name)
        x = self._moments(node.args[0] if node.args else next(iter(node.kwargs.values())))
        if not isinstance(x, Moments):
            raise Unsupported(
                f"layer {name!r} reads something whose mean and variance are not known here "
                f"({node.all_input_nodes or 'no tensor'}). Use lsuv, which measures."
            )
        if name in self.layers or isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            return self._weights(name, module, x)
        if isinstance(module, _SAME_MODULES):
            return x
        if isinstance(module, _DROPOUTS):
            return rules.dropped(x, module.p)
        if isinstance(module, _NORMS):
            return rules.normalised(x, module)
        if isinstance(module, _MAX):
            return rules.largest(x, _window(module.kernel_size, len(_dims(type(module)))))
        if isinstance(module, _MEAN):
            return rules.averaged(x, _window(module.kernel_size, len(_dims(type(module)))))
        if isinstance(module, _ADAPTIVE_MEAN):
            return rules.averaged(x, self._shrunk(node, f"layer {name!r}"))
        if isinstance(module, _ADAPTIVE_MAX):
            return rules.largest(x, self._shrunk(node, f"layer {name!r}"))
        if isinstance(module, _PADS):
            return self._padded(node, x, module.value, f"layer {name!r}")
        if isinstance(module, nn.PReLU):
            return rules.parametric_relu(x, module.weight)
        if isinstance(module, nn.Embedding):
            return self._constant(f"{name}.weight")
        found = rules.elementwise(module)
        if found is None:
            raise Unsupported(
                f"layer {name!r} is a {type(module).__name__}, for which analytic AutoInit has no "
                "rule: what it makes of a mean and a variance is not known here. Use lsuv, which "
                "measures, or replace the layer."
            )
        return rules.activated(x, *found)

    def _weights(self, name: str, module: nn.Module, x: Moments) -> Moments:
        """Draw the weights of a layer, or take them as they are if they may not be drawn."""
        layer = self.layers.get(name)
        if layer is None or layer.weight_name in self.drawn:
            return self._as_given(name, module, x)
        if not 0 < x.square < math.inf:
            raise SpecError(
                f"what enters layer {name!r} has mean {x.mean:.3g} and variance {x.variance:.3g}: "
                "no weights make variance 1 of it. Look at what precedes it, and at input_mean and "
                "input_var."
            )
        deviation = 1 / math.sqrt(layer.fan_in * x.square)
        with torch.no_grad():
            fresh = torch.empty(layer.weight.shape, dtype=torch.float64)
            layer.weight.copy_(fresh.normal_(0, deviation, generator=self.generator))
            if layer.bias is not None:
                layer.bias.zero_()
        self.drawn.add(layer.weight_name)
        self.run.changed.add(layer.weight_name)
        if layer.bias_name is not None:
            self.run.changed.add(layer.bias_name)
        self.run.note(layer=name, mean=x.mean, variance=x.variance, weight_sd=deviation)
        if layer.bias_frozen:
            bias = self._constant(f"{name}.bias")
            return Moments(bias.mean, 1 + bias.variance, frozenset({name}))
        return Moments(0.0, 1.0, frozenset({name}))

    def _as_given(self, name: str, module: nn.Module, x: Moments) -> Moments:
        self.fresh += 1
        weight = module.weight.detach().double()  # type: ignore[operator]
        fan_in = WeightLayer(name, module, "", None, False).fan_in
        variance = fan_in * float(weight.square().mean()) * x.square
        mean = 0.0
        if module._parameters.get("bias") is not None:
            bias = self._constant(f"{name}.bias")
            mean, variance = bias.mean, variance + bias.variance
        return Moments(mean, variance, frozenset({f"{name} ({self.fresh})"}))

    # ----------------------------------------------------------------- functions

    def _function(self, node: fx.Node) -> Any:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        values = [self._moments(value) for value in node.args]
        read = (self.found.get(entered.name) for entered in node.all_input_nodes)
        known = [value for value in read if isinstance(value, Moments)]
        if name in ("cat", "concat", "concatenate"):
            return self._concatenated(node)
        if not known or name in ("size", "dim", "getattr", "numel"):  # shapes, not signals
            return None
        x = values[0] if values and isinstance(values[0], Moments) else known[0]
        if name in _SAME:
            return x
        if name in _SUMS or name in _PRODUCTS or name == "truediv":
            return self._arithmetic(node, name, values)
        if name in _ACTIVATION_FUNCTIONS:
            return rules.activated(x, *_ACTIVATION_FUNCTIONS[name])
        if name in _ACTIVATION_WITH_OPTIONS:
            function, rest = _ACTIVATION_WITH_OPTIONS[name], node.args[1:]
            options = {
                key: value for key, value in node.kwargs.items() if key not in ("input", "inplace")
            }
            return rules.activated(x, lambda u: function(u, *rest, **options), (0.0,))
        if name.startswith("dropout"):
            given = node.args[1] if len(node.args) > 1 else 0.5
            return rules.dropped(x, float(node.kwargs.get("p", given)))  # type: ignore[arg-type]
        if name == "pad" and node.kwargs.get("mode", "constant") == "constant":
            return self._padded(node, x, node.kwargs.get("value") or 0.0, "function 'pad'")
        if name == "neg":
            return x.moved(-1)
        if name in _POOLS:
            size = node.kwargs.get("kernel_size", node.args[1] if len(node.args) > 1 else None)
            rule = rules.largest if name.startswith("max") else rules.averaged
            return rule(x, _window(size, _POOLS[name]))
        if name in ("mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"):
            return rules.averaged(x, self._shrunk(node, f"function {name!r}"))
        raise Unsupported(
            f"the forward calls {name!r} ({node.name}), for which analytic AutoInit has no rule: "
            "what it makes of a mean and a variance is not known here. Use lsuv, which measures."
        )

    def _arithmetic(self, node: fx.Node, name: str, values: list[Any]) -> Moments:
        x, y = values[:2]
        if not isinstance(x, Moments):
            if name in ("sub", "truediv"):
                return self._reversed(name, x, y, node)
            x, y = y, x
        if isinstance(y, Moments):
            if name in _SUMS:
                return rules.added(x, y, _SUMS[name])
            if name in _PRODUCTS:
                return rules.multiplied(x, y)
        elif isinstance(y, (int, float)):
            if name in _SUMS:
                return x.moved(shift=_SUMS[name] * y)
            return x.moved(y if name in _PRODUCTS else 1 / y)
        raise Unsupported(
            f"the forward divides by a tensor ({node.name}), for which analytic AutoInit has no "
            "rule. Use lsuv, which measures."
        )

    def _reversed(self, name: str, number: Any, x: Moments, node: fx.Node) -> Moments:
        if name == "sub" and isinstance(number, (int, float)):
            return x.moved(-1, number)
        raise Unsupported(
            f"the forward divides by a tensor ({node.name}), for which analytic AutoInit has no "
            "rule. Use lsuv, which measures."
        )

    def _concatenated(self, node: fx.Node) -> Moments:
        listed = node.args[0] if node.args else node.kwargs["tensors"]
        parts: list[Any] = [self._moments(part) for part in listed]  # type: ignore[union-attr]
        if all(part == parts[0] for part in parts):
            return parts[0]
        sizes = [float(math.prod(self._shape(part, "a concatenation"))) for part in listed]  # type: ignore[union-attr]
        return rules.concatenated(zip(sizes, parts))

    def _padded(self, node: fx.Node, x: Moments, value: Any, whose: str) -> Moments:
        inside = math.prod(self._shape(node.args[0], whose))
        around = math.prod(self._shape(node, whose)) - inside
        return rules.concatenated([(inside, x), (around, Moments(float(value), 0.0))])

    def _shape(self, node: Any, whose: str) -> torch.Size:
        if node.name not in self.shapes:
            raise SpecError(
                f"{whose} needs the shapes of tensors, which the graph does not say. Give example= "
                "one batch of inputs; only its shape is used."
            )
        return self.shapes[node.name]

    def _shrunk(self, node: fx.Node, whose: str) -> int:
        """How many entries one entry of the output is the mean of."""
        entered: Any = node.args[0]
        return math.prod(self._shape(entered, whose)) // math.prod(self._shape(node, whose))


def _dims(kind: type[nn.Module]) -> range:
    return range(int(kind.__name__[-2]))


def _window(size: Any, dims: int) -> int:
    return int(size) ** dims if isinstance(size, int) else math.prod(size)
