"""What is simulated: a probability law over networks, apart from how it is sampled.

A `Network` says the shape, a `Scheme` how weights and coefficients are initialised, an
input what enters layer 0. Together they are an `Ensemble`, which is a law and nothing
else. A scheme's whole meaning is the `LayerTable` to which it lowers, an array row a
layer: samplers consume tables and never hear the name of a scheme.

One residual block is ``h' = skip h + branch F(h)`` with

========== ===================================== =========================
block      F(h)                                  matrices
========== ===================================== =========================
res1       V phi(h)                              1
res3       V phi(W h)                            2
inner      W_m phi(... phi(W_1 h))               m (``inner_layers``)
preact     W_m phi(... W_1 phi(h))               m (``inner_layers``)
identity   as inner; h' = phi(that sum)          m
projection as inner; h' = phi(skip S h + that)   m and the skip matrix S
========== ===================================== =========================

and ``plain`` is the feed-forward net ``h' = branch phi(W h + b)``, without a trunk. The two
blocks whose activation acts after the sum (types B and C of the literature) read a state that
is an activation already: a first matrix, the stem, makes it of the network's input,
``h_0 = phi(W_0 x)``. Everywhere else the input is h_0.

With an image size a network is convolutional: a state has ``width`` channels at every pixel,
and a matrix becomes a kernel of as many taps. It is then still one large matrix, whose
entries repeat, so all that is said of a layer above holds.

The law of a weight says how one entry is distributed, a `Process` how the entries that sit
at one place of one matrix depend on each other from layer to layer.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.image import PADDINGS, Size, strided
from sigprop.registry import Registry, did_you_mean

__all__ = [
    "Activation",
    "Block",
    "Ensemble",
    "Inputs",
    "LayerTable",
    "Member",
    "Network",
    "Process",
    "Scheme",
    "Stem",
    "Structure",
    "WeightLaw",
    "blocks",
    "check_count",
    "check_number",
]


# --------------------------------------------------------------------- checks


# Layers, replicas and the numbers of a layer are words of 32 bits in the address of a draw.
ADDRESSES = 2**32


def check_count(
    name: str, value: Any, *, least: int = 1, addressed: bool = False, why: str = ""
) -> int:
    """Return ``value`` as an int, or raise SpecError if it is no integer >= ``least``.

    ``addressed`` says that it must be below `ADDRESSES`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        reason = f" {why}" if why else ""
        raise SpecError(f"{name} must be an integer of at least {least}, got {value!r}.{reason}")
    if addressed and value >= ADDRESSES:
        raise SpecError(
            f"{name} must be below 2**32, got {value!r}: draws are found by addresses of 32 bits, "
            "and beyond these they would repeat. Use a smaller number."
        )
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    why: str = "",
) -> float:
    """Return ``value`` as a finite float within the bounds, or raise SpecError."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    inside = (number > low if open_low else number >= low) and (
        number < high if open_high else number <= high
    )
    if isinstance(value, bool) or not math.isfinite(number) or not inside:
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        span = f"{left}{low:g}, {high:g}{right}"
        reason = f" {why}" if why else ""
        raise SpecError(f"{name} must be a number in {span}, got {value!r}.{reason}")
    return number


# -------------------------------------------------------------------- members


def _plain(value: Any) -> Any:
    if isinstance(value, Member):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return value


@dataclass(frozen=True, kw_only=True)
class Member:
    """A registered, frozen, keyword-only dataclass that can be written as data.

    ``kind`` is its name in its registry, set on registration.
    """

    kind: ClassVar[str] = ""
    family: ClassVar[Registry[Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"kind": ..., field: value, ...}`` of plain JSON values."""
        if not self.kind:
            raise SpecError(
                f"{type(self).__name__} has no registered name, so a result could not say how "
                f"it was made. Decorate the class with register('some_name') of its family."
            )
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"kind": self.kind, **values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Any:
        """Rebuild the member that `to_dict` wrote; ``cls.family`` finds its class."""
        values = dict(data)
        member = cls.family[values.pop("kind")]
        for name in list(values):
            value = values[name]
            if isinstance(value, Mapping) and "kind" in value:
                values[name] = _NESTED[name].from_dict(value)
            else:
                values[name] = _frozen(value)
        return member(**values)

    @classmethod
    def named(cls, name: str) -> Any:
        """Return the member called ``name`` with its defaults, if it has them all."""
        member = cls.family[name]
        required = [f.name for f in dataclasses.fields(member) if f.default is dataclasses.MISSING]
        if required:
            values = ", ".join(f"{field}=..." for field in required)
            raise SpecError(
                f"the {cls.family.family} {name!r} is not one law but many: it has no default "
                f"{' and '.join(required)}. Write {member.__name__}({values})."
            )
        return member()


