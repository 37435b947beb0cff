r"""The critical exponent of the branch: what it is predicted to be, and how it is measured.

With branches :math:`L^{-\beta} V \varphi(\cdot)` a displacement behaves like
:math:`L^{\beta_c - \beta}` near the critical :math:`\beta_c`: below it grows with depth, above
it vanishes. For weights that follow fractional Gaussian noise of index H along depth

======  =========================  ==========================
block   state                      gradient
======  =========================  ==========================
res3    max(1/2, H)                max(1/2, 2 H - 1)
res1    max(H, 1/4)                max(H, 1/4)
======  =========================  ==========================

at infinite width. At finite depth the place where the displacement is as long as the state lies
elsewhere (`contour_exponent`): for res3 and H > 1/2 the leading sum is
:math:`a^2 L^{2H} / (2\pi)`, so that the place is shifted by about
:math:`\log(2\pi) / (2 \log L)`, 0.13 at depth 1000, and less as H nears 1. So an exponent is
fitted across depths, never read off one: `fit_critical_exponent`. Even the growth between two
depths tends to it slowly: `local_exponent`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from analysis.fit import fit_power_law
from analysis.theory.correlation import kernel
from analysis.theory.mean_field import mean_field
from sigprop.activations import ReLU
from sigprop.errors import SpecError
from sigprop.inputs import Point
from sigprop.processes import FractionalGaussianNoise
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network, Process, check_count, check_number

__all__ = [
    "CriticalExponent",
    "contour_exponent",
    "critical_exponent",
    "fit_critical_exponent",
    "local_exponent",
]

_QUANTITIES = ("displacement", "gradient_displacement")
_BLOCKS = ("res1", "res3")


def critical_exponent(hurst: float, quantity: str = "displacement", block: str = "res3") -> float:
    """The critical beta of fractional Gaussian noise along depth, at infinite width.

    Parameters
    ----------
    hurst : float
        Index H of the noise of all matrices, in (0, 1); 1/2 is independent layers.
    quantity : str
        ``displacement`` of the state, or ``gradient_displacement`` for an isotropic gradient
        at the top.
    block : str
        ``res1`` or ``res3``, with a ReLU.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If H is outside (0, 1) or a name is unknown.

    Notes
    -----
    Status: conjecture, but for H = 1/2 (and res1 with H > 1/2 and a smooth bounded activation).
    It is read off the mean-field recursion: width goes to infinity before depth. At a finite
    width a part of 1 / width of a res3 gradient follows the exponent of the state. Cost O(1).

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, conjecture H for H > 1/2; Benning,
    Nourdin, Peccati (2026) prove the smooth case of one matrix.

    Examples
    --------
    >>> critical_exponent(0.8), round(critical_exponent(0.8, "gradient_displacement"), 9)
    (0.8, 0.6)
    """
    hurst = _checked(hurst, quantity, block)
    if block == "res1":
        return max(hurst, 0.25)
    return max(0.5, hurst if quantity == "displacement" else 2.0 * hurst - 1.0)


def local_exponent(
    hurst: float, depth: int, quantity: str = "displacement", block: str = "res3"
) -> float:
    r"""The exponent that depths L and 2L show, where branches are small: it tends to the critical.

    To the leading order in the branch :math:`E|h_L - h_0|^2 / |h_0|^2 = L^{-2\beta} S_L` with

    .. math:: S_L = \sum_{i, j \le L} f(\rho_{i-j}), \qquad
              f = \rho\, \kappa(\rho),\ \rho^2 \kappa'(\rho),\ \rho / 2

    for the state and the gradient of res3 and for res1, :math:`\rho` the autocovariance of the
    noise, :math:`2 \kappa` the kernel of a ReLU. The exponent is
    :math:`\tfrac12 \log_2 (S_{2L} / S_L)`.

    Parameters
    ----------
    hurst : float
        Index H of the noise of all matrices, in (0, 1).
    depth : int
        L.
    quantity, block : str
        As in `critical_exponent`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        As `critical_exponent`, or if the depth is no positive integer.

    Notes
    -----
    Status: limit of infinite width, then of small branches; at infinite depth a conjecture, as
    `critical_exponent`. In res1 with H below 1/4 the second order, :math:`L^{1 - 4 \beta}`, is the
    larger one in the end, and is not counted here. Cost O(depth).

    Examples
    --------
    >>> [round(local_exponent(0.9, depth), 3) for depth in (100, 10_000, 1_000_000)]
    [0.854, 0.878, 0.891]
    """
    hurst = _checked(hurst, quantity, block)
    depth = check_count("depth", depth)
    lag = np.arange(2.0 * depth)
    rho = FractionalGaussianNoise(hurst=hurst).correlation(lag, depth)
    if block == "res1":
        f = rho / 2
    elif quantity == "displacement":
        f = rho * kernel(rho, ReLU()) / 2
    else:
        f = rho**2 * (0.25 + np.arcsin(rho) / (2 * math.pi))

    def total(layers: int) -> float:
        return float(layers * f[0] + 2 * ((layers - lag[1:layers]) @ f[1:layers]))

    return math.log2(total(2 * depth) / total(depth)) / 2


def contour_exponent(
    process: Process, depth: int, quantity: str = "displacement", block: str = "res3"
) -> float:
    """The beta at which, at one depth, the mean square of a displacement is 1.

    What the zero contour of a heat map over beta shows; not the critical exponent, but
    shifted from it by a term of order 1 / log depth.

    Parameters
    ----------
    process : Process
        Of all matrices; Gaussian.
    depth : int
    quantity, block : str
        As in `critical_exponent`.

    Returns
    -------
    float
        To 1e-5.

    Raises
    ------
    SpecError
        If a name is unknown, or no beta between 0 and 3 has that displacement.
    Unsupported
        As `analysis.theory.mean_field`.

    Notes
    -----
    Status: limit of infinite width, of a ReLU net, variances 1 / width. Cost O(depth^2), a dozen
    times.

    References
    ----------
    Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, Figure 7.

    Examples
    --------
    >>> round(contour_exponent(FractionalGaussianNoise(hurst=0.8), 1000), 3)
    0.7
    """
    _check("quantity", quantity, _QUANTITIES)
    _check("block", block, _BLOCKS)
    network = Network(depth=check_count("depth", depth, least=2), block=block)
    backward = quantity == "gradient_displacement"

    def log_square(beta: float) -> float:
        law = Ensemble(network, Power(beta=beta, process=process), Point())
        found = mean_field(law, gradient=backward)
        if backward:
            return float(found.log_gradient_displacement_mean_square[0])
        return float(found.log_displacement_mean_square[-1])

    low, high = 0.0, 3.0
    if log_square(low) < 0 or log_square(high) > 0:
        raise SpecError(
            f"at depth {depth} the {quantity} is 1 at no beta between {low:g} and {high:g} when "
            f"the process is {process.kind!r}: its weights are too small or too large. Give a "
            "process of variance 1, or more layers."
        )
    return float(brentq(log_square, low, high, xtol=1e-5))


@dataclass(frozen=True)
class CriticalExponent:
    """What `fit_critical_exponent` returns.

    Attributes
    ----------
    beta, beta_se : float
        Where the displacement neither grows nor falls with depth.
    beta_grid : ndarray
        The exponents at which it was followed.
    slopes, slopes_se : ndarray
        Of log displacement against log depth, at each.
    fits : bool
        Whether all of those lines go through their points within errors; False without errors.
    """

    beta: float
    beta_se: float
    beta_grid: np.ndarray
    slopes: np.ndarray
    slopes_se: np.ndarray
    fits: bool


def fit_critical_exponent(
    betas: ArrayLike,
    depths: ArrayLike,
    log_displacement: ArrayLike,
    errors: ArrayLike | None = None,
) -> CriticalExponent:
    """Fit the critical exponent across depths: the beta at which the slope in depth is zero.

    At every beta the logarithm of a displacement is fitted by a line in log depth; slopes are
    then interpolated to zero between the two betas around the change of sign.

    Parameters
    ----------
    betas : array_like, shape (B,)
        Increasing, at least 2, on both sides of the critical one.
    depths : array_like, shape (D,)
        At least 2 different ones: one depth tells no exponent.
    log_displacement : array_like, shape (B, D)
        Natural logarithms of a displacement: of a mean of |h_L - h_0| / |h_0|, or of the root
        of its mean square, measured or of `analysis.theory.mean_field`.
    errors : array_like, shape (B, D), optional
        Standard errors of those logarithms; independent from point to point.

    Returns
    -------
    CriticalExponent

    Raises
    ------
    SpecError
        If there is one depth only, a shape does not fit, a number is not finite, or the slopes
        do not change sign.

    Notes
    -----
    Status: an estimate, with the errors given. Cost O(betas depths).

    What remains is a correction to scaling, which falls with the smallest depth; compare fits
    over several ranges of depth.

    Examples
    --------
    >>> depths = np.array([10.0, 100.0, 1000.0])
    >>> betas = np.array([0.5, 0.7, 0.9])
    >>> law = np.log(depths) * (0.8 - betas[:, None])
    >>> round(fit_critical_exponent(betas, depths, law).beta, 6)
    0.8
    """
    beta, depth = np.asarray(betas, float), np.asarray(depths, float)
    values = np.asarray(log_displacement, float)
    known = None if errors is None else np.asarray(errors, float)
    if depth.ndim != 1 or len(np.unique(depth)) < 2:
        raise SpecError(
            f"depths holds {depth.tolist()}, but one depth tells no exponent: at finite depth the "
            "contour is shifted by a term that falls like 1 / log depth. Give several depths."
        )
    if beta.ndim != 1 or len(beta) < 2 or not bool((np.diff(beta) > 0).all()):
        raise SpecError(f"betas must be at least 2 increasing numbers, got {beta.tolist()}.")
    for name, array in (("log_displacement", values), ("errors", known)):
        if array is None:
            continue
        if array.shape != (len(beta), len(depth)):
            raise SpecError(
                f"{name} has shape {array.shape}, but there are {len(beta)} betas and "
                f"{len(depth)} depths. Give one row for each beta."
            )
        if not np.isfinite(array).all():
            raise SpecError(f"{name} has a value that is not finite. Leave that beta out.")
    lines = [_line(depth, row, None if known is None else known[i]) for i, row in enumerate(values)]
    slopes = np.array([line[0] for line in lines])
    errors_of_slopes = np.array([line[1] for line in lines])
    below = np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    if not len(below):
        raise SpecError(
            f"the displacement {'grows' if slopes[-1] > 0 else 'falls'} with depth at every beta "
            f"from {beta[0]:g} to {beta[-1]:g}, so the critical one is not among them. Widen betas."
        )
    i = int(below[0])
    share = slopes[i] / (slopes[i] - slopes[i + 1])
    step = beta[i + 1] - beta[i]
    spread = math.hypot((1 - share) * errors_of_slopes[i], share * errors_of_slopes[i + 1])
    return CriticalExponent(
        beta=float(beta[i] + share * step),
        beta_se=float(spread * step / (slopes[i] - slopes[i + 1])),
        beta_grid=beta,
        slopes=slopes,
        slopes_se=errors_of_slopes,
        fits=known is not None and all(line[2] for line in lines),
    )


def _line(
    depth: np.ndarray, values: np.ndarray, errors: np.ndarray | None
) -> tuple[float, float, bool]:
    """Slope in log depth, its standard error (nan for two points), whether the line fits."""
    if errors is None and len(np.unique(depth)) == 2:
        return float(np.polyfit(np.log(depth), values, 1)[0]), math.nan, False
    line = fit_power_law(depth, values, errors)
    return line.exponent, line.exponent_se, line.fits()


def _checked(hurst: float, quantity: str, block: str) -> float:
    why = "At 1/2 layers are independent, towards 1 they are one."
    hurst = check_number("hurst", hurst, low=0.0, high=1.0, open_low=True, open_high=True, why=why)
    _check("quantity", quantity, _QUANTITIES)
    _check("block", block, _BLOCKS)
    return hurst


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
