"""Small networks by a line of text: ``mlp:depth=20,width=64,gain=1.5``, ``resnet:norm=none``.

Each is a plain `torch.nn.Module` that takes images, with an initialisation of its own, drawn from
an explicit generator: those with which the studies of training start. Anything else may be
done to it afterwards (`sigprop.modules.gradinit`, ``sigprop.modules.init``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sigprop.errors import SpecError
from sigprop.registry import Registry, did_you_mean

__all__ = ["Architecture", "Draws", "ResMLP", "ResNet", "architecture"]

Shape = tuple[int, int, int]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}
# Variance times fan_in that keeps the mean square; all others have the ReLU's, 2.
_KEEPING = {"leaky_relu": 2 / (1 + 0.01**2), "identity": 1.0}
_CHOICES = {
    "activation": tuple(_ACTIVATIONS),
    "norm": ("batch", "none"),
    "block": ("res1", "res3"),
    "shortcut": ("pad", "projection", "everywhere"),
    "order": ("post", "pre"),
    "output": ("image", "place"),
    "border": ("none", "zeros"),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Base of all; the fields of a subclass are the options of its line of text.

    Raises
    ------
    SpecError
        If an option is out of its range.
    """

    family: ClassVar[Registry[type[Architecture]]] = Registry("network")
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(self.kind, field.name, getattr(self, field.name))

    def __str__(self) -> str:
        options = (f"{f.name}={_written(getattr(self, f.name))}" for f in dataclasses.fields(self))
        return f"{self.kind}:{','.join(options)}"

    def build(self, shape: Shape, classes: int = 10, *, seed: int = 0) -> nn.Module:
        """Make the network, float32 on the CPU.

        Parameters
        ----------
        shape : (channels, height, width)
            Of one image; the network takes batches of them.
        classes : int
            Length of the output.
        seed : int
            Of the weights. The random numbers of torch itself are left alone.

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        SpecError
            If images are too small for it.
        """
        with torch.no_grad():
            return self._made(shape, classes, Draws(torch.Generator().manual_seed(seed)))

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        raise NotImplementedError


def architecture(spec: str) -> Architecture:
    """Read ``kind:option=value,option=value``.

    Parameters
    ----------
    spec : str
        Kinds: ``mlp``, ``convmlp``, ``resmlp``, ``resnet``, ``vgg``, ``stacked``,
        ``transformer``. Options left out take their defaults; widths are written ``8/16/32``.

    Raises
    ------
    SpecError, UnknownName
        If no network is meant by this; the nearest word is told.

    Examples
    --------
    >>> str(architecture("mlp:depth=20,gain=1.5"))
    'mlp:depth=20,width=64,gain=1.5,activation=relu'
    >>> network = architecture("mlp:depth=20,gain=1.5").build((1, 8, 8), seed=0)
    """
    import sigprop.modules.stacked
    import sigprop.modules.transformer  # noqa: F401  two more kinds

    kind, _, rest = spec.partition(":")
    made = Architecture.family[kind.strip()]
    known = {field.name: field.type for field in dataclasses.fields(made)}
    options: dict[str, Any] = {}
    for word in filter(None, (part.strip() for part in rest.split(","))):
        name, equals, value = (part.strip() for part in word.partition("="))
        if name not in known or not equals:
            raise SpecError(
                f"{word!r} is no option of {kind}.{did_you_mean(name, known)} "
                f"Options: {', '.join(known)}. Write for example: {made()}"
            )
        if name in options:
            raise SpecError(f"{name} is given twice in {spec!r}. Give it once.")
        options[name] = _read(kind, name, str(known[name]), value)
    return made(**options)


