r"""Residual blocks that activate the sum beside an identity skip (type B): no closed recursion.

.. math:: x' = \varphi(\beta x + \alpha W_2 \varphi(W_1 x))

The state x is not negative, hence not symmetric, and its coordinates go their own ways: what a
block does to it depends on all of its law. With Gaussian :math:`W_2` one block has a closed form
(`identity_block_mean_square`). As the width grows the coordinates become independent particles that
see each other through averages only: with :math:`q = E x^2, c = E x\tilde x/\sqrt{q \tilde q}`,

.. math:: x' = \varphi(\beta x + \alpha n_1), \quad \tilde x' = \varphi(\beta\tilde x + \alpha n_2),
          \quad n_i \sim N(0, \kappa q_i), \quad \operatorname{corr}(n_1, n_2) = k_1^{m-1}(c),

:math:`\kappa` the gain of the branch, and a gradient p of the last state comes down as
:math:`p = 1[x' > 0] (\beta p' ) + \alpha n`, :math:`n \sim N(0, \kappa\, E (1[x' > 0] p')^2)`.
`identity_mean_field` follows such particles. With :math:`\alpha^2 = \tau/L` the trunk tends to
reflected Brownian motion: norms grow like :math:`e^{\kappa\tau}`, while a derivative dies with the
first visit to 0 and is born again by the branches, a Volterra equation (`reflected_tangent`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import roots_genlaguerre
from scipy.stats import binom, norm

from analysis.theory._entrywise import check_vectors
from analysis.theory.projection import arc_kernel
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, check_count, check_number

__all__ = [
    "IdentityMeanField",
    "identity_block_bounds",
    "identity_block_mean_square",
    "identity_mean_field",
    "reflected_norm",
    "reflected_tangent",
    "reflected_tangent_rate",
]


# ------------------------------------------------------------------------- one block


def identity_block_mean_square(
    state: np.ndarray,
    inner_width: int,
    *,
    alpha: float,
    beta: float = 1.0,
    variances: tuple[float, float],
) -> float:
    r""":math:`E|x'|^2` of one block, given x.

    .. math:: \sum_i E_{W_1}\bigl[(m_i^2 + s^2)\,\Phi(m_i/s) + m_i s\,\phi(m_i/s)\bigr],
              \qquad m_i = \beta x_i, \quad s = \alpha \sigma_2 |\varphi(W_1 x)|

    Parameters
    ----------
    state : ndarray, shape (N,)
        x.
    inner_width : int
        Hidden width of the branch, which has two matrices.
    alpha, beta : float
    variances : tuple of float
        Of an entry of :math:`W_1` and :math:`W_2`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: exact, for Gaussian weights at every width, up to a quadrature of relative error below
    1e-9: :math:`|\varphi(W_1 x)|^2` is a chi-square of a binomial number of degrees. Cost
    O(N inner_width).

    References
    ----------
    Elementary; the setting is that of Gadhikar, Burkholz (2022), arXiv:2210.02411.

    Examples
    --------
    >>> x = np.array([1.0, 0.0, 2.0, 0.5])
    >>> near = identity_block_mean_square(x, 6, alpha=1e-6, variances=(0.5, 0.5))
    >>> round(near / float(x @ x), 5)
    1.0
    """
    x = np.asarray(state, float)
    if x.ndim != 1 or not np.isfinite(x).all() or not x.any():
        raise SpecError(f"state must be a vector that is not zero, got shape {x.shape}.")
    units = check_count("inner_width", inner_width)
    a, b = check_number("alpha", alpha), check_number("beta", beta)
    one, two = (check_number("each of variances", v, low=0.0) for v in variances)
    scale = a**2 * two * one * float(x @ x)
    resting = float(np.sum(np.maximum(b * x, 0.0) ** 2))
    if scale == 0.0:
        return resting
    m = b * x
    total = binom.pmf(0, units, 0.5) * resting
    for k in range(1, units + 1):
        # E f(chi^2_k): a generalised Gauss-Laguerre rule in t = chi^2 / 2.
        t, weight = roots_genlaguerre(_NODES, k / 2 - 1)
        s = np.sqrt(scale * 2 * t)
        z = m[:, None] / s
        value = (m[:, None] ** 2 + s**2) * norm.cdf(z) + m[:, None] * s * norm.pdf(z)
        total += binom.pmf(k, units, 0.5) * float(value.sum(axis=0) @ weight / weight.sum())
    return float(total)


_NODES = 60


def identity_block_bounds(gain: float, *, alpha: float, beta: float = 1.0) -> tuple[float, float]:
    r"""Between which :math:`E|x'|^2 / |x|^2` lies: :math:`\beta^2 + \alpha^2\kappa/2` and twice it.

    More exactly :math:`\beta^2 + \alpha^2\kappa`: half of a branch or all of it passes.

    Parameters
    ----------
    gain : float
        :math:`\kappa = E|F(x)|^2/|x|^2` of the branch: 2 for two matrices of He.
    alpha, beta : float

    Returns
    -------
    (lower, upper) : tuple of float

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: bound. Assumes x not negative, as behind an activation, beta positive and symmetric
    weights. Cost O(1).

    Examples
    --------
    >>> identity_block_bounds(2.0, alpha=1.0)
    (2.0, 3.0)
    """
    k = check_number("gain", gain, low=0.0)
    added = check_number("alpha", alpha) ** 2 * k
    square = check_number("beta", beta, low=0.0) ** 2
    return square + added / 2, square + added


# -------------------------------------------------------------------- infinite width


@dataclass(frozen=True)
class IdentityMeanField:
    """Mean squares, cosine and gradient of wide type B nets, each with a standard error.

    Attributes
    ----------
    log_mean_square, log_mean_square_se : ndarray, shape (depth + 1,)
        Of |h_l|^2 / |h_0|^2.
    cosine, cosine_se : ndarray, shape (depth + 1,)
        Of two states.
    log_gradient_mean_square, log_gradient_mean_square_se : ndarray, shape (depth + 1,)
        Of |p_l|^2 / |p_L|^2, p_L isotropic; also of |J v|^2 / |v|^2 for an isotropic v.
    """

    log_mean_square: np.ndarray
    log_mean_square_se: np.ndarray
    cosine: np.ndarray
    cosine_se: np.ndarray
    log_gradient_mean_square: np.ndarray
    log_gradient_mean_square_se: np.ndarray


def identity_mean_field(
    ensemble: Ensemble,
    cosine: float = 0.5,
    *,
    particles: int = 400_000,
    batches: int = 8,
    seed: int = 0,
) -> IdentityMeanField:
    r"""Type B at infinite width, by particles.

    Parameters
    ----------
    ensemble : Ensemble
        Block identity, activation ReLU, independent entries, no biases.
    cosine : float
        Of the two inputs of the network, before the stem.
    particles : int
        In all; errors fall like its root.
    batches : int
        Independent systems, of particles / batches each; their spread is the error.
    seed : int

    Returns
    -------
    IdentityMeanField

    Raises
    ------
    SpecError
        If a number is out of range.
    Unsupported
        For another block, activation or law.

    Notes
    -----
    Status: limit, as the width grows; the error told is that of the particles, to which a bias of
    O(depth batches / particles) comes. Networks of width 1500 agree within 3%. Cost: some
    100 ns a particle and layer; a bit a particle and layer is kept for the gradient.

    References
    ----------
    Derived here; the block is the type B of Gadhikar, Burkholz (2022), arXiv:2210.02411.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, SkipInit
    >>> network = Network(depth=4, width=8, block="identity")
    >>> still = identity_mean_field(Ensemble(network, SkipInit()), 0.2, particles=40_000)
    >>> bool(np.allclose(still.log_mean_square, 0.0)), bool(np.ptp(still.cosine) < 1e-12)
    (True, True)
    """
    gains, bends = _branch(ensemble)
    c = check_number("cosine", cosine, low=-1.0, high=1.0)
    count = check_count("batches", batches, least=2)
    size = check_count("particles", particles, least=100 * count) // count
    runs = [_particles(ensemble, gains, bends, c, size, [seed, at]) for at in range(count)]
    out = []
    for values in zip(*runs, strict=True):
        rows = np.stack(values)
        out += [rows.mean(axis=0), rows.std(axis=0, ddof=1) / math.sqrt(count)]
    return IdentityMeanField(*out)


def _branch(ensemble: Ensemble) -> tuple[np.ndarray, int]:
    """(gain of every branch with its coefficient, activations within it)."""
    network, table = ensemble.network, ensemble.table
    check_vectors(ensemble, "identity_mean_field")
    why = None
    if network.block != "identity":
        why = f"block {network.block!r}"
    elif network.phi.kind != "relu":
        why = f"activation {network.phi.kind!r}"
    elif table.biased:
        why = "biases"
    elif not table.entrywise or table.centred or table.correlated:
        why = "weights that depend on each other"
    elif not math.isfinite(table.law.variance):
        why = f"law {table.law.kind!r}, which has no variance"
    if why is not None:
        raise Unsupported(
            f"identity_mean_field follows block 'identity' with ReLU and independent weights, got "
            f"{why}. For block 'projection' there are closed forms (log_mean_square, "
            "correlation_map); or simulate it."
        )
    m = network.branch_matrices
    gain = np.prod(table.scale**2 * network.fans[0], axis=1) * 0.5 ** (m - 1)
    return gain * (table.branch * table.input_scale) ** 2, m - 1


def _particles(
    ensemble: Ensemble, gains: np.ndarray, bends: int, cosine: float, size: int, seed: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One system: log mean square, cosine, log mean square of the gradient, layer by layer."""
    generator = np.random.Generator(np.random.SFC64(seed))
    depth, beta = len(gains), ensemble.table.skip

    def normals() -> np.ndarray:
        # Antithetic and scaled to unit square: less noise in averages, the same law as size grows.
        g = generator.standard_normal(size)
        return g / math.sqrt(np.mean(g**2))

    g = normals()
    x, y = np.maximum(g, 0), np.maximum(cosine * g + math.sqrt(1 - cosine**2) * normals(), 0)
    log = np.zeros(depth + 1)
    angle = np.empty(depth + 1)
    on = np.empty((depth, -(-size // 8)), np.uint8)
    start = float(np.mean(x**2))
    shift = 0.0
    for layer in range(depth + 1):
        q, r = float(np.mean(x**2)), float(np.mean(y**2))
        angle[layer] = float(np.mean(x * y)) / math.sqrt(q * r)
        log[layer] = math.log(q / start) + shift
        if layer == depth:
            break
        if not 1e-6 < q < 1e6:  # units of the state: a ReLU does not mind
            unit = math.sqrt(q)
            x, y, q, r, shift = x / unit, y / unit, 1.0, r / q, shift + math.log(q)
        image = min(1.0, angle[layer])
        for _ in range(bends):
            image = float(arc_kernel(image))
        step = math.sqrt(gains[layer])
        first, second = normals(), normals()
        mixed = image * first + math.sqrt((1 - image) * (1 + image)) * second
        x = beta[layer] * x + step * math.sqrt(q) * first
        y = beta[layer] * y + step * math.sqrt(r) * mixed
        on[layer] = np.packbits(x > 0)
        x, y = np.maximum(x, 0), np.maximum(y, 0)
    gradient = np.zeros(depth + 1)
    p, shift = normals(), 0.0
    for layer in reversed(range(depth)):
        p = np.where(np.unpackbits(on[layer], count=size), p, 0.0)
        p = beta[layer] * p + math.sqrt(gains[layer] * float(np.mean(p**2))) * normals()
        square = float(np.mean(p**2))
        p, shift = p / math.sqrt(square), shift + math.log(square)
        gradient[layer] = shift
    return log, angle, gradient


# --------------------------------------------------------- the limit of many small branches


def reflected_norm(gain: float, time: float = 1.0) -> float:
    r""":math:`E|x_L|^2/|x_0|^2 \to e^{\kappa\tau}` for :math:`\alpha^2 = \tau/L`, L to infinity.

    Parameters
    ----------
    gain : float
        :math:`\kappa` of a branch without its coefficient: 2 for two matrices of He.
    time : float
        :math:`\tau`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is negative.

    Notes
    -----
    Status: limit, of width and then of depth. A finite depth is below by O(L^-1/2), for a walk
    that is reflected in steps misses some of what it gains at 0: 6.22, 7.06, 7.17 at L = 100, 1000,
    4000 against 7.389. Cost O(1).

    Examples
    --------
    >>> round(reflected_norm(2.0), 3)
    7.389
    """
    return math.exp(check_number("gain", gain, low=0.0) * check_number("time", time, low=0.0))


def reflected_tangent(rate: float, start: str = "relu", *, steps: int = 2000) -> float:
    r"""Mean square of a tangent at time 1 in the same limit, in units of that before the stem.

    .. math:: p(t) = S(0, t) + \lambda \int_0^t p(s)\, S(s, t)\, ds

    with S(s, t) the chance that a coordinate which is in its law at time s does not visit 0 until
    t: for a start of Gaussian size :math:`(2/\pi) \arcsin e^{-\lambda(t-s)/2}`, for one behind a
    ReLU :math:`\frac1\pi [\arctan\sqrt{T_s/d} + \arctan\sqrt{(1 + T_s)/d}]`,
    :math:`T_s = (e^{\lambda s} - 1)/2, d = T_t - T_s`.

    Parameters
    ----------
    rate : float
        :math:`\lambda = \kappa\tau`, positive.
    start : str
        ``relu``, a stem and its activation, or ``absolute``, :math:`|g|`.
    steps : int
        Of the integration; the error falls like its square.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number or a name is not known.

    Notes
    -----
    Status: limit, of width and then of depth, for a tangent v with :math:`E x v = 0`, as of an
    isotropic one; v = x would give `reflected_norm`. Cost O(steps^2).

    Examples
    --------
    >>> round(reflected_tangent(2.0, "absolute"), 4), round(reflected_tangent(2.0), 4)
    (1.1586, 0.6653)
    """
    lam = check_number("rate", rate, low=0.0, open_low=True)
    n = check_count("steps", steps, least=8)
    if start not in ("relu", "absolute"):
        raise SpecError(f"start must be 'relu' or 'absolute', got {start!r}.")

    def survival(s: np.ndarray, t: float) -> np.ndarray:
        if start == "absolute":
            return 2 / np.pi * np.arcsin(np.exp(-lam * (t - s) / 2))
        before = np.expm1(lam * s) / 2
        d = math.expm1(lam * t) / 2 - before
        with np.errstate(divide="ignore"):
            return (np.arctan(np.sqrt(before / d)) + np.arctan(np.sqrt((1 + before) / d))) / np.pi

    # S falls from 1 like the root of t - s, and from s = 0 likewise: a mesh in sin^2 takes both
    # ends, by a substitution for every t: s = t sin^2(angle). p is interpolated between its values.
    x, w = np.polynomial.legendre.leggauss(64)
    angle = np.pi / 4 * (1 + x)
    share, weight = np.sin(angle) ** 2, np.pi / 4 * w * np.sin(2 * angle)
    times = np.linspace(0.0, 1.0, n + 1) ** 2  # p moves like the root of t at first
    p = np.empty(n + 1)
    p[0] = 1.0 if start == "absolute" else 0.5
    for k in range(1, n + 1):
        t = float(times[k])
        s = t * share
        kernel = lam * t * weight * survival(s, t)
        alone = float(survival(np.zeros(1), t)[0])
        # The last interval holds p[k] itself: it is linear in it.
        root = np.sqrt(s)
        at = np.clip(np.searchsorted(times[: k + 1], s, side="right") - 1, 0, k - 1)
        low, high = np.sqrt(times[at]), np.sqrt(times[at + 1])
        right = (root - low) / (high - low)
        known = kernel * (1 - right) * p[at]
        nodes = kernel * right
        last = at == k - 1
        known_right = np.where(last, 0.0, nodes * p[np.minimum(at + 1, k - 1)])
        p[k] = (alone + known.sum() + known_right.sum()) / (1 - nodes[last].sum())
    return float(p[-1])


def reflected_tangent_rate() -> float:
    r"""How fast the tangent grows when time is long, in units of :math:`\lambda`.

    The root g of :math:`\frac2\pi \int_0^\infty \arcsin(e^{-u/2}) e^{-g u} du = 1`: less than a
    quarter of the rate 1 of the mean square.

    Returns
    -------
    float

    Raises
    ------
    Nothing.

    Notes
    -----
    Status: limit, of width and depth, then of time. Cost: some 20 integrals.

    Examples
    --------
    >>> round(reflected_tangent_rate(), 3)
    0.209
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq

    def excess(g: float) -> float:
        # With e^{-u/2} = sin(a): du = -2 cot(a) da and e^{-gu} = sin(a)^{2g}.
        value = quad(
            lambda a: a * math.sin(a) ** (2 * g) * 2 / math.tan(a), 0, math.pi / 2, limit=200
        )[0]
        return 2 / math.pi * value - 1

    return float(brentq(excess, 0.01, 1.0, xtol=1e-12))
