r"""Mean squares of states and gradients in convolutional networks, pixel by pixel: exact.

Let :math:`e_p` be the mean square of a state at pixel p, summed over channels. Every tap of a
kernel is a matrix of its own with independent entries, so a convolution whose entries have
variance :math:`\sigma^2` and which makes n channels turns e into

.. math:: e'_p = \sigma^2 n \sum_t e_{r(p, t)} = \sigma^2 n\, (A e)_p ,

r(p, t) being the pixel that tap t reads at p and A the matrix that counts how often p reads
another. Nothing else changes from fully connected layers: what a branch adds is uncorrelated
with the trunk, and an activation that is linear on either side of 0 halves (for ReLU) the mean
square of what is symmetric. So e obeys a linear recursion at any number of channels, with any
border and stride.

With circular borders and stride 1 the columns of A sum to :math:`k^2`, and the mean square of
the whole image follows the formulas of fully connected networks with :math:`k^2 \sigma^2` in
place of :math:`\sigma^2`. Fourth moments do not: pixels share their weights, so they are
alike, and a formula that counts them as independent units is far off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sigprop.errors import Unsupported
from sigprop.image import taps
from sigprop.spec import Ensemble

__all__ = ["image_log_gradient_mean_square", "image_log_mean_square", "pixel_log_mean_square"]


def pixel_log_mean_square(ensemble: Ensemble, input: int = 0) -> list[np.ndarray]:
    r"""Log of the mean square of the state at every pixel, :math:`\log e_{l,p}`.

    Parameters
    ----------
    ensemble : Ensemble
        A convolutional network. Inputs drawn in a random position have the same mean square
        at every pixel.
    input : int
        Which of the inputs.

    Returns
    -------
    list of ndarray, shape (rows, columns) of the image, one for each layer 0 .. depth
        Natural logarithm, in units of the squared numbers of the input, summed over channels;
        -inf where the state is zero.

    Raises
    ------
    Unsupported
        For a fully connected network; an activation that is not linear on either side of 0;
        an activation other than linear that reads the trunk before the first matrix; block
        ``identity``; centred rows, batch normalisation, weights without variance, and matrices
        whose entries depend on each other.

    Notes
    -----
    Status: exact at every depth and number of channels. Assumes independent symmetric
    weights; Gaussianity is not needed. Cost O(depth pixels kernel^2).

    References
    ----------
    Elementary; for circular borders Gadhikar and Burkholz (2022), arXiv:2210.02411, of which
    the fully connected formula is theorem 2.3.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> net = Network(depth=2, width=4, block="plain", image=(1, 3), kernel=3)
    >>> [e.round(3).tolist() for e in map(np.exp, pixel_log_mean_square(Ensemble(net, He())))]
    [[[4.0, 4.0, 4.0]], [[0.889, 1.333, 0.889]], [[0.247, 0.346, 0.247]]]
    """
    steps = _steps(ensemble, "pixel_log_mean_square")
    e, scale = steps.start(input), 0.0
    images = ensemble.network.images
    logs = [_log(e).reshape(images[0])]
    for layer in range(ensemble.network.depth):
        e = steps.forward(layer, e, scale)
        top = float(e.max())
        if top > 0 and math.isfinite(top):
            e, scale = e / top, scale + math.log(top)
        logs.append((_log(e) + scale).reshape(images[layer + 1]))
    return logs


def image_log_mean_square(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Log of :math:`E|h_l|^2 / |h_0|^2` of whole images.

    The sum of `pixel_log_mean_square` over pixels, whose parameters, errors, status, assumptions
    and cost it shares. Where a stem makes :math:`h_0`, the ratio is to its own mean square,
    :math:`E|h_l|^2 / E|h_0|^2`, which is then not the mean of the ratio; see ``Notes``.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm.

    Raises
    ------
    Unsupported
        As `pixel_log_mean_square`.

    Notes
    -----
    Status: exact. In a block with a stem the ratio of means differs from the mean of the ratio
    with borders of zeros or strides, and with circular borders it does not.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> net = Network(depth=3, width=2, image=4, kernel=3, padding="circular")
    >>> np.exp(image_log_mean_square(Ensemble(net, He()))).round(12).tolist()  # 3^l, as without
    [1.0, 3.0, 9.0, 27.0]
    """
    logs = [np.logaddexp.reduce(e.ravel()) for e in pixel_log_mean_square(ensemble, input)]
    return np.array(logs) - logs[0]


def image_log_gradient_mean_square(ensemble: Ensemble) -> np.ndarray:
    r"""Log of :math:`E|p_l|^2 / |p_L|^2` of whole images, for an isotropic gradient at the top.

    The recursion of `pixel_log_mean_square`, without biases, run downward: a pixel receives from
    the pixels that read it, so A is transposed, and the number of channels of a state takes
    the place of that of the next.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Raises
    ------
    Unsupported
        As `pixel_log_mean_square`.

    Notes
    -----
    Status: exact in blocks ``res3`` and ``inner``. In ``plain`` and ``projection`` all that a unit
    reads may be 0, with a probability of at most :math:`2^{-n}` a pixel and layer, n being the
    number of channels; then no gradient passes, and the truth lies below by as much. Cost: as
    `pixel_log_mean_square`.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> net = Network(depth=2, width=3, image=(1, 3), kernel=3)
    >>> np.exp(image_log_gradient_mean_square(Ensemble(net, He()))).round(3).tolist()
    [1.3, 1.14, 1.0]
    """
    steps = _steps(ensemble, "image_log_gradient_mean_square")
    network = ensemble.network
    depth, scale = network.depth, 0.0
    row = np.full(int(np.prod(network.images[-1])), 1.0 / int(network.state_sizes[-1]))
    logs = np.zeros(depth + 1)
    for layer in range(depth - 1, -1, -1):
        row = steps.backward(layer, row)
        top = float(row.max())
        if top > 0:
            row, scale = row / top, scale + math.log(top)
        with np.errstate(divide="ignore"):
            logs[layer] = np.log(row.sum() * float(network.state_widths[layer])) + scale
    return logs


