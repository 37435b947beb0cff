r"""Data-dependent initialisation of every channel, then equal rates of change for all layers.

Krähenbühl, Doersch, Donahue and Darrell (2016), *Data-dependent initializations of convolutional
neural networks*. **Within layers**: weights are standard normal and biases 0; then one batch runs
through the network and every output channel c of every layer in turn becomes of mean beta and
deviation 1,

.. math:: W_c \leftarrow W_c / \mathrm{sd}_c, \qquad b_c \leftarrow \beta - \mu_c / \mathrm{sd}_c .

**Between layers**: with the gradient of <z, f(x)> for normal z, the rate of change of layer k and
the factor that makes all rates alike are

.. math:: C_k = \sqrt{\overline{\nabla_k^2} / \overline{W_k^2}}, \qquad
   s_k = (C_k / \bar C)^{a / 2},

:math:`\bar C` the geometric mean, a the damping exponent. Weights take the factor of their layer,
and biases that of the layer's input as well, so that homogeneous layers compute what they did. In
a chain of them the s_k multiply to 1 and one sweep without damping (a = 1) is exact:
:math:`C_k \to C_k / s_k^2 = \bar C`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.init_result import InitResult
from sigprop.modules.nested import call, floating
from sigprop.modules.restoring import Run, initialising, trainable
from sigprop.modules.weight_layers import Again, WeightLayer, acting, visit, weight_layers
from sigprop.spec import check_count, check_number

__all__ = ["kraehenbuehl"]


def kraehenbuehl(
    model: nn.Module,
    x: Any,
    *,
    between: bool = True,
    beta: float = 0.0,
    sweeps: int = 10,
    tolerance: float = 0.01,
    exponent: float = 1.0,
    unit_output: bool = False,
    probes: int = 1,
    seed: int = 0,
    apply: bool = True,
) -> InitResult:
    """Normalise every output channel on one batch, then equalise the layers' rates of change.

    Parameters
    ----------
    model : nn.Module
    x : tensor, tuple or dict
        One batch of inputs, dim 0 counts examples: ``model(x)``, ``model(*x)`` or ``model(**x)``.
    between : bool
        Whether to do the second part.
    beta : float
        Mean of every channel; the published script takes 0.1.
    sweeps : int
        Of the second part, at most.
    tolerance : float
        Of the rates, relative: sweeps end once all are within it of their geometric mean.
    exponent : float
        a; 1 is no damping, the paper damps with 0.25.
    unit_output : bool
        Multiply the mean rate by sd^(1/n), sd that of the outputs and n the number of layers, as
        the published code does: it drives the outputs to deviation 1 too.
    probes : int
        Directions z a sweep, drawn once: with fixed probes the sweeps settle.
    seed : int
        Of weights and probes.
    apply : bool
        False leaves the model as it was.

    Returns
    -------
    InitResult
        ``history``: iteration and objective (the largest over the smallest rate) of every sweep,
        and ``C[name]`` of every layer. ``weights`` holds the tensors as they were set.

    Raises
    ------
    SpecError
        If there is nothing to set, a channel is dead (it does not vary over the batch), or the
        outputs do not depend on a layer.
    NonFinite
        If outputs or gradients are not finite.
    Unsupported
        If a weight is computed from other tensors, or a transposed convolution has groups.

    Notes
    -----
    A layer without a trainable bias keeps its channels' means. Frozen weights stay, and so do those
    of layers that are not called as modules; a shared weight is set where it acts first. Batch
    normalisation takes the statistics of the batch, behind which nothing is homogeneous. Modes,
    buffers and random numbers are as before. Cost: three passes forward, and one forward, one back
    and two forward a sweep.

    Status: exact within layers; between layers exact for homogeneous chains and fixed probes.
    """
    beta = check_number("beta", beta)
    check_count("sweeps", sweeps)
    check_number("tolerance", tolerance, low=0.0)
    check_number("exponent", exponent, low=0.0, high=1.0, open_low=True)
    check_count("probes", probes)
    trainable(model, "this method")
    layers, words = weight_layers(model, "this method")
    for layer in layers:
        if layer.weight_channels == 1 and layer.module.groups != 1:
            raise Unsupported(
                f"layer {layer.name!r} is a transposed convolution with groups: its output "
                "channels are no axis of its weight. Freeze it, or use lsuv."
            )
    settings = {
        "between": between,
        "beta": beta,
        "sweeps": sweeps,
        "tolerance": tolerance,
        "exponent": exponent,
        "unit_output": unit_output,
        "probes": probes,
        "seed": seed,
    }
    generator = torch.Generator().manual_seed(seed)
    with initialising(model, "kraehenbuehl", settings, apply=apply) as run:
        run.warnings += words
        inputs = run.measured.inputs(x)
        layers, unseen = acting(model, inputs, layers, "this method")
        run.warnings += unseen
        in_order = _within(run, model, inputs, layers, beta, generator)
        if between:
            _between(run, model, inputs, in_order, generator)
        run.changed |= {layer.weight_name for layer in layers}
        run.changed |= {layer.bias_name for layer in layers if layer.bias_name}
    return run.result


# ------------------------------------------------------------------ within layers


def _within(
    run: Run,
    model: nn.Module,
    inputs: Any,
    layers: list[WeightLayer],
    beta: float,
    generator: torch.Generator,
) -> list[WeightLayer]:
    """Set every channel; return the layers that acted, in that order."""
    with torch.no_grad():
        for layer in {layer.weight_name: layer for layer in layers}.values():
            fresh = torch.empty(layer.weight.shape, dtype=torch.float64)
            layer.weight.copy_(fresh.normal_(generator=generator))
        for layer in layers:
            if layer.bias is not None:
                layer.bias.zero_()

    def normalise(layer: WeightLayer, output: torch.Tensor, again: Again) -> torch.Tensor:
        sd, mean = _channels(layer, output)
        shape = [1] * layer.weight.ndim
        shape[layer.weight_channels] = -1
        layer.weight.div_(sd.reshape(shape))
        if layer.bias is not None:
            layer.bias.copy_(beta - mean / sd)
        return again()

    order = visit(model, inputs, layers, normalise)
    by_name = {layer.name: layer for layer in layers}
    in_order = [by_name[name] for name in order]
    uncentred = [layer.name for layer in in_order if layer.bias is None]
    if uncentred:
        run.warnings.append(f"Without a trainable bias, so not centred: {', '.join(uncentred)}.")
    return in_order


def _channels(layer: WeightLayer, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deviation and mean of every output channel, float64."""
    values = output.detach().double().movedim(layer.output_channels(output), 0).flatten(1)
    if not torch.isfinite(values).all():
        raise NonFinite(
            f"outputs of layer {layer.name!r} are not finite on this batch: channels are divided "
            "by their spread. Look at the inputs and at what precedes the layer."
        )
    sd, mean = values.std(dim=1, correction=0), values.mean(dim=1)
    # Equal numbers have a spread of rounding.
    dead = (sd <= 1e-12 * values.abs().amax(dim=1)).nonzero().flatten().tolist()
    if dead:
        raise SpecError(
            f"channel {dead[0]} of layer {layer.name!r} is dead ({len(dead)} of {len(sd)} are): it "
            "is the same for the whole batch, and no scale makes it vary. Its inputs are constant: "
            "look at what precedes it, or give a batch of more than one example."
        )
    return sd, mean


