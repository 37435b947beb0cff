r"""Deep networks of a given width, block res1: random norms that no width averages away.

At :math:`L^{-1/2}` the limit of depth is :math:`dX = n^{-1/2} \|\varphi(X)\|\, dB` (Hayou 2022), a
diffusion in n dimensions. With a linear activation its norm is a geometric Brownian motion.
With ReLU it is the norm of what passes the activation that nearly is one: between two changes
of the set of active units,

.. math:: d \log \|\varphi(X_t)\| = n^{-1/2}\, d\hat B_t
          + \frac1n \Bigl(\frac{N_t}{2} - 1\Bigr) dt, \qquad N_t = \#\{i : X_t^i > 0\},

so a network with few units on falls silent and one with many grows. As the width grows too,
:math:`N_t / n \to 1/2` and only the second moments of the states at several inputs are left, the
kernel, which obeys an ordinary differential equation whatever limit is taken first (Hayou and
Yang 2023).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import gammaln
from scipy.stats import binom

from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import product_expectation
from sigprop.spec import Activation, Ensemble, check_count, check_number

__all__ = [
    "commutation_rate",
    "geometric_log_norm",
    "infinite_width_gram",
    "kernel_ode",
    "quasi_geometric_drift",
    "quasi_geometric_log_mean",
]


# --------------------------------------------------------------- norms at finite width


def geometric_log_norm(width: int, time: float = 1.0) -> tuple[float, float]:
    r"""Mean and variance of :math:`\log \|X_t\| / \|X_0\|` for a linear activation.

    .. math:: \log\frac{\|X_t\|}{\|X_0\|} \sim
              N\Bigl(\bigl(\tfrac12 - \tfrac1n\bigr) t, \tfrac tn\Bigr)

    At width 1 and :math:`X_0 > 0` it is the law for ReLU, too: :math:`X_0 e^{-t/2 + B_t}` never
    leaves the positive side. The mean is 0 at width 2, below at 1, above from 3 on, though
    :math:`E\|X_t\|^2 = e^t \|X_0\|^2` at every width.

    Parameters
    ----------
    width : int
        n.
    time : float
        t = layer / depth, for a branch of :math:`L^{-1/2}`.

    Raises
    ------
    SpecError
        If the width is not a positive integer, or the time negative.

    Notes
    -----
    Status: exact for the diffusion, limit for a network, with an error of O(1/L). Assumes
    independent weights of mean 0 and variance 1/n. Cost O(1).

    References
    ----------
    Hayou (2022), *On the infinite-depth limit of finite-width neural networks*,
    arXiv:2210.00688.

    Examples
    --------
    >>> geometric_log_norm(4)
    (0.25, 0.25)
    """
    width, time = _check(width, time)
    return (0.5 - 1 / width) * time, time / width


def quasi_geometric_drift(active: int, width: int) -> float:
    r"""Drift of :math:`\log \|\varphi(X)\|` while ``active`` of ``width`` ReLUs are on.

    :math:`(N/2 - 1)/n`; the diffusion coefficient is :math:`n^{-1/2}` whatever N. One unit alone
    loses :math:`1/(2n)` per unit of time, two stand still.

    Raises
    ------
    SpecError
        If ``active`` is not between 1 and the width. With none on, nothing moves any more.

    Notes
    -----
    Status: exact for the diffusion; N changes with time. Cost O(1).

    References
    ----------
    Hayou (2022), arXiv:2210.00688.

    Examples
    --------
    >>> quasi_geometric_drift(1, 4), quasi_geometric_drift(4, 4)
    (-0.125, 0.25)
    """
    width = check_count("width", width)
    if check_count("active", active) > width:
        raise SpecError(f"active must be at most the width {width}, got {active}: it counts units.")
    return (active / 2 - 1) / width


def quasi_geometric_log_mean(width: int, time: float = 1.0) -> float:
    r"""Mean of :math:`\log \|\varphi(X_t)\| / \|\varphi(X_0)\|` for ReLU: two terms in time.

    For :math:`X_0 \sim N(0, I)` given that some coordinate is positive, with p = 1 - 2^-n,

    .. math:: \Bigl(\frac{1}{4p} - \frac1n\Bigr)\, t
              - \frac{\kappa}{15 \pi\, n^{3/2}\, p}\, t^{5/2} + O(t^3), \\
              \kappa = E\|\varphi(Z_{n-1})\|
                     = \sum_{k=1}^{n-1} \binom{n-1}{k} 2^{-(n-1)}\, E \chi_k .

    The first term is the drift (N/2 - 1)/n at the start. Then the share of active units falls:
    where :math:`x_i > 0` the density :math:`\rho` grows faster than below by
    :math:`\rho / n` per unit of time, since the squared volatility :math:`\|\varphi(x)\|^2 / n` is
    convex there and flat below. That is a step of height :math:`\rho s / n` at
    :math:`x_i = 0`, which diffusion smooths, and a flow
    :math:`-(\rho/n)\,\|\varphi\| \sqrt{s / (2 \pi n)}` of mass across 0. Integrated over the
    other coordinates and twice over time, this is the second term.

    The sign changes between width 3 and 4: a network of ReLUs that starts at a Gaussian input
    fades, in the mean of the logarithm, up to width 3, and grows from 4 on. From another
    input the change is elsewhere.

    Parameters
    ----------
    width : int
        n, at least 2 (at width 1 the law is `geometric_log_norm`).
    time : float
        Between 0 and 1.

    Raises
    ------
    SpecError
        If the width is below 2 or the time not within [0, 1].

    Notes
    -----
    Status: limit, for short times, of the diffusion; at t = 1 it is within 0.001 of simulation
    at every width tried (2, 3, 4, 5, 200). Assumes a Gaussian input. Cost O(n).

    References
    ----------
    Hayou (2022), arXiv:2210.00688, for the drift and the change of sign.

    Examples
    --------
    >>> [round(quasi_geometric_log_mean(n), 3) for n in (2, 3, 4, 5)]
    [-0.171, -0.051, 0.014, 0.056]
    """
    width, time = _check(width, time)
    if width < 2 or time > 1.0:
        raise SpecError(
            f"quasi_geometric_log_mean is an expansion for short times at width 2 or more, got "
            f"width {width} and time {time:g}. At width 1 use geometric_log_norm; for longer times "
            "simulate."
        )
    alive = -math.expm1(-width * math.log(2))
    k = np.arange(1, width)
    chi_mean = math.sqrt(2) * np.exp(gammaln((k + 1) / 2) - gammaln(k / 2))
    kappa = float(binom.pmf(k, width - 1, 0.5) @ chi_mean)
    first = (1 / (4 * alive) - 1 / width) * time
    return first - kappa / (15 * math.pi * width**1.5 * alive) * time**2.5


def _check(width: int, time: float) -> tuple[int, float]:
    return check_count("width", width), check_number("time", time, low=0.0)


# ------------------------------------------------------------------- kernels, width large


def infinite_width_gram(ensemble: Ensemble, gram: np.ndarray | None = None) -> np.ndarray:
    r"""Products of the states at K inputs, over the width, as the width grows.

    .. math:: G' = c^2 G + a^2 \bigl(n \sigma_2^2\, E[\varphi(u)\varphi(v)] + \beta_2^2\bigr),
              \qquad (u, v) \sim N\bigl(0,\; n \sigma_1^2 s^2 G + \beta_1^2\bigr)

    for block res3; in res1 the Gaussian numbers are the coordinates of the state,
    :math:`N(0, s^2 G)`.

    Parameters
    ----------
    ensemble : Ensemble
        Block res1 or res3, layers independent.
    gram : ndarray, shape (K, K), optional
        :math:`h_0 \cdot h_0' / n` at the input; default that of the ensemble's own inputs.

    Returns
    -------
    ndarray, shape (depth + 1, K, K)

    Raises
    ------
    Unsupported
        For other blocks, correlated layers, centred rows, weights without variance, varying
        widths, and given inputs in block res1 (their coordinates are not Gaussian) unless
        ``gram`` says that they stand for such ones.
    SpecError
        If ``gram`` is no Gram matrix.

    Notes
    -----
    Status: limit, as the width grows at a fixed depth. Assumes inputs with Gaussian
    coordinates in res1 (random directions have them). Cost O(depth K^2), for a homogeneous
    activation; others take a double integral each time, some 10 ms.

    References
    ----------
    Hayou, Yang (2023), *Width and depth limits commute in residual networks*,
    arXiv:2302.00453.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Pair, Power
    >>> law = Ensemble(Network(depth=1000, width=100), Power(beta=0.5), Pair(cosine=0.2))
    >>> last = infinite_width_gram(law)[-1]
    >>> round(float(last[0, 1] / last[0, 0]), 3)
    0.301
    """
    network, table = ensemble.network, ensemble.table
    _check_kernel(ensemble, gram is not None)
    g = _start(ensemble) if gram is None else _check_gram(gram)
    n = network.width
    found = [g]
    for layer in range(network.depth):
        inner = table.input_scale[layer] ** 2 * g
        if network.block == "res3":
            variance = n * table.scale[layer, 0] ** 2
            inner = variance * inner + table.bias_scale[layer, 0] ** 2
        rows = network.fans[0][layer, -1]
        added = rows * table.scale[layer, -1] ** 2 * _product(network.phi, inner)
        added = added + table.bias_scale[layer, -1] ** 2
        g = table.skip[layer] ** 2 * g + table.branch[layer] ** 2 * added
        found.append(g)
    return np.stack(found)


def kernel_ode(
    activation: Activation, gram: np.ndarray, time: float = 1.0, *, tolerance: float = 1e-8
) -> np.ndarray:
    r"""The same products as depth grows, too: a differential equation.

    .. math:: \frac{dG}{dt} = E[\varphi(u)\varphi(v)], \qquad (u, v) \sim N(0, G),

    for branches :math:`L^{-1/2}` and weights of variance 1/n, blocks res1 and res3 alike. It
    does not matter whether width or depth grows first. For ReLU the diagonal is
    :math:`G_0 e^{t/2}`, and the cosine obeys :math:`r' = (f(r) - r)/2` with
    :math:`f(r) = (r \arcsin r + \sqrt{1 - r^2})/\pi + r/2`.

    Parameters
    ----------
    activation : Activation
    gram : ndarray, shape (K, K)
        At t = 0.
    time : float
    tolerance : float
        Of the integration, relative.

    Returns
    -------
    ndarray, shape (K, K)

    Raises
    ------
    SpecError
        If ``gram`` is no Gram matrix or the time negative.
    Unsupported
        If the equation cannot be followed to ``time``.

    Notes
    -----
    Status: limit, as width and depth grow in any order; see `commutation_rate`. Cost: some 50
    evaluations of K (K + 1) / 2 Gaussian averages.

    References
    ----------
    Hayou, Yang (2023), arXiv:2302.00453.

    Examples
    --------
    >>> from sigprop import ReLU
    >>> end = kernel_ode(ReLU(), np.array([[1.0, 0.2], [0.2, 1.0]]))
    >>> round(float(end[0, 0]), 6), round(float(end[0, 1] / end[0, 0]), 4)
    (1.648721, 0.3012)
    """
    start, time = _check_gram(gram), check_number("time", time, low=0.0)
    k = len(start)
    if time == 0.0:
        return start
    solution = solve_ivp(
        lambda t, g: _product(activation, g.reshape(k, k)).ravel(),
        (0.0, time),
        start.ravel(),
        method="DOP853",
        rtol=tolerance,
        atol=tolerance * float(np.diag(start).min()),
    )
    if not solution.success or not np.isfinite(solution.y[:, -1]).all():
        raise Unsupported(
            f"the kernel of activation {activation.kind!r} cannot be followed to time {time:g}: "
            f"{solution.message} It grows faster than any exponential; use a shorter time."
        )
    return solution.y[:, -1].reshape(k, k)


def commutation_rate(width: int, depth: int) -> float:
    r"""How far products of states are from `kernel_ode`, up to a constant.

    :math:`n^{-1/2} + L^{-1/2}`, in root mean square, uniformly in both: so limits of width and
    depth commute.

    Raises
    ------
    SpecError
        If width or depth is not a positive integer.

    Notes
    -----
    Status: bound, up to a constant that depends on the inputs alone. Assumes a Lipschitz
    activation and branches :math:`L^{-1/2}`. For Gaussian weights the depth's share is
    smaller: the mean is off by O(1/L). Cost O(1).

    References
    ----------
    Hayou, Yang (2023), arXiv:2302.00453 (recalled).

    Examples
    --------
    >>> commutation_rate(100, 400)
    0.15000000000000002
    """
    return check_count("width", width) ** -0.5 + check_count("depth", depth) ** -0.5


def _product(phi: Activation, gram: np.ndarray) -> np.ndarray:
    """E phi(u) phi(v) for every pair of Gaussian numbers with these second moments."""
    if isinstance(phi, RandomisedLeakyReLU):
        raise Unsupported(
            f"activation {phi.kind!r} draws one slope for a unit and all inputs: their products "
            "have another average. Use 'leaky_relu'."
        )
    deviation = np.sqrt(np.diag(gram))
    scale = np.outer(deviation, deviation)
    cosine = np.divide(gram, scale, out=np.zeros_like(scale), where=scale > 0).clip(-1.0, 1.0)
    slope = phi.negative_slope
    if slope is not None:
        # E relu(u) relu(v) at unit variances, and the part that leaks: linear in the cosine.
        arc = np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine
        return scale * (slope * cosine + (1 - slope) ** 2 * arc / (2 * np.pi))
    found = np.empty_like(gram)
    for i in range(len(gram)):
        found[i, i] = phi.second_moment(float(gram[i, i]))
        for j in range(i):
            found[i, j] = found[j, i] = product_expectation(
                phi,
                phi,
                correlation=float(cosine[i, j]),
                variances=(float(gram[i, i]), float(gram[j, j])),
                kinks=(phi.kinks, phi.kinks),
            ).value
    return found


def _start(ensemble: Ensemble) -> np.ndarray:
    coefficients = ensemble.inputs.frame()
    if coefficients is None:
        vectors = np.asarray(ensemble.inputs.array(ensemble.network.width), float)
        return vectors @ vectors.T / ensemble.network.width
    return np.asarray(coefficients) @ np.asarray(coefficients).T


def _check_gram(gram: np.ndarray) -> np.ndarray:
    g = np.array(gram, float)
    square = g.ndim == 2 and g.shape[0] == g.shape[1] and len(g) > 0
    if not square or not np.isfinite(g).all() or not np.allclose(g, g.T, rtol=1e-12, atol=0.0):
        raise SpecError(
            f"gram must be a symmetric matrix of products between inputs, got shape {g.shape}. "
            "Give inputs @ inputs.T / width."
        )
    if np.any(np.diag(g) <= 0) or np.linalg.eigvalsh(g).min() < -1e-12 * np.diag(g).max():
        raise SpecError(
            "gram has an eigenvalue or a diagonal entry that is not positive, so no vectors have "
            "these products. Give inputs @ inputs.T / width, no input zero."
        )
    return g


def _check_kernel(ensemble: Ensemble, given: bool) -> None:
    network, table = ensemble.network, ensemble.table
    if network.block not in ("res1", "res3"):
        raise Unsupported(
            f"infinite_width_gram is written for blocks 'res1' and 'res3', got {network.block!r}."
        )
    if table.correlated or table.centred or not math.isfinite(table.law.variance):
        raise Unsupported(
            "infinite_width_gram needs independent layers, rows that are not centred and weights "
            "of finite variance: otherwise states at several layers or of several units depend on "
            "each other. For processes along depth use mean_field."
        )
    if network.block == "res1" and ensemble.inputs.frame() is None and not given:
        raise Unsupported(
            "block 'res1' activates the coordinates of the input itself, and those given are not "
            "Gaussian. Use random inputs (Point, Pair), block 'res3', or say gram=."
        )
