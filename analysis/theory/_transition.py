r"""What one layer does to the powers of a norm, on average: a 4 x 4 matrix.

For a vector x let :math:`X = (|x|^4, |x|_4^4, |x|^2, 1)`, where :math:`|x|_4^4 = \sum x_i^4`.
Send x through a matrix of independent symmetric entries of variance :math:`\sigma^2` and
kurtosis :math:`3 + e`, a Gaussian bias of variance :math:`\beta^2` and an activation with
:math:`\varphi(u) = A u` for u > 0 and :math:`B u` below. A unit is positive half of the time,
whatever its size, so with :math:`\kappa = (A^2 + B^2)/2` and :math:`\kappa_4 = (A^4 + B^4)/2`
the n independent units :math:`v_i` have, given x,

.. math::
    E v_i^2 &= \kappa\,(\sigma^2 |x|^2 + \beta^2), \\
    E v_i^4 &= \kappa_4\,(\sigma^4 (3 |x|^4 + e |x|_4^4)
               + 6 \sigma^2 \beta^2 |x|^2 + 3 \beta^4),

and :math:`E|v|^4 = n(n-1)(E v_1^2)^2 + n E v_1^4`, :math:`E|v|_4^4 = n E v_1^4`. All are linear
in X: the recursion closes, for every law. Matrices multiply along a branch, and with Y the
output of the branch, whose coordinates have independent signs given h, the trunk adds

.. math::
    E|ch + Y|^4 &= c^4|h|^4 + 2c^2 (1 + 2/d)\, |h|^2 E|Y|^2 + E|Y|^4, \\
    E|ch + Y|_4^4 &= c^4|h|_4^4 + (6 c^2/d)\, |h|^2 E|Y|^2 + E|Y|_4^4 .

A tangent vector q at h passes :math:`\varphi'(w \cdot h + b)\, w \cdot q`, and the sign of
:math:`w \cdot h + b` is independent of :math:`|w \cdot q|`: the same matrices, without biases,
rule the tangent, and through the traces of :math:`J^T J` and :math:`(J^T J)^2` the gradient.
That is so at every state but zero, where no unit has a sign: see `alive_probability`.

A block with a skip matrix S sums before its activation, :math:`z = c S x + Y`. Given x the
coordinates of both parts have independent signs, so with n rows of S of variance :math:`s^2`

.. math::
    E z_i^2 &= c^2 s^2 |x|^2 + E Y_i^2, \\
    E z_i^2 z_j^2 &= c^4 s^4 |x|^4 + 2 c^2 s^2 |x|^2\, E Y_i^2 + E Y_i^2 Y_j^2, \\
    E z_i^4 &= c^4 s^4 (3 |x|^4 + e |x|_4^4) + 6 c^2 s^2 |x|^2\, E Y_i^2 + E Y_i^4,

which is linear in X again; then :math:`\kappa` acts on all of z, and nothing is left of a trunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.theory._entrywise import check_entrywise
from sigprop.errors import SpecError, Unsupported
from sigprop.layer_factor import slopes_of
from sigprop.spec import Activation, Ensemble

__all__ = [
    "Transition",
    "alive_probability",
    "check_no_ties",
    "stem_alive_probability",
    "transition",
    "unit_silence",
]


@dataclass(frozen=True)
class Transition:
    """Every layer's mean effect on X, in units in which the input has norm 1.

    Attributes
    ----------
    branch : ndarray, shape (depth, 4, 4)
        From X of the state to X of what the branch adds, biases included.
    skip : ndarray, shape (depth,)
    widths : ndarray, shape (depth + 1,)
    start : float
        :math:`E|h_0|_4^4 / |h_0|^4`.
    """

    branch: np.ndarray
    skip: np.ndarray
    widths: np.ndarray
    start: float

    @cached_property
    def whole(self) -> np.ndarray:
        """From X of a state to X of the next one; shape (depth, 4, 4)."""
        c, d = self.skip, self.widths[1:]
        whole = self.branch.copy()
        whole[:, 0, 0] += c**4
        whole[:, 1, 1] += c**4
        whole[:, 2, 2] += c**2
        whole[:, 0, [0, 2]] += (2 * c**2 * (1 + 2 / d))[:, None] * self.branch[:, 2, 2:]
        whole[:, 1, [0, 2]] += (6 * c**2 / d)[:, None] * self.branch[:, 2, 2:]
        return whole

    @cached_property
    def excess(self) -> np.ndarray:
        r"""Coefficients of :math:`E|h'|^4 - (E|h'|^2)^2` in :math:`X`, for |h| fixed.

        Shape (depth, 4). Written out, because the difference of the two parts of ``whole``
        would lose all digits where a branch is small.
        """
        c, d, b = self.skip, self.widths[1:], self.branch
        excess = b[:, 0].copy()
        excess[:, 0] += 4 * c**2 * b[:, 2, 2] / d - b[:, 2, 2] ** 2
        excess[:, 2] += 4 * c**2 * b[:, 2, 3] / d - 2 * b[:, 2, 2] * b[:, 2, 3]
        excess[:, 3] -= b[:, 2, 3] ** 2
        return excess

    @cached_property
    def gain(self) -> np.ndarray:
        """E|h'|^2 / |h|^2 without biases; shape (depth,)."""
        return self.skip**2 + self.branch[:, 2, 2]


