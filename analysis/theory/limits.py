r"""What a network becomes as its depth grows: nothing, an equation in continuous time, or chaos.

A branch of size :math:`L^{-\beta}` in each of L layers adds up to :math:`L^{H - \beta}`, where
H says how the weights of the layers depend on each other: 1/2 for independent ones, which add
up like a random walk; 1 for smooth ones, which all pull one way. Above H the network tends to
the identity, below it explodes, and at :math:`\beta = H` it is an Euler scheme for

=================== ================================================== =============
weights             equation                                           strong order
=================== ================================================== =============
independent         :math:`dH = d^{-1/2}\, dB\, \varphi(H)`, Itô         1/2
fgn, H > 1/2        :math:`dH = d^{-1/2}\, dB^H\, \varphi(H)`, Young     2H - 1
smooth or tied      :math:`dH = d^{-1/2}\, V(t)\, \varphi(H)\, dt`      1
=================== ================================================== =============

for block res1 with weights of variance 1/d; in res3 :math:`\varphi(H)` is
:math:`\varphi(W(t) H)` for a smooth W, while for independent W there is a limit in law alone,
:math:`dH = (c/d)^{1/2} |H|\, dW` with :math:`c = E\varphi(Z)^2`. `sigprop.coupling` draws networks
of several depths on one path, and `measured_order` reads the order off them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

import numpy as np
import xarray as xr

from analysis.theory._entrywise import check_entrywise
from analysis.theory._transition import transition
from sigprop.errors import SpecError, Unsupported
from sigprop.processes import (
    Cauchy,
    FractionalGaussianNoise,
    Hermite,
    Matern,
    Rbf,
    Tied,
)
from sigprop.spec import Ensemble, Process

__all__ = [
    "Diffusion",
    "LimitEquation",
    "MeasuredOrder",
    "Regime",
    "limit_equation",
    "linear_strong_mean_square",
    "measured_order",
    "regime",
    "scaling_exponent",
    "weak_limit",
]

_SAME = 1e-9  # between exponents: beyond rounding
_NO_ORDER = 1e-3  # an order below this is none
_MARION = "Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929"
_BENNING = (
    "Benning, Nourdin, Peccati (2026), Correlated initialization of deep residual networks "
    "(recalled)"
)


# ------------------------------------------------------------------------- regimes


@dataclass(frozen=True)
class Regime:
    """What happens to a network as its depth grows, and how surely that is known.

    Status: that of the statement itself, in ``status``. Assumes ``assumptions``. Cost: none.

    Attributes
    ----------
    name : str
        ``identity``: the relative displacement tends to 0; ``stable``: it stays random and of
        order 1; ``explosion``: it grows without bound.
    exponent : float
        beta, if the branch is :math:`L^{-\\beta}`; inf for a branch of 0.
    critical_exponent : float
    status, assumptions, source : str

    Examples
    --------
    >>> Regime("stable", 0.5, 0.5, "limit", "", "").name
    'stable'
    """

    name: str
    exponent: float
    critical_exponent: float
    status: str
    assumptions: str
    source: str


def scaling_exponent(ensemble: Ensemble) -> float:
    r"""The beta of a scheme: its branches shrink like :math:`L^{-\beta}` as depth grows.

    .. math:: \beta = -\log_2 \frac{g(2L)}{g(L)}, \qquad
              g^2 = \frac1L \sum_l a_l^2 s_l^2 \prod_j n_j \sigma_{lj}^2

    Parameters
    ----------
    ensemble : Ensemble
        Only the scheme matters, at three depths.

    Returns
    -------
    float
        inf if the branches are 0.

    Raises
    ------
    Unsupported
        If g is no power of the depth, or the scheme is made for one depth alone.

    Notes
    -----
    Status: exact, a definition. Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, Fixup, Network, Power
    >>> round(scaling_exponent(Ensemble(Network(depth=10, width=4), Power(beta=0.7))), 9)
    0.7
    """
    _check_trunk(ensemble, "scaling_exponent")
    depth = ensemble.network.depth
    try:
        sizes = [_branch_size(ensemble, depth * factor) for factor in (1, 2, 4)]
    except SpecError as error:
        raise Unsupported(
            f"scheme {ensemble.scheme.kind!r} is given for depth {depth} alone, so it does not say "
            f"what happens as depth grows: {error}"
        ) from error
    if max(sizes) == 0.0:
        return math.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = -np.diff(np.log2(sizes))
    if not abs(first - second) <= _SAME:
        raise Unsupported(
            f"the branches of scheme {ensemble.scheme.kind!r} do not shrink like a power of the "
            f"depth (exponent {first:.6g} from depth {depth} to {2 * depth}, then {second:.6g}), "
            "so there is no beta to compare with a critical one. Use scheme 'power', or "
            "log_mean_square at the depth that matters."
        )
    return float(first)


def regime(ensemble: Ensemble, quantity: str = "forward") -> Regime:
    r"""Identity, stable or explosion: where the scaling of an ensemble stands.

    The exponent of its scheme is compared with the critical one of the process of its weights:

    ======================== ==================================================
    weights                  critical exponent
    ======================== ==================================================
    independent              1/2
    rbf, matern, tied        1
    fgn, res1                max(H, 1/4)
    fgn in all matrices      forward max(1/2, H), backward max(1/2, 2H - 1)
    cauchy, hermite, res1    max(1/2, 1 - rank decay / 2)
    ======================== ==================================================

    A smooth or tied ``inner_process`` counts as res1.

    Parameters
    ----------
    ensemble : Ensemble
    quantity : str
        ``forward`` (states) or ``backward`` (gradients, isotropic at the top).

    Raises
    ------
    SpecError
        If ``quantity`` is neither.
    Unsupported
        If the branch is no power of the depth, or nothing is known of the processes.

    Notes
    -----
    Status: limit or conjecture, as the answer says; depth to infinity at a fixed, large width. At
    a finite depth the transition is smooth and its place is shifted by an order of
    1 / log(depth), so never read the exponent off one depth. Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> from sigprop.processes import Rbf
    >>> law = Ensemble(Network(depth=100, width=40), Power(beta=0.75, process=Rbf(bandwidth=0.1)))
    >>> regime(law).name, regime(law).critical_exponent, regime(law).status
    ('explosion', 1.0, 'conjecture')
    """
    if quantity not in ("forward", "backward"):
        raise SpecError(
            f"quantity must be 'forward' or 'backward', got {quantity!r}: states and gradients may "
            "have different critical exponents."
        )
    beta = scaling_exponent(ensemble)
    critical, proved, assumptions, source = _critical(ensemble, quantity)
    if beta > critical + _SAME:
        name = "identity"
    else:
        name = "stable" if beta >= critical - _SAME else "explosion"
    status = "limit" if name in proved else "conjecture"
    return Regime(name, beta, critical, status, assumptions, source)


_EVERY = ("identity", "stable", "explosion")


def _critical(ensemble: Ensemble, quantity: str) -> tuple[float, tuple[str, ...], str, str]:
    """(critical exponent, what is proved of it, assumptions, source)."""
    processes = ensemble.table.processes
    last, inner = processes[-1], processes[:-1]
    linear_growth = "an activation that is bounded by a linear function"
    if last.independent:
        what = (
            f"independent centred weights of finite variance; {linear_growth} and, for the "
            "explosion, from below too; width 3 or more"
        )
        return 0.5, _EVERY, what, _MARION
    smooth_inside = all(_smooth(process) for process in inner)
    if smooth_inside and _smooth(last):
        what = f"continuous paths of the weights; {linear_growth}; for the explosion, no degeneracy"
        return 1.0, ("identity", "stable"), what, _MARION
    if isinstance(last, FractionalGaussianNoise):
        hurst = last.hurst
        if smooth_inside:
            return _long_memory(max(hurst, 0.25), hurst > 0.5)
        if all(process == last for process in inner):
            exponent = hurst if quantity == "forward" else 2 * hurst - 1
            what = "mean field: width to infinity before depth; ReLU"
            return max(0.5, exponent), (), what, f"{_MARION}, experiments; the mean-field recursion"
    if isinstance(last, (Cauchy, Hermite)) and smooth_inside:
        decay = last.decay * (last.rank if isinstance(last, Hermite) else 1)
        return _long_memory(max(0.5, 1 - decay / 2), decay < 1)
    kinds = ", ".join(repr(process.kind) for process in processes)
    raise Unsupported(
        f"no critical exponent is known for block {ensemble.network.block!r} with weights of "
        f"processes {kinds}. Use one of independent, fgn, rbf, matern, tied in all matrices, or "
        "block 'res1'; or compute analysis.theory.mean_field at several depths."
    )


def _long_memory(exponent: float, young: bool) -> tuple[float, tuple[str, ...], str, str]:
    what = "a bounded, continuously differentiable activation" if young else "mean field"
    return exponent, ("identity", "stable") if young else (), what, _BENNING


def _smooth(process: Process) -> bool:
    return isinstance(process, (Rbf, Matern, Tied))


# ------------------------------------------------------------------- the equation


@dataclass(frozen=True)
class LimitEquation:
    """The equation that a network discretises.

    Status: in ``status``. Assumes ``assumptions``. Cost: none.

    Attributes
    ----------
    equation : str
        H the state, t = layer / depth.
    sense : str
        ``strong``: on one path, network and limit come together; ``weak``: their laws do.
    order : float or nan
        The distance of depth L from the limit falls like :math:`L^{-order}` on one path; nan
        where no order is known or the limit is weak.
    status, assumptions, source : str

    Examples
    --------
    >>> LimitEquation("dH = 0", "strong", 0.5, "limit", "", "").equation
    'dH = 0'
    """

    equation: str
    sense: str
    order: float
    status: str
    assumptions: str
    source: str


def limit_equation(ensemble: Ensemble) -> LimitEquation:
    r"""The continuous limit of an ensemble's states, its sense and its strong order.

    Parameters
    ----------
    ensemble : Ensemble
        Of block res1 or res3, in its identity or stable regime; weights of variance 1/width
        and skip 1.

    Raises
    ------
    Unsupported
        As `regime`; in the explosive regime, which has no limit; for other blocks.

    Notes
    -----
    Status: limit, or conjecture as the answer says. For a Lipschitz activation, independent
    weights: strong order 1/2 under the coupling by Brownian increments; smooth ones: order 1
    for Lipschitz paths; fractional ones: 2H - 1, where the constant falls with the width, so
    that at moderate depths 2H - 1/2 is seen instead. Cost O(depth).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929; Hayou (2022), arXiv:2210.00688; Hu,
    Liu, Nualart (2016), for 2H - 1 (recalled).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> law = Ensemble(Network(depth=100, width=8, block="res1"), Power(beta=0.5))
    >>> limit_equation(law).equation, limit_equation(law).order
    ('dH = d^-1/2 dB phi(H)', 0.5)
    """
    network = ensemble.network
    if network.block not in ("res1", "res3"):
        raise Unsupported(
            f"the limit equation is written for blocks 'res1' and 'res3', got {network.block!r}. "
            "Use one of the two."
        )
    found = regime(ensemble)
    known = (found.status, found.assumptions, found.source)
    if found.name == "explosion":
        raise Unsupported(
            f"the branch falls like depth^-{found.exponent:.4g}, slower than "
            f"depth^-{found.critical_exponent:.4g}: states explode and there is no equation in "
            "the limit. Use a larger beta."
        )
    if found.name == "identity":
        order = found.exponent - found.critical_exponent
        return LimitEquation("dH = 0", "strong", order, *known)
    table = ensemble.table
    rows = network.width * table.scale**2
    if not np.allclose(rows, 1.0) or not np.all(table.skip == 1.0) or table.biased:
        raise Unsupported(
            "the limit equation is written for weights of variance 1 / width, skip 1 and no "
            "biases. Use scheme 'power' with one width."
        )
    process = table.processes[-1]
    inner = table.processes[0] if network.block == "res3" else None
    reads = "phi(H)" if inner is None else "phi(d^-1/2 W(t) H)"
    if process.independent:
        if inner is not None and not _smooth(inner):
            return LimitEquation("dH = (c/d)^1/2 |H| dw, c = E phi(Z)^2", "weak", math.nan, *known)
        return LimitEquation(f"dH = d^-1/2 dB {reads}", "strong", 0.5, *known)
    if inner is not None and not _smooth(inner):
        raise Unsupported(
            f"no equation is known where a matrix inside the activation has process "
            f"{inner.kind!r} and the last one {process.kind!r}. Use block 'res1', or a smooth "
            "inner_process."
        )
    if _smooth(process):
        lipschitz = all(not isinstance(p, Matern) or p.smoothness > 1 for p in table.processes)
        order = 1.0 if lipschitz else math.nan
        return LimitEquation(f"dH = d^-1/2 V(t) {reads} dt", "strong", order, *known)
    if isinstance(process, FractionalGaussianNoise):
        order = 2 * process.hurst - 1 if process.hurst > 0.5 else math.nan
        return LimitEquation(f"dH = d^-1/2 dB^H {reads}", "strong", order, *known)
    return LimitEquation(f"dH = gamma d^-1/2 dZ {reads}", "weak", math.nan, *known)


# ---------------------------------------------------------------------- weak limit


@dataclass(frozen=True)
class Diffusion:
    r"""The law of :math:`dH = |H|\, dW / \sqrt{d}` in its own time T, layer by layer.

    .. math:: \log\frac{|H_T|}{|H_0|} \sim N\Bigl(\bigl(\tfrac12 - \tfrac1d\bigr) T,
              \tfrac{T}{d}\Bigr), \qquad E|H_T|^2 = e^T |H_0|^2, \qquad
              E \cos(H_T, H_0) = e^{-(d-1) T / (2d)} .

    The norm is a geometric Brownian motion; the direction, independent of it, a Brownian
    motion on the sphere. Status: exact for the equation. Cost O(depth).

    Attributes
    ----------
    width : int
        d.
    clock : ndarray, shape (depth + 1,)
        T after each layer.

    Examples
    --------
    >>> Diffusion(4, np.array([0.0, 1.0])).log_norm_mean.tolist()
    [0.0, 0.25]
    """

    width: int
    clock: np.ndarray

    @property
    def log_norm_mean(self) -> np.ndarray:
        return (0.5 - 1 / self.width) * self.clock

    @property
    def log_norm_variance(self) -> np.ndarray:
        return self.clock / self.width

    @property
    def log_mean_square(self) -> np.ndarray:
        return self.clock.copy()

    @property
    def cosine_mean(self) -> np.ndarray:
        """E cos(h_l, h_0)."""
        return np.exp(-(1 - 1 / self.width) / 2 * self.clock)


def weak_limit(ensemble: Ensemble) -> Diffusion:
    r"""The diffusion whose law the states of an ensemble approach.

    Its time is :math:`T_l = \sum_{k \le l} t_k`, with :math:`t_k` the mean square that layer k
    adds relative to the trunk (see `log_mean_square`): for res3 with :math:`c = E\varphi(Z)^2`
    and weights of variance 1/d, :math:`t_k = c\, a_k^2`, hence :math:`dH = (c/d)^{1/2} |H| dW`
    at :math:`a = L^{-1/2}`.

    Raises
    ------
    Unsupported
        As `log_mean_square` (in particular res1 with ReLU, whose state decides how many units
        are on: see `quasi_geometric_log_mean`); for biases, skip coefficients other than 1,
        plain nets and weights correlated along depth.

    Notes
    -----
    Status: limit, as :math:`\max_k t_k \to 0` at fixed width, with an error of the order of
    the sum of :math:`t_k^2`. Assumes independent symmetric weights of finite kurtosis; they
    need not be Gaussian. Cost O(depth).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929; Hayou (2022), arXiv:2210.00688, for
    linear res1.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> limit = weak_limit(Ensemble(Network(depth=1000, width=100), Power(beta=0.5)))
    >>> float(limit.log_norm_mean[-1].round(12)), float(limit.log_norm_variance[-1].round(12))
    (0.245, 0.005)
    """
    _check_trunk(ensemble, "weak_limit")
    if ensemble.table.correlated:
        raise Unsupported(
            "weak_limit needs layers that are independent: correlated weights have another "
            "limit. Use process 'independent', or see limit_equation."
        )
    if ensemble.table.biased or not np.all(ensemble.table.skip == 1.0):
        raise Unsupported(
            "weak_limit is a law without biases and with skip 1: otherwise the norm is not a "
            "product of independent factors close to 1. Use log_mean_square."
        )
    steps = transition(ensemble, name="weak_limit", order=2)
    clock = np.concatenate([[0.0], np.cumsum(steps.branch[:, 2, 2])])
    return Diffusion(ensemble.network.width, clock)


# ------------------------------------------------------------------- strong orders


def linear_strong_mean_square(depth: int, fine_depth: float = math.inf) -> np.ndarray:
    r"""Mean squared distance of a linear res1 network from a finer one on the same path.

    .. math:: \frac{E|H_{k/L} - h_k|^2}{|h_0|^2}
              = \Bigl(1 + \frac1F\Bigr)^{kF/L} - \Bigl(1 + \frac1L\Bigr)^k

    with Brownian increments as weights and branches :math:`L^{-1/2}, F^{-1/2}`. Given the
    increments over a coarse step, the fine product has their sum as its mean, so
    :math:`E H_{k/L} \cdot h_k = E|h_k|^2`: the coarse network is the projection of the fine one,
    and Pythagoras does the rest.

    Parameters
    ----------
    depth : int
        L.
    fine_depth : float
        F, a multiple of it; inf for the stochastic differential equation itself.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Over k; about :math:`e^{k/L} k / (2 L^2)` at F = inf, of order 1/L at the end.

    Raises
    ------
    SpecError
        If the fine depth is no multiple of the depth.

    Notes
    -----
    Status: exact at every width. Assumes Gaussian weights, activation linear. Cost O(depth).

    Examples
    --------
    >>> float((linear_strong_mean_square(100)[-1] * 100).round(3))  # e / 2
    1.347
    """
    if not math.isinf(fine_depth) and (fine_depth % depth or fine_depth < depth):
        raise SpecError(
            f"fine_depth must be a multiple of the depth {depth}, got {fine_depth}: every layer "
            "ends on the fine grid."
        )
    k = np.arange(depth + 1.0)
    coarse = k * math.log1p(1 / depth)
    fine = k / depth * (1.0 if math.isinf(fine_depth) else fine_depth * math.log1p(1 / fine_depth))
    return np.exp(coarse) * np.expm1(fine - coarse)


@dataclass(frozen=True)
class MeasuredOrder:
    """A strong order read off networks on common paths.

    Status: a measurement. Cost: none.

    Attributes
    ----------
    order, order_se : float
        error ~ depth^-order, with its standard error.
    log_constant : float
        Of the error in units of |h_0|, extrapolated from the fine depth to infinity.
    worst : float
        The largest departure of a log error from the line, in nats: what the order leaves out.

    Examples
    --------
    >>> MeasuredOrder(0.5, 0.01, 0.0, 0.0).order
    0.5
    """

    order: float
    order_se: float
    log_constant: float
    worst: float


def measured_order(
    result: xr.Dataset, variable: str = "error", input: int = 0, *, moment: int = 1
) -> MeasuredOrder:
    r"""Fit the strong order to a result of `sigprop.coupling.strong_error`.

    The distance from a fine network of depth F falls short of that from the limit. On a
    Brownian path the refinements are uncorrelated and their squares add up; on other paths
    they have one direction and add up themselves. So the line fitted is

    .. math:: \log e_L = \text{const} + \tfrac1q \log\bigl(L^{-qp} - F^{-qp}\bigr),
              \qquad q = 2 \text{ or } 1

    by least squares, each depth weighted by the inverse variance of its logarithm. The errors
    of one replica at several depths share a path; the standard error uses their covariance.

    Parameters
    ----------
    result : Dataset
    variable : str
        ``error`` or ``last_error``.
    input : int
    moment : int
        1 for the mean error, 2 for its root mean square.

    Raises
    ------
    SpecError
        If the Dataset is none of `strong_error`, has too few depths or replicas, or errors
        that are 0 or do not fall with depth.

    Notes
    -----
    Status: a measurement. The order of a limit is one as depth grows: small depths bend the
    line, which ``worst`` shows. Cost O(replicas).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Point, Power
    >>> from sigprop.coupling import strong_error
    >>> law = Ensemble(Network(depth=256, width=4, block="res1"), Power(beta=0.5), Point())
    >>> fit = measured_order(strong_error(law, [8, 16, 32], replicas=50))
    >>> 0.3 < fit.order < 0.7
    True
    """
    errors, depths, fine, orthogonal = _errors(result, variable, input)
    if moment not in (1, 2):
        raise SpecError(f"moment must be 1 or 2, got {moment!r}: the mean, or the mean square.")
    powers = errors**moment
    mean = powers.mean(axis=0)
    if not np.all(mean > 0):
        raise SpecError(
            f"{variable} is exactly 0 at depth {depths[mean <= 0][0]:g}, so it has no logarithm: "
            "the networks do not move. Use a branch that is not 0."
        )
    # The delta method: log of a mean moves by (x - mean) / mean.
    influence = (powers - mean) / (moment * mean)
    if not np.all(influence.std(axis=0) > 0):
        raise SpecError(
            f"{variable} does not vary between replicas, so there is no error to weigh it by. "
            "Use random weights."
        )
    return _fit(np.log(mean) / moment, influence, depths, fine, 2 if orthogonal else 1)


def _fit(
    logs: np.ndarray, influence: np.ndarray, depths: np.ndarray, fine: float, q: int
) -> MeasuredOrder:
    def line(order: float) -> np.ndarray:
        gap = -np.expm1(q * order * np.log(depths / fine))  # 1 - (L / F)^(q p)
        return -order * np.log(depths) + np.log(gap) / q

    weight = len(influence) / influence.var(axis=0, ddof=1)
    order, step = 0.5, 1e-6
    for _ in range(100):  # Gauss and Newton; nearly linear, so a few steps do
        slope = (line(order + step) - line(order - step)) / (2 * step)
        design = np.stack([np.ones_like(slope), slope], axis=1)
        pull = np.linalg.solve(design.T * weight @ design, design.T * weight)
        constant, change = pull @ (logs - line(order))
        order = max(order + change, order / 4)
        if abs(change) < 1e-10:
            break
        if order < _NO_ORDER:
            raise SpecError(
                "the errors do not fall with depth, so there is no order: these networks do not "
                "come together. Use more replicas if the errors are within their standard errors, "
                "and depths far below the fine one."
            )
    # One replica enters at every depth, so its share in the order is a number of its own.
    se = (influence @ pull[1]).std(ddof=1) / math.sqrt(len(influence))
    worst = np.abs(logs - constant - line(order)).max()
    return MeasuredOrder(float(order), float(se), float(constant), float(worst))


def _errors(
    result: xr.Dataset, variable: str, input: int
) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """(errors of shape (replicas, depths), depths, fine depth, whether refinements add squared)."""
    name = f"replica_{variable}"
    if result.attrs.get("schema") != "sigprop-coupling" or name not in result:
        raise SpecError(
            f"measured_order reads {name!r} of a result of sigprop.coupling.strong_error, and this "
            "Dataset is none. Use variable 'error' or 'last_error' of such a result."
        )
    if not 0 <= input < result.sizes["input"]:
        raise SpecError(
            f"input {input} does not exist: the result has {result.sizes['input']}. Count from 0."
        )
    errors = result[name].transpose("replica", "depth", "input").values[:, :, input]
    depths = result["depth"].values.astype(float)
    if len(depths) < 3 or len(errors) < 10:
        raise SpecError(
            f"an order with a standard error takes at least 3 depths and 10 replicas, got "
            f"{len(depths)} and {len(errors)}. Run strong_error with more."
        )
    ensemble = Ensemble.from_dict(json.loads(result.attrs["ensemble"]))
    last = ensemble.table.processes[-1]
    return errors, depths, float(result.attrs["fine_depth"]), last.independent


# --------------------------------------------------------------------------- shared


def _branch_size(ensemble: Ensemble, depth: int) -> float:
    """Root mean square over layers of what a branch adds to a state of norm 1."""
    network = dataclasses.replace(ensemble.network, depth=depth)
    table, fan_in = ensemble.scheme.layers(network), network.fans[0]
    gain = (table.branch * table.input_scale) ** 2 * np.prod(table.scale**2 * fan_in, axis=1)
    return float(np.sqrt(gain.mean()))


def _check_trunk(ensemble: Ensemble, name: str) -> None:
    check_entrywise(ensemble, name)
    if not ensemble.network.form.trunk:
        raise Unsupported(
            f"{name} is about residual nets, got block {ensemble.network.block!r}: without a "
            "trunk, layers do not become steps of a path. Use block 'res1' or 'res3'."
        )
