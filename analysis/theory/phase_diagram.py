r"""Order and chaos over a grid of variances: what `phase` says, for thousands of points at once.

A double integral a point would take minutes. Instead an activation is expanded in Hermite
polynomials, :math:`\varphi(\sqrt q g) = \sum_k a_k(q) He_k(g) / \sqrt{k!}`, after which the map of
the cosine is a power series with coefficients that are squares,

.. math:: E \varphi(u_1) \varphi(u_2) = \sum_k a_k^2 c^k, \qquad
          \chi_c = \frac{\sigma_w^2}{q} \sum_k k\, a_k^2 c^{k-1},

(Mehler's formula). What is left of :math:`E\varphi^2` after the last term is put at the next
power, so that the map is right at c = 1 whatever the number of terms.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from analysis.theory.phase import Phase, _named, edge_of_chaos, phase
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Activation

__all__ = ["NUMBERS", "phase_diagram"]

NUMBERS = {
    "mean_square": "fixed point of the mean square",
    "mean_square_slope": "slope of the map of the mean square",
    "chi_1": "factor of the mean square of a gradient a layer",
    "cosine": "fixed point of the cosine of two inputs",
    "chi_c": "slope of the map of the cosine",
    "xi_q": "depth scale of the mean square",
    "xi_c": "depth scale of the cosine",
}
_TERMS = 160
_CRITICAL = 1e-4  # as in `phase`
_MESH = np.geomspace(1e-8, 1e8, 161)
_MOST_POINTS = 20_000
_SLICE = 512  # points at once: some ten megabytes


def phase_diagram(
    activation: Activation | str, weight_variances: ArrayLike, bias_variances: ArrayLike
) -> xr.Dataset:
    """Phase, fixed points and depth scales over a grid, and the edge of chaos through it.

    Parameters
    ----------
    activation : Activation or str
    weight_variances, bias_variances : array_like, one-dimensional
        Increasing; weight variances positive, times the fan-in.

    Returns
    -------
    Dataset
        Over ``weight_variance`` and ``bias_variance``: ``kind`` (ordered, critical, chaotic, or
        unbounded where the mean square has no fixed point), and the numbers of `Phase`. Over
        ``edge``: ``edge_weight_variance`` and ``edge_bias_variance``, the curve of `edge_of_chaos`
        (a point for a positively homogeneous activation). The attribute ``doubt`` is the largest
        relative difference from `phase` among up to 9 points of the grid, of the slopes and q.

    Raises
    ------
    SpecError
        If the values do not increase, or the grid has too many points.

    Notes
    -----
    Status: limit, as the width grows. Approximate in the 160 terms kept: the error of
    :math:`c^*` and :math:`\\chi_c` grows where :math:`\\varphi(\\sqrt{q} g)` is steep; ``doubt``
    measures it. Cost: some 2 ms a point.

    References
    ----------
    Poole et al. (2016), arXiv:1606.05340; Schoenholz et al. (2017), arXiv:1611.01232.

    Examples
    --------
    >>> found = phase_diagram("tanh", [1.3, 3.0], [0.05, 0.2])
    >>> found.kind.values.tolist()
    [['ordered', 'ordered'], ['chaotic', 'chaotic']]
    >>> round(float(found.cosine[1, 1]), 4)
    0.6927
    """
    phi = _named(activation)
    axes = [
        _axis("weight_variances", weight_variances, positive=True),
        _axis("bias_variances", bias_variances, positive=False),
    ]
    count = len(axes[0]) * len(axes[1])
    if count > _MOST_POINTS:
        raise SpecError(
            f"a grid of {len(axes[0])} x {len(axes[1])} points is more than the {_MOST_POINTS} "
            f"that are kept: it would take minutes. Use at most {math.isqrt(_MOST_POINTS)} a side."
        )
    weight, bias = (a.ravel() for a in np.meshgrid(*axes, indexing="ij"))
    if phi.homogeneous:
        parts = [_each(phi, float(w), float(b)) for w, b in zip(weight, bias, strict=True)]
        table = {name: np.array([part[name] for part in parts]) for name in ("kind", *NUMBERS)}
    else:
        slices = [slice(i, i + _SLICE) for i in range(0, count, _SLICE)]
        found = [_many(phi, weight[part], bias[part]) for part in slices]
        table = {name: np.concatenate([f[name] for f in found]) for name in ("kind", *NUMBERS)}
    dims = ("weight_variance", "bias_variance")
    shape = (len(axes[0]), len(axes[1]))
    data = xr.Dataset(coords={name: (name, axis) for name, axis in zip(dims, axes, strict=True)})
    data["weight_variance"].attrs = {"long_name": "variance of a weight times its fan-in"}
    data["bias_variance"].attrs = {"long_name": "variance of a bias"}
    data["kind"] = (dims, table["kind"].reshape(shape), {"long_name": "phase"})
    for name, words in NUMBERS.items():
        units = "layer" if name.startswith("xi") else "1"
        about = {"long_name": words, "units": units, "status": "limit"}
        data[name] = (dims, table[name].reshape(shape), about)
    edge = _edge(phi, axes)
    for name, values in zip(dims, edge, strict=True):
        data[f"edge_{name}"] = ("edge", values, {"long_name": f"{name} on the edge of chaos"})
    doubt = 0.0 if phi.homogeneous else _doubt(phi, data)
    return data.assign_attrs(
        title="phases of wide plain networks",
        activation=phi.kind,
        status="limit",
        assumptions="width to infinity; block plain, independent layers of finite variance",
        source="Poole et al. (2016), arXiv:1606.05340; Schoenholz et al. (2017), arXiv:1611.01232",
        doubt=doubt,
    )


def _axis(name: str, values: ArrayLike, *, positive: bool) -> np.ndarray:
    axis = np.atleast_1d(np.asarray(values, float))
    right = axis.ndim == 1 and np.isfinite(axis).all() and (np.diff(axis) > 0).all()
    if not right or not axis.size or axis[0] < 0 or (positive and axis[0] == 0):
        raise SpecError(
            f"{name} must be increasing {'positive' if positive else 'non-negative'} numbers, got "
            f"{axis.tolist()[:6]}: they are the lines of a grid. Write for example "
            "numpy.linspace(0.5, 4, 41)."
        )
    return axis


def _each(phi: Activation, weight: float, bias: float) -> dict[str, float | str]:
    try:
        found: Phase = phase(phi, weight, bias)
    except Unsupported:
        return {"kind": "unbounded", **dict.fromkeys(NUMBERS, math.nan)}
    return {name: getattr(found, name) for name in ("kind", *NUMBERS)}


# --------------------------------------------------------------------- many at once


def _rule() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of averages over a standard normal; 0 is an end of a panel."""
    x, w = np.polynomial.legendre.leggauss(10)
    ends = np.concatenate([np.linspace(0, 2, 17), np.linspace(2, 10, 21)[1:]])
    half = np.diff(ends)[:, None] / 2
    g = (ends[:-1, None] + half * (1 + x)).ravel()
    weight = (half * w).ravel() * np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
    return np.concatenate([-g[::-1], g]), np.concatenate([weight[::-1], weight])