def transition(
    ensemble: Ensemble,
    input: int = 0,
    *,
    name: str,
    order: int,
    tangent: bool = False,
    projected: bool = False,
) -> Transition:
    """The matrices of an ensemble, for one of its inputs or for a tangent vector.

    Parameters
    ----------
    name : str
        Of the public function, for messages.
    order : int
        2 leaves the fourth powers of the weights alone: their entries mean nothing then.
    tangent : bool
        Leave biases out and start isotropic.
    projected : bool
        Take block projection, too, at whose states a layer begins anew: skip is 0 then.

    Raises
    ------
    Unsupported
        If the recursion does not close.
    """
    network, table = ensemble.network, ensemble.table
    form = network.form
    check_entrywise(ensemble, name, projected=projected)
    square, fourth = _gains(ensemble, name)
    if table.centred:
        raise Unsupported(
            f"{name} needs independent entries, but scheme {ensemble.scheme.kind!r} makes every "
            "row sum to zero: what a row passes on then depends on the mean of the signal, not "
            "on its norm alone. Simulate it."
        )
    if not np.isfinite(table.law.variance):
        raise Unsupported(
            f"{name} is infinite for law {table.law.kind!r}, whose entries have no variance. "
            "Measure quantiles, or moments of a lower order."
        )
    if order == 4 and not np.isfinite(table.law.kurtosis):
        raise Unsupported(
            f"{name} is infinite for law {table.law.kind!r} with these parameters: its entries "
            "have no fourth moment. Use the second moments."
        )
    if form.pre and not np.isclose(square[0], square[1], rtol=0, atol=0):
        raise Unsupported(
            f"{name} does not close for block {network.block!r} with activation "
            f"{network.phi.kind!r}: the branch reads the trunk itself, whose coordinates are not "
            "symmetric in sign. Use activation 'linear', or block 'res3' or 'inner'."
        )

    excess = table.law.kurtosis - 3 if order == 4 else 0.0
    if form.post and table.biased:
        raise Unsupported(
            f"{name} is told by the state h_0 behind the stem, whose size is random, and biases "
            "act beside it. Use bias_variance = 0 with block 'projection', or simulate it."
        )
    if form.post and excess != 0.0 and not tangent:
        raise Unsupported(
            f"{name} depends on the fourth powers of the coordinates behind a stem of law "
            f"{table.law.kind!r}. Use law 'gaussian', or the second moments."
        )
    kappa, kappa_4 = gains = float(np.mean(square)), float(np.mean(fourth))
    norm, start = _start(ensemble, input)
    variance = table.scale**2
    bias = np.zeros_like(variance) if tangent else table.bias_scale**2 / norm
    rows = network.fans[1]

    branch = _scaling(table.input_scale)
    for j in range(network.branch_matrices):
        if form.pre:
            branch = _scaling(np.full(network.depth, np.sqrt(kappa))) @ branch
        active = not form.trunk or (not form.pre and j + 1 < network.branch_matrices)
        passes = (kappa, kappa_4) if active else (1.0, 1.0)
        branch = _stage(variance[:, j], bias[:, j], rows[:, j], excess, *passes) @ branch
    branch = _scaling(table.branch) @ branch
    skip = table.skip
    if form.projected:
        branch = _summed(branch, skip**2 * variance[:, -1], rows[:, -1], excess, *gains)
        skip = np.zeros(network.depth)
    if tangent:
        start = float("nan")  # the caller averages over directions, per layer
    return Transition(branch, skip, network.state_widths, start)