# ----------------------------------------------------------------- between layers


def _between(
    run: Run,
    model: nn.Module,
    inputs: Any,
    layers: list[WeightLayer],
    generator: torch.Generator,
) -> None:
    probes: list[list[torch.Tensor]] = []
    for sweep in range(run.settings["sweeps"] + 1):  # the last one only looks
        rates, sd = _rates(model, inputs, layers, probes, run.settings["probes"], generator)
        logs = [math.log(rate) for rate in rates]
        mean = math.fsum(logs) / len(logs)
        run.note(
            iteration=sweep,
            objective=math.exp(max(logs) - min(logs)),
            **{f"C[{layer.name}]": rate for layer, rate in zip(layers, rates)},
        )
        if run.settings["unit_output"]:
            mean += math.log(sd) / len(logs)
        off = max(abs(log - mean) for log in logs)
        if off <= run.settings["tolerance"] or sweep == run.settings["sweeps"]:
            break
        power = run.settings["exponent"] / 2
        _scale(model, inputs, layers, [math.exp(power * (log - mean)) for log in logs])
    run.before["rate_ratio"] = run.history["objective"][0]
    run.after["rate_ratio"] = run.history["objective"][-1]
    if off > run.settings["tolerance"]:
        run.warnings.append(
            f"After {run.settings['sweeps']} sweeps the rates of change still differ by a factor "
            f"{run.after['rate_ratio']:.4g}: take more sweeps or less damping, or the "
            "network is no homogeneous chain."
        )