def _read(kind: str, name: str, annotation: str, text: str) -> Any:
    """A value as its field wants it."""
    try:
        if annotation.startswith("tuple"):
            return tuple(int(part) for part in text.split("/"))
        if annotation == "float | None":
            return None if text == "none" else float(text)
        return {"int": int, "float": float, "str": str}[annotation](text)
    except ValueError:
        example = {"int": "10", "float": "0.5", "float | None": "0.5"}.get(annotation, "8/16/32")
        raise SpecError(
            f"option {name} of {kind} cannot be {text!r}. Write for example: {name}={example}"
        ) from None


def _check(kind: str, name: str, value: Any) -> None:
    choices = _CHOICES.get(name)
    if choices is not None:
        if value not in choices:
            raise SpecError(
                f"{name} of {kind} cannot be {value!r}.{did_you_mean(value, choices)} "
                f"Known: {', '.join(choices)}."
            )
    elif isinstance(value, tuple):
        if not value or min(value) < 1:
            raise SpecError(f"{name} of {kind} must be whole numbers from 1 on, got {value}.")
    elif isinstance(value, int):
        if value < 1:
            raise SpecError(f"{name} of {kind} must be 1 or more, got {value}.")
    elif value is not None and (not math.isfinite(value) or value < 0):
        raise SpecError(f"{name} of {kind} must be a finite number, 0 or more, got {value}.")


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------- weights


class Draws:
    """Makes layers whose weights come from one generator, in the order of asking."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def linear(self, inputs: int, outputs: int, deviation: float) -> nn.Linear:
        """Normal weights of this deviation, biases 0."""
        made = nn.utils.skip_init(nn.Linear, inputs, outputs)
        made.weight.normal_(0, deviation, generator=self.generator)
        made.bias.zero_()
        return made

    def classifier(self, inputs: int, outputs: int) -> nn.Linear:
        """As the framework makes it: weights and biases uniform within 1 / sqrt(fan_in)."""
        made = nn.utils.skip_init(nn.Linear, inputs, outputs)
        for parameter in (made.weight, made.bias):
            bound = inputs**-0.5
            parameter.uniform_(-bound, bound, generator=self.generator)
        return made

    def convolution(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True
    ) -> nn.Conv2d:
        """He's normal weights by fan-out, biases 0, borders of zeros."""
        made = nn.utils.skip_init(
            nn.Conv2d, inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias
        )
        deviation = math.sqrt(2 / (outputs * kernel**2))
        made.weight.normal_(0, deviation, generator=self.generator)
        if made.bias is not None:
            made.bias.zero_()
        return made


# --------------------------------------------------------------- fully connected


@Architecture.family.register("mlp")
@dataclass(frozen=True, kw_only=True)
class MLP(Architecture):
    """Flatten, ``depth`` hidden layers of ``width``, and one more layer to the classes.

    Weights of hidden layers are N(0, gain² c / fan_in), of the last N(0, gain² / fan_in), biases 0.
    c is 2, as He has it for the ReLU, but 2 / (1 + 0.01²) for ``leaky_relu``, whose slope is 0.01,
    and 1 for ``identity``.
    """

    depth: int = 12
    width: int = 64
    gain: float = 1.0
    activation: str = "relu"

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = math.prod(shape)
        for _ in range(self.depth):
            deviation = self.gain * math.sqrt(_KEEPING.get(self.activation, 2.0) / inputs)
            layers.append(draws.linear(inputs, self.width, deviation))
            layers.append(_ACTIVATIONS[self.activation]())
            inputs = self.width
        layers.append(draws.linear(inputs, classes, self.gain * math.sqrt(1 / inputs)))
        return nn.Sequential(*layers)


class _Residual(nn.Module):
    """h + branch V phi(h), block res1, or h + branch V phi(W h), block res3."""

    def __init__(self, layers: nn.Sequential, branch: float, alpha: float | None) -> None:
        super().__init__()
        self.layers = layers
        self.branch = branch
        self.alpha = None if alpha is None else nn.Parameter(torch.tensor(alpha))

    def forward(self, h: Tensor) -> Tensor:
        f = self.branch * self.layers(h)
        return h + (f if self.alpha is None else self.alpha * f)