def _many(phi: Activation, weight: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    g, rule = _rule()
    q = _settled(phi, weight, bias, g, rule)
    alive = np.isfinite(q) & (q > 0)
    root = np.sqrt(np.where(alive, q, 1.0))[:, None]
    u = root * g
    value, slope = phi(u), phi.derivative(u)
    chi_1 = weight * (slope**2 @ rule)
    turn = weight * ((g * value * slope) @ rule) / root[:, 0]
    at_zero = float(phi.derivative(np.zeros(1))[0]) ** 2 * weight
    chi_1, turn = (np.where(q == 0, at_zero, np.where(alive, x, math.nan)) for x in (chi_1, turn))
    unbounded = np.isnan(q)
    chaotic = alive & ~unbounded & (chi_1 >= 1 + _CRITICAL)
    cosine = np.where(alive, 1.0, math.nan)
    chi_c = np.where(alive, chi_1, math.nan)
    if chaotic.any():
        squares = _hermite(value[chaotic], g, rule)
        parts = (weight[chaotic], bias[chaotic], q[chaotic])
        cosine[chaotic], chi_c[chaotic] = _apart(squares, *parts)
    kind = np.where(
        np.abs(chi_1 - 1) < _CRITICAL, "critical", np.where(chaotic, "chaotic", "ordered")
    )
    table = {
        "mean_square": q,
        "mean_square_slope": turn,
        "chi_1": chi_1,
        "cosine": cosine,
        "chi_c": chi_c,
        "xi_q": _scales(turn),
        "xi_c": np.where(kind == "critical", np.where(alive, math.inf, math.nan), _scales(chi_c)),
    }
    table = {name: np.where(unbounded, math.nan, values) for name, values in table.items()}
    return {"kind": np.where(unbounded, "unbounded", kind).astype("U9"), **table}


def _settled(
    phi: Activation, weight: np.ndarray, bias: np.ndarray, g: np.ndarray, rule: np.ndarray
) -> np.ndarray:
    """The fixed point to which a mean square of 1 goes: 0, a number, or nan if there is none."""
    moment = np.array([phi.second_moment(float(q)) for q in _MESH])
    excess = weight[:, None] * moment + bias[:, None] - _MESH
    start = len(_MESH) // 2  # q = 1
    upward = excess[:, start] >= 0
    above, below = excess[:, start + 1 :] < 0, excess[:, start - 1 :: -1] > 0
    high = np.where(upward, start + 1 + above.argmax(axis=1), start - below.argmax(axis=1))
    known = np.where(upward, above.any(axis=1), below.any(axis=1))
    low = np.log(_MESH[high - 1])
    top = np.log(_MESH[high])
    for _ in range(48):  # bisection in log q
        middle = (low + top) / 2
        q = np.exp(middle)
        positive = weight * (phi(np.sqrt(q)[:, None] * g) ** 2 @ rule) + bias > q
        low, top = np.where(positive, middle, low), np.where(positive, top, middle)
    # Nothing but 0 below: the signal vanishes.
    return np.where(known, np.exp((low + top) / 2), np.where(upward, math.nan, 0.0))


def _hermite(value: np.ndarray, g: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Squares of the coefficients of every row of ``value``; the rest of its square comes last."""
    squares = np.empty((len(value), _TERMS + 1))
    before, this = np.zeros_like(g), np.ones_like(g)
    for k in range(_TERMS):
        squares[:, k] = (value @ (this * rule)) ** 2
        before, this = this, (g * this - math.sqrt(k) * before) / math.sqrt(k + 1)
    squares[:, -1] = np.maximum(value**2 @ rule - squares[:, :-1].sum(axis=1), 0.0)
    return squares


def _apart(
    squares: np.ndarray, weight: np.ndarray, bias: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(c*, chi_c) of chaotic points: the root below 1 of a convex series."""
    series = squares * (weight / q)[:, None]
    powers = np.arange(1, series.shape[1])
    # Where the map is steepest below its diagonal: to the left of there is one root, c*.
    low, top = np.zeros(len(q)), np.ones(len(q))

    def derivative(c: np.ndarray) -> np.ndarray:
        return (series[:, 1:] * powers * c[:, None] ** (powers - 1)).sum(axis=1)

    for _ in range(48):
        middle = (low + top) / 2
        flat = derivative(middle) < 1
        low, top = np.where(flat, middle, low), np.where(flat, top, middle)
    low, top = np.zeros(len(q)), low
    for _ in range(48):
        middle = (low + top) / 2
        image = (series * middle[:, None] ** np.arange(series.shape[1])).sum(axis=1) + bias / q
        above = image > middle
        low, top = np.where(above, middle, low), np.where(above, top, middle)
    cosine = np.where(top < 1e-12, 0.0, (low + top) / 2)
    return cosine, derivative(cosine)


def _scales(slope: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = -1 / np.log(np.abs(slope))
    return np.where(np.abs(slope) >= 1, math.inf, np.where(slope == 0, 0.0, scale))


# ------------------------------------------------------------------------- edge, doubt


def _edge(phi: Activation, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The part of the curve that lies in the grid, from small to large mean squares."""
    if phi.homogeneous:
        return np.array([1 / phi.derivative_second_moment(1.0)]), np.zeros(1)
    weight, bias = edge_of_chaos(phi, np.geomspace(1e-6, 1e3, 400))
    inside = (bias >= 0) & (weight <= axes[0][-1]) & (bias <= axes[1][-1])
    return weight[inside], bias[inside]


def _doubt(phi: Activation, data: xr.Dataset) -> float:
    """The largest relative difference from `phase` at up to 3 x 3 points, ends included."""
    places = [np.unique([0, n // 2, n - 1]) for n in data.kind.shape]
    doubt = 0.0
    for i in places[0]:
        for j in places[1]:
            at = data.isel(weight_variance=int(i), bias_variance=int(j))
            if str(at.kind.values) == "unbounded":
                continue
            found = phase(phi, float(at.weight_variance), float(at.bias_variance))
            for name in ("mean_square", "chi_1", "chi_c"):
                near, exact = float(at[name]), float(getattr(found, name))
                if math.isfinite(exact) and exact > 0:
                    doubt = max(doubt, abs(near / exact - 1))
    return doubt
