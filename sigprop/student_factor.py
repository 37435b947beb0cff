r"""The moment that one plain layer of Student t weights keeps, by averages over isotropic inputs.

Weights of Student's t with nu <= 2 degrees of freedom have no variance, and no norm in which a
layer is an independent factor: how a layer multiplies |x| depends on where x points. Given the
direction u the outputs :math:`\xi_i = \sum_j w_{ij} u_j` are independent and alike, and with g a
standard normal and chi the characteristic function of one weight

.. math:: E e^{-t \xi^2} = E_g \prod_j \chi(\sqrt{2t}\, g\, u_j), \qquad
          \chi(k) = \frac{x^{\nu/2} K_{\nu/2}(x)}{2^{\nu/2-1} \Gamma(\nu/2)}, \quad
          x = \sqrt\nu |k| .

With m(t) the mean of exp(-t phi(xi)^2), made of these, and Q the sum of all phi(xi_i)^2

.. math:: E[Q^p | u] = \frac{p}{\Gamma(1-p)} \int \bigl(1 - m(e^w)^d\bigr) e^{-pw} dw ,
          \qquad 0 < p < \nu/2 .

So no weight is drawn: what is left to chance is u, uniform on the sphere, and what it changes is
bounded, however heavy the tail. Draws come from a fixed seed, so the scale is a pure function of
its arguments; power sums of u, whose means are known, take away most of their noise.

**What is not known.** Only the first input of a network can be isotropic: later states are carried
by a few large coordinates. `student_memory` says how much that changes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gammaln, gammasgn, kve

from sigprop.errors import SpecError
from sigprop.layer_factor import LayerFactor
from sigprop.spec import Activation, check_count, check_number

__all__ = ["STUDENT_ERROR", "STUDENT_SEED", "student_memory", "student_scale"]

STUDENT_SEED = 20_110  # of the directions; any other gives a scale within the error
STUDENT_ERROR = 1e-3  # relative, of a scale: four standard errors

_MOST = 0.95  # of s / nu: nearer to 1 the integral converges too slowly for its digits
_LOW, _HIGH = -140.0, 60.0  # of w = log t
_STEP = 0.25  # of w; log |g| is in steps half as large
_NORMAL = np.arange(-50.0, 2.6, _STEP / 2)  # log |g|
_KNOT = 0.5  # between the places of log k at which a sum over coordinates is taken
_SMALL = -7.0  # of log x: below, chi is its expansion
_BATCH, _LEAST = 128, 16  # directions at a time, and in wide layers
_COORDINATES = 20_000  # of directions at a time
_DRAWS = 20_000_000  # of coordinates, at most


def student_scale(
    dof: float,
    activation: Activation,
    fan_in: int,
    fan_out: int,
    s: float,
    *,
    alive: bool = False,
) -> float:
    """What multiplies standard Student t weights so that E|x'|^s = |x|^s for isotropic x.

    Parameters
    ----------
    dof : float
        nu > 0, of the standard t (not rescaled to variance 1).
    activation : Activation
        Positively homogeneous.
    fan_in, fan_out : int
    s : float
        In (0, 0.95 min(nu, 2)]: moments of order nu and more are infinite.
    alive : bool
        Given that x' is not zero.

    Returns
    -------
    float
        Status: numerical, to a relative `STUDENT_ERROR`. Cost: up to some seconds, once.

    Raises
    ------
    SpecError
        If s is out of range (the message says which moments exist), or fan_in is so small, or nu,
        that the error cannot be kept.

    Examples
    --------
    >>> from sigprop.activations import Linear
    >>> round(student_scale(1.0, Linear(), 1, 1, 0.5), 6)  # E|Cauchy|^(1/2) = sqrt 2
    0.5
    """
    log_moment, error = _log_moment(float(dof), activation, fan_in, fan_out, float(s))
    if error > STUDENT_ERROR * s / 4:
        raise SpecError(
            f"the scale that keeps s = {s:g} of {dof:g} degrees of freedom at fan-in {fan_in} is "
            f"known to {error / s:.1g} only, one standard error: few directions carry the "
            "mean. Choose a larger s or a wider layer."
        )
    if alive:
        log_moment -= math.log1p(-LayerFactor.of(activation, fan_out).silence)
    return math.exp(-log_moment / s)


@lru_cache(maxsize=64)
def student_memory(dof: float, activation: Activation, width: int, s: float) -> float:
    """By how much the s-norm of a layer fed by such a layer grows beyond one fed isotropically.

    Of layers of one width: log of (E|x_2|^s / E|x_1|^s)^(1/s) at the scale of `student_scale`,
    which is 0 if x_1 is isotropic. Status: simulated (4000 explicit layers, fixed seed), to a
    few percent; infinite variance of |x_1|^s makes it rough where s > nu / 2.
    """
    generator = np.random.default_rng(STUDENT_SEED)
    phi = LayerFactor.of(activation, width)
    c, w, atom = phi.unit
    count = max(200, min(4000, 4_000_000 // width**2))
    x = np.empty((count, width))
    for row in x:
        u = generator.standard_normal(width)
        u /= np.linalg.norm(u)
        xi = generator.standard_t(dof, (width, width)) @ u
        row[:] = xi * np.sqrt(generator.choice([*c, 0.0], width, p=[*w, max(atom, 0.0)]))
    size = np.linalg.norm(x, axis=1)
    x, size = x[size > 0], size[size > 0]
    grown = _given(float(dof), phi, x / size[:, None], s / 2)
    isotropic, _ = _log_moment(float(dof), activation, width, width, float(s))
    weight = size**s / np.sum(size**s)
    return (math.log(float(weight @ grown)) - isotropic) / s


@lru_cache(maxsize=256)
def _log_moment(
    dof: float, activation: Activation, fan_in: int, fan_out: int, s: float
) -> tuple[float, float]:
    """(log E|phi(W u)|^s, its standard error), u uniform on the sphere."""
    fan_in, fan_out = check_count("fan_in", fan_in), check_count("fan_out", fan_out)
    dof = check_number("dof", dof, low=0.0, open_low=True)
    most = _MOST * min(dof, 2.0)
    if not 0 < s <= most:
        raise SpecError(
            f"s = {s:g} cannot be kept with Student weights of {dof:g} degrees of freedom: moments "
            f"of the norm exist for orders below {dof:g}, those nearer to it than 5% are not "
            f"computed, and order 0 is not offered. Choose s in (0, {most:.3g}]."
        )
    layer = LayerFactor.of(activation, fan_out)
    generator = np.random.default_rng(STUDENT_SEED)
    powers = np.array(sorted({1.0, min(dof, 4.0), 4.0} - {2.0}))
    known = fan_in * np.exp(
        gammaln((1 + powers) / 2)
        + gammaln(fan_in / 2)
        - math.log(math.pi) / 2
        - gammaln((fan_in + powers) / 2)
    )
    values, controls = np.empty(0), np.empty((0, len(powers)))
    batch = max(_LEAST, min(_BATCH, _COORDINATES // fan_in))
    while True:
        u = generator.standard_normal((batch, fan_in))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        values = np.append(values, _given(dof, layer, u, s / 2))
        sums = [np.sum(np.abs(u) ** power, axis=1) for power in powers]
        controls = np.concatenate([controls, np.stack(sums, axis=1) / known - 1])
        design = np.column_stack([np.ones(len(values)), controls])
        fitted, *_ = np.linalg.lstsq(design, values, rcond=1e-9)
        mean = float(fitted[0])
        error = float(np.std(values - design @ fitted)) / math.sqrt(len(values)) / mean
        enough = len(values) >= 2 * batch and error < STUDENT_ERROR * s / 5
        if enough or len(values) * fan_in >= max(_DRAWS, 2 * batch * fan_in):
            return math.log(mean), error


def _given(dof: float, layer: LayerFactor, u: np.ndarray, p: float) -> np.ndarray:
    """E[Q^p | u] for every row of ``u``."""
    found = [_given_some(dof, layer, part, p) for part in np.array_split(u, len(u) // _BATCH + 1)]
    return np.concatenate(found)


def _given_some(dof: float, layer: LayerFactor, u: np.ndarray, p: float) -> np.ndarray:
    c, weight, _ = layer.unit
    high = _HIGH + math.log(c.max() / c.min())
    w = np.arange(_LOW, high, _STEP)
    # log k = (w + log 2 c) / 2 + log |g|; exponents are sums over the coordinates of u.
    first = (_LOW + math.log(2 * c.min())) / 2 + _NORMAL[0] - _KNOT
    last = (high + math.log(2 * c.max())) / 2 + _NORMAL[-1] + 2 * _KNOT
    places = np.arange(first, last, _KNOT)
    logs, table = _exponent(dof)
    with np.errstate(divide="ignore"):
        log_u = np.log(np.abs(u))
    sums = np.empty((len(places), len(u)))
    for i, place in enumerate(places.tolist()):
        sums[i] = np.exp(np.interp(place + log_u, logs, table)).sum(axis=1)
    spline = CubicSpline(places, np.log(sums))
    normal = _STEP / 2 * np.sqrt(2 / np.pi) * np.exp(_NORMAL - np.exp(2 * _NORMAL) / 2)
    heard = np.zeros((len(w), len(u)))  # 1 - m
    for size, chance in zip(c.tolist(), weight.tolist(), strict=True):
        steps = np.arange(len(_NORMAL) + len(w) - 1)
        fine = (_LOW + math.log(2 * size)) / 2 + _NORMAL[0] + _STEP / 2 * steps
        silent = -np.expm1(-np.exp(spline(fine)))
        windows = np.lib.stride_tricks.sliding_window_view(silent, len(_NORMAL), axis=0)
        heard += chance * (windows @ normal)
    with np.errstate(divide="ignore"):
        some = -np.expm1(layer.width * np.log1p(-np.minimum(heard, 1.0)))
    total = _STEP * np.sum(some * np.exp(-p * w)[:, None], axis=0)
    # Below the grid a power of t, above it 1 - P(Q = 0).
    ratio = some[1] / some[0] * math.exp(-p * _STEP)
    total += _STEP * some[0] * math.exp(-p * w[0]) / (ratio - 1)
    end = w[-1] + _STEP
    total += _STEP * (1 - layer.silence) * math.exp(-p * end) / -math.expm1(-p * _STEP)
    return np.asarray(p * math.exp(-float(gammaln(1 - p))) * total)


@lru_cache(maxsize=16)
def _exponent(dof: float) -> tuple[np.ndarray, np.ndarray]:
    """(log k, log(-log chi(k))) on a grid."""
    half = dof / 2
    log_x = np.arange(-260.0, 60.0, 0.005)
    found = np.empty_like(log_x)
    small = log_x < _SMALL
    log_half = log_x[small] - math.log(2)
    # 1 - chi = (x/2)^nu Gamma(1 - nu/2) / Gamma(1 + nu/2) - (x/2)^2 / (1 - nu/2) + ...
    if abs(1 - half) < 1e-9:
        found[small] = 2 * log_half + np.log(1 - 2 * (log_half + np.euler_gamma))
    else:
        lead = float(gammasgn(1 - half)) * math.exp(gammaln(1 - half) - gammaln(1 + half))
        rest = np.exp(2 * (half - 1) * log_half) * lead - 1 / (1 - half)
        if half < 1:
            rest = lead - np.exp(2 * (1 - half) * log_half) / (1 - half)
        found[small] = 2 * min(half, 1.0) * log_half + np.log(rest)
    found[small] = np.log(-np.log1p(-np.exp(found[small])))
    x = np.exp(log_x[~small])
    # Beyond x = 1e6 the Bessel function is sqrt(pi / 2x) e^-x.
    log_bessel = np.log(np.pi / 2 / x) / 2
    log_bessel[x < 1e6] = np.log(kve(half, x[x < 1e6]))
    log_chi = log_bessel - x + half * np.log(x) - (half - 1) * math.log(2) - gammaln(half)
    found[~small] = np.log(-log_chi)
    return log_x - math.log(dof) / 2, found
