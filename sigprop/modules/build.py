"""Any ensemble as a torch module that is the same law: one network of it, drawn and ready to train.

What is drawn is what the sampler ``reference`` draws, number by number, so that

>>> import sigprop, torch
>>> from sigprop.modules import build
>>> law = sigprop.Ensemble(sigprop.Network(depth=2, width=4), sigprop.Fixup(), sigprop.Point())
>>> model = build(law, seed=3, replica=5, dtype=torch.float64)
>>> model
Built(
  res3, depth 2, scheme fixup
  (layers): ModuleList(
    (0-1): 2 x Layer(
      (branch): ModuleList(
        (0-1): 2 x Linear(in_features=4, out_features=4, bias=False)
      )
      (units): ModuleList(
        (0): ReLU()
      )
    )
  )
)

is replica 5 of ``sigprop.simulate(law, sampler="reference", seed=3)``, and ``model(model.inputs)``
are its last states. A branch coefficient that the scheme trains is a parameter (``gain``), any
other a number; matrices are `torch.nn.Linear` or `Conv2d`, in order, the skip matrix apart
(``shortcut``). Blocks identity and projection have a stem, whose output is the first state.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sigprop import rng
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.reference import Draws, Reference, draw, generator_of
from sigprop.errors import SpecError, Unsupported
from sigprop.modules.units import BatchNormalised, cancelled, fits, unit_of
from sigprop.spec import Ensemble, check_count

__all__ = ["Built", "Layer", "build"]


def build(
    ensemble: Ensemble, *, seed: int = 0, replica: int = 0, dtype: torch.dtype = torch.float32
) -> Built:
    """One network of ``ensemble``, as a module.

    Parameters
    ----------
    ensemble : Ensemble
        Any, but for activations that are Python functions.
    seed, replica : int
        Which network of the law: replica number ``replica`` of the run of sampler ``reference``
        with that seed.
    dtype : torch.dtype
        float32 (default) or float64; draws are float64 and rounded.

    Returns
    -------
    Built
        On the CPU. Its input has shape (batch, input width), or (batch, channels, rows, columns).

    Raises
    ------
    SpecError, Unsupported
        If the arguments are out of range, or the law cannot be a module.

    Notes
    -----
    The same law, exactly: forward and backward equal the reference's to rounding. Two things are of
    the ensemble and not of training: units under dropout, random slopes and signs are drawn once
    (buffers), and batch normalisation is that of the batch at hand. States are not rescaled, so
    that a law that explodes overflows here, as it does in training.
    """
    if not isinstance(ensemble, Ensemble):
        raise SpecError(
            f"build needs a sigprop.Ensemble, got {type(ensemble).__name__}: it is the law that a "
            "module is drawn from. Write Ensemble(Network(...), scheme, inputs)."
        )
    seed, replica = check_count("seed", seed, least=0), check_count("replica", replica, least=0)
    if dtype not in (torch.float32, torch.float64):
        raise SpecError(
            f"dtype must be torch.float32 or torch.float64, got {dtype}: weights of fewer digits "
            "are another law. Convert the module afterwards if you mean it."
        )
    _check_padding(ensemble)
    key = rng.key(seed, ensemble.digest, Reference.name, Reference.version)
    draws = draw(ensemble, [generator_of(key, replica)], kernels=True)
    return Built(ensemble, draws, dtype)


def _check_padding(ensemble: Ensemble) -> None:
    network = ensemble.network
    for layer in range(network.depth):
        for j in range(network.matrices):
            size, kernel, _, padding = network.convolution(layer, j)
            if network.convolutional and not fits(size, kernel, padding):
                raise Unsupported(
                    f"a kernel of side {kernel} goes around an image of {size} more than once, "
                    "which torch cannot pad. Use a smaller kernel, or padding 'zero'."
                )


class Built(nn.Module):
    """One network of an ensemble: its layers, and what enters it.

    Attributes
    ----------
    ensemble : Ensemble
    stem, stem_unit : Module or None
        The first matrix and its activation, in blocks ``identity`` and ``projection``.
    layers : ModuleList of Layer
    inputs : Tensor
        The inputs of the law, a row each; a buffer that is not saved.
    """

    inputs: torch.Tensor

    def __init__(self, ensemble: Ensemble, draws: Draws, dtype: torch.dtype) -> None:
        super().__init__()
        self.ensemble = ensemble
        network, table = ensemble.network, ensemble.table
        self.stem: nn.Module | None = None
        if draws.stem is not None:
            assert draws.stem_bias is not None and table.stem is not None
            bias = draws.stem_bias[0, 0] if table.stem.bias_scale != 0 else None
            self.stem = _matrix(ensemble, None, 0, draws.stem[0], bias, dtype)
            slopes = None if draws.stem_slopes is None else draws.stem_slopes[0, 0]
            self.stem_unit = unit_of(network.phi, slopes, _shape(ensemble, 0), dtype)
            if table.batch_norm:
                self.stem_norm = BatchNormalised()
        self.layers = nn.ModuleList(
            Layer(ensemble, draws, layer, dtype) for layer in range(network.depth)
        )
        shape = (-1, network.input_channels, *network.images[0])
        inputs = torch.tensor(draws.inputs[0], dtype=dtype)
        inputs = inputs.reshape(shape) if network.convolutional else inputs
        self.register_buffer("inputs", inputs, persistent=False)

    def enter(self, x: torch.Tensor) -> torch.Tensor:
        """The state h_0: the input, or what the stem makes of it."""
        if self.stem is None:
            return x
        table = self.ensemble.table
        z = self.stem(x)
        if table.law.discrete and table.stem is not None:
            z = cancelled(z, x, table.stem.scale)
        if table.batch_norm:
            z = self.stem_norm(z)
        return self.stem_unit(z)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.enter(x)
        for layer in self.layers:
            h = layer(h)
        return h

    def extra_repr(self) -> str:
        network = self.ensemble.network
        return f"{network.block}, depth {network.depth}, scheme {self.ensemble.scheme.kind}"


class Layer(nn.Module):
    """One layer: ``skip h + gain F(input_scale h)``, and what its block makes of it.

    Attributes
    ----------
    branch : ModuleList
        Matrices, the first that is applied first.
    shortcut : Module or None
        The skip matrix of block ``projection``.
    units : ModuleList
        Activations in the order of the signal.
    gain : Parameter or float
        The branch coefficient; a parameter where the scheme trains it.
    skip, input_scale : float
    """

    def __init__(self, ensemble: Ensemble, draws: Draws, at: int, dtype: torch.dtype) -> None:
        super().__init__()
        network, table = ensemble.network, ensemble.table
        self.form, self.discrete = network.form, table.law.discrete
        self.scales = tuple(table.scale[at].tolist())
        matrices = []
        for j, weight in enumerate(draws.weights[at]):
            bias = draws.biases[at][j][0, 0] if table.bias_scale[at, j] != 0 else None
            matrices.append(_matrix(ensemble, at, j, weight[0], bias, dtype))
        self.branch = nn.ModuleList(matrices[: network.branch_matrices])
        self.shortcut = matrices[-1] if self.form.projected else None
        drawn = [slopes[0, 0] for slopes in draws.slopes[at]]
        assert bool(drawn) == isinstance(network.phi, RandomisedLeakyReLU)
        shapes = _unit_shapes(ensemble, at)
        self.units = nn.ModuleList(
            unit_of(network.phi, drawn[i] if drawn else None, shape, dtype)
            for i, shape in enumerate(shapes)
        )
        self.norm = BatchNormalised() if table.batch_norm else None
        self.skip, self.input_scale = float(table.skip[at]), float(table.input_scale[at])
        value = float(table.branch[at])
        self.gain = nn.Parameter(torch.tensor(value, dtype=dtype)) if table.gain else value

    def _normal(self, u: torch.Tensor) -> torch.Tensor:
        return u if self.norm is None else self.norm(u)

    def _product(self, matrix: nn.Module, j: int, x: torch.Tensor) -> torch.Tensor:
        if not self.discrete:
            return matrix(x)
        bias = matrix.bias
        if not isinstance(bias, torch.Tensor):
            return cancelled(matrix(x), x, self.scales[j])
        shift = bias.reshape(-1, *(1,) * (x.ndim - 2))
        return cancelled(matrix(x) - shift, x, self.scales[j]) + shift

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        form, units = self.form, iter(self.units)
        x = h if self.input_scale == 1 else self.input_scale * h
        for j, matrix in enumerate(self.branch):
            if form.pre or j > 0:
                x = next(units)(self._normal(x))
            x = self._product(matrix, j, x)
        if form.post:
            x = self._normal(x)
        if not form.trunk:
            return self._scaled(next(units)(self._normal(x)))
        carried = h
        if self.shortcut is not None:
            carried = self._normal(self._product(self.shortcut, -1, h))
        z = (carried if self.skip == 1 else self.skip * carried) + self._scaled(x)
        return next(units)(z) if form.post else z

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.gain, float) and self.gain == 1:
            return x
        return self.gain * x

    def extra_repr(self) -> str:
        said = [("skip", self.skip, 1.0 if self.form.trunk else 0.0)]
        said += [("input_scale", self.input_scale, 1.0)]
        said += [("gain", self.gain, 1.0)] if isinstance(self.gain, float) else []
        return ", ".join(f"{name}={value:g}" for name, value, usual in said if value != usual)


# ------------------------------------------------------------------------- pieces


def _matrix(
    ensemble: Ensemble,
    at: int | None,
    j: int,
    weight: np.ndarray,
    bias: np.ndarray | None,
    dtype: torch.dtype,
) -> nn.Module:
    """One matrix as a linear layer, or as a convolution; a delta kernel fills its centre."""
    network = ensemble.network
    values = torch.tensor(weight, dtype=dtype)
    made: nn.Linear | nn.Conv2d
    if not network.convolutional:
        made = nn.utils.skip_init(
            nn.Linear, values.shape[1], values.shape[0], bias=bias is not None, dtype=dtype
        )
    else:
        place = network.stem_convolution if at is None else network.convolution(at, j)
        _, side, stride, padding = place
        drawn = ensemble.convolution(at, j)[1]
        rows, columns = values.shape[0], values.shape[1] // drawn**2
        made = nn.utils.skip_init(
            nn.Conv2d, columns, rows, side, stride, padding=side // 2, bias=bias is not None,
            padding_mode="zeros" if padding == "zero" else padding, dtype=dtype,
        )  # fmt: skip
        kernel = torch.zeros(rows, columns, side, side, dtype=dtype)
        around = (side - drawn) // 2
        middle = slice(around, around + drawn)
        kernel[:, :, middle, middle] = values.reshape(rows, columns, drawn, drawn)
        values = kernel
    with torch.no_grad():
        made.weight.copy_(values)
        if bias is not None and made.bias is not None:
            made.bias.copy_(torch.tensor(bias, dtype=dtype))
    return made


def _shape(ensemble: Ensemble, layer: int, units: int | None = None) -> tuple[int, ...]:
    """Shape of the state at a layer, or of as many units on its image."""
    network = ensemble.network
    count = int(network.state_widths[layer]) if units is None else units
    return (count, *network.images[layer]) if network.convolutional else (count,)


def _unit_shapes(ensemble: Ensemble, at: int) -> list[tuple[int, ...]]:
    """Shapes of what the activations of a layer read, in the order of the signal."""
    network = ensemble.network
    form, m = network.form, network.branch_matrices
    fan_in, fan_out = (side[at, :m].tolist() for side in network.fans)
    if not form.trunk or form.post:
        return [_shape(ensemble, at + 1, n) for n in fan_out]
    shapes = [_shape(ensemble, at + 1, n) for n in fan_in]
    if form.pre:
        shapes[0] = _shape(ensemble, at, fan_in[0])
    return shapes if form.pre else shapes[1:]
