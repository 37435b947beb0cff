r"""LSUV: orthonormal weights, then layer by layer the scale at which outputs have variance 1.

Mishkin and Matas (2016), *All you need is a good init*. Weights become orthonormal and biases
zero; then one batch runs through the network, and every layer in turn divides its weight by the
standard deviation of all its outputs, before the nonlinearity,

.. math:: W \leftarrow W / \mathrm{sd}, \qquad
   \text{until } |\mathrm{sd} - 1| \le \text{tolerance, at most ten times.}

With zero bias the output is homogeneous in W, so one division does it. The incoming values of the
weights play no part. A layer never reads what a later one does, so all is one pass.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError
from sigprop.modules.init_result import InitResult
from sigprop.modules.restoring import initialising, trainable
from sigprop.modules.weight_layers import Again, WeightLayer, acting, visit, weight_layers
from sigprop.spec import check_count, check_number

__all__ = ["lsuv"]


def lsuv(
    model: nn.Module,
    x: Any,
    *,
    on: Literal["variance", "sd"] = "variance",
    tolerance: float = 0.1,
    rescalings: int = 10,
    centre: bool = False,
    seed: int = 0,
    apply: bool = True,
) -> InitResult:
    """Initialise every linear and convolutional layer so that its outputs have variance 1.

    Parameters
    ----------
    model : nn.Module
    x : tensor, tuple or dict
        One batch of inputs, dim 0 counts examples: ``model(x)``, ``model(*x)`` or ``model(**x)``.
    on : {"variance", "sd"}
        What the tolerance is of: the variance as in the paper, or the standard deviation as in a
        common port of it.
    tolerance : float
        A layer is left alone once it is this close to 1.
    rescalings : int
        At most so many a layer.
    centre : bool
        Let the bias take the mean of the outputs away too.
    seed : int
        Of the orthonormal weights.
    apply : bool
        False leaves the model as it was; `InitResult.apply` may do it later.

    Returns
    -------
    InitResult
        ``history`` has a row a measurement: layer, rescalings so far, sd and mean of its outputs.
        ``weights`` holds the tensors as they were set.

    Raises
    ------
    SpecError
        If there is nothing to set, or a layer is dead: its outputs do not vary.
    NonFinite
        If outputs of a layer are not finite.
    Unsupported
        If a weight is computed from other tensors.

    Notes
    -----
    Frozen weights stay; a shared weight is set where it acts first. Batch normalisation takes the
    statistics of the batch. Modes, buffers and random numbers are as before, and the parameters
    too if anything is raised. Cost: two forward passes, and each layer once or twice more.

    Status: exact; the outputs on ``x`` have the variance that is asked for.
    """
    if on not in ("variance", "sd"):
        raise SpecError(
            f"on is 'variance' or 'sd', got {on!r}: it says what the tolerance is of. Write "
            "on='variance', as in the paper."
        )
    check_number("tolerance", tolerance, low=0.0)
    check_count("rescalings", rescalings)
    trainable(model, "LSUV")
    layers, words = weight_layers(model, "LSUV")
    settings = {
        "on": on,
        "tolerance": tolerance,
        "rescalings": rescalings,
        "centre": centre,
        "seed": seed,
    }
    with initialising(model, "lsuv", settings, apply=apply) as run:
        run.warnings += words
        inputs = run.measured.inputs(x)
        layers, unseen = acting(model, inputs, layers, "LSUV")
        run.warnings += unseen
        _make_orthonormal(layers, seed)

        def settle(layer: WeightLayer, output: torch.Tensor, again: Again) -> torch.Tensor:
            for done in range(rescalings + 1):
                sd, mean = _spread(layer, output)
                run.note(layer=layer.name, rescalings=done, sd=sd, mean=mean, objective=abs(sd - 1))
                off = abs((sd**2 if on == "variance" else sd) - 1)
                lopsided = centre and layer.bias is not None and abs(mean) > tolerance
                if (off <= tolerance and not lopsided) or done == rescalings:
                    break
                layer.weight.div_(sd)
                if centre and layer.bias is not None:
                    # What the bias itself adds to the mean is not divided by sd.
                    own = float(layer.bias.double().mean())
                    layer.bias.sub_((mean - own) / sd + own)
                output = again()
            if off > tolerance:
                run.warnings.append(
                    f"{layer.name} ended at sd {sd:.4g} after {rescalings} rescalings."
                )
            return output

        visit(model, inputs, layers, settle)
        run.changed |= {layer.weight_name for layer in layers}
        run.changed |= {layer.bias_name for layer in layers if layer.bias_name}
        if centre and any(layer.bias is None for layer in layers):
            run.warnings.append("Layers without a trainable bias are not centred.")
    return run.result


def _make_orthonormal(layers: list[WeightLayer], seed: int) -> None:
    """Weights as orthonormal rows or columns, whichever are fewer; biases that may be set, zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in {layer.weight_name: layer for layer in layers}.values():
            fresh = torch.empty(layer.weight.shape, dtype=torch.float64)
            nn.init.orthogonal_(fresh, generator=generator)
            layer.weight.copy_(fresh)
        for layer in layers:
            if layer.bias is not None:
                layer.bias.zero_()


def _spread(layer: WeightLayer, output: torch.Tensor) -> tuple[float, float]:
    values = output.detach().double()
    sd, mean = float(values.std(correction=0)), float(values.mean())
    if not (torch.isfinite(values).all() and sd < float("inf")):
        raise NonFinite(
            f"outputs of layer {layer.name!r} are not finite on this batch: LSUV divides by their "
            "spread. Look at the inputs and at what precedes the layer."
        )
    # Equal numbers have a spread of rounding.
    if sd <= 1e-12 * max(abs(mean), float(values.abs().max()), 1e-300):
        raise SpecError(
            f"layer {layer.name!r} is dead: all {values.numel()} of its outputs on this batch are "
            f"{mean:.3g}, and no scale makes them vary. Its inputs are constant: look at what "
            "precedes it, or give a batch of more than one example."
        )
    return sd, mean
