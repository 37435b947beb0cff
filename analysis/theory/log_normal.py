r"""The exact law of the logarithm of a norm, layer by layer, and the normal law that it tends to.

With Gaussian weights and a positively homogeneous activation a layer does not see where a
state points, so that the ratios :math:`|h_l|^2 / |h_{l-1}|^2` are independent and
:math:`\log |h_l|` is a random walk: its cumulants are sums over layers, at every depth, width and
choice of coefficients. One step of a residual block with m matrices is

.. math:: \frac{|h'|^2}{|h|^2} = (c + \tau z)^2 + \tau^2 \chi^2_{d-1}, \qquad
          \tau^2 = a^2 s^2 \sigma_m^2 \prod_{j<m} \sigma_j^2 Q_j, \qquad
          Q_j = \sum_{i \le n_j} \varphi(Z_i)^2 ,

with z, Z normal and all independent. A gradient that is isotropic at the top makes the same
steps, downward: the signs of the pre-activations, all that it sees of the states, are fair coins.
See `sigprop.branch_factor` for how these are integrated.

Where there are many small branches the walk tends to a normal law, for which the weights need
not be Gaussian: `log_normal_limit`.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.theory._transition import transition
from analysis.theory._walk import walk
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble, check_number

__all__ = [
    "gradient_moment_relative_variance",
    "log_gradient_kurtosis",
    "log_gradient_mean",
    "log_gradient_moment",
    "log_gradient_skewness",
    "log_gradient_variance",
    "log_norm_kurtosis",
    "log_norm_mean",
    "log_norm_moment",
    "log_norm_skewness",
    "log_norm_variance",
    "log_normal_limit",
    "norm_moment_relative_variance",
]

_HIGHEST = 20  # order of a moment: beyond, the grids of `branch_factor` end too early


# ----------------------------------------------------------------------- logarithms


def log_norm_mean(ensemble: Ensemble) -> np.ndarray:
    r"""Mean of :math:`\log |h_l| / |h_0|`, over the networks in which :math:`h_l` is not zero.

    Parameters
    ----------
    ensemble : Ensemble
        Any input: the law is the same for all.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; nan where the state is zero for sure.

    Raises
    ------
    Unsupported
        If weights are not Gaussian, depend on each other along depth or have centred rows; if
        there are biases; if the activation is not positively homogeneous, or sits on the trunk
        and is not linear.

    Notes
    -----
    Status: exact for all depths, widths and coefficients, to a relative 1e-12 or so however
    small the branches. Cost: 1 ms for each layer that is like no other, 0.1 s at most.

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for the networks; the random walk
    is elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=1000, width=10), Power(beta=0.5))
    >>> round(float(log_norm_mean(critical)[-1]), 5)  # 1/4 - 1/20 in the limit
    0.19996
    """
    return walk(ensemble, "log_norm_mean").norm()[:, 0]


def log_norm_variance(ensemble: Ensemble) -> np.ndarray:
    r"""Variance of :math:`\log |h_l| / |h_0|`.

    Parameters, raises, status and cost as `log_norm_mean`. Divided by the number of networks
    and square-rooted, the standard error of a measured mean.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; nan where the state is zero for sure.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=1000, width=10), Power(beta=0.5))
    >>> round(float(log_norm_variance(critical)[-1]), 5)  # 1/20 in the limit
    0.04998
    """
    return walk(ensemble, "log_norm_variance").norm()[:, 1]


def log_norm_skewness(ensemble: Ensemble) -> np.ndarray:
    r"""Skewness of :math:`\log |h_l| / |h_0|`, 0 for a log-normal norm.

    Parameters, raises, status and cost as `log_norm_mean`; accurate to an absolute 1e-12.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; nan where the logarithm does not vary, as at the input.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=1000, width=10), Power(beta=0.5))
    >>> round(float(log_norm_skewness(critical)[-1]), 6)
    0.000335
    """
    return _skewness(walk(ensemble, "log_norm_skewness").norm())


def log_norm_kurtosis(ensemble: Ensemble) -> np.ndarray:
    r"""Excess kurtosis of :math:`\log |h_l| / |h_0|`, 0 for a log-normal norm.

    Parameters, returns, raises, status and cost as `log_norm_skewness`. A variance measured on
    n networks has the relative standard error sqrt((2 + kurtosis) / n).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=1000, width=10), Power(beta=0.5))
    >>> round(float(log_norm_kurtosis(critical)[-1]), 6)
    0.001498
    """
    return _kurtosis(walk(ensemble, "log_norm_kurtosis").norm())


def log_gradient_mean(ensemble: Ensemble) -> np.ndarray:
    r"""Mean of :math:`\log |p_l| / |p_L|`, p_L isotropic, where the gradient is not zero.

    The steps of `log_norm_mean` from the top down: with the same coefficients in every layer
    :math:`|p_0| / |p_L|` and :math:`|h_L| / |h_0|` have one law. In a plain net a step is
    :math:`|p_{l-1}|^2 / |p_l|^2 = a^2 s^2 \sigma^2 \chi^2\, Q / |Z|^2`, :math:`\chi^2` with as many
    degrees as layer l - 1 has units, Q and :math:`|Z|^2` over those of layer l.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Raises
    ------
    Unsupported
        As `log_norm_mean`; and if skip coefficients are 0 in a net of ReLUs.

    Notes
    -----
    Status, accuracy and cost as `log_norm_mean`. Assumes a gradient at the top that is
    isotropic and independent of the network.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> bool(np.allclose(log_gradient_mean(law)[::-1], log_norm_mean(law)))
    True
    """
    return walk(ensemble, "log_gradient_mean", gradient=True).gradient()[:, 0]


def log_gradient_variance(ensemble: Ensemble) -> np.ndarray:
    r"""Variance of :math:`\log |p_l| / |p_L|`, p_L isotropic.

    Returns, raises, status and cost as `log_gradient_mean`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> bool(np.allclose(log_gradient_variance(law)[::-1], log_norm_variance(law)))
    True
    """
    return walk(ensemble, "log_gradient_variance", gradient=True).gradient()[:, 1]


def log_gradient_skewness(ensemble: Ensemble) -> np.ndarray:
    r"""Skewness of :math:`\log |p_l| / |p_L|`, p_L isotropic.

    Raises, status and cost as `log_gradient_mean`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; nan where the logarithm does not vary, as at the top.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> bool(np.isclose(log_gradient_skewness(law)[0], log_norm_skewness(law)[-1]))
    True
    """
    return _skewness(walk(ensemble, "log_gradient_skewness", gradient=True).gradient())


def log_gradient_kurtosis(ensemble: Ensemble) -> np.ndarray:
    r"""Excess kurtosis of :math:`\log |p_l| / |p_L|`, p_L isotropic.

    Returns, raises, status and cost as `log_gradient_skewness`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> bool(np.isclose(log_gradient_kurtosis(law)[0], log_norm_kurtosis(law)[-1]))
    True
    """
    return _kurtosis(walk(ensemble, "log_gradient_kurtosis", gradient=True).gradient())


def _skewness(cumulants: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return cumulants[:, 2] / cumulants[:, 1] ** 1.5


def _kurtosis(cumulants: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return cumulants[:, 3] / cumulants[:, 1] ** 2


# -------------------------------------------------------------------------- moments


def log_norm_moment(ensemble: Ensemble, order: float) -> np.ndarray:
    r"""Log of :math:`E |h_l|^s / |h_0|^s` for any order s: `log_mean_square` is order 2.

    Parameters
    ----------
    ensemble : Ensemble
    order : float
        s, from 0 to 20; it need not be an integer.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; networks in which the state is zero count as 0.

    Raises
    ------
    Unsupported
        As `log_norm_mean`.
    SpecError
        If the order is out of range.

    Notes
    -----
    Status, accuracy and cost as `log_norm_mean`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> critical = Ensemble(Network(depth=4, width=10), Power(beta=0.5))
    >>> round(float(np.exp(log_norm_moment(critical, 2)[-1])), 6)  # (1 + 1/2 / 4)^4
    1.601807
    """
    return walk(ensemble, "log_norm_moment").norm_moment(_order(order))


def norm_moment_relative_variance(ensemble: Ensemble, order: float) -> np.ndarray:
    r"""Variance of :math:`|h_l|^s` over its squared mean, :math:`E|h|^{2s} / (E|h|^s)^2 - 1`.

    `relative_variance` is order 2, for any law of weights with a fourth moment.

    Parameters
    ----------
    ensemble : Ensemble
    order : float
        s, from 0 to 10.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless. Divided by the number of networks and square-rooted, the standard error
        of a measured moment relative to its truth; inf beyond float64, nan where the state is
        zero for sure.

    Raises
    ------
    Unsupported, SpecError
        As `log_norm_moment`.

    Notes
    -----
    Status and cost as `log_norm_mean`.

    Examples
    --------
    >>> from analysis.theory.fourth_moment import relative_variance
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=30, width=10), Power(beta=0.5))
    >>> bool(np.allclose(norm_moment_relative_variance(law, 2), relative_variance(law)))
    True
    """
    steps, order = walk(ensemble, "norm_moment_relative_variance"), _order(order, _HIGHEST / 2)
    return _relative_variance(steps.norm_moment(order), steps.norm_moment(2 * order))


def log_gradient_moment(ensemble: Ensemble, order: float) -> np.ndarray:
    r"""Log of :math:`E |p_l|^s / |p_L|^s` for any order s, p_L isotropic.

    Parameters as `log_norm_moment`; status and cost as `log_gradient_mean`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Raises
    ------
    Unsupported, SpecError
        As `log_gradient_mean` and `log_norm_moment`.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=7, width=10), Power(beta=0.25))
    >>> bool(np.allclose(log_gradient_moment(law, 1)[::-1], log_norm_moment(law, 1)))
    True
    """
    steps = walk(ensemble, "log_gradient_moment", gradient=True)
    return steps.gradient_moment(_order(order))


def gradient_moment_relative_variance(ensemble: Ensemble, order: float) -> np.ndarray:
    r"""Variance of :math:`|p_l|^s` over its squared mean, p_L isotropic.

    Parameters as `norm_moment_relative_variance`; status and cost as `log_gradient_mean`.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless; its last entry is 0.

    Raises
    ------
    Unsupported, SpecError
        As `log_gradient_moment`.

    Examples
    --------
    >>> from analysis.theory.fourth_moment import gradient_relative_variance
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=30, width=10), Power(beta=0.5))
    >>> found = gradient_moment_relative_variance(law, 2)
    >>> bool(np.allclose(found, gradient_relative_variance(law)))
    True
    """
    steps = walk(ensemble, "gradient_moment_relative_variance", gradient=True)
    order = _order(order, _HIGHEST / 2)
    return _relative_variance(steps.gradient_moment(order), steps.gradient_moment(2 * order))


def _order(order: float, highest: float = _HIGHEST) -> float:
    why = "Higher moments are carried by networks that are never drawn; work with the logarithm."
    return check_number("order", order, low=0.0, high=highest, why=why)


def _relative_variance(log_moment: np.ndarray, log_square: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.expm1(log_square - 2 * log_moment)


# ---------------------------------------------------------------------------- limit


def log_normal_limit(ensemble: Ensemble) -> tuple[float, float]:
    r"""Mean and variance of the normal law to which :math:`\log |h_L| / |h_0|` tends.

    .. math:: N\Bigl(\sum_k \log |c_k| + \bigl(\tfrac12 - \tfrac1d\bigr) T,\ \tfrac Td\Bigr), \qquad
              T = \sum_k t_k / c_k^2

    with :math:`t_k` the mean square that branch k adds to a state of norm 1, as in
    `log_mean_square`. With branches :math:`L^{-1/2}` and weights of variance 1/fan_in,
    :math:`T = E\varphi(Z)^2 = c` for res3: mean c/2 - c/d and variance c/d.
    By symmetry the same for :math:`\log |p_0| / |p_L|`.

    Returns
    -------
    tuple of two floats
        Of the state at the top; dimensionless, natural logarithm.

    Raises
    ------
    Unsupported
        As `log_mean_square`; and of plain nets, skip coefficients of 0, and biases.

    Notes
    -----
    Status: limit as the depth grows, the width being fixed, the largest :math:`t_k / c_k^2`
    tending to 0 and T to a constant. Assumes independent symmetric weights of finite variance;
    they need not be Gaussian. The error is of the order of :math:`\sum_k t_k^2`. Cost O(depth).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for the scaling; the central limit
    theorem for the walk of this module is elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=1000, width=100), Power(beta=0.5))
    >>> [round(number, 9) for number in log_normal_limit(law)]
    [0.245, 0.005]
    """
    name = "log_normal_limit"
    if not ensemble.network.form.trunk or np.any(ensemble.table.skip == 0):
        raise Unsupported(
            f"{name} needs a trunk with skip coefficients other than 0, beside which branches are "
            "small. Use log_norm_mean and log_norm_variance, which are exact."
        )
    if ensemble.table.biased:
        raise Unsupported(
            f"{name} needs a net without biases: with them a layer adds more to a short state "
            "than to a long one. Simulate it."
        )
    if ensemble.table.correlated:
        raise Unsupported(f"{name} needs layers that are independent of each other.")
    steps = transition(ensemble, name=name, order=2)
    total = math.fsum(steps.branch[:, 2, 2] / steps.skip**2)
    d = ensemble.network.width
    shift = math.fsum(np.log(np.abs(steps.skip)))
    return shift + total * (0.5 - 1 / d), total / d