@Architecture.family.register("resmlp")
@dataclass(frozen=True, kw_only=True)
class ResMLP(Architecture):
    """Flatten, a layer to ``width``, ``depth`` residual blocks, a layer to the classes.

    A block is h + depth^-beta alpha V phi(h) (``res1``) or h + depth^-beta alpha V phi(W h)
    (``res3``), with weights N(0, gain² / fan_in) and biases 0; alpha is a trained number where it
    is given. First and last layer: N(0, 1 / fan_in), biases 0.
    """

    depth: int = 100
    width: int = 30
    block: str = "res1"
    beta: float = 0.5
    gain: float = 1.0
    alpha: float | None = None
    activation: str = "relu"

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        inputs, width = math.prod(shape), self.width
        layers: list[nn.Module] = [nn.Flatten(), draws.linear(inputs, width, inputs**-0.5)]
        for _ in range(self.depth):
            inner: list[nn.Module] = []
            if self.block == "res3":
                inner.append(draws.linear(width, width, self.gain * width**-0.5))
            inner.append(_ACTIVATIONS[self.activation]())
            inner.append(draws.linear(width, width, self.gain * width**-0.5))
            layers.append(_Residual(nn.Sequential(*inner), self.depth**-self.beta, self.alpha))
        layers.append(draws.linear(width, classes, width**-0.5))
        return nn.Sequential(*layers)


# ---------------------------------------------------------------- convolutional


def _normalised(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


class _Pad(nn.Module):
    """The shortcut without weights: every other pixel, and channels of zeros."""

    def __init__(self, stride: int, channels: int) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        below = self.channels // 2
        pads = (0, 0, 0, 0, below, self.channels - below)
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], pads)


