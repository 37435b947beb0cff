r"""Order and chaos: does a wide network without skip connections keep two inputs apart, how deep?

In a plain net :math:`h' = W \varphi(h) + b` with weights of variance :math:`\sigma_w^2` over the
fan-in and biases of variance :math:`\sigma_b^2`, pre-activations become Gaussian as the width
grows, and all that is left of the net are two maps of a layer. With g, g' independent standard
normal, q the mean square of a pre-activation and c the cosine of two inputs of that size,

.. math::
    q' &= \sigma_w^2\, E \varphi(\sqrt q\, g)^2 + \sigma_b^2, \\
    c' &= \bigl(\sigma_w^2\, E \varphi(u_1) \varphi(u_2) + \sigma_b^2\bigr) / q', \qquad
    u_1 = \sqrt q\, g, \quad u_2 = \sqrt q\, (c\, g + \sqrt{1 - c^2}\, g') .

The first settles at :math:`q^*`. There c = 1 is fixed, and the slope of the second map,

.. math:: \chi_1 = \sigma_w^2\, E \varphi'(\sqrt{q^*} g)^2,

is also the factor of the mean square of a gradient. :math:`\chi_1 < 1` is *order*: inputs merge
and gradients vanish. :math:`\chi_1 > 1` is *chaos*: alike inputs part, to a cosine
:math:`c^* < 1`, and gradients explode. Between them lies the edge. The distances to
:math:`q^*` and :math:`c^*` fall by a factor e in :math:`\xi_q` and :math:`\xi_c` layers, and
deeper than some multiples of :math:`\xi_c` a net says nothing of its input.

sigprop's block ``plain`` is :math:`h' = \varphi(W h + b)`: the same sequence, read after the
activation; its cosines are those of :math:`\varphi(u)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import Expectation, expectation, product_expectation
from sigprop.spec import Activation, check_number

__all__ = [
    "FixedPoint",
    "Phase",
    "cosine_map",
    "cosine_map_slope",
    "critical_weight_variance",
    "edge_of_chaos",
    "mean_square_fixed_points",
    "mean_square_map",
    "mean_square_map_slope",
    "phase",
    "tangent_gain",
]

# Where fixed points are looked for: beyond, an activation is its own limit.
_LEAST, _MOST, _POINTS = 1e-8, 1e8, 161
# chi_1 nearer to 1 than this is called critical: xi_c is then above ten thousand layers.
_CRITICAL = 1e-4


def _named(activation: Activation | str) -> Activation:
    import sigprop.activations  # noqa: F401  fills the registry

    return Activation.named(activation) if isinstance(activation, str) else activation


def _variances(weight_variance: float, bias_variance: float) -> tuple[float, float]:
    why = "It is the variance of a weight times its fan-in."
    weight = check_number("weight_variance", weight_variance, low=0.0, open_low=True, why=why)
    return weight, check_number("bias_variance", bias_variance, low=0.0)


def mean_square_map(
    activation: Activation | str,
    mean_square: float,
    weight_variance: float,
    bias_variance: float = 0.0,
) -> float:
    r"""One layer of the mean square, :math:`\sigma_w^2 E \varphi(\sqrt q g)^2 + \sigma_b^2`.

    Parameters
    ----------
    activation : Activation or str
    mean_square : float
        q, of a pre-activation.
    weight_variance, bias_variance : float
        :math:`\sigma_w^2`, the variance of a weight times its fan-in, and :math:`\sigma_b^2`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a variance is out of range.

    Notes
    -----
    Status: limit, as the width grows; the error of a finite width is O(1 / width). Cost: one
    Gaussian average, below 1 ms.

    References
    ----------
    Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli (2016), arXiv:1606.05340.

    Examples
    --------
    >>> round(mean_square_map("tanh", 1.65993, 3.0, 0.2), 4)  # its fixed point
    1.6599
    """
    weight, bias = _variances(weight_variance, bias_variance)
    q = check_number("mean_square", mean_square, low=0.0)
    return weight * _named(activation).second_moment(q) + bias


def mean_square_map_slope(
    activation: Activation | str, mean_square: float, weight_variance: float
) -> float:
    r"""The slope of `mean_square_map`, :math:`\sigma_w^2 q^{-1/2} E[g \varphi \varphi']`.

    For a smooth activation that is :math:`\chi + \sigma_w^2 E \varphi \varphi''`.

    Parameters
    ----------
    activation : Activation or str
    mean_square : float
        q; at 0 the slope of an activation with :math:`\varphi(0) = 0`.
    weight_variance : float

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is out of range.
    Unsupported
        At q = 0, if :math:`\varphi(0)` is not 0.

    Notes
    -----
    Status: limit, as the width grows. At a fixed point it is above -1/2, since
    :math:`d \ln E\varphi^2 / d \ln q = (E[g^2 \varphi^2] / E\varphi^2 - 1)/2`: no mean square
    swings. Cost: one Gaussian average.

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), arXiv:1611.01232.

    Examples
    --------
    >>> round(mean_square_map_slope("tanh", 1.65993, 3.0), 5)
    0.32622
    """
    phi = _named(activation)
    weight, _ = _variances(weight_variance, 0.0)
    q = check_number("mean_square", mean_square, low=0.0)
    if phi.homogeneous:
        return weight * phi.second_moment(1.0)
    if q == 0.0:
        if float(phi(np.zeros(1))[0]) != 0.0:
            raise Unsupported(
                f"the slope at mean square 0 is asked for, but {phi.kind!r} is not 0 at 0: no "
                "signal stays at 0. Give a positive mean_square."
            )
        return tangent_gain(phi, 0.0, weight)
    root = math.sqrt(q)

    def weighted(u: np.ndarray) -> np.ndarray:
        return u / root * phi(u) * phi.derivative(u)

    return weight / root * expectation(weighted, variance=q, kinks=phi.kinks).value


def tangent_gain(activation: Activation | str, mean_square: float, weight_variance: float) -> float:
    r"""What a layer does to the mean square of a gradient, :math:`\chi = \sigma_w^2 E\varphi'^2`.

    Parameters
    ----------
    activation : Activation or str
    mean_square : float
        q, of the pre-activations of the layer.
    weight_variance : float

    Returns
    -------
    float
        :math:`\chi(q)`; at the fixed point :math:`\chi_1`.

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: limit, as the width grows: :math:`E\|J v\|^2 / \|v\|^2` of one layer, for a v that
    does not depend on it. Cost: one Gaussian average.

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), arXiv:1611.01232.

    Examples
    --------
    >>> round(tangent_gain("tanh", 1.65993, 3.0), 5), tangent_gain("relu", 7.0, 2.0)
    (1.13545, 1.0)
    """
    phi = _named(activation)
    weight, _ = _variances(weight_variance, 0.0)
    q = check_number("mean_square", mean_square, low=0.0)
    return weight * phi.derivative_second_moment(1.0 if phi.homogeneous else q)


def _average(
    first: Activation, cosine: float, one: float, other: float, *, slopes: bool = False
) -> float:
    """E phi(u1) phi(u2), or of the derivatives, at mean squares ``one`` and ``other``."""
    f = first.derivative if slopes else first
    kinks = (first.kinks, first.kinks)
    found: Expectation = product_expectation(
        f, f, correlation=cosine, variances=(one, other), kinks=kinks
    )
    return found.value


def cosine_map(
    activation: Activation | str,
    cosine: float,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    mean_squares: tuple[float, float],
) -> float:
    r"""One layer of the cosine of two inputs, of equal or unlike size.

    .. math:: c' = \bigl(\sigma_w^2 E\varphi(u_1)\varphi(u_2) + \sigma_b^2\bigr)
              / \sqrt{q_1' q_2'}

    Parameters
    ----------
    activation : Activation or str
    cosine : float
        c, of the pre-activations, in [-1, 1].
    weight_variance, bias_variance : float
    mean_squares : tuple of float
        :math:`q_1, q_2`, both positive.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: limit, as the width grows. Cost: a double integral, some 10 ms.

    References
    ----------
    Poole et al. (2016), arXiv:1606.05340; for ReLU Cho and Saul (2009).

    Examples
    --------
    >>> round(cosine_map("tanh", 0.69272, 3.0, 0.2, mean_squares=(1.65993, 1.65993)), 5)
    0.69272
    >>> round(cosine_map("relu", 0.0, 2.0, mean_squares=(1.0, 9.0)) * math.pi, 9)  # k_1(0)
    1.0
    """
    phi = _named(activation)
    weight, bias = _variances(weight_variance, bias_variance)
    c = check_number("cosine", cosine, low=-1.0, high=1.0)
    one, other = (
        check_number("each of mean_squares", q, low=0.0, open_low=True) for q in mean_squares
    )
    both = weight * _average(phi, c, one, other) + bias
    squares = (weight * phi.second_moment(one) + bias) * (weight * phi.second_moment(other) + bias)
    return both / math.sqrt(squares)


def cosine_map_slope(
    activation: Activation | str, cosine: float, weight_variance: float, *, mean_square: float
) -> float:
    r""":math:`\chi_c = \sigma_w^2 E\varphi'(u_1)\varphi'(u_2)`, slope of the map at a fixed q.

    Parameters
    ----------
    activation : Activation or str
    cosine : float
        c, in [-1, 1]; at 1 this is :math:`\chi_1`.
    weight_variance : float
    mean_square : float
        :math:`q^*`: elsewhere the slope is this times :math:`q / q'`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: limit, as the width grows. Cost: a double integral, some 10 ms.

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), arXiv:1611.01232.

    Examples
    --------
    >>> round(cosine_map_slope("tanh", 0.69272, 3.0, mean_square=1.65993), 5)
    0.90706
    """
    phi = _named(activation)
    weight, _ = _variances(weight_variance, 0.0)
    c = check_number("cosine", cosine, low=-1.0, high=1.0)
    q = check_number("mean_square", mean_square, low=0.0, open_low=True)
    return weight * _average(phi, c, q, q, slopes=True)


# -------------------------------------------------------------------- fixed points


@dataclass(frozen=True)
class FixedPoint:
    """Where the mean square stays.

    Attributes
    ----------
    mean_square : float
        :math:`q^*`.
    slope : float
        Of `mean_square_map` there; the point attracts if it is below 1 in size.
    """

    mean_square: float
    slope: float

    @property
    def stable(self) -> bool:
        return abs(self.slope) < 1.0


def mean_square_fixed_points(
    activation: Activation | str, weight_variance: float, bias_variance: float = 0.0
) -> tuple[FixedPoint, ...]:
    """All mean squares that a layer leaves as they are, the smallest first.

    Parameters
    ----------
    activation : Activation or str
    weight_variance, bias_variance : float

    Returns
    -------
    tuple of FixedPoint
        Empty where every signal grows for ever.

    Raises
    ------
    SpecError
        If a variance is out of range.
    Unsupported
        For a positively homogeneous activation on its critical point, where every mean square
        is fixed.

    Notes
    -----
    Status: limit, as the width grows. Fixed points are bracketed on a mesh of 161 values between
    1e-8 and 1e8: two that lie within a factor 1.26 of each other are missed together. Cost: some
    200 Gaussian averages, 0.1 s.

    Examples
    --------
    >>> [round(point.mean_square, 5) for point in mean_square_fixed_points("tanh", 3.0, 0.2)]
    [1.65993]
    >>> mean_square_fixed_points("relu", 2.5)[0].stable
    False
    """
    phi = _named(activation)
    weight, bias = _variances(weight_variance, bias_variance)
    if phi.homogeneous:
        slope = weight * phi.second_moment(1.0)
        if math.isclose(slope, 1.0, rel_tol=1e-12):
            if bias == 0.0:
                raise Unsupported(
                    f"{phi.kind!r} at weight_variance = {weight:g} without biases keeps every "
                    "mean square as it is, so no fixed point is singled out. This is its one "
                    "critical point; cosine_map follows two inputs there."
                )
            return ()
        level = bias / (1 - slope)
        return (FixedPoint(level, slope),) if level >= 0.0 else ()

    def excess(q: float) -> float:
        return weight * phi.second_moment(q) + bias - q

    found = []
    zero = excess(0.0) == 0.0
    if zero:
        found.append(FixedPoint(0.0, mean_square_map_slope(phi, 0.0, weight)))
    mesh = np.geomspace(_LEAST, _MOST, _POINTS)
    values = [excess(float(q)) for q in mesh]
    for k in range(_POINTS - 1):
        if values[k] * values[k + 1] < 0 or values[k] == 0.0:
            ends = float(mesh[k]), float(mesh[k + 1])
            root = ends[0] if values[k] == 0.0 else float(brentq(excess, *ends, rtol=1e-14))
            found.append(FixedPoint(root, mean_square_map_slope(phi, root, weight)))
    return tuple(found)


# ---------------------------------------------------------------------------- phase


@dataclass(frozen=True)
class Phase:
    r"""What a deep plain net of these variances does to signals.

    Attributes
    ----------
    kind : str
        ``ordered``, ``critical`` or ``chaotic``.
    activation : str
    weight_variance, bias_variance : float
    mean_square : float
        :math:`q^*`; nan if every mean square is fixed.
    mean_square_slope : float
        Of the map of mean squares there.
    chi_1 : float
        Factor of the mean square of a gradient, and of a small distance.
    cosine : float
        :math:`c^*`, which two inputs reach; nan if no signal is left.
    chi_c : float
        Slope of the cosine's map there.
    xi_q, xi_c : float
        Depth scales: layers in which the distance to :math:`q^*`, :math:`c^*` falls by e. inf
        where it falls more slowly than exponentially, or not at all; 0 where it is gone at once.
    """

    kind: str
    activation: str
    weight_variance: float
    bias_variance: float
    mean_square: float
    mean_square_slope: float
    chi_1: float
    cosine: float
    chi_c: float
    xi_q: float
    xi_c: float


def phase(
    activation: Activation | str,
    weight_variance: float,
    bias_variance: float = 0.0,
    *,
    start: float = 1.0,
) -> Phase:
    r"""Ordered, critical or chaotic, with fixed points and depth scales.

    .. math:: \xi_q = -1 / \ln |q'(q^*)|, \qquad \xi_c = -1 / \ln \chi_c(c^*)

    Parameters
    ----------
    activation : Activation or str
    weight_variance, bias_variance : float
    start : float
        Mean square from which :math:`q^*` is approached; it matters only where several are stable.

    Returns
    -------
    Phase

    Raises
    ------
    SpecError
        If a variance is out of range.
    Unsupported
        If the mean square has no fixed point to go to.

    Notes
    -----
    Status: limit, as the width grows at a fixed depth. :math:`c^*` is the one fixed point below
    1 where :math:`\chi_1 > 1`: the map is a power series with no negative coefficient, hence
    convex on [0, 1]. ``critical`` means :math:`|\chi_1 - 1| < 10^{-4}`, a :math:`\xi_c` beyond
    ten thousand layers. Cost: some 200 Gaussian averages and 15 double integrals, 0.3 s.

    References
    ----------
    Poole et al. (2016), arXiv:1606.05340; Schoenholz et al. (2017), arXiv:1611.01232.

    Examples
    --------
    >>> found = phase("tanh", 3.0, 0.2)
    >>> found.kind, round(found.chi_1, 4), round(found.cosine, 4), round(found.xi_c, 2)
    ('chaotic', 1.1355, 0.6927, 10.25)
    >>> phase("relu", 2.0).kind
    'critical'
    """
    phi = _named(activation)
    weight, bias = _variances(weight_variance, bias_variance)
    begin = check_number("start", start, low=0.0, open_low=True)
    if phi.homogeneous and bias == 0.0:
        return _scale_free(phi, weight)
    point = _reached(phi, weight, bias, begin)
    q = point.mean_square
    chi_1 = tangent_gain(phi, q, weight)
    kind = "critical" if abs(chi_1 - 1) < _CRITICAL else "chaotic" if chi_1 > 1 else "ordered"
    if q == 0.0:  # the signal vanishes, and in the end the net is linear: no cosine is preferred
        cosine = chi_c = xi_c = math.nan
    elif kind == "chaotic":
        cosine = _apart(phi, weight, bias, q)
        chi_c = cosine_map_slope(phi, cosine, weight, mean_square=q)
        xi_c = _scale(chi_c)
    else:
        cosine, chi_c, xi_c = 1.0, chi_1, math.inf if kind == "critical" else _scale(chi_1)
    return Phase(
        kind,
        phi.kind,
        weight,
        bias,
        q,
        point.slope,
        chi_1,
        cosine,
        chi_c,
        _scale(point.slope),
        xi_c,
    )


def _scale(slope: float) -> float:
    """Layers in which a distance multiplied by ``slope`` a layer falls by e."""
    size = abs(slope)
    return 0.0 if size == 0.0 else math.inf if size >= 1.0 else -1.0 / math.log(size)


def _scale_free(phi: Activation, weight: float) -> Phase:
    """A positively homogeneous activation without biases: the cosine knows nothing of the size."""
    slope = weight * phi.second_moment(1.0)
    chi_1 = weight * phi.derivative_second_moment(1.0)
    critical = 1 / phi.second_moment(1.0)
    if slope > 1 + _CRITICAL:
        raise Unsupported(
            f"at weight_variance = {weight:g} the mean square of {phi.kind!r} grows by a factor "
            f"{slope:.4g} a layer, for ever: there is no fixed point, hence no phase. Its one "
            f"critical point is weight_variance = {critical:g} with bias_variance = 0; below it "
            "signals are ordered."
        )
    kind = "critical" if abs(chi_1 - 1) < _CRITICAL else "ordered"
    # A linear net leaves all angles as they are; any other closes them, like 1 / depth^2.
    cosine = math.nan if phi.negative_slope == 1.0 else 1.0
    q = math.nan if kind == "critical" else 0.0
    return Phase(kind, phi.kind, weight, 0.0, q, slope, chi_1, cosine, 1.0, _scale(slope), math.inf)


def _reached(phi: Activation, weight: float, bias: float, start: float) -> FixedPoint:
    """The fixed point to which a mean square of ``start`` goes."""
    at = f"{phi.kind!r} at weight_variance = {weight:g}, bias_variance = {bias:g}"
    points = mean_square_fixed_points(phi, weight, bias)
    upward = mean_square_map(phi, start, weight, bias) >= start
    near = 1e-9 * start  # of a start on the fixed point itself rounding decides the side
    ahead = [p for p in points if p.mean_square >= start - near] if upward else []
    behind = [] if upward else [p for p in points if p.mean_square <= start + near]
    if not ahead and not behind:
        growth = mean_square_map(phi, _MOST, weight, bias) / _MOST
        raise Unsupported(
            f"the mean square of {at} has no fixed point above {start:g}: it grows for ever, in "
            f"the end by a factor {growth:.4g} a layer. Take a smaller weight_variance"
            + (", or a smaller start." if points else ".")
        )
    return ahead[0] if upward else behind[-1]


def _apart(phi: Activation, weight: float, bias: float, q: float) -> float:
    """The fixed point of the cosine's map below 1; it is there if the slope at 1 exceeds 1."""

    def excess(c: float) -> float:
        return (weight * _average(phi, c, q, q) + bias) / q - c

    below = 0.5
    # The nearer chi_1 is to 1 the nearer the root: just below 1 the excess is negative.
    while excess(1 - below) > 0:
        below /= 4
    if excess(0.0) <= 1e-13:
        return 0.0  # an odd activation without biases: orthogonal inputs stay so
    return float(brentq(excess, 0.0, 1 - below, xtol=1e-13))