def check_no_ties(ensemble: Ensemble, name: str) -> None:
    """Raise Unsupported if a pre-activation may be exactly 0 where its tangent is not."""
    network, table = ensemble.network, ensemble.table
    if network.dropout:
        _check_no_dropped_ties(ensemble, name)
        plus, minus = 1.0, slopes_of(network.phi)[0] ** 2
    else:
        plus, minus = _gains(ensemble, name)[0]
    if plus == minus or (table.biased and np.all(table.bias_scale[:, 0] > 0)):
        return
    given = ensemble.inputs.frame() is None
    anew = not network.form.trunk or network.form.post
    if table.law.kind == "rademacher" and (given or anew):
        raise Unsupported(
            f"{name} assumes that no unit of {network.phi.kind!r} sits exactly on its kink, but "
            "weights of law 'rademacher' put it there with positive probability, on given inputs "
            "and in block 'plain'. Use inputs 'point' or 'pair' and a trunk, or another law."
        )
    if network.form.trunk and np.any(table.skip == 0):
        raise Unsupported(
            f"{name} assumes that no unit of {network.phi.kind!r} sits exactly on its kink, but "
            "behind a skip coefficient of 0 a dead branch puts all units there. Use another skip, "
            "or block 'plain'."
        )


def _check_no_dropped_ties(ensemble: Ensemble, name: str) -> None:
    slopes = slopes_of(ensemble.network.phi)
    if not ensemble.network.form.trunk and slopes not in ((0.0, 0.0), (1.0, 1.0)):
        raise Unsupported(
            f"{name} assumes that no unit sits exactly on its kink, but behind a layer whose units "
            "are all dropped every one does, and passes a gradient with its slope below 0. Use "
            "activation 'relu' or 'linear', or leave out dropout."
        )


def alive_probability(ensemble: Ensemble, name: str) -> np.ndarray:
    """Of a gradient at every layer not to be zero for sure: plain ReLU nets may be dead.

    So may those of block projection, whose first state comes behind a stem. Where the state
    is zero all units above are off, so no gradient arrives; at the top itself
    it has nothing to pass.
    """
    network = ensemble.network
    alive = np.ones(network.depth + 1)
    anew = not network.form.trunk or network.form.projected
    if not anew or ensemble.table.biased:
        return alive
    if network.dropout:  # a linear unit at 0 passes a gradient all the same
        rectified = slopes_of(network.phi) == (0.0, 0.0)
        silence = unit_silence(network.phi)
    else:
        rectified, silence = 0.0 in _gains(ensemble, name)[0], 0.5
    if rectified:
        alive[1:-1] = np.cumprod(1 - silence ** network.fans[1][:-1, -1].astype(float))
        alive[:-1] *= stem_alive_probability(ensemble, name)
    return alive


def unit_silence(activation: Activation) -> float:
    """Probability that a unit of a piecewise linear activation is 0 at a state that is not."""
    heard = 0.5 if slopes_of(activation) == (0.0, 0.0) else 1.0
    return 1 - heard * float(getattr(activation, "keep", 1.0))


def stem_alive_probability(ensemble: Ensemble, name: str) -> float:
    """Of h_0 not to be zero; 1 where there is no stem."""
    network = ensemble.network
    if not network.form.post or ensemble.table.biased or 0.0 not in _gains(ensemble, name)[0]:
        return 1.0
    return 1 - 0.5 ** float(network.state_widths[0])


