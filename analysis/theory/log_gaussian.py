r"""Log-Gaussian laws at finite depth and width: plain nets of any weights, and res1 with memory.

**Plain nets** (Hanin and Nica). With units of squared mean :math:`m = E\varphi(Z)^2` and
:math:`v = E\varphi(Z)^4 / m^2 - 1`, the logarithm of :math:`|x_l|^2` over the product of its mean
gains is about :math:`N(-\beta/2, \beta)`,

.. math:: \beta = v \sum_k \frac1{d_k} + (\mu_4 - 3) f \sum_k \frac{K_{k-1}}{d_k}, \qquad
          f = \frac{E\varphi(Z)^4}{3 m^2}, \quad K_0 = \frac{|x_0|_4^4}{|x_0|_2^4}, \quad
          K_k = \frac{3f}{d_k},

:math:`d_k` the width of layer k and :math:`\mu_4` the kurtosis of a weight. v is 5 for ReLU and 2
for linear units, f is 2 and 1. What is left out is of order 1 / d^2 a layer, so that it is wrong at
depths of the order of :math:`d^2`: the exact laws of `analysis.theory.log_normal` are not.

**Res1** (Li, Nica and Roy). :math:`h' = \alpha h + \lambda \sqrt{2/n}\, V \varphi(h)`,
:math:`\alpha^2 + \lambda^2 = 1`, ReLU. What a branch adds depends on how much of the state is
positive, and a state keeps the directions that earlier branches gave it. With the correlation
:math:`c = \alpha^m` of two states m layers apart and

.. math:: K(c) = E\, u|u|\,v|v| = \tfrac2\pi \bigl[(1 + 2c^2) \arcsin c + 3c \sqrt{1-c^2}\bigr],
          \qquad K'(c) = \tfrac8\pi \bigl[\sqrt{1-c^2} + c \arcsin c\bigr],

.. math::
    \mathrm{Var} \log |h_l|^2 &= \frac ln \Bigl[4\alpha^2\lambda^2 + 5\lambda^4
        + 2\lambda^4 \sum_{m<l} (1 - \tfrac ml) K(\alpha^m)\Bigr], \\
    E \log |h_l|^2 &= -\frac l{2n} \Bigl[4\alpha^2\lambda^2 + 5\lambda^4
        + \lambda^4 \sum_{m<l} (1 - \tfrac ml)\, \alpha^m K'(\alpha^m)\Bigr].

The sum in the variance is the correlation between layers, that in the mean their *hypoactivation*:
less than half of the units is positive. A random sign for every unit and layer (Balanced ResNet)
removes both.
"""

from __future__ import annotations

import math

import numpy as np

from analysis.theory._entrywise import check_entrywise
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = [
    "excess_kurtosis_variance",
    "hypoactivation",
    "log_gaussian_plain",
    "log_gaussian_residual",
    "unit_variance",
]


def unit_variance(ensemble: Ensemble) -> float:
    r"""Variance of one unit's square over its squared mean: 5 for ReLU, 2 for linear units.

    Parameters
    ----------
    ensemble : Ensemble
        Its activation must be positively homogeneous with a fixed slope below 0.

    Raises
    ------
    Unsupported
        If it is not.

    Notes
    -----
    Status: exact, :math:`6 (1 + a^4) / (1 + a^2)^2 - 1` for a slope a. Cost: none.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> unit_variance(Ensemble(Network(depth=1, width=9, block="plain"), He()))
    5.0
    """
    return 3 * _peak(ensemble, "unit_variance") - 1


