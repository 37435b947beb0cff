r"""The singular spectrum of the Jacobian in wide random networks, law by law.

================= ========================================================================
universal         any residual net whose depth grows as its branches shrink
linear branches   J = prod (1 + X), X a Gaussian square matrix: finite depth
two-matrix        J = prod (1 + V D W): blocks ``res3`` and ``inner`` of two matrices
plain             J = prod D W, Gaussian or orthogonal W, piecewise linear units
projection        J = prod D (a V D' W + b S): type C after the activation, independent S
================= ========================================================================

Each gives a `Curve` (see `analysis.theory.free_probability`) of the squared singular values
:math:`\lambda`. All are limits of infinite width; at width N, averages are off by O(1/N) and
extreme values by O(N^-2/3).

Two warnings, both measured. Where the branch reads the state through an activation that is not
odd (``res1`` with ReLU), the derivative is correlated with the weights through the state, and
one singular value lies far outside the law. In full pre-activation (``preact``) with ReLU the
mask of the trunk persists from layer to layer, freeness fails, and m2 comes out about 8% larger
at c = 1/2. Both have the right mean of ln sigma.
"""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np

from analysis.theory.free_probability import Curve, Spectrum, described
from sigprop.errors import SpecError

__all__ = [
    "linear_branches",
    "plain",
    "plain_spread",
    "projection",
    "two_matrix",
    "universal",
    "universal_density",
    "universal_edges",
    "universal_log_variance",
    "universal_moments",
]


def _kind(t: Any) -> Any:
    return np if isinstance(t, np.ndarray) else cmath


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise SpecError(
            f"{name} must be a positive number, got {value!r}: with 0 the Jacobian is a multiple "
            "of the identity and has no spread. Give the strength of the branches."
        )
    return float(value)


# ------------------------------------------------------------------- universal


def universal(c: float) -> Curve:
    r"""The law of a deep residual net: :math:`z(y) = \frac{1+y}{y} e^{c (1 + 2y)}`.

    :math:`J = \prod_l (1 + X_l)` with free, R-diagonal :math:`X_l`,
    :math:`c = \sum_l E \mathrm{tr} X_l X_l^T / N`, as the depth grows at fixed c.
    :math:`\ln \lambda` is a semicircle of variance 2c plus, freely, a uniform law on [-c, c].

    Parameters
    ----------
    c : float
        Positive. Dimensionless.

    Raises
    ------
    SpecError
        If c is not positive.

    Notes
    -----
    Status: limit of infinite width, then depth. For x' = a x + phi(W x + b),
    c = (1/a^2) sum_l sw^2 E phi'(h_l)^2, and J carries a^L. Cost O(1).

    References
    ----------
    Tarnowski, Warchol, Jastrzebski, Tabor, Nowak (2019), arXiv:1809.08848; Ling, Qiu (2018),
    arXiv:1803.03663, rescaled by the depth.

    Examples
    --------
    >>> from analysis.theory.free_probability import moments
    >>> (moments(universal(1.0), 2) / [math.e, 3 * math.e**2]).round(9).tolist()
    [1.0, 1.0]
    """
    _positive("c", c)

    def log_z(y: Any) -> Any:
        return _kind(y).log((1 + y) / y) + c * (1 + 2 * y)

    return Curve(log_z, near=min(0.5, 0.5 / c))


def universal_moments(c: float, count: int) -> np.ndarray:
    r"""Moments :math:`m_k = \frac{e^{kc}}{k} \sum_{j<k} \binom{k}{j+1} (2kc)^j / j!` of lambda.

    Returns
    -------
    ndarray, shape (count,)

    Notes
    -----
    Status: exact for the law of `universal`. Cost O(count^2).

    References
    ----------
    As `universal`.

    Examples
    --------
    >>> universal_moments(0.5, 2).round(6).tolist()  # e^(1/2) and 2 e
    [1.648721, 5.436564]
    """
    _positive("c", c)
    return np.array([
        math.exp(k * c) / k
        * sum(math.comb(k, j + 1) * (2 * k * c) ** j / math.factorial(j) for j in range(k))
        for k in range(1, count + 1)
    ])  # fmt: skip


