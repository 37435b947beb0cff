r"""How much the gradient of a tensor differs from batch to batch, against what it is on average.

With :math:`g_b` the gradient of a tensor on batch b of B, and :math:`\bar g` their mean,

.. math:: \mathrm{relvar} = \frac{\frac{1}{B-1} \sum_b \| g_b - \bar g \|^2}{\| \bar g \|^2} .

It is near 0 where all batches pull alike. Where there is nothing but noise the mean shrinks as more
batches are taken and the number is near B, so it is never to be told without B. Zhu and others
(2021), *GradInit*, draw it layer by layer before and after an initialisation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError
from sigprop.modules.gradient_quotient import Loss, scalar_loss
from sigprop.modules.nested import examples
from sigprop.modules.refusals import check_loss
from sigprop.modules.restoring import measuring, trainable

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LEAST_BATCHES", "gradient_noise"]

LEAST_BATCHES = 16


def gradient_noise(model: nn.Module, batches: Iterable[Any], loss_fn: Loss) -> xr.Dataset:
    """Measure the variance of gradients across batches, tensor by tensor.

    Parameters
    ----------
    model : nn.Module
    batches : iterable
        At least 16 batches of one size, and an end, as for `sigprop.modules.gradinit`: a tuple
        whose first entry the model reads, a dict of its arguments, or a tensor. A shorter last one
        is left out. They are gone through twice, so all are kept in memory.
    loss_fn : callable
        ``loss_fn(output, batch)``, a mean over examples.

    Returns
    -------
    Dataset
        Over ``parameter``: ``relvar`` with ``relvar_se`` (jackknife over batches), dimensionless;
        NaN where the gradient is 0 on every batch. ``grad_norm``, of the mean gradient, in loss
        per unit of the parameter; ``weight_norm``. Attribute ``batches`` is B.

    Raises
    ------
    SpecError
        If there are fewer than 16 batches, of one size, or no trainable parameter.
    NonFinite
        If a loss or a gradient is not finite.

    Notes
    -----
    Status: the variance is unbiased; the ratio is for this B, and near B where it says nothing but
    that all is noise. Cost: two passes forward and backward a batch; memory, two copies of the
    parameters. Batch normalisation takes the statistics of the batch. The model is left as it was.
    """
    check_loss(loss_fn)
    parameters = trainable(model, "gradient noise")
    held = _of_one_size(list(batches))
    if len(held) < LEAST_BATCHES:
        raise SpecError(
            f"gradient noise needs at least {LEAST_BATCHES} batches, got {len(held)}: of pure "
            "noise the ratio is about their number, so a small one cannot be told from a signal. "
            "Give more batches, smaller ones if need be."
        )
    values = list(parameters.values())
    count = len(held)
    squares = np.zeros((count, len(values)))
    products = np.zeros((count, len(values)))
    total = [torch.zeros_like(v, dtype=torch.float64) for v in values]
    with measuring(model) as measured, torch.enable_grad():
        for b, batch in enumerate(held):
            for i, g in enumerate(_gradients(model, measured.inputs(batch), loss_fn, values, b)):
                total[i] += g
                squares[b, i] = float(g.square().sum())
        for b, batch in enumerate(held):
            for i, g in enumerate(_gradients(model, measured.inputs(batch), loss_fn, values, b)):
                products[b, i] = float((g * total[i]).sum())
        norms = [float(value.detach().double().norm()) for value in values]
    length = np.array([float(t.square().sum()) for t in total])
    return _labelled(list(parameters), count, squares, products, length, np.array(norms))


def _of_one_size(batches: list[Any]) -> list[Any]:
    """Leave a short last batch out, as the end of a loader is; refuse any other difference."""
    sizes = [examples(batch) for batch in batches]
    if len(batches) > 1 and sizes[-1] < sizes[0]:
        batches, sizes = batches[:-1], sizes[:-1]
    other = [size for size in sizes if size != sizes[0]]
    if other:
        raise SpecError(
            f"batches of {sizes[0]} and of {other[0]} examples are mixed: the noise of a gradient "
            "falls with the size of its batch. Yield batches of one size (a short last one is "
            "left out)."
        )
    return batches


def _gradients(
    model: nn.Module, batch: Any, loss_fn: Loss, values: list[nn.Parameter], b: int
) -> list[torch.Tensor]:
    loss = scalar_loss(model, batch, loss_fn)
    found = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
    wide = [g.double() for g in found]
    if not all(bool(torch.isfinite(g).all()) for g in wide):
        raise NonFinite(
            f"the gradient of batch {b} is not finite: a variance of it says nothing. Compute in "
            "float64, or scale the weights first (lsuv)."
        )
    return wide


def _relvar(square: np.ndarray, length: np.ndarray, count: int) -> np.ndarray:
    """From the sum of |g_b|^2 and |sum of g_b|^2."""
    # A variance of equal gradients may come out negative by rounding.
    variance = np.maximum(square - length / count, 0.0) / (count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 0, variance / (length / count**2), np.nan)


def _labelled(
    names: list[str],
    count: int,
    squares: np.ndarray,
    products: np.ndarray,
    length: np.ndarray,
    norms: np.ndarray,
) -> xr.Dataset:
    import xarray as xr

    relvar = _relvar(squares.sum(axis=0), length, count)
    without = _relvar(
        squares.sum(axis=0) - squares, length - 2 * products + squares, count - 1
    )  # each batch left out in turn
    spread = np.square(without - without.mean(axis=0)).sum(axis=0)
    error = np.sqrt((count - 1) / count * spread)
    return xr.Dataset(
        {
            "relvar": (
                "parameter",
                relvar,
                {"long_name": "relative variance of the gradient across batches", "units": "1"},
            ),
            "relvar_se": ("parameter", error),
            "grad_norm": (
                "parameter",
                np.sqrt(length) / count,
                {"long_name": "norm of the mean gradient"},
            ),
            "weight_norm": ("parameter", norms, {"long_name": "norm of the tensor"}),
        },
        coords={"parameter": names},
        attrs={"batches": count},
    )
