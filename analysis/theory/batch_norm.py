r"""Networks that normalise every activation over a large batch: mean squares of state and gradient.

An activation reads :math:`\hat u = (u - \bar u) / \mathrm{std}(u)`, bars being means over the
batch. In a wide network every unit is then a standard normal number, whatever stood before it,
and two moments of the activation say all: :math:`\kappa = E\varphi(Z)^2`, its part
:math:`\omega = \kappa - (E\varphi(Z))^2` that differs from input to input, and
:math:`\kappa' = E\varphi'(Z)^2`.

Forward, the branch adds the same amount at every layer. Backward, a normalisation divides a
gradient by the deviation of what it normalised, which after an activation is smaller than
its mean square, :math:`\omega < \kappa`. That is why gradients grow, from layer to layer in a
plain net (by :math:`\pi / (\pi - 1)` for ReLU) and as a power of the depth in a residual one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["BatchNormalised", "batch_normalised"]


@dataclass(frozen=True)
class BatchNormalised:
    """Mean squares in a wide network with batch normalisation; natural logarithms.

    Attributes
    ----------
    log_mean_square : ndarray, shape (depth + 1, inputs)
        Of :math:`E|h_l|^2 / |h_0|^2`, input by input.
    variance : ndarray, shape (depth + 1,)
        Of a unit over the batch, averaged over units.
    log_gradient_mean_square : ndarray, shape (depth + 1,)
        Of :math:`E|p_l|^2 / |p_L|^2`, for top gradients that are independent from input to
        input.
    """

    status: ClassVar[str] = "limit"

    log_mean_square: np.ndarray
    variance: np.ndarray
    log_gradient_mean_square: np.ndarray


def batch_normalised(ensemble: Ensemble) -> BatchNormalised:
    r"""Mean squares of states and gradients under batch normalisation, for a large batch.

    With skip c, branch a, entries of matrix j of variance :math:`\sigma_j^2` and :math:`n_j`
    of them in a row, a block of m matrices gives, q and v being the mean square of a unit and
    its variance over the batch,

    .. math:: q' = c^2 q + a^2 \sigma_m^2 n_m \kappa, \qquad
              v' = c^2 v + a^2 \sigma_m^2 n_m \omega, \qquad
              \frac{E|p|^2}{E|p'|^2} = c^2 + \frac{a^2 \sigma_m^2 n_m \kappa'}{v}
              \Big(\frac{\kappa'}{\omega}\Big)^{r - 1},

    where r is the number of activations in the branch: m if the first matrix is preceded by
    one, else m - 1. In a plain net :math:`q' = a^2 \kappa`, :math:`v' = a^2 \omega` and the ratio
    is :math:`a^2 \kappa' / v`.

    Parameters
    ----------
    ensemble : Ensemble
        A scheme with batch normalisation. Images need circular borders, where every pixel is
        like every other.

    Returns
    -------
    BatchNormalised

    Raises
    ------
    Unsupported
        Without batch normalisation, with biases, with borders of zeros, for weights without
        variance, or if all inputs are equal in every unit.

    Notes
    -----
    Status: limit as the width and the batch of independent inputs grow. At N units and B inputs
    the logarithm of a gradient's mean square, T, is off by about T (1/4 / N + 5/2 / B) on average
    over the batch, and by about T / sqrt(N) for one input of it.
    Assumes top gradients independent from input to input: a gradient that all inputs share is
    partly taken away by the mean over the batch. Cost O(depth).

    References
    ----------
    De and Smith (2020), arXiv:2002.10444, for the forward recursion; Yang et al. (2019), A mean
    field theory of batch normalization, arXiv:1902.08129, for plain nets. The gradient of a
    residual block is elementary.

    Examples
    --------
    >>> from sigprop import Batch, BatchNorm, Ensemble, Network
    >>> net = Network(depth=30, width=400, block="preact")
    >>> limit = batch_normalised(Ensemble(net, BatchNorm(), Batch(count=1000)))
    >>> round(float(np.exp(limit.log_gradient_mean_square[0])))  # 405 but for the batch's mean
    406
    >>> float((limit.variance[-1] - limit.variance[0]).round(3))  # l (1 - 1/pi)
    20.451
    """
    network, table = ensemble.network, ensemble.table
    _check(ensemble)
    phi, form, m = network.phi, network.form, network.matrices
    square, slope = phi.second_moment(), phi.derivative_second_moment()
    spread = square - phi.mean() ** 2
    if form.trunk:
        size = table.branch**2 * table.scale[:, -1] ** 2 * network.connections[0][:, -1]
        through = (slope / spread) ** ((m if form.pre else m - 1) - 1)
    else:
        size, through = table.branch**2, 1.0
    skip = table.skip**2
    norms, start = _start(ensemble)
    if not start > 0:
        raise Unsupported(
            "batch_normalised needs inputs that differ from each other, but these have no "
            "variance over the batch. Use inputs 'batch'."
        )

    depth = network.depth
    mean, added, variance = np.ones(depth + 1), np.zeros(depth + 1), np.full(depth + 1, start)
    for layer in range(depth):
        mean[layer + 1] = skip[layer] * mean[layer]
        added[layer + 1] = skip[layer] * added[layer] + size[layer] * square
        variance[layer + 1] = skip[layer] * variance[layer] + size[layer] * spread
    with np.errstate(divide="ignore"):
        steps = np.log(skip + size * slope * through / variance[:-1])
        states = np.log(mean[:, None] + added[:, None] / norms)
    # A state of a plain net has another width than the input, and norms are of whole vectors.
    widths = network.state_sizes / network.state_sizes[0]
    return BatchNormalised(
        states + np.log(widths)[:, None] if not form.trunk else states,
        variance,
        np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]]),
    )


def _check(ensemble: Ensemble) -> None:
    network, table = ensemble.network, ensemble.table
    if not table.batch_norm:
        raise Unsupported(
            f"batch_normalised is the law of networks that normalise over a batch, and scheme "
            f"{ensemble.scheme.kind!r} does not. Use scheme 'batch_norm'."
        )
    if table.biased:
        raise Unsupported(
            "batch_normalised is written for networks without biases, which a normalisation "
            "takes away again but for the last. Use bias_variance = 0."
        )
    if network.convolutional and network.padding != "circular" and max(network.kernels) > 1:
        raise Unsupported(
            "batch_normalised needs pixels that are all alike, and those at a border of zeros are "
            "smaller. Use padding 'circular'."
        )
    if network.convolutional and max(network.strides) > 1:
        raise Unsupported(
            "batch_normalised needs pixels that are all read equally often, and a stride skips "
            "some. Use stride 1."
        )
    if network.form.post:
        raise Unsupported(
            f"batch_normalised does not hold for block {network.block!r}, which activates the sum "
            "of trunk and branch. Use block 'preact', or simulate it."
        )
    if not math.isfinite(table.law.variance):
        raise Unsupported(
            f"batch_normalised needs weights with a variance, and law {table.law.kind!r} has "
            "none. Use law 'gaussian'."
        )


def _start(ensemble: Ensemble) -> tuple[np.ndarray, float]:
    """Mean squares of the inputs, shape (K,), and the variance of a unit over them."""
    size = int(ensemble.network.state_sizes[0])
    frame = ensemble.inputs.frame()
    if frame is None:
        rows = ensemble.inputs.array(size)
        assert rows is not None
        rows = rows / math.sqrt(size)
    else:
        rows = np.asarray(frame, float)  # in an orthonormal frame, at unit mean square
    norms = np.einsum("kn,kn->k", rows, rows)
    mean = rows.mean(axis=0)
    if ensemble.network.convolutional and frame is None:
        # Pixels belong to the batch: the mean is one number a channel.
        images = rows.reshape(len(rows), int(ensemble.network.state_widths[0]), -1)
        pixels = images.shape[2]
        mean = images.mean(axis=(0, 2)) * math.sqrt(pixels)
    elif ensemble.network.convolutional:
        mean = mean / math.sqrt(np.prod(ensemble.network.images[0]))
    return norms, float(norms.mean() - mean @ mean)