# ----------------------------------------------------------------------------- edge


def edge_of_chaos(
    activation: Activation | str, mean_square: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    r"""The curve :math:`\chi_1 = 1`, by its mean square: no root is searched.

    .. math:: \sigma_w^2 = 1 / E\varphi'(\sqrt q g)^2, \qquad
              \sigma_b^2 = q - \sigma_w^2 E\varphi(\sqrt q g)^2

    Parameters
    ----------
    activation : Activation or str
    mean_square : array_like
        :math:`q^*`, positive.

    Returns
    -------
    (weight_variance, bias_variance) : tuple of ndarray, of the shape of ``mean_square``
        A negative bias variance means that no network with this q is critical.

    Raises
    ------
    SpecError
        If a mean square is not positive.

    Notes
    -----
    Status: limit, as the width grows. For a positively homogeneous activation the curve is a
    point: (2, 0) for ReLU, (1, 0) for linear. Cost: two Gaussian averages a point.

    References
    ----------
    Schoenholz et al. (2017), arXiv:1611.01232; Hayou, Doucet, Rousseau (2019),
    arXiv:1902.06853.

    Examples
    --------
    >>> weight, bias = edge_of_chaos("tanh", [0.1, 1.0])
    >>> weight.round(4).tolist(), bias.round(4).tolist()
    ([1.1776, 2.1533], [0.0008, 0.151])
    """
    phi = _named(activation)
    q = np.asarray(mean_square, float)
    if not (np.isfinite(q).all() and (q > 0).all()):
        raise SpecError(
            f"mean_square must be positive, got {float(np.min(q)) if q.size else q.tolist()!r}: it "
            "is that of a signal which is kept. Give for example numpy.geomspace(1e-3, 10)."
        )
    each = q.ravel()
    weight = np.array([1 / tangent_gain(phi, float(x), 1.0) for x in each])
    moment = np.array([phi.second_moment(float(x)) for x in each])
    bias = each - weight * moment
    # A difference of like numbers: what is left of it below rounding is 0.
    bias = np.where(np.abs(bias) < 1e-12 * each, 0.0, bias)
    return weight.reshape(q.shape), bias.reshape(q.shape)


def critical_weight_variance(activation: Activation | str, bias_variance: float) -> float:
    r"""The :math:`\sigma_w^2` on the edge of chaos at a given :math:`\sigma_b^2`.

    Parameters
    ----------
    activation : Activation or str
    bias_variance : float

    Returns
    -------
    float
        The smallest, if there are several.

    Raises
    ------
    SpecError
        If the variance is negative.
    Unsupported
        If no network with these biases is critical, as for ReLU with biases.

    Notes
    -----
    Status: limit, as the width grows. Cost: some 300 Gaussian averages, 0.2 s.

    Examples
    --------
    >>> round(critical_weight_variance("tanh", 0.05), 6)
    1.760955
    """
    phi = _named(activation)
    _, bias = _variances(1.0, bias_variance)
    if bias == 0.0 and (phi.homogeneous or float(phi(np.zeros(1))[0]) == 0.0):
        return 1 / tangent_gain(phi, 0.0, 1.0)

    def excess(log_q: float) -> float:
        return float(edge_of_chaos(phi, math.exp(log_q))[1]) - bias

    mesh = np.linspace(math.log(_LEAST), math.log(_MOST), 81)
    values = [excess(float(x)) for x in mesh] if not phi.homogeneous else []
    for k in range(len(values) - 1):
        if (values[k] < 0) != (values[k + 1] < 0):
            root = float(brentq(excess, mesh[k], mesh[k + 1], xtol=1e-13))
            return float(edge_of_chaos(phi, math.exp(root))[0])
    raise Unsupported(
        f"no network of {phi.kind!r} with bias_variance = {bias:g} is critical: the edge of chaos "
        "never reaches it. For ReLU it is the single point (2, 0); use a smaller bias_variance, "
        "or tanh or erf."
    )