def _log(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(x))


@dataclass(frozen=True)
class _Steps:
    """The linear map of every layer on mean squares by pixel."""

    ensemble: Ensemble
    half: float  # what an activation leaves of the mean square of a symmetric number

    def start(self, input: int) -> np.ndarray:
        """Mean squares of layer 0, shape (pixels,)."""
        network = self.ensemble.network
        pixels = int(np.prod(network.images[0]))
        frame = self.ensemble.inputs.frame()
        channels = network.input_size // pixels
        if frame is not None:
            norm = float(np.linalg.norm(np.asarray(frame, float)[input]))
            e = np.full(pixels, channels * norm**2)
        else:
            rows = self.ensemble.inputs.array(network.input_size)
            assert rows is not None
            e = (rows[input].reshape(channels, pixels) ** 2).sum(axis=0)
        stem = self.ensemble.table.stem
        if stem is None:
            return e
        width = int(network.state_widths[0])
        reads = self.summed(taps(*network.stem_convolution), e)
        return self.half * width * (stem.scale**2 * reads + stem.bias_scale**2)

    def forward(self, layer: int, e: np.ndarray, log_unit: float) -> np.ndarray:
        network, table = self.ensemble.network, self.ensemble.table
        form, rows = network.form, network.fans[1][layer]
        variance, bias = table.scale[layer] ** 2, table.bias_scale[layer] ** 2
        unit = math.exp(-min(log_unit, 700.0))  # of a bias, in which e is measured

        def matrix(j: int, x: np.ndarray) -> np.ndarray:
            return rows[j] * (variance[j] * self.summed(self.reads(layer, j), x) + bias[j] * unit)

        x = table.input_scale[layer] ** 2 * e
        for j in range(network.branch_matrices):
            x = matrix(j, x)
            if not form.trunk or j < network.branch_matrices - 1:
                x = self.half * x
        x = table.branch[layer] ** 2 * x
        if form.trunk:
            skip = matrix(network.matrices - 1, e) if form.projected else e
            x = x + table.skip[layer] ** 2 * skip
        return self.half * x if form.post else x

    def backward(self, layer: int, row: np.ndarray) -> np.ndarray:
        """The row vector times the map of `forward`, without biases."""
        network, table = self.ensemble.network, self.ensemble.table
        form, rows = network.form, network.fans[1][layer]
        variance = table.scale[layer] ** 2
        row = self.half * row if form.post else row

        def matrix(j: int, x: np.ndarray) -> np.ndarray:
            reads = self.reads(layer, j)
            found = np.zeros(math.prod(network.convolution(layer, j)[0]))
            for tap in range(reads.shape[1]):
                inside = reads[:, tap] >= 0
                np.add.at(found, reads[inside, tap], x[inside])
            return np.asarray(rows[j] * variance[j] * found)

        q = table.branch[layer] ** 2 * row
        for j in range(network.branch_matrices - 1, -1, -1):
            if not form.trunk or j < network.branch_matrices - 1:
                q = self.half * q
            q = matrix(j, q)
        q = table.input_scale[layer] ** 2 * q
        if form.trunk:
            skip = matrix(network.matrices - 1, row) if form.projected else row
            q = q + table.skip[layer] ** 2 * skip
        return q

    def reads(self, layer: int, j: int) -> np.ndarray:
        return taps(*self.ensemble.network.convolution(layer, j))

    @staticmethod
    def summed(reads: np.ndarray, e: np.ndarray) -> np.ndarray:
        """A e."""
        return np.where(reads >= 0, e[reads], 0.0).sum(axis=1)


def _steps(ensemble: Ensemble, name: str) -> _Steps:
    network, table = ensemble.network, ensemble.table
    slope = network.phi.negative_slope
    if not network.convolutional:
        raise Unsupported(
            f"{name} is of images, and this network is fully connected. Use log_mean_square and "
            "log_gradient_mean_square, or give the network an image."
        )
    if table.batch_norm or table.centred:
        what = "batch normalisation" if table.batch_norm else "rows that sum to zero"
        raise Unsupported(
            f"{name} has no closed recursion with {what}, which looks at more than mean squares. "
            "Simulate it."
        )
    if slope is None:
        raise Unsupported(
            f"{name} needs an activation that is linear on either side of 0, got "
            f"{network.phi.kind!r}: of others the mean square has no closed recursion. Simulate it."
        )
    if network.form.pre and slope != 1.0:
        raise Unsupported(
            f"{name} does not hold for block {network.block!r}: its branch begins with an "
            "activation of the trunk, which is not symmetric. Use block 'res3' or 'inner'."
        )
    if network.form.post and not network.form.projected:
        raise Unsupported(
            f"{name} does not hold for block {network.block!r}: the state is not negative, so "
            "what reaches its activation is not symmetric. Use block 'projection'."
        )
    if not table.entrywise:
        raise Unsupported(
            f"{name} needs weights that are independent of each other, and scheme "
            f"{ensemble.scheme.kind!r} makes those of one matrix depend on each other. Simulate it."
        )
    if not math.isfinite(table.law.variance):
        raise Unsupported(
            f"{name} needs weights with a variance, and law {table.law.kind!r} has none. Use law "
            "'gaussian'."
        )
    return _Steps(ensemble, (1 + slope**2) / 2)