def log_gaussian_plain(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and variance of :math:`\log |x_l| / |x_0|` by Hanin and Nica.

    Parameters
    ----------
    ensemble : Ensemble
        A plain net without biases, of any weights with a variance, Gaussian or not; for them
        without what `excess_kurtosis_variance` adds.

    Returns
    -------
    tuple of two ndarrays of shape (depth + 1,)
        Halved and quartered, from the square to the norm: dimensionless, natural logarithm.

    Raises
    ------
    Unsupported
        Of other blocks, activations, biases, correlated or dependent weights.

    Notes
    -----
    Status: limit of great widths with depth / width fixed. For Gaussian ReLUs a layer is off by
    :math:`2 / d^2` in the mean and :math:`5 / d^2` in the variance, which add up. Cost O(depth).

    References
    ----------
    Hanin and Nica (2020), *Products of many large random matrices and gradients in deep neural
    networks*, Commun. Math. Phys. 376; recalled, v for other activations derived.

    Examples
    --------
    >>> from sigprop import Ensemble, Network
    >>> from sigprop.schemes import He
    >>> he = Ensemble(Network(depth=1000, width=100, block="plain"), He())
    >>> mean, variance = log_gaussian_plain(he)
    >>> round(float(2 * mean[-1]), 9), round(float(4 * variance[-1]), 9)  # exact: -25.42, 51.94
    (-25.0, 50.0)
    """
    network, table = ensemble.network, ensemble.table
    _check(ensemble, "log_gaussian_plain")
    if network.form.trunk:
        raise Unsupported(
            f"log_gaussian_plain is a law of plain nets, got block {network.block!r}. Use "
            "log_gaussian_residual for res1, or log_norm_mean and log_norm_variance for Gaussian "
            "weights in the blocks whose branch does not read the state directly."
        )
    widths = network.state_widths
    with np.errstate(divide="ignore"):
        scales = np.log(np.abs(table.branch * table.input_scale * table.scale[:, 0]))
    gains = 2 * scales + np.log(widths[1:] * network.phi.second_moment())
    beta = unit_variance(ensemble) / widths[1:]
    return _summed(gains / 2 - beta / 4), _summed(beta / 4)


def excess_kurtosis_variance(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""What weights that are not Gaussian add to the variance of :math:`\log |x_l|` of a plain net.

    .. math:: \frac{\mu_4 - 3}4 f \sum_k \frac{K_{k-1}}{d_k}

    Parameters
    ----------
    ensemble : Ensemble
        As `log_gaussian_plain`.
    input : int
        Which of the inputs: the first layer sees the shape of a given vector.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Negative for weights of thinner tails than the Gaussian. Half as much, with the other
        sign, is added to the mean.

    Raises
    ------
    Unsupported
        As `log_gaussian_plain`; and if the weights have no fourth moment.

    Notes
    -----
    Status: limit, as `log_gaussian_plain`. Added to the exact variance for Gaussian weights it
    was within the error of simulations of width 24 and depth 12 (1%). Cost O(depth).

    References
    ----------
    Hanin and Nica (2020) for the first layer; the later ones elementary.

    Examples
    --------
    >>> import numpy as np
    >>> from sigprop import Ensemble, Given, Network
    >>> from sigprop.schemes import He
    >>> first = Given(vectors=np.eye(24)[:1])
    >>> uniform = Ensemble(Network(depth=12, width=24, block="plain"), He(law="uniform"), first)
    >>> round(4 * float(excess_kurtosis_variance(uniform)[-1]), 4)
    -0.375
    """
    name = "excess_kurtosis_variance"
    _check(ensemble, name)
    network, excess = ensemble.network, ensemble.table.law.kurtosis - 3
    if not math.isfinite(excess):
        raise Unsupported(
            f"{name} needs weights with a fourth moment, and law {ensemble.table.law.kind!r} has "
            "none with these parameters. Measure quantiles of the logarithm."
        )
    widths, f = network.state_widths, _peak(ensemble, name)
    shape = 3 * f / widths[:-1]
    vectors = ensemble.inputs.array(int(widths[0])) if ensemble.inputs.frame() is None else None
    if vectors is None:
        shape[0] = 3 / (widths[0] + 2)  # the mean of |x|_4^4 over the sphere
    else:
        squares = np.asarray(vectors, float)[input] ** 2
        shape[0] = (squares**2).sum() / squares.sum() ** 2
    return _summed(excess * f * shape / widths[1:] / 4)


def log_gaussian_residual(
    ensemble: Ensemble, *, memory: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and variance of :math:`\log |h_l| / |h_0|` in res1 of ReLUs, with memory.

    Parameters
    ----------
    ensemble : Ensemble
        Block res1, relu or balanced_relu, Gaussian weights, the same coefficients in every layer,
        and an input of random direction. Where :math:`\alpha^2 + \lambda^2` is not 1 both are
        normalised and its logarithm added in every layer.
    memory : bool, optional
        False leaves the sums over lags out, as if layers met fresh states. The default is what is
        true: memory with relu, none with balanced_relu.

    Returns
    -------
    tuple of two ndarrays of shape (depth + 1,)
        Dimensionless, natural logarithm.

    Raises
    ------
    Unsupported
        Of everything else.

    Notes
    -----
    Status: limit of great width with depth / width fixed; off by 8 / n of itself or less at
    widths from 50 in simulations. Cost O(depth).

    References
    ----------
    Li, Nica, Roy (2021), *The future is log-Gaussian: ResNets and their infinite-depth-and-width
    limit at initialization*, for the setting and the phenomena; the sums derived.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Point
    >>> from sigprop.schemes import GivenScheme
    >>> half = GivenScheme(skip=0.5, branch=0.75**0.5, variance=2.0, variance_over_fan_in=True)
    >>> law = Ensemble(Network(depth=800, width=800, block="res1"), half, Point())
    >>> mean, variance = log_gaussian_residual(law)
    >>> round(2 * float(mean[-1]), 3), round(4 * float(variance[-1]), 2)
    (-2.548, 6.49)
    """
    alpha, total = _mixing(ensemble, "log_gaussian_residual")
    n, layers = ensemble.network.width, np.arange(ensemble.network.depth + 1)
    square = 1 - alpha**2
    rate = 4 * alpha**2 * square + 5 * square**2
    mean, variance = -rate * layers / (2 * n), rate * layers / n
    if ensemble.network.phi.kind == "relu" if memory is None else memory:
        lags = alpha ** np.arange(1.0, len(layers))
        spread, drift = _kernel(lags), lags * _kernel_slope(lags)
        mean = mean - square**2 / (2 * n) * _within(drift)
        variance = variance + 2 * square**2 / n * _within(spread)
    return (mean + layers * math.log(total)) / 2, variance / 4


def hypoactivation(alpha: float, layer: int) -> float:
    r"""How far from half a state is positive: k in :math:`E|\varphi(h)|^2 / |h|^2 = 1/2 + k/n`.

    .. math:: k = -\frac{2 \lambda^2}\pi \sum_{m \le l} \alpha^m
              \bigl[\sqrt{1 - \alpha^{2m}} + \alpha^m \arcsin \alpha^m\bigr]

    Parameters
    ----------
    alpha : float
        Skip coefficient, of res1 with :math:`\alpha^2 + \lambda^2 = 1`.
    layer : int
        l, from 0.

    Returns
    -------
    float

    Notes
    -----
    Status: limit of great width. Raises nothing. Cost O(layer).

    References
    ----------
    Li, Nica, Roy (2021) for the phenomenon; the sum derived.

    Examples
    --------
    >>> [round(hypoactivation(square**0.5, 400), 4) for square in (0.25, 0.5, 0.75)]
    [-0.5123, -0.8589, -1.1843]
    """
    lags = alpha ** np.arange(1.0, layer + 1)
    return float(-(1 - alpha**2) / 4 * (lags * _kernel_slope(lags)).sum())


# --------------------------------------------------------------------------- parts


def _kernel(c: np.ndarray) -> np.ndarray:
    """E u|u| v|v| of standard normals with correlation c."""
    return np.asarray(
        2 / math.pi * ((1 + 2 * c**2) * np.arcsin(c) + 3 * c * np.sqrt(np.maximum(1 - c**2, 0)))
    )


def _kernel_slope(c: np.ndarray) -> np.ndarray:
    return np.asarray(8 / math.pi * (np.sqrt(np.maximum(1 - c**2, 0)) + c * np.arcsin(c)))


def _within(values: np.ndarray) -> np.ndarray:
    """sum_{m < l} (l - m) values_m for l = 0, 1, ...; values_m from m = 1."""
    return np.concatenate([[0.0, 0.0], np.cumsum(np.cumsum(values))[:-1]])


def _summed(steps: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(steps)])


def _peak(ensemble: Ensemble, name: str) -> float:
    """f, the kurtosis of a unit's output about 0 over that of its input."""
    phi = ensemble.network.phi
    slope = phi.parameters[0] if phi.kind == "balanced_relu" else phi.negative_slope
    if slope is None:
        raise Unsupported(
            f"{name} needs an activation with one slope on either side of 0, got "
            f"{ensemble.network.phi.kind!r}: for others a norm does not grow by factors. Use "
            "linear, relu or leaky_relu, or simulate it."
        )
    return 2 * (1 + slope**4) / (1 + slope**2) ** 2


def _check(ensemble: Ensemble, name: str) -> None:
    table = ensemble.table
    check_entrywise(ensemble, name)
    _peak(ensemble, name)
    if table.biased or table.centred or table.correlated:
        what = (
            "biases" if table.biased else "centred rows" if table.centred else "correlated layers"
        )
        raise Unsupported(
            f"{name} needs independent weights and no biases, got {what}: then a layer is no "
            "independent factor. Simulate it."
        )
    if not math.isfinite(table.law.variance):
        raise Unsupported(
            f"{name} needs weights with a variance, and law {table.law.kind!r} has none. Measure "
            "quantiles of the logarithm."
        )


def _mixing(ensemble: Ensemble, name: str) -> tuple[float, float]:
    """(alpha of the normalised layer, alpha^2 + lambda^2 before)."""
    network, table = ensemble.network, ensemble.table
    _check(ensemble, name)
    if network.block != "res1" or network.phi.kind not in ("relu", "balanced_relu"):
        raise Unsupported(
            f"{name} is the law of block 'res1' with relu, got {network.block!r} with "
            f"{network.phi.kind!r}. Other blocks have exact laws: log_norm_mean."
        )
    if table.law.kind != "gaussian":
        raise Unsupported(
            f"{name} needs Gaussian weights, got law {table.law.kind!r}: with others the mass of "
            "a state on few coordinates matters too. Simulate it."
        )
    columns = np.column_stack([table.skip, table.branch * table.input_scale * table.scale[:, 0]])
    if not np.allclose(np.abs(columns), np.abs(columns[0]), rtol=1e-9):
        raise Unsupported(
            f"{name} needs the same coefficients in every layer. Simulate it, or take them equal."
        )
    if ensemble.inputs.frame() is None:
        raise Unsupported(
            f"{name} needs an input of random direction: a given vector decides how much of it "
            "is positive. Use inputs 'point'."
        )
    skip, scale = float(columns[0, 0]), float(columns[0, 1])
    total = skip**2 + scale**2 * network.width / 2
    if total == 0:
        raise Unsupported(f"{name} of a state that is 0 for sure does not exist.")
    if skip < 0:
        raise Unsupported(f"{name} needs skip coefficients that are not negative, got {skip:g}.")
    return skip / math.sqrt(total), total