def _gains(ensemble: Ensemble, name: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """((A^2, B^2), (A^4, B^4)); of a random slope the means."""
    phi = ensemble.network.phi
    if not phi.homogeneous:
        raise Unsupported(
            f"{name} needs a positively homogeneous activation, got {phi.kind!r}: for others "
            "no power of the norm has a closed recursion at finite width. Simulate it."
        )
    if phi.kind == "randomised_leaky_relu":
        low, high = phi.parameters
        powers = [np.sum([low**i * high ** (k - i) for i in range(k + 1)]) for k in (2, 4)]
        return (1.0, float(powers[0] / 3)), (1.0, float(powers[1] / 5))
    plus, minus = (float(y) for y in phi(np.array([1.0, -1.0])))
    return (plus**2, minus**2), (plus**4, minus**4)


def _start(ensemble: Ensemble, input: int) -> tuple[float, float]:
    """(|h_0|^2, E|h_0|_4^4 / |h_0|^4) of one input; behind a stem the second is not needed."""
    width, count = ensemble.network.width, ensemble.inputs.count
    if not 0 <= input < count:
        raise SpecError(f"input must be within 0 .. {count - 1}, got {input!r}. Count from 0.")
    if ensemble.network.form.post:
        return 1.0, 0.0
    coefficients = ensemble.inputs.frame()
    if coefficients is not None:  # uniform on a sphere
        return width * float(np.sum(np.asarray(coefficients)[input] ** 2)), 3 / (width + 2)
    given = ensemble.inputs.array(width)
    assert given is not None
    h = np.asarray(given[input], float)
    norm = float(np.sum(h**2))
    return norm, float(np.sum((h / np.sqrt(norm)) ** 4))


def _scaling(factor: np.ndarray) -> np.ndarray:
    """The matrices of multiplication by ``factor``, one a layer."""
    scaling = np.zeros((len(factor), 4, 4))
    for i, power in enumerate((4, 4, 2, 0)):
        scaling[:, i, i] = factor**power
    return scaling


def _summed(
    branch: np.ndarray,
    variance: np.ndarray,
    rows: np.ndarray,
    excess: float,
    kappa: float,
    kappa_4: float,
) -> np.ndarray:
    """The matrices of an activated sum of a branch and a skip matrix of this variance.

    Every row of ``branch`` is an average over its coordinates: E|Y|^2 = n E Y_i^2 and
    E|Y|^4 = n (n - 1) E Y_i^2 Y_j^2 + E|Y|_4^4.
    """
    n = rows[:, None].astype(float)
    square = np.zeros_like(branch[:, 0])
    fourth, across, mixed = square.copy(), square.copy(), square.copy()
    square[:, 2] = variance
    fourth[:, 0], fourth[:, 1] = 3 * variance**2, excess * variance**2
    across[:, 0] = variance**2
    mixed[:, 0] = variance  # |x|^2 times E Y_i^2, which without biases is in proportion to |x|^2
    own = branch[:, 2, 2:3] / n
    square += branch[:, 2] / n
    fourth += 6 * mixed * own + branch[:, 1] / n
    pairs = np.where(n > 1, n * (n - 1), 1.0)
    across += 2 * mixed * own + np.where(n > 1, (branch[:, 0] - branch[:, 1]) / pairs, 0.0)
    single = n * kappa_4 * fourth
    one = np.zeros_like(square)
    one[:, 3] = 1.0
    stage = [n * (n - 1) * kappa**2 * across + single, single, n * kappa * square, one]
    return np.stack(stage, axis=1)


def _stage(
    variance: np.ndarray,
    bias: np.ndarray,
    rows: np.ndarray,
    excess: float,
    kappa: float,
    kappa_4: float,
) -> np.ndarray:
    """The matrices of a weight matrix, its bias and the activation behind it."""
    one, zero = np.ones_like(variance), np.zeros_like(variance)
    fourth = np.array([3 * variance**2, excess * variance**2, 6 * variance * bias, 3 * bias**2])
    squared = np.array([variance**2, zero, 2 * variance * bias, bias**2])
    single = rows * kappa_4 * fourth
    stage = np.array(
        [
            rows * (rows - 1) * kappa**2 * squared + single,
            single,
            [zero, zero, rows * kappa * variance, rows * kappa * bias],
            [zero, zero, zero, one],
        ]
    )
    return np.moveaxis(stage, 2, 0)