class _BasicBlock(nn.Module):
    """relu(shortcut(x) + alpha norm(conv(relu(norm(conv(x))))))."""

    def __init__(
        self, draws: Draws, inputs: int, outputs: int, stride: int, options: ResNet
    ) -> None:
        super().__init__()
        bias = options.norm == "none"
        self.conv1 = draws.convolution(inputs, outputs, 3, stride, bias)
        self.bn1 = _normalised(options.norm, outputs)
        self.conv2 = draws.convolution(outputs, outputs, 3, 1, bias)
        self.bn2 = _normalised(options.norm, outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        changes = (stride, inputs) != (1, outputs)
        if options.shortcut == "everywhere" or (options.shortcut == "projection" and changes):
            reached = draws.convolution(inputs, outputs, 1, stride, bias)
            self.shortcut = nn.Sequential(reached, _normalised(options.norm, outputs))
        elif changes:
            self.shortcut = _Pad(stride, outputs - inputs)
        self.alpha = None if options.alpha is None else nn.Parameter(torch.tensor(options.alpha))

    def forward(self, x: Tensor) -> Tensor:
        f = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        f = f if self.alpha is None else self.alpha * f
        return self.relu(self.shortcut(x) + f)


@Architecture.family.register("resnet")
@dataclass(frozen=True, kw_only=True)
class ResNet(Architecture):
    """A convolution, ``stages`` of ``blocks`` basic blocks, mean over pixels, a classifier.

    Every stage after the first halves the image; kernels are 3 x 3. Convolutions have He's normal
    weights by fan-out and, without normalisation, biases 0; gains of batch normalisation are 1;
    the classifier is the framework's default. The shortcut where the shape changes has no
    weights (``pad``) or is a convolution of one pixel (``projection``, type B elsewhere), or every
    block has such a one (``everywhere``, type C). alpha is a trained number before the sum where
    it is given.
    """

    stages: int = 3
    blocks: int = 3
    widths: tuple[int, ...] = (8, 16, 32)
    norm: str = "batch"
    shortcut: str = "pad"
    alpha: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != self.stages:
            raise SpecError(
                f"resnet has {self.stages} stages and {len(self.widths)} widths: a stage has one. "
                f"Write for example: stages=3,widths=8/16/32"
            )
        if self.shortcut == "pad" and list(self.widths) != sorted(self.widths):
            raise SpecError(
                f"widths {_written(self.widths)} fall, and a shortcut that pads cannot drop "
                "channels. Write shortcut=projection."
            )

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        _require_pixels("resnet", shape, self.stages - 1)
        inputs, *_ = self.widths
        made = nn.Sequential()
        bias = self.norm == "none"
        made.append(draws.convolution(shape[0], inputs, 3, bias=bias))
        made.append(_normalised(self.norm, inputs)).append(nn.ReLU())
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                made.append(_BasicBlock(draws, inputs, width, stride, self))
                inputs = width
        made.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        return made.append(draws.classifier(inputs, classes))


@Architecture.family.register("vgg")
@dataclass(frozen=True, kw_only=True)
class VGG(Architecture):
    """Groups of ``convolutions`` of 3 x 3, the largest of 2 x 2 between them, a classifier.

    Convolutions have He's normal weights by fan-out and biases 0, gains of batch normalisation
    are 1, the classifier, which sees the mean over pixels, is N(0, 0.01²) with biases 0.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    convolutions: int = 4
    norm: str = "none"

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        _require_pixels("vgg", shape, len(self.widths) - 1)
        made, inputs = nn.Sequential(), shape[0]
        for group, width in enumerate(self.widths):
            if group:
                made.append(nn.MaxPool2d(2))
            for _ in range(self.convolutions):
                made.append(draws.convolution(inputs, width, 3))
                if self.norm == "batch":
                    made.append(nn.BatchNorm2d(width))
                made.append(nn.ReLU())
                inputs = width
        made.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        return made.append(draws.linear(inputs, classes, 0.01))


@Architecture.family.register("convmlp")
@dataclass(frozen=True, kw_only=True)
class ConvMLP(Architecture):
    """Convolutions of 5 x 5, each pooled by 2 x 2, and an `MLP` of the pixels that are left.

    Convolutions have N(0, c / fan_in) and biases 0, whatever ``gain`` is; c, hidden layers and
    classifier are as in the MLP. Without a border of zeros a convolution takes 4 off each side.
    """

    widths: tuple[int, ...] = (6, 16)
    depth: int = 20
    width: int = 64
    gain: float = 1.0
    activation: str = "relu"
    border: str = "none"

    def _made(self, shape: Shape, classes: int, draws: Draws) -> nn.Module:
        made, (inputs, rows, columns) = nn.Sequential(), shape
        zeros = 2 if self.border == "zeros" else 0
        for width in self.widths:
            rows, columns = ((side - 4 + 2 * zeros) // 2 for side in (rows, columns))
            if min(rows, columns) < 1:
                raise SpecError(
                    f"convmlp leaves no pixel of images of {shape[1]} x {shape[2]} after "
                    f"{len(self.widths)} convolutions of 5 x 5, each pooled. Write border=zeros, "
                    "or ask for fewer widths."
                )
            layer = nn.utils.skip_init(nn.Conv2d, inputs, width, 5, padding=zeros)
            deviation = math.sqrt(_KEEPING.get(self.activation, 2.0) / (inputs * 25))
            layer.weight.normal_(0, deviation, generator=draws.generator)
            layer.bias.zero_()
            made.append(layer).append(_ACTIVATIONS[self.activation]()).append(nn.MaxPool2d(2))
            inputs = width
        dense = MLP(depth=self.depth, width=self.width, gain=self.gain, activation=self.activation)
        return made.append(dense._made((inputs, rows, columns), classes, draws))


def _require_pixels(kind: str, shape: Shape, halvings: int) -> None:
    if min(shape[1:]) < 2**halvings:
        raise SpecError(
            f"{kind} halves its images {halvings} times, and images of {shape[1]} x {shape[2]} "
            f"pixels are too small: {2**halvings} are needed. Ask for fewer widths."
        )