@dataclass(frozen=True, kw_only=True)
class Activation(Member):
    """Base of activations: a function of one real variable and what a law needs of it.

    Class attributes
    ----------------
    code : int
        What kernels switch on, see `sigprop.kernels.activation`.
    homogeneous : bool
        Whether phi(c u) = c phi(u) for every c > 0.
    kinks : tuple of float
        Where the function or its derivative jumps, for quadrature.
    """

    family: ClassVar[Registry[Any]] = Registry("activation")
    code: ClassVar[int]
    homogeneous: ClassVar[bool] = False
    kinks: ClassVar[tuple[float, ...]] = ()

    @property
    def negative_slope(self) -> float | None:
        """The fixed slope s of ``phi(u) = u (u > 0), s u (u <= 0)``, or None."""
        return None

    @property
    def parameters(self) -> tuple[float, float]:
        """The two numbers that kernels receive beside the code."""
        return (0.0, 0.0)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """phi(u), elementwise."""
        raise NotImplementedError

    def active(self, u: np.ndarray, slopes: np.ndarray | None = None) -> np.ndarray:
        """Which units pass their argument on as it is: those with u > 0."""
        return np.asarray(u) > 0

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """phi'(u), elementwise; at a kink the value for u <= 0."""
        raise NotImplementedError

    def mean(self, variance: float = 1.0) -> float:
        """E phi(sqrt(variance) Z), Z standard normal."""
        raise NotImplementedError

    def second_moment(self, variance: float = 1.0) -> float:
        """E phi(sqrt(variance) Z)^2, Z standard normal."""
        raise NotImplementedError

    def derivative_second_moment(self, variance: float = 1.0) -> float:
        """E phi'(sqrt(variance) Z)^2, Z standard normal."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightLaw(Member):
    """Base of the laws of one weight: symmetric, and of unit variance where it has one.

    A law without variance is of unit scale instead, and ``moment_limit`` says which
    absolute moments exist: those of order below it (inf: all).

    Class attributes
    ----------------
    code : int
        What the dense kernel switches on.
    independent : bool
        Whether the entries of one matrix are independent.
    """

    family: ClassVar[Registry[Any]] = Registry("weight law")
    code: ClassVar[int]
    discrete: ClassVar[bool] = False  # takes few values, so that sums of weights may cancel
    independent: ClassVar[bool] = True

    @property
    def parameter(self) -> float:
        """The number that kernels receive beside the code."""
        return 0.0

    @property
    def moment_limit(self) -> float:
        return math.inf

    @property
    def variance(self) -> float:
        """1.0, or inf for a heavy-tailed law."""
        return 1.0

    @property
    def kurtosis(self) -> float:
        """E w^4 / (E w^2)^2: 3 for the Gaussian; inf or nan where it does not exist.

        Where it depends on the size of the matrix, its limit for large ones.
        """
        raise NotImplementedError

    def sample(self, generator: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Draw with NumPy, float64: the readable definition that kernels are held to."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Process(Member):
    """Base of the dependence of weights along depth.

    The entries at one place of one matrix, layers 1 .. depth, are one path
    ``(v_1 .. v_depth)`` of the process times their standard deviations in the table; the
    entries at two places are independent. Biases are independent from layer to layer.

    Class attributes
    ----------------
    formula, source : str
        What ``sigprop list processes`` prints.
    independent : bool
        Whether the layers are independent, so that every sampler may ignore the process.
    gaussian : bool
        Whether paths are jointly Gaussian, ``paths`` then being a linear map.
    """

    family: ClassVar[Registry[Any]] = Registry("process")
    formula: ClassVar[str]
    source: ClassVar[str]
    independent: ClassVar[bool] = False
    gaussian: ClassVar[bool] = True

    def covariance(self, depth: int) -> np.ndarray:
        """E v_i v_j of the entries at unit scale, shape (depth, depth), layers 1 .. depth."""
        raise NotImplementedError

    def autocovariance(self, depth: int) -> np.ndarray | None:
        """E v_i v_{i+k} for k = 0 .. depth - 1, shape (depth,); None if not stationary."""
        return None

    def draws(self, depth: int) -> int:
        """The number of standard normals that one path consumes."""
        raise NotImplementedError

    def paths(self, normals: np.ndarray, depth: int) -> np.ndarray:
        """Turn independent standard normals into paths; deterministic, row by row.

        Parameters
        ----------
        normals : ndarray, shape (count, draws(depth))
        depth : int

        Returns
        -------
        ndarray, float64, shape (count, depth)
            A new array; column ``i`` belongs to layer ``i + 1``.
        """
        raise NotImplementedError

    def check(self, depth: int) -> None:
        """Raise SpecError if there is no such process on ``depth`` layers."""


@dataclass(frozen=True, kw_only=True)
class Inputs(Member):
    """Base of what enters layer 0: ``count`` vectors, each of norm sqrt(width) unless given."""

    family: ClassVar[Registry[Any]] = Registry("input")

    @property
    def count(self) -> int:
        """K, the number of inputs that one network is given."""
        raise NotImplementedError

    def frame(self) -> np.ndarray | None:
        """Coefficients C, shape (K, K), or None for given vectors.

        With C, ``h_k = sqrt(width) sum_j C[k, j] u_j`` and (u_1 .. u_K) a uniformly random
        orthonormal frame, drawn anew for every replica.
        """
        raise NotImplementedError

    def array(self, width: int) -> np.ndarray | None:
        """The given vectors, shape (K, width), float64, or None where `frame` serves."""
        raise NotImplementedError

    def check(self, network: Network) -> None:
        """Raise SpecError if these inputs cannot enter ``network``."""


# --------------------------------------------------------------------- blocks


@dataclass(frozen=True, kw_only=True)
class Block:
    """What the branch is and where the activation sits.

    Attributes
    ----------
    trunk : bool
        Whether a skip connection carries h past the branch.
    pre : bool
        Whether the activation acts on the trunk, before the first matrix.
    matrices : int or None
        Their number in the branch, or None where ``inner_layers`` says it.
    post : bool
        Whether the activation acts on the sum of trunk and branch. Then the network has a
        stem, whose output is the state h_0.
    projected : bool
        Whether a matrix of its own, the last of the layer, stands in the skip connection.
    """

    kind: str
    formula: str
    trunk: bool
    pre: bool
    matrices: int | None
    post: bool = False
    projected: bool = False


blocks: Registry[Block] = Registry("block")
for _block in (
    Block(kind="plain", formula="h' = branch phi(W h + b)", trunk=False, pre=False, matrices=1),
    Block(kind="res1", formula="h' = skip h + branch V phi(h)", trunk=True, pre=True, matrices=1),
    Block(
        kind="res3", formula="h' = skip h + branch V phi(W h)", trunk=True, pre=False, matrices=2
    ),
    Block(
        kind="inner",
        formula="h' = skip h + branch W_m phi(... phi(W_1 h))",
        trunk=True,
        pre=False,
        matrices=None,
    ),
    Block(
        kind="preact",
        formula="h' = skip h + branch W_m phi(... W_1 phi(h))",
        trunk=True,
        pre=True,
        matrices=None,
    ),
    Block(
        kind="identity",
        formula="h' = phi(skip h + branch W_m phi(... phi(W_1 h))), h_0 = phi(W_0 x) (type B)",
        trunk=True,
        pre=False,
        matrices=None,
        post=True,
    ),
    Block(
        kind="projection",
        formula="h' = phi(skip S h + branch W_m phi(... phi(W_1 h))), h_0 = phi(W_0 x) (type C)",
        trunk=True,
        pre=False,
        matrices=None,
        post=True,
        projected=True,
    ),
):
    blocks.register(_block.kind)(_block)

_OF_IMAGES = ("kernel", "padding", "stride")
_DEFAULT_INNER_LAYERS = {"inner": 3, "preact": 2, "identity": 2, "projection": 2}


# -------------------------------------------------------------------- network


@dataclass(frozen=True, kw_only=True)
class Network:
    """The shape of a network: depth, widths, block and activation.

    Parameters
    ----------
    depth : int
        Number of layers (residual blocks, or layers of a plain net), at least 1.
    width : int
        Dimension d of the state; ignored where ``widths`` is given.
    widths : sequence of depth + 1 ints, optional
        State dimensions h_0 .. h_depth of a plain net, whose input is h_0, or of block
        ``projection``. Any other trunk has one width.
    block : str
        A name of `blocks`.
    inner_layers : int, optional
        Matrices m in one branch, for blocks ``inner`` (default 3), ``preact``, ``identity``
        and ``projection`` (default 2).
    inner_width : int or sequence, optional
        Hidden width of the branch (default: the width of the state that it leads to): one
        number, one for each layer, or for each layer a sequence of m - 1.
    dropout : float
        Probability in [0, 1) that a unit gives 0 instead; the others are divided by 1 - dropout.
        Drawn once a network, for each unit of each layer, as in one step of training.
    input_width : int, optional
        Dimension of the network's input. Blocks ``identity`` and ``projection``: of x, which
        the stem reads (default: half the width of h_0, the most for which a first layer of
        +/- pairs can be an isometry). A plain net: of h_0, if it is not ``width``; kept as
        ``widths``.
    activation : Activation or str
        An activation or the name of one with default parameters.
    image : int or (int, int), optional
        Pixels of an image at layer 0, one side of a square or (rows, columns). Then widths
        count channels, and a state is the vector of all channels of all pixels, channel by
        channel.
    kernel : int or sequence of ints
        Side of the kernels, odd: one number, or one for each matrix of a branch. A stem has
        the largest of them, a skip matrix 1. Matrices whose entries depend on each other,
        orthogonal ones and pairs, stand at the centre of the kernel and all other taps are 0
        (delta kernels): each acts on every pixel by itself.
    padding : str
        What lies beyond the border of an image: ``zero`` or ``circular``, its other side.
    stride : int or sequence of depth ints
        Of the first matrix of each layer, and of its skip matrix: all but every stride-th row
        and column of pixels is dropped. A skip connection that is the identity allows 1 only.

    Raises
    ------
    SpecError, UnknownName
        If a value is out of range or does not fit the block.
    """

    depth: int
    width: int = 100
    widths: tuple[int, ...] | None = None
    block: str = "res3"
    inner_layers: int | None = None
    inner_width: int | tuple[Any, ...] | None = None
    activation: Activation | str = "relu"
    input_width: int | None = None
    image: int | Size | None = None
    kernel: int | tuple[int, ...] = 3
    padding: str = "zero"
    stride: int | tuple[int, ...] = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(
            self,
            "depth",
            check_count("depth", self.depth, addressed=True, why="It counts the layers."),
        )
        block = blocks[self.block]
        if isinstance(self.activation, str):
            import sigprop.activations  # noqa: F401  fills the registry

            put(self, "activation", Activation.named(self.activation))
        elif not isinstance(self.activation, Activation):
            raise SpecError(
                f"activation must be an Activation or the name of one, got {self.activation!r}. "
                "Wrap a Python function with sigprop.activations.FunctionActivation."
            )
        self._check_dropout(block)
        if self.input_width is not None and not block.post:
            self._widen_input(block)
        if self.widths is not None:
            if block.trunk and not block.projected:
                raise SpecError(
                    f"widths changes the width of the state, but the skip connection of block "
                    f"{self.block!r} needs one width throughout. Use --inner-width for a "
                    "bottleneck branch, or block 'projection' or 'plain'."
                )
            widths = tuple(check_count("each of widths", w, addressed=True) for w in self.widths)
            if len(widths) != self.depth + 1:
                raise SpecError(
                    f"widths names {len(widths)} layers, but depth {self.depth} has "
                    f"{self.depth + 1} states (the input's included). Give {self.depth + 1} "
                    "widths."
                )
            put(self, "widths", widths)
            put(self, "width", widths[0])
        why = "It is the size of the state."
        put(self, "width", check_count("width", self.width, addressed=True, why=why))
        if block.post:
            given = max(1, self.width // 2) if self.input_width is None else self.input_width
            why = "It is the size of the network's input."
            put(self, "input_width", check_count("input_width", given, addressed=True, why=why))
        self._check_inner(block)
        self._check_image(block)

    def _check_image(self, block: Block) -> None:
        put = object.__setattr__
        if self.image is None:
            defaults = {f.name: f.default for f in dataclasses.fields(self)}
            for name in _OF_IMAGES:
                if getattr(self, name) != defaults[name]:
                    raise SpecError(
                        f"{name} = {getattr(self, name)!r} was given without an image, but it is "
                        "said of convolutions, and a fully connected layer has no pixels. Give "
                        "the size of the image too: image = 8."
                    )
            return
        sides = self.image if isinstance(self.image, Sequence) else (self.image, self.image)
        if isinstance(sides, str) or len(sides) != 2:
            raise SpecError(
                f"image must be the side of a square or (rows, columns), got {self.image!r}. "
                "Write image = 8, or image = (6, 8)."
            )
        put(self, "image", tuple(check_count("each side of image", side) for side in sides))
        many = "matrices in a branch"
        put(self, "kernel", self._numbers("kernel", self.kernel, self.branch_matrices, many))
        for kernel in self.kernel if isinstance(self.kernel, tuple) else (self.kernel,):
            if kernel % 2 == 0:
                raise SpecError(
                    f"kernel must be odd, got {kernel}: an even one has no pixel at its centre, "
                    f"and images would move. Use {kernel - 1} or {kernel + 1}."
                )
        if self.padding not in PADDINGS:
            raise SpecError(
                f"padding must be one of {', '.join(PADDINGS)}, got {self.padding!r}: it is what a "
                f"kernel reads beyond the border.{did_you_mean(str(self.padding), PADDINGS)}"
            )
        put(self, "stride", self._numbers("stride", self.stride, self.depth, "layers"))
        if block.trunk and not block.projected and max(self.strides) > 1:
            raise SpecError(
                f"stride {max(self.strides)} makes the image smaller, but the skip connection of "
                f"block {self.block!r} is the identity and needs one size throughout. Use "
                "stride 1, or block 'projection' or 'plain'."
            )

    def _numbers(self, name: str, value: Any, count: int, what: str) -> int | tuple[int, ...]:
        """One number, or one for each of ``count``."""
        if not isinstance(value, Sequence) or isinstance(value, str):
            return check_count(name, value)
        if len(value) != count:
            raise SpecError(
                f"{name} names {len(value)} {what}, but there are {count}. Give one number, or "
                f"{count} of them."
            )
        return tuple(check_count(f"each {name}", entry) for entry in value)

    def _check_dropout(self, block: Block) -> None:
        why = "It is the probability that a unit gives 0."
        dropout = check_number("dropout", self.dropout, low=0.0, high=1.0, open_high=True, why=why)
        object.__setattr__(self, "dropout", dropout)
        if dropout and block.post:
            raise Unsupported(
                f"dropout is not offered for block {self.block!r}, whose activation acts on the "
                "sum of trunk and branch. Use another block, or leave out dropout."
            )
        if dropout and self.image is not None:
            raise Unsupported(
                f"dropout = {dropout:g} is not offered for convolutional networks, whose units are "
                "pixels of a channel. Leave out image, or dropout."
            )
        _ = self.phi  # which refuses an activation that has no dropout

    def _widen_input(self, block: Block) -> None:
        """Say the ``input_width`` of a network without a stem by its ``widths``."""
        put, given = object.__setattr__, self.input_width
        if block.trunk:
            raise SpecError(
                f"input_width = {given} was given, but block {self.block!r} has no stem: its input "
                "is the state h_0, of the width of the trunk. Leave it out, or use block "
                "'identity' or 'projection'."
            )
        if self.widths is not None:
            raise SpecError(
                f"input_width = {given} was given beside widths, which names the input's first. "
                "Leave it out."
            )
        put(self, "widths", (given, *(self.width,) * self.depth))
        put(self, "input_width", None)

    def _check_inner(self, block: Block) -> None:
        put = object.__setattr__
        if block.matrices is not None:
            if self.inner_layers is not None and self.inner_layers != block.matrices:
                raise SpecError(
                    f"inner_layers = {self.inner_layers} does not fit block {self.block!r}, whose "
                    f"branch has {block.matrices}. Use block 'inner', 'preact', 'identity' or "
                    "'projection'."
                )
            put(self, "inner_layers", block.matrices)
        else:
            layers = self.inner_layers
            layers = _DEFAULT_INNER_LAYERS[self.block] if layers is None else layers
            put(self, "inner_layers", check_count("inner_layers", layers))
        inner = self.inner_width
        if inner is None:
            return
        if self.inner_layers == 1:
            raise SpecError(
                f"inner_width = {inner} was given, but block {self.block!r} with one matrix has "
                "no hidden layer. Use block 'res3', 'inner' or 'preact' with more matrices."
            )
        if isinstance(inner, Sequence) and not isinstance(inner, str):
            if len(inner) != self.depth:
                raise SpecError(
                    f"inner_width names {len(inner)} layers, but depth is {self.depth}. Give one "
                    "number, or one entry for each layer."
                )
            rows = []
            for row in inner:
                hidden = self.branch_matrices - 1
                entries = tuple(row) if isinstance(row, Sequence) else (row,) * hidden
                if len(entries) != hidden:
                    raise SpecError(
                        f"an entry of inner_width has {len(entries)} widths, but a branch of "
                        f"{hidden + 1} matrices has {hidden} hidden layers."
                    )
                rows.append(
                    tuple(check_count("each inner_width", w, addressed=True) for w in entries)
                )
            put(self, "inner_width", tuple(rows))
        else:
            put(self, "inner_width", check_count("inner_width", inner, addressed=True))

    @cached_property
    def phi(self) -> Activation:
        """The activation, as an object; under dropout that of units which may be dropped."""
        assert isinstance(self.activation, Activation)
        if self.dropout:
            from sigprop.activations.uneven import DroppedOut

            return DroppedOut.of(self.activation, self.dropout)
        return self.activation

    @property
    def form(self) -> Block:
        """The block, as an object."""
        return blocks[self.block]

    @property
    def branch_matrices(self) -> int:
        """m, the number of weight matrices in one branch."""
        assert self.inner_layers is not None
        return self.inner_layers

    @property
    def matrices(self) -> int:
        """Number of weight matrices in one layer: those of the branch, and the skip matrix."""
        return self.branch_matrices + self.form.projected

    @property
    def input_channels(self) -> int:
        """Width of the network's input, in channels of an image: of h_0 where there is no stem."""
        return int(self.state_widths[0]) if self.input_width is None else self.input_width

    @property
    def input_size(self) -> int:
        """Numbers in one input of the network, over channels and pixels."""
        return self.input_channels * math.prod(self.images[0])

    @cached_property
    def state_widths(self) -> np.ndarray:
        """int64, shape (depth + 1,): the dimension of every state."""
        if self.widths is not None:
            return np.array(self.widths, np.int64)
        return np.full(self.depth + 1, self.width, np.int64)

    @cached_property
    def fans(self) -> tuple[np.ndarray, np.ndarray]:
        """(columns, rows) of every matrix, int64, each of shape (depth, matrices).

        A skip matrix is last. Of a kernel these count channels; see `connections`.
        """
        m = self.branch_matrices
        first, last = self.state_widths[:-1, None], self.state_widths[1:, None]
        hidden = np.empty((self.depth, m - 1), np.int64)
        if isinstance(self.inner_width, tuple):
            hidden[:] = np.array(self.inner_width, np.int64).reshape(self.depth, m - 1)
        else:
            hidden[:] = last if self.inner_width is None else self.inner_width
        edges = np.concatenate([first, hidden, last], axis=1)
        if not self.form.projected:
            return edges[:, :-1].copy(), edges[:, 1:].copy()
        return np.hstack([edges[:, :-1], first]), np.hstack([edges[:, 1:], last])

    @property
    def convolutional(self) -> bool:
        """Whether states are images."""
        return self.image is not None

    @property
    def kernels(self) -> tuple[int, ...]:
        """Side of the kernel of each matrix; 1 of a skip matrix, and without an image."""
        if not self.convolutional:
            return (1,) * self.matrices
        m = self.branch_matrices
        branch = self.kernel if isinstance(self.kernel, tuple) else (self.kernel,) * m
        return branch + (1,) * (self.matrices - m)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each layer."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * self.depth

    @cached_property
    def images(self) -> tuple[Size, ...]:
        """(rows, columns) of every state, depth + 1 of them; (1, 1) where there is no image."""
        sizes: list[Size] = [(1, 1) if self.image is None else self.image]  # type: ignore[list-item]
        for stride in self.strides:
            sizes.append(strided(sizes[-1], stride))
        return tuple(sizes)

    @property
    def shape_of_image(self) -> str:
        """``8x6`` for 8 rows and 6 columns at layer 0."""
        return "x".join(map(str, self.images[0]))

    @cached_property
    def state_sizes(self) -> np.ndarray:
        """int64, shape (depth + 1,): the numbers in every state, over channels and pixels."""
        pixels = np.array([rows * columns for rows, columns in self.images], np.int64)
        return self.state_widths * pixels

    @cached_property
    def connections(self) -> tuple[np.ndarray, np.ndarray]:
        """(fan_in, fan_out) with all taps counted, int64, each of shape (depth, matrices).

        As many numbers a unit sums, and as many units read a number: the fans of the schemes.
        """
        area = np.array(self.kernels, np.int64) ** 2
        return self.fans[0] * area, self.fans[1] * area

    @property
    def stem_connections(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of the stem, each of shape (1,)."""
        area = self.stem_convolution[1] ** 2
        return area * np.array([self.input_channels]), area * self.state_widths[:1]

    def convolution(self, layer: int, j: int) -> tuple[Size, int, int, str]:
        """Of matrix j of a layer: size of what it reads, kernel, stride and padding."""
        if j == 0 or j == self.branch_matrices:  # a skip matrix strides as the first one does
            return self.images[layer], self.kernels[j], self.strides[layer], self.padding
        return self.images[layer + 1], self.kernels[j], 1, self.padding

    @property
    def stem_convolution(self) -> tuple[Size, int, int, str]:
        """The same of the stem, whose kernel is the largest of a branch."""
        return self.images[0], max(self.kernels), 1, self.padding

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field; those of stems and images only where there are any.

        So the digest of an ensemble, hence its stream of random numbers, is what it was
        before there were stems and images.
        """
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if self.input_width is None:
            del values["input_width"]
        if not self.convolutional:
            for name in ("image", *_OF_IMAGES):
                del values[name]
        if not self.dropout:
            del values["dropout"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Network:
        values = {name: _frozen(value) for name, value in data.items()}
        import sigprop.activations  # noqa: F401  fills the registry

        values["activation"] = Activation.from_dict(data["activation"])
        return cls(**values)


# ---------------------------------------------------------------------- table


class Structure(enum.IntEnum):
    r"""How a matrix W is made of one of the law, X, at scale s.

    In the last four the units of a layer are pairs (+, -): the first half of them, then the
    second. Beside each stands what becomes of :math:`z = h_+ - h_-`, the looks-linear
    coordinates, if :math:`h_\pm = \varphi(\pm z)` with phi the ReLU.
    """

    #: W = s X.
    ENTRIES = 0
    #: W = [[U, -U], [-U, U]], U = s X of half the rows and columns: z' = U z.
    LOOKS_LINEAR = 1
    #: W = [[U], [-U]], U = s X of half the rows; reads a vector h, not pairs: z' = U h.
    MIRRORED = 2
    #: W = s E, E the identity from the i-th pair to the i-th pair, as far as both go.
    ROUTED = 3
    #: W is what makes the whole layer z' = M z, M = s X of half the rows and columns. In a
    #: skip matrix, the rest that looks-linear branches leave: [[V, -V], [-V, V]] with
    #: V = (M - branch input_scale U_m .. U_1) / skip. As the last matrix of a branch whose
    #: others are routed: ([[M, -M], [-M, M]] - skip 1) / (branch input_scale) from routed
    #: pairs to routed pairs, M of as many rows; the other pairs are the skip's alone.
    COMPLEMENT = 4


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The first matrix, which turns the network's input x into the state h_0 = phi(W_0 x + b).

    Attributes
    ----------
    scale, bias_scale : float
        As in `LayerTable`.
    structure : Structure
        ``ENTRIES`` or ``MIRRORED``.
    """

    scale: float
    bias_scale: float = 0.0
    structure: Structure = Structure.ENTRIES


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """What a scheme means: one row a layer, nothing else reaches a sampler.

    Attributes
    ----------
    skip, branch : float64, shape (depth,)
        ``h' = skip h + branch F(h)``; a plain net has skip 0. In blocks ``identity`` and
        ``projection`` the state is phi of that sum.
    input_scale : float64, shape (depth,)
        The branch reads ``input_scale * h`` (1 but for NF-ResNet).
    scale : float64, shape (depth, matrices)
        Standard deviation of an entry (scale, for a law without variance).
    bias_scale : float64, shape (depth, matrices)
        Standard deviation of the Gaussian biases, 0 for none.
    law : WeightLaw
        The law of an entry at unit scale.
    centred : bool
        Whether every row of every matrix is projected to sum zero.
    batch_norm : bool
        Whether every activation reads, in place of its argument, that argument with the mean
        0 and the variance 1 over the inputs of the network (and the pixels), unit by unit
        (channel by channel). Then every input has a top gradient of its own.
    processes : tuple of Process, one a matrix
        How the entries of a matrix depend on those of the same place in other layers. The
        empty tuple, the default, becomes independent layers.
    structure : int8, shape (depth, matrices)
        A `Structure` for each matrix; the empty array, the default, becomes ``ENTRIES``.
    stem : Stem, optional
        Where the block has one.
    paired : bool
        Whether every state is made of +/- pairs, so that looks-linear coordinates exist
        (those of a plain net at layer 0 are the input itself).
    gain : bool
        Whether the branch coefficient is a parameter that is trained.
    """

    skip: np.ndarray
    branch: np.ndarray
    input_scale: np.ndarray
    scale: np.ndarray
    bias_scale: np.ndarray
    law: WeightLaw
    centred: bool = False
    batch_norm: bool = False
    processes: tuple[Process, ...] = ()
    structure: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int8))
    stem: Stem | None = None
    paired: bool = False
    gain: bool = False

    def __post_init__(self) -> None:
        if not self.structure.size:
            object.__setattr__(self, "structure", np.zeros(self.scale.shape, np.int8))
        if not self.processes:
            import sigprop.processes  # noqa: F401  fills the registry

            processes = (Process.named("independent"),) * self.scale.shape[1]
            object.__setattr__(self, "processes", processes)

    @property
    def biased(self) -> bool:
        stem = self.stem is not None and self.stem.bias_scale != 0
        return stem or bool(np.any(self.bias_scale != 0))

    @property
    def structured(self) -> bool:
        """Whether any matrix is made of another that is smaller."""
        stem = self.stem is not None and self.stem.structure != Structure.ENTRIES
        return stem or bool(np.any(self.structure != Structure.ENTRIES))

    @property
    def delta(self) -> bool:
        """Whether only the central tap of a kernel is not 0, where there are kernels."""
        return not self.entrywise

    @property
    def entrywise(self) -> bool:
        """Whether all entries of all matrices of a layer are independent."""
        return self.law.independent and not self.structured

    @property
    def correlated(self) -> bool:
        """Whether the layers of any matrix depend on each other."""
        return not all(process.independent for process in self.processes)


@dataclass(frozen=True, kw_only=True)
class Scheme(Member):
    """Base of initialisation schemes.

    Parameters
    ----------
    law : WeightLaw or str
        Law of one weight at unit variance (default gaussian).
    bias_variance : float
        Variance of the Gaussian biases of every matrix (default 0: no biases).
    skip : float or sequence of depth floats
        Skip coefficients (default 1).
    process : Process or str
        Dependence along depth of the last matrix of a layer (default independent).
    inner_process : Process or str, optional
        That of all earlier matrices of the layer (default: the same as ``process``).

    Class attributes
    ----------------
    formula, source : str
        What ``sigprop list schemes`` prints.
    blocks : tuple of str
        Blocks for which the scheme is defined.
    default_block : str
        The block of the paper that introduced it.
    """

    family: ClassVar[Registry[Any]] = Registry("scheme")
    formula: ClassVar[str]
    source: ClassVar[str]
    blocks: ClassVar[tuple[str, ...]] = (
        "plain", "res1", "res3", "inner", "preact", "identity", "projection"
    )  # fmt: skip
    default_block: ClassVar[str] = "res3"

    law: WeightLaw | str = "gaussian"
    bias_variance: float = 0.0
    skip: float | tuple[float, ...] = 1.0
    process: Process | str = "independent"
    inner_process: Process | str | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "process", _process("process", self.process))
        if self.inner_process is not None:
            inner = _process("inner_process", self.inner_process)
            put(self, "inner_process", None if inner == self.process else inner)
        if isinstance(self.law, str):
            import sigprop.laws  # noqa: F401  fills the registry

            put(self, "law", WeightLaw.named(self.law))
        elif not isinstance(self.law, WeightLaw):
            raise SpecError(
                f"law must be a WeightLaw or the name of one, got {self.law!r}. Use a law of "
                "sigprop.laws."
            )
        put(self, "bias_variance", check_number("bias_variance", self.bias_variance, low=0.0))
        if isinstance(self.skip, Sequence):
            put(self, "skip", tuple(check_number("each skip", s) for s in self.skip))
        else:
            put(self, "skip", check_number("skip", self.skip))

    def to_dict(self) -> dict[str, Any]:
        """As `Member.to_dict`; processes are left out where all layers are independent.

        So the digest of an ensemble, hence its stream of random numbers, is what it was
        before there were processes.
        """
        values = super().to_dict()
        assert isinstance(self.process, Process)
        if self.inner_process is None:
            del values["inner_process"]
            if self.process.independent:
                del values["process"]
        return values

    def processes(self, network: Network) -> tuple[Process, ...]:
        """The process of each matrix of a layer of ``network``."""
        inner = self.process if self.inner_process is None else self.inner_process
        assert isinstance(self.process, Process) and isinstance(inner, Process)
        return (*(inner,) * (network.matrices - 1), self.process)

    def prepared(self, network: Network) -> Network:
        """The network that the scheme means: another one only where it is a change of its units."""
        return network

    def layers(self, network: Network) -> LayerTable:
        """Lower to the table of ``network``; subclasses end in `table`."""
        raise NotImplementedError

    def fans(
        self, network: Network, structure: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(fan_in, fan_out) of which a variance is a function; of delta kernels one tap counts."""
        assert isinstance(self.law, WeightLaw)
        return network.connections if self.law.independent and structure is None else network.fans

    def check_block(self, network: Network) -> None:
        """Raise Unsupported unless the scheme is defined for the block of ``network``."""
        if network.block not in self.blocks:
            raise Unsupported(
                f"scheme {self.kind!r} is not defined for block {network.block!r}: "
                f"{self.formula} Use one of: {', '.join(self.blocks)}."
            )

    def table(
        self,
        network: Network,
        *,
        variance: np.ndarray | Callable[[np.ndarray, np.ndarray], np.ndarray],
        branch: float | np.ndarray = 1.0,
        input_scale: float | np.ndarray = 1.0,
        centred: bool = False,
        skip: float | np.ndarray | None = None,
        stem_variance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        structure: np.ndarray | None = None,
        stem_structure: Structure = Structure.ENTRIES,
        paired: bool = False,
        gain: bool = False,
        batch_norm: bool = False,
    ) -> LayerTable:
        """Build the table from per-matrix variances, given as an array or of (fan_in, fan_out).

        A plain net has no trunk: its skip column is 0 whatever ``self.skip`` says, which
        ``skip`` replaces. The variance of a stem is ``stem_variance`` of its fans, or
        ``variance`` of them if that is a function.
        """
        self.check_block(network)
        shape = (network.depth, network.matrices)
        fans = self.fans(network, structure)
        entries = variance(*fans) if callable(variance) else variance
        column = (network.depth,)
        skip = np.array((self.skip if skip is None else skip) if network.form.trunk else 0.0, float)
        if skip.ndim and skip.shape != column:
            raise SpecError(
                f"skip names {skip.size} layers, but depth is {network.depth}. Give one number, "
                "or one for each layer."
            )
        assert isinstance(self.law, WeightLaw)
        stem = None
        if network.form.post:
            of_fans = variance if stem_variance is None else stem_variance
            assert callable(of_fans), f"scheme {self.kind!r} does not say what its stem is"
            ends = np.array([network.input_channels]), network.state_widths[:1]
            if fans is not network.fans and stem_structure == Structure.ENTRIES:
                ends = network.stem_connections
            stem = Stem(
                scale=math.sqrt(np.asarray(of_fans(*ends), float).item()),
                bias_scale=math.sqrt(self.bias_variance),
                structure=stem_structure,
            )
        return LayerTable(
            skip=np.broadcast_to(skip, column).copy(),
            branch=np.broadcast_to(np.asarray(branch, float), column).copy(),
            input_scale=np.broadcast_to(np.asarray(input_scale, float), column).copy(),
            scale=np.sqrt(np.broadcast_to(np.asarray(entries, float), shape)),
            bias_scale=np.full(shape, math.sqrt(self.bias_variance)),
            law=self.law,
            centred=centred,
            batch_norm=batch_norm,
            processes=self.processes(network),
            structure=np.zeros((0, 0), np.int8) if structure is None else structure,
            stem=stem,
            paired=paired,
            gain=gain,
        )


def _process(name: str, value: Any) -> Process:
    """The process that ``value`` is or names."""
    import sigprop.processes  # noqa: F401  fills the registry

    if isinstance(value, str):
        return Process.named(value)
    if not isinstance(value, Process):
        raise SpecError(
            f"{name} must be a Process or the name of one, got {value!r}. Use a process of "
            "sigprop.processes."
        )
    return value


# ------------------------------------------------------------------- ensemble


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


_NESTED: dict[str, type[Member]] = {
    "law": WeightLaw,
    "activation": Activation,
    "process": Process,
    "inner_process": Process,
}
