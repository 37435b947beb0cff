r"""The gradient quotient: by how much a gradient changes over a step along itself.

A loss whose gradient hardly changes over one step is easy to descend. Dauphin and Schoenholz
(2019), *MetaInit: Initializing learning by learning to initialize*, measure it entry by entry,

.. math:: GQ = \frac1N \sum_j \left| \frac{g_j - (Hg)_j}{g_j + \epsilon s_j} - 1 \right|,

g the gradient, H the Hessian, :math:`s_j` the sign of :math:`g_j` (+1 at 0), held constant when
this is differentiated, and N the number of all trainable entries. It is near 0 where the loss is
linear and near the mean curvature where the loss is quadratic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.batches import model_arguments
from sigprop.modules.nested import floating
from sigprop.modules.refusals import check_loss
from sigprop.modules.restoring import BatchNorm, measuring, trainable
from sigprop.spec import check_number

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "EPS", "Loss", "gradient_quotient", "quotient", "require_symmetry", "scalar_loss",
    "twice_differentiable",
]  # fmt: skip

EPS = 1e-5

# Rounding in float32 is 1e-5 or so; an operation that hides what it reads is off by 1e-1.
_ASYMMETRIC = 2e-3

Loss = Callable[[Any, Any], torch.Tensor]


def gradient_quotient(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Loss,
    *,
    eps: float = EPS,
    batch_norm: BatchNorm = "batch",
) -> xr.Dataset:
    """Measure the gradient quotient of a network on one batch after the other.

    Parameters
    ----------
    model : nn.Module
    batches : iterable
        Batches as for `sigprop.modules.gradinit`: a tuple whose first entry the model reads, a
        dict of its arguments, or a tensor.
    loss_fn : callable
        ``loss_fn(output, batch)``, a mean over examples.
    eps : float
        Of the quotient: below it a gradient counts as 0.
    batch_norm : {"batch", "initial"}
        Statistics of batch normalisation.

    Returns
    -------
    Dataset
        ``gradient_quotient``, the mean over batches, and ``gradient_quotient_by_parameter`` over
        ``parameter``, the mean over the entries of one tensor, each with ``_se`` between batches
        (NaN for one batch). Attribute ``batches`` counts them. Dimensionless.

    Raises
    ------
    SpecError
        If there is no batch or no trainable parameter.
    Unsupported
        If a layer has no second derivative.
    NonFinite
        If the quotient is not finite.

    Notes
    -----
    Status: exact per batch, to the rounding of the network's precision. Cost: about three passes
    forward and backward a batch. The model is left as it was.
    """
    check_number("eps", eps, low=0.0, open_low=True)
    check_loss(loss_fn)
    parameters = trainable(model, "the gradient quotient")
    values = list(parameters.values())
    sizes = np.array([value.numel() for value in values], float)
    rows: list[np.ndarray] = []
    with measuring(model, batch_norm) as measured, twice_differentiable("the gradient quotient"):
        for batch in batches:
            loss = scalar_loss(model, measured.inputs(batch), loss_fn)
            if not rows:
                require_symmetry(loss, values, "the gradient quotient")
            sums = torch.stack([part.detach().double() for part in quotient(loss, values, eps)])
            if not torch.isfinite(sums).all():
                raise NonFinite(
                    f"the gradient quotient of batch {len(rows)} is not finite: the loss or its "
                    "derivatives overflow. Compute in float64, or scale the weights first (lsuv)."
                )
            rows.append(sums.cpu().numpy())
    if not rows:
        raise SpecError(
            "there is no batch: the gradient quotient is a mean over batches. Give a list of "
            "batches, such as [(x, y)]."
        )
    return _labelled(np.array(rows), list(parameters), sizes, eps)


def _labelled(sums: np.ndarray, names: list[str], sizes: np.ndarray, eps: float) -> xr.Dataset:
    import xarray as xr

    count = len(sums)

    def error(values: np.ndarray) -> np.ndarray:
        if count == 1:
            return np.full(values.shape[1:], np.nan)
        return values.std(axis=0, ddof=1) / np.sqrt(count)

    whole, parts = sums.sum(axis=1) / sizes.sum(), sums / sizes
    words = {"long_name": "gradient quotient", "units": "1"}
    return xr.Dataset(
        {
            "gradient_quotient": ((), whole.mean(), words),
            "gradient_quotient_se": ((), error(whole)),
            "gradient_quotient_by_parameter": ("parameter", parts.mean(axis=0), words),
            "gradient_quotient_by_parameter_se": ("parameter", error(parts)),
        },
        coords={"parameter": names},
        attrs={"batches": count, "eps": eps},
    )


def quotient(
    loss: torch.Tensor, parameters: Sequence[torch.Tensor], eps: float = EPS
) -> list[torch.Tensor]:
    """Return for every parameter the sum of the terms of the quotient over its entries.

    They are differentiable. Parameters that the loss does not read have gradient 0, and each of
    their entries counts 1, as by the formula.
    """
    gradients = _gradients(loss, parameters)
    half_square = sum(((g**2).sum() / 2 for g in gradients), torch.zeros_like(loss))
    products = _gradients(half_square, parameters)
    return [_terms(g, product, eps) for g, product in zip(gradients, products)]


def _terms(g: torch.Tensor, product: torch.Tensor, eps: float) -> torch.Tensor:
    sign = torch.where(g >= 0, 1.0, -1.0).to(g.dtype)
    return ((g - product) / (g + eps * sign) - 1).abs().sum()


def _gradients(value: torch.Tensor, parameters: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    if not value.requires_grad:  # a loss that is linear has gradients that are constants
        return tuple(torch.zeros_like(parameter) for parameter in parameters)
    return torch.autograd.grad(
        value, list(parameters), create_graph=True, allow_unused=True, materialize_grads=True
    )


def require_symmetry(loss: torch.Tensor, parameters: Sequence[torch.Tensor], whose: str) -> None:
    """Raise Unsupported if the Hessian is not symmetric: a backward pass hides what it reads.

    An operation may be declared to have no second derivative and yet raise nothing. What is then
    computed is another matrix, and <v, H u> is not <u, H v> for directions u, v that weigh
    tensors, and entries of one tensor, differently. The loss keeps its graph.
    """
    gradients = _gradients(loss, parameters)
    if not any(g.requires_grad for g in gradients):
        return
    u = [g.detach() for g in gradients]
    v = [part * (1 - (2 * (0.38 + at * 0.618034)) % 2) * _ramp(part) for at, part in enumerate(u)]

    def product(direction: list[torch.Tensor]) -> list[torch.Tensor]:
        along = sum(((g * d).sum() for g, d in zip(gradients, direction)), torch.zeros_like(loss))
        found = torch.autograd.grad(
            along, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return list(found)

    hu, hv = product(u), product(v)
    gap = abs(_dot(v, hu) - _dot(u, hv))
    scale = max(_dot(v, v) * _dot(hu, hu), _dot(u, u) * _dot(hv, hv)) ** 0.5
    if gap > _ASYMMETRIC * scale:
        raise Unsupported(
            f"{whose} needs derivatives of gradients, and an operation of this network has none: "
            "its Hessian came out unsymmetric. Replace the layer with a backward pass of its own, "
            "or use a method without them (lsuv, kraehenbuehl, gradinit with hvp='fd')."
        )


def _ramp(tensor: torch.Tensor) -> torch.Tensor:
    """Factors from 1/2 to 3/2 over the entries."""
    steps = torch.linspace(0.5, 1.5, tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    return steps.reshape(tensor.shape)


def _dot(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b))


def scalar_loss(model: nn.Module, batch: Any, loss_fn: Loss) -> torch.Tensor:
    """Return the loss of ``model`` on ``batch``, one number that depends on its parameters."""
    args, kwargs = model_arguments(model, batch)
    loss = loss_fn(model(*args, **kwargs), batch)
    (loss, *_) = floating(loss, "what loss_fn returned")
    if loss.numel() != 1:
        raise SpecError(
            f"loss_fn returned a tensor of shape {tuple(loss.shape)}: the gradient is that of one "
            "number. Return the mean over the batch."
        )
    if not loss.requires_grad:
        raise SpecError(
            "the loss does not depend on any trainable parameter (it has no gradient). Compute it "
            "from the output of the model, without detach and outside of torch.no_grad."
        )
    if not torch.isfinite(loss):
        raise NonFinite(
            f"the loss of the model as it stands is {float(loss.detach())}: nothing can be "
            "measured along its gradient. Look at the inputs, or scale the weights first (lsuv)."
        )
    return loss.reshape(())


@contextlib.contextmanager
def twice_differentiable(whose: str) -> Iterator[None]:
    """Take the attention that has second derivatives, and say which operation has none."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    except (RuntimeError, NotImplementedError) as error:
        words = str(error)
        if not any(said in words for said in _NO_DERIVATIVE):
            raise
        raise Unsupported(
            f"{whose} needs derivatives of gradients, and an operation of this network has none: "
            f"{words.splitlines()[0]} Replace that layer, or use a method without them (lsuv, "
            "kraehenbuehl, gradinit with hvp='fd')."
        ) from error


_NO_DERIVATIVE = (
    "derivative for",
    "not implemented",
    "differentiate twice",
    "does not support double",
    "once_differentiable",
)
