"""What an operation of torch is: a weight layer, an activation, a normalisation, or none of them.

Operations are known by the names of torch's functions, which are the same whether a module or a
function was written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from sigprop.modules.recording import Graph, Node

__all__ = [
    "ACTIVATIONS",
    "MULTIPLICATIONS",
    "NORMS",
    "TRANSPARENT",
    "NormLayer",
    "WeightLayer",
    "layers_of",
    "norms_of",
]

_NAMES = (
    "relu", "leaky_relu", "tanh", "gelu", "silu", "erf", "elu", "selu", "celu", "relu6",
    "hardtanh", "hardswish", "hardsigmoid", "mish", "softplus", "softsign", "sigmoid",
    "logsigmoid", "prelu", "rrelu", "threshold", "softshrink", "hardshrink", "tanhshrink",
)  # fmt: skip

#: Names of functions that are activations, those in place included.
ACTIVATIONS = frozenset({*_NAMES, *(f"{name}_" for name in _NAMES)})

NORMS = frozenset({
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm",
})  # fmt: skip

MULTIPLICATIONS = frozenset({"mul", "mul_", "__mul__", "__rmul__", "__imul__"})

#: What hands every number on as it is, perhaps in another shape.
TRANSPARENT = frozenset({
    "view", "reshape", "transpose", "permute", "contiguous", "clone", "to", "dropout", "dropout_",
    "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "unsqueeze",
    "squeeze", "flatten", "unflatten", "T", "mT", "t", "type_as", "float", "double", "detach",
    "movedim", "swapaxes", "expand", "identity", "alias",
})  # fmt: skip

# Between an activation and the layer that reads it.
_BETWEEN = TRANSPARENT | NORMS | frozenset({
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "mean",
    "boolean_dispatch", "fn", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool2d", "pad", "mul", "mul_", "__mul__", "add", "add_", "__add__",
})  # fmt: skip

_MULTIPLIED = {
    "linear": "linear",
    "conv1d": "conv",
    "conv2d": "conv",
    "conv3d": "conv",
    "conv_transpose1d": "conv_transpose",
    "conv_transpose2d": "conv_transpose",
    "conv_transpose3d": "conv_transpose",
    "embedding": "embedding",
    "embedding_bag": "embedding",
    "lstm": "recurrent",
    "gru": "recurrent",
    "rnn_tanh": "recurrent",
    "rnn_relu": "recurrent",
    "bilinear": "other",
}

_PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "einsum", "addmm"})

_ATTENTION = (
    ("in_proj_weight", "in_proj_bias", "attention_in"),
    ("q_proj_weight", None, "attention_in"),
    ("k_proj_weight", None, "attention_in"),
    ("v_proj_weight", None, "attention_in"),
    ("out_proj_weight", "out_proj_bias", "attention_out"),
)


@dataclass(frozen=True, kw_only=True)
class WeightLayer:
    """One use of one weight matrix.

    Attributes
    ----------
    name : str
        Module that owns the weight, as `named_modules` calls it.
    kind : str
        ``linear``, ``conv``, ``conv_transpose``, ``embedding``, ``attention_in`` (queries, keys
        and values, one below the other), ``attention_out``, ``recurrent``, ``product`` (a
        parameter multiplied by hand), or ``other``.
    weight : str or None
        Name of the parameter; None where the weight is computed of others (``made_of``).
    bias : str or None
    fan_in, fan_out : int
        Numbers that a unit sums, and units that read a number, taps counted and groups apart; of
        an attention input those of one of its parts.
    kernel : tuple of int
        Sides of the kernel, () where there is none.
    stride : tuple of int
    groups : int
    reads : str or None
        The activation whose output it reads, if nothing but a normalisation, a pooling, a scalar
        or a change of shape lies between.
    slope : float
        Negative slope of that activation where it is a leaky ReLU, else 0.
    feeds : str or None
        The activation that alone reads what it writes, likewise.
    centred : bool
        Of a convolution whether the central tap of output pixel i reads input pixel stride * i.
    multiplier : str or None
        A parameter of one number by which the weight is multiplied before it is used.
    made_of : tuple of str
        Parameters of which a computed weight is made.
    """

    name: str
    kind: str
    weight: str | None
    bias: str | None = None
    fan_in: int = 0
    fan_out: int = 0
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    groups: int = 1
    reads: str | None = None
    slope: float = 0.0
    feeds: str | None = None
    centred: bool = True
    multiplier: str | None = None
    made_of: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NormLayer:
    """One use of a normalisation.

    Attributes
    ----------
    name : str
        Module at work.
    kind : str
        ``batch_norm``, ``layer_norm``, ...
    gain, bias : str or None
        Its parameters, where it has them.
    """

    name: str
    kind: str
    gain: str | None = None
    bias: str | None = None


def layers_of(model: nn.Module, graph: Graph) -> dict[int, tuple[WeightLayer, ...]]:
    """The weight layers of every node that is one."""
    owner = {name: name.rpartition(".")[0] for name, _ in model.named_parameters()}
    found = {}
    for node in graph.nodes:
        layers = _layers(node, owner)
        if layers:
            found[node.index] = tuple(layers)
    return found


def _layers(node: Node, owner: dict[str, str]) -> list[WeightLayer]:
    if not node.made_of or not (node.moved or node.op in ("embedding", "embedding_bag")):
        return []
    op = node.op
    if op == "multi_head_attention_forward":
        return _attention(node, owner)
    if op in _PRODUCTS:
        return _product(node, owner)
    kind = _MULTIPLIED.get(op)
    if kind is None:
        return []
    if kind in ("recurrent", "other"):
        many = [p for p in node.parents if p.op == "parameter" and len(p.shape) > 1]
        return [
            WeightLayer(
                name=owner[p.parameters[0]], kind=kind, weight=p.parameters[0],
                fan_in=p.shape[-1], fan_out=p.shape[0],
            )
            for p in many
        ]  # fmt: skip
    weight = _argument(node, 1, "weight")
    if kind == "embedding" and not _is_weight(weight):
        weight = _argument(node, 0, "weight")
    bias = _argument(node, 2, "bias") if kind != "embedding" else None
    if not _is_weight(weight):
        return []
    activation, slope = _reads(node)
    sides = weight.shape[2:] if kind.startswith("conv") else ()
    taps = math.prod(sides)
    groups = int(_scalar(node, 6, "groups", 1)) if kind.startswith("conv") else 1
    rows, columns = weight.shape[0], math.prod(weight.shape[1:2])
    fan_in, fan_out = columns * taps, rows // groups * taps
    if kind == "conv_transpose":
        groups = int(_scalar(node, 6, "groups", 1))
        fan_in, fan_out = rows // groups * taps, columns * taps
    if kind == "embedding":
        fan_in, fan_out = 1, columns  # a row is read, not summed
    stride = _scalar(node, 3, "stride", 1) if kind.startswith("conv") else ()
    stride = tuple(stride) if isinstance(stride, (tuple, list)) else (int(stride),) * len(sides)
    return [
        WeightLayer(
            name=_owner(weight, owner, node),
            kind=kind,
            weight=_own(weight),
            bias=_own(bias) if isinstance(bias, Node) else None,
            fan_in=fan_in,
            fan_out=fan_out,
            kernel=tuple(sides),
            stride=stride,
            groups=groups,
            reads=activation,
            slope=slope,
            feeds=_feeds(node),
            centred=_centred(node, stride),
            multiplier=_multiplier(weight),
            made_of=() if _own(weight) else tuple(sorted(weight.made_of)),
        )
    ]


def norms_of(graph: Graph) -> tuple[NormLayer, ...]:
    """Every normalisation, in the order of execution."""
    found = []
    for node in graph.nodes:
        if node.op not in NORMS or not node.moved:
            continue
        place = 3 if node.op in ("batch_norm", "instance_norm") else 2
        gain, bias = _argument(node, place, "weight"), _argument(node, place + 1, "bias")
        found.append(
            NormLayer(
                name=node.module,
                kind=node.op,
                gain=_own(gain) if isinstance(gain, Node) else None,
                bias=_own(bias) if isinstance(bias, Node) and node.op != "rms_norm" else None,
            )
        )
    return tuple(found)


def _attention(node: Node, owner: dict[str, str]) -> list[WeightLayer]:
    """The projections of `torch.nn.functional.multi_head_attention_forward`."""
    places = {"in_proj_weight": 5, "in_proj_bias": 6, "out_proj_weight": 11, "out_proj_bias": 12}
    activation, slope = _reads(node)
    layers = []
    for name, bias_name, kind in _ATTENTION:
        weight = _argument(node, places.get(name, 99), name)
        if not _is_weight(weight):
            continue
        bias = _argument(node, places[bias_name], bias_name) if bias_name else None
        rows = weight.shape[0] // 3 if name == "in_proj_weight" else weight.shape[0]
        layers.append(
            WeightLayer(
                name=_owner(weight, owner, node),
                kind=kind,
                weight=_own(weight),
                bias=_own(bias) if isinstance(bias, Node) else None,
                fan_in=weight.shape[1],
                fan_out=rows,
                reads=activation if kind == "attention_in" else None,
                slope=slope if kind == "attention_in" else 0.0,
                multiplier=_multiplier(weight),
                made_of=() if _own(weight) else tuple(sorted(weight.made_of)),
            )
        )
    return layers


def _product(node: Node, owner: dict[str, str]) -> list[WeightLayer]:
    """A parameter that a forward multiplies by itself, ``h @ W``."""
    weights = [p for p in node.parents if _is_weight(p)]
    moved = [p for p in node.parents if p.moved]
    if len(weights) != 1 or len(moved) != 1:
        return []
    weight = weights[0]
    operands = [x for x in node.arguments if isinstance(x, Node)]
    fan_in, fan_out = weight.shape[-2], weight.shape[-1]
    if len(operands) == 2 and operands[0] is weight:
        fan_in, fan_out = fan_out, fan_in
    activation, slope = _reads(node)
    name = _own(weight)
    if name is None and weight.op in ("T", "mT", "t") and len(weight.made_of) == 1:
        (name,) = weight.made_of
    return [
        WeightLayer(
            name=_owner(weight, owner, node),
            kind="product" if node.op != "einsum" else "other",
            weight=name,
            fan_in=fan_in,
            fan_out=fan_out,
            reads=activation,
            slope=slope,
            feeds=_feeds(node),
            made_of=() if name else tuple(sorted(weight.made_of)),
        )
    ]


def _is_weight(value: Any) -> bool:
    """Whether it is a parameter, or a tensor made of parameters alone, of two axes or more."""
    return (
        isinstance(value, Node) and not value.moved and bool(value.made_of) and len(value.shape) > 1
    )


def _own(node: Node) -> str | None:
    """The name of the parameter that a node is, or is a multiple of."""
    if node.op == "parameter":
        return node.parameters[0]
    factors = _factors(node)
    return None if factors is None else factors[1].parameters[0]


def _multiplier(node: Node) -> str | None:
    """The name of the parameter of one number by which another is multiplied."""
    factors = _factors(node)
    return None if factors is None else factors[0].parameters[0]


def _factors(node: Node) -> tuple[Node, Node] | None:
    """(a number, a tensor) whose product a node is, both parameters."""
    if node.op not in MULTIPLICATIONS or len(node.parents) != 2:
        return None
    one, other = sorted(node.parents, key=lambda p: math.prod(p.shape))
    both = one.op == other.op == "parameter"
    return (one, other) if both and math.prod(one.shape) == 1 else None


def _owner(weight: Node, owner: dict[str, str], node: Node) -> str:
    """The module of a weight; of a computed one, the module at work."""
    name = _own(weight)
    return node.module if name is None else owner[name].partition(".parametrizations.")[0]


def _argument(node: Node, place: int, name: str) -> Any:
    if name in node.options:
        return node.options[name]
    return node.arguments[place] if place < len(node.arguments) else None


def _scalar(node: Node, place: int, name: str, default: Any) -> Any:
    value = _argument(node, place, name)
    return default if value is None else value


def _reads(node: Node) -> tuple[str | None, float]:
    """The activation whose output a layer reads, and its slope."""
    at = next((p for p in node.parents if p.moved), None)
    while at is not None:
        if at.op in ACTIVATIONS:
            kind = at.op.rstrip("_")
            slope = _scalar(at, 1, "negative_slope", 0.01) if kind == "leaky_relu" else 0.0
            return kind, float(slope)
        moved = [p for p in at.parents if p.moved]
        if at.op not in _BETWEEN or len(moved) != 1:
            return None, 0.0
        at = moved[0]
    return None, 0.0


def _feeds(node: Node) -> str | None:
    """The activation that alone reads what a layer writes."""
    readers = node.children
    while len(readers) == 1:
        reader = readers[0]
        if reader.op in ACTIVATIONS:
            return reader.op.rstrip("_")
        if reader.op not in TRANSPARENT | NORMS or sum(p.moved for p in reader.parents) > 1:
            return None
        readers = reader.children
    return None


def _centred(node: Node, stride: tuple[int, ...]) -> bool:
    """Whether the central tap looks at the pixel itself; told by the sizes of the images."""
    if node.op not in ("conv1d", "conv2d", "conv3d"):
        return True
    source = next(p for p in node.parents if p.moved)
    if source.op == "pad":
        source = next(p for p in source.parents if p.moved)
    before, after = source.shape[-len(stride) :], node.shape[-len(stride) :]
    return after == tuple(-(-size // step) for size, step in zip(before, stride))