def _rates(
    model: nn.Module,
    inputs: Any,
    layers: list[WeightLayer],
    probes: list[list[torch.Tensor]],
    count: int,
    generator: torch.Generator,
) -> tuple[list[float], float]:
    """Rate of change of every layer, and the deviation of the outputs; draws probes if none are."""
    weights = [layer.weight for layer in layers]
    with torch.enable_grad():
        outputs = floating(call(model, inputs), "the output of the model")
    if not probes:
        for _ in range(count):
            fresh = [
                torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs
            ]
            probes.append([z.to(o) for z, o in zip(fresh, outputs)])
    squares = [0.0] * len(weights)
    for i, probe in enumerate(probes):
        found = torch.autograd.grad(
            outputs,
            weights,
            probe,
            retain_graph=i + 1 < len(probes),
            allow_unused=True,
            materialize_grads=True,
        )
        for k, gradient in enumerate(found):
            squares[k] += float(gradient.double().square().mean()) / len(probes)
    rates = []
    for layer, square in zip(layers, squares):
        rate = math.sqrt(square / float(layer.weight.detach().double().square().mean()))
        if not math.isfinite(rate):
            raise NonFinite(
                f"the gradient of layer {layer.name!r} is not finite: rates of change cannot be "
                "made alike. Compute in float64, or take between=False."
            )
        if rate == 0:
            raise SpecError(
                f"the outputs do not depend on layer {layer.name!r} (its gradient is 0), so its "
                "rate of change cannot be that of the others. Look at what follows it, or take "
                "between=False."
            )
        rates.append(rate)
    together = torch.cat([o.detach().double().flatten() for o in outputs])
    return rates, float(together.std(correction=0))


def _scale(model: nn.Module, inputs: Any, layers: list[WeightLayer], factors: list[float]) -> None:
    """Multiply weights by their factor, and biases by that and by what became of their input."""
    by_name = dict(zip((layer.name for layer in layers), factors))
    sizes: dict[str, float] = {}

    def measure(layer: WeightLayer, output: torch.Tensor, again: Again) -> torch.Tensor:
        sizes[layer.name] = _size_without_bias(layer, output)
        return output

    def rescale(layer: WeightLayer, output: torch.Tensor, again: Again) -> torch.Tensor:
        factor = by_name[layer.name]
        if layer.bias is not None:
            grown = _size_without_bias(layer, output) / sizes[layer.name]
            layer.bias.mul_(factor * grown)
        layer.weight.mul_(factor)
        return again()

    visit(model, inputs, layers, measure)
    visit(model, inputs, layers, rescale)


def _size_without_bias(layer: WeightLayer, output: torch.Tensor) -> float:
    """Root mean square of W h: it grows as the input does, whatever the bias."""
    values = output.double()
    bias = layer.module._parameters.get("bias")
    if bias is not None:
        shape = [1] * output.ndim
        shape[layer.output_channels(output)] = -1
        values = values - bias.double().reshape(shape)
    return float(values.square().mean().sqrt())
