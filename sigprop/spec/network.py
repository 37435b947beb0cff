"""The shape of a network: depth, widths, block, activation, and the image if there is one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.image import PADDINGS, Size, strided
from sigprop.registry import did_you_mean
from sigprop.spec.block import Block, blocks
from sigprop.spec.checks import check_count, check_number
from sigprop.spec.families import Activation
from sigprop.spec.member import frozen, plain

__all__ = ["Network"]

_OF_IMAGES = ("kernel", "padding", "stride")
_DEFAULT_INNER_LAYERS = {"inner": 3, "preact": 2, "identity": 2, "projection": 2}


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
        values = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
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
        values = {name: frozen(value) for name, value in data.items()}
        import sigprop.activations  # noqa: F401  fills the registry

        values["activation"] = Activation.from_dict(data["activation"])
        return cls(**values)