def universal_edges(c: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    r"""(smallest, largest) ln sigma: :math:`\pm\frac12 [\ln\frac{r+1}{r-1} + c r]`, r^2 = 1 + 2/c.

    Notes
    -----
    Status: exact for the law of `universal`. Cost O(1) a number.

    References
    ----------
    As `universal`.

    Examples
    --------
    >>> float(np.exp(universal_edges(1.0)[1]).round(3))
    4.593
    """
    c = np.asarray(c, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.sqrt(1 + 2 / c)
        half = 0.5 * (np.log((r + 1) / (r - 1)) + c * r)
    half = np.where(c > 0, half, 0.0)
    return -half, half


def universal_log_variance(c: np.ndarray | float) -> np.ndarray:
    r"""Variance of ln sigma, :math:`c / 2 + c^2 / 12`; its mean is 0.

    Notes
    -----
    Status: exact for the law of `universal`. Cost O(1) a number.

    References
    ----------
    As `universal`; variances add under free convolution.

    Examples
    --------
    >>> float(universal_log_variance(6.0))
    6.0
    """
    c = np.asarray(c, float)
    return c / 2 + c**2 / 12


def universal_density(c: float, points: int = 1001) -> Spectrum:
    r"""The density in closed form, without iteration.

    For y in (0, y*), with y* the root in (0, pi) of the square below,

    .. math:: x = \pm\sqrt{c^2 - y^2 + 2 c y \cot y},\qquad
              \ln\lambda = x + \tfrac12 \ln \frac{(x+c)^2 + y^2}{(x-c)^2 + y^2},\qquad
              \rho(\ln \lambda) = \frac{y}{2 \pi c}.

    Parameters
    ----------
    c : float
    points : int
        Odd: how many points, thickest near the edges.

    Returns
    -------
    Spectrum

    Notes
    -----
    Status: exact for the law of `universal`, to rounding. Cost O(points), under a millisecond.

    References
    ----------
    From the free convolution of semicircle and uniform law.

    Examples
    --------
    >>> law = universal_density(1.0)
    >>> float(np.trapezoid(law.density, law.logs).round(5)), round(law.variance, 4)
    (1.0, 0.5833)
    """
    _positive("c", c)
    if points < 5 or points % 2 == 0:
        raise SpecError(f"points must be odd and at least 5, got {points}. Use 1001.")

    def square(y: np.ndarray) -> np.ndarray:
        return c**2 - y**2 + 2 * c * y / np.tan(y)

    low, high = 1e-9, math.pi - 1e-12
    for _ in range(200):  # it falls from c^2 + 2c to -inf
        middle = (low + high) / 2
        if square(np.array(middle)) > 0:
            low = middle
        else:
            high = middle
    half = points // 2
    # y = y* (1 - s^2): x is smooth in s at the centre, and y leaves 0 linearly at the edge.
    y = low * (1 - (np.arange(half, 0, -1) / half) ** 2)
    y[0] = 0.0
    y = np.append(y, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.sqrt(np.maximum(np.where(y > 0, square(y), c**2 + 2 * c), 0.0))
    x[-1] = 0.0
    logs = x + 0.5 * np.log(((x + c) ** 2 + y**2) / ((x - c) ** 2 + y**2))
    rho = y / (2 * math.pi * c)
    logs = np.concatenate([-logs, logs[-2::-1]]) / 2
    rho = np.concatenate([rho, rho[-2::-1]]) * 2
    return described(logs, rho, 0.0)


# ----------------------------------------------------------------- finite depth


def linear_branches(depth: int, strength: float) -> Curve:
    r""":math:`J = \prod (1 + X_l)`, X Gaussian and square with entries of variance s^2 / N.

    .. math:: S_1 = \frac{2}{s^2 [B + \sqrt{B^2 - 4 y (1+y)}]},\quad B = 1 + 2y + s^{-2}

    so :math:`m_1 = (1 + s^2)^L` and :math:`m_2/m_1^2 - 1 = L s^2 (2 + s^2)/(1 + s^2)^2`.

    Parameters
    ----------
    depth : int
    strength : float
        s^2, relative to the square of the skip coefficient.

    Notes
    -----
    Status: limit of infinite width, any depth. Cost O(1).

    References
    ----------
    From the R-diagonal law of 1 + X.

    Examples
    --------
    >>> from analysis.theory.free_probability import moments
    >>> moments(linear_branches(3, 0.5), 1).round(9).tolist()
    [3.375]
    """
    s2 = _positive("strength", strength)

    def log_z(y: Any) -> Any:
        m = _kind(y)
        b = 1 + 2 * y + 1 / s2
        root = m.sqrt(b * b - 4 * y * (1 + y))
        return m.log(1 + y) - m.log(y) - depth * m.log(2 / (s2 * (b + root)))

    return Curve(log_z, near=0.4 / (1 + depth * s2 / (1 + s2)))


def two_matrix(depth: int, strength: float, ratio: float = 1.0) -> Curve:
    r""":math:`J = \prod (1 + V_l D_l W_l)`, Gaussian, half of D's N/r entries 1 and half 0.

    With t in (0, t_max), U = t (1 + t), and 2 r s^2 U = 1 at t_max,

    .. math:: y = t + \frac{s^2 U}{1 - 2 r s^2 U}, \qquad S_1 = \frac{U}{y (1 + y)},

    so :math:`m_1 = (1 + s^2)^L` and
    :math:`m_2/m_1^2 - 1 = L\,(2 s^2 + (1 + 2r) s^4)/(1 + s^2)^2`.

    Parameters
    ----------
    depth : int
    strength : float
        s^2 = (branch / skip)^2 kappa, kappa the gain of a branch in mean square.
    ratio : float
        r = width of the trunk over hidden width.

    Notes
    -----
    Status: limit of infinite width, any depth. ReLU; the branch reads the trunk by a matrix
    (``res3``, ``inner``). Cost O(1).

    References
    ----------
    From the R-diagonal law of 1 + V D W.

    Examples
    --------
    >>> from analysis.theory.free_probability import moments
    >>> m = moments(two_matrix(3, 0.6, 2.0), 3)
    >>> [round(float(m[1]), 1), round(float(m[2]))]
    [75.8, 2230]
    """
    s2, r = _positive("strength", strength), _positive("ratio", ratio)
    end = (math.sqrt(1 + 2 / (r * s2)) - 1) / 2

    def y_of(t: Any) -> Any:
        u = t * (1 + t)
        return t + s2 * u / (1 - 2 * r * s2 * u)

    def log_z(t: Any) -> Any:
        m = _kind(t)
        y = y_of(t)
        step = m.log(y / t) + m.log((1 + y) / (1 + t))  # 1 / S_1 = y (1 + y) / U
        return m.log((1 + y) / y) + depth * step

    slope = 1 + s2  # dy/dt at 0
    near = min(0.4 * end, 0.3 / slope / (1 + depth * s2))
    return Curve(log_z, y_of, end=end, near=near)


def plain(
    depth: int, *, slope: float = 0.0, variance: float = 2.0, orthogonal: bool = False
) -> Curve:
    r""":math:`J = \prod D_l W_l`: half of D's entries 1, half the negative slope a.

    .. math:: S_{D^2}(y) = \frac{2 (1+y)}{b + \sqrt{b^2 - 4 a^2 y (1 + y)}},\;
              b = (1 + a^2)(y + \tfrac12), \qquad
              S_{W W^T} = \frac{1}{\sigma^2 (1 + y)} \text{ or } \frac1{\sigma^2}

    for Gaussian entries of variance sigma^2 / N, or sigma times a Haar orthogonal matrix. For
    ReLU half of the mass sits at 0 (the atom); the curve gives all else. Critical ReLU,
    sigma^2 = 2: :math:`m_2 / m_1^2 - 1` is 2L (Gaussian) or L (orthogonal).

    Parameters
    ----------
    depth : int
    slope : float
        Negative slope a: 0 for ReLU, 1 for a linear net.
    variance : float
        sigma^2.
    orthogonal : bool

    Notes
    -----
    Status: limit of infinite width, any depth; one width throughout, no biases. Cost O(1).

    References
    ----------
    Pennington, Schoenholz, Ganguli (2017), arXiv:1711.04735, and (2018), arXiv:1802.09979.

    Examples
    --------
    >>> from analysis.theory.free_probability import right_edge
    >>> round(math.exp(right_edge(plain(5))[1] / 2), 3)
    5.222
    """
    s2, q = _positive("variance", variance), slope**2

    def log_z(y: Any) -> Any:
        m = _kind(y)
        # 1 / S_{D^2} = [b + sqrt(b^2 - 4 q y (1+y))] / (2 (1+y))
        b = (1 + q) * (y + 0.5)
        inverse = m.log((b + (b if q == 0 else m.sqrt(b * b - 4 * q * y * (1 + y)))) / 2)
        # Gaussian: 1 / S_W = sigma^2 (1 + y), which cancels the (1 + y) below.
        step = inverse + math.log(s2) - (m.log(1 + y) if orthogonal else 0.0)
        return m.log((1 + y) / y) + depth * step

    return Curve(log_z, atom=0.5 if q == 0 else 0.0, near=0.2 / depth)


def plain_spread(first: float, second: float, depth: int, *, orthogonal: bool = False) -> float:
    r""":math:`m_2/m_1^2 - 1` of a plain net of any activation, :math:`L (\mu_2/\mu_1^2 - 1 - s_1)`.

    Parameters
    ----------
    first, second : float
        mu_1 = E phi'(h)^2 and mu_2 = E phi'(h)^4.
    depth : int
    orthogonal : bool
        s_1 = 0, and -1 for Gaussian weights.

    Notes
    -----
    Status: limit of infinite width at a fixed point of the length. Cost O(1).

    References
    ----------
    Pennington, Schoenholz, Ganguli (2017), arXiv:1711.04735.

    Examples
    --------
    >>> plain_spread(0.5, 0.5, 7), plain_spread(0.5, 0.5, 7, orthogonal=True)
    (14.0, 7.0)
    """
    return depth * (second / first**2 - 1 + (0 if orthogonal else 1))


def projection(
    depth: int,
    branch: float,
    skip: float,
    ratio: float = 1.0,
    *,
    gain: float = 1.0,
    stem: tuple[float, float] | None = None,
) -> Curve:
    r"""Type C after the activation: :math:`J = \prod D_l (a V D' W + b S)`, all Gaussian.

    With variances of the entries such that a^2 and b^2 are the mean squares that branch and
    skip contribute, relative to the gain,

    .. math:: S_1 = \frac{2}{g\,(1 + 2y)\,[B + \sqrt{B^2 - 8 r a^2 b^2 y}]},\quad
              B = 1 + 2 r a^2 y, \qquad a^2 + b^2 = 1,

    so :math:`m_2/m_1^2 - 1 = L (2 + 2 r a^4)`. Half of the mass sits at 0. With a stem
    :math:`D_0 W_0` from an input narrower by the factor :math:`\rho`, y is :math:`\rho y` in all of
    this, and S has the factor :math:`1 / (g_0 (1 + 2 \rho y))` more.

    Parameters
    ----------
    depth : int
    branch, skip : float
        a and b; only their ratio matters, since they are normalised.
    ratio : float
        r = width of the trunk over hidden width.
    gain : float
        g, the factor of the mean square a layer.
    stem : (float, float), optional
        (g_0, rho): its gain, and the size of the input over the width.

    Notes
    -----
    Status: limit of infinite width, any depth; ReLU, one width. Cost O(1).

    References
    ----------
    Definition 2.2 of Gadhikar, Burkholz (2022), arXiv:2210.02411, for the network; the law is
    from the freeness of its factors.

    Examples
    --------
    >>> from analysis.theory.free_probability import moments
    >>> m = moments(projection(2, math.sqrt(0.6), math.sqrt(0.4), 2.0), 3)
    >>> [round(float(x), 2) for x in m]
    [1.0, 7.88, 89.33]
    """
    total = branch**2 + skip**2
    _positive("branch^2 + skip^2", total)
    a2, b2, r, g = branch**2 / total, skip**2 / total, _positive("ratio", ratio), gain
    entering, rho = (1.0, 1.0) if stem is None else stem

    def log_z(y: Any) -> Any:
        m = _kind(y)
        w = rho * y
        b = 1 + 2 * r * a2 * w
        root = b if b2 == 0 else m.sqrt(b * b - 8 * r * a2 * b2 * w)
        step = math.log(g) + m.log(1 + 2 * w) + m.log((b + root) / 2)
        first = 0.0 if stem is None else math.log(entering) + m.log(1 + 2 * w)
        return m.log((1 + y) / y) + first + depth * step

    # Without a skip, a hidden layer narrower than the trunk leaves less of the rank than half.
    left = 0.5 if b2 > 0 or not depth else min(0.5, 0.5 / r)
    atom = max(0.0, 1 - left / rho)
    return Curve(log_z, atom=atom, near=0.15 / ((depth + 1) * (1 + r * a2) * max(rho, 1.0)))
