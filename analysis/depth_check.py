r"""How a module scales with its depth: a power or an exponential, with the exponent and its error.

Of a module built at several depths L are taken the mean square of the last state of the trunk, and
the squared length of the gradient of its first, for a cotangent of unit length at the output.
Their logarithms are fitted by

.. math:: y = c + e \log L \qquad\text{and}\qquad y = c + r L,

weighted by the errors over the networks; the better of the two is the one whose residuals are
smaller against these errors. Where neither lies within them at the 1% level, that is said too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student

from analysis.fit import fit_power_law
from analysis.module_verdict import trunk
from sigprop.errors import SpecError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DepthLaw", "depth_laws", "require_depths"]


@dataclass(frozen=True)
class DepthLaw:
    """How one quantity goes with depth.

    Attributes
    ----------
    quantity : str
        ``state``, the last, or ``gradient``, with respect to the first.
    depths : tuple of int
    log_values, log_values_se : tuple of float
        Mean squares, in nats.
    exponent, exponent_se : float
        e of the power law.
    rate, rate_se : float
        r of the exponential one, in nats a layer.
    better : str
        ``power`` or ``exponential``.
    power_p, exponential_p : float
        Chance of residuals as large if that law holds.
    grows : str
        ``yes`` if the better law explodes or vanishes: an exponential whose rate is not 0, by 99%,
        or a power whose exponent is beyond 1 (a mean square that adds up); ``no``; or ``unsure``.
    """

    quantity: str
    depths: tuple[int, ...]
    log_values: tuple[float, ...]
    log_values_se: tuple[float, ...]
    exponent: float
    exponent_se: float
    rate: float
    rate_se: float
    better: str
    power_p: float
    exponential_p: float
    grows: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def words(self) -> str:
        """A sentence."""
        what = (
            "The mean square of the last state"
            if self.quantity == "state"
            else "The squared length of the gradient of the first state"
        )
        power = f"L^({self.exponent:.3g} ± {2 * self.exponent_se:.2g})"
        exponential = f"exp(({self.rate:.3g} ± {2 * self.rate_se:.2g}) L)"
        told = f"goes like {power if self.better == 'power' else exponential}"
        if abs(self.exponent) < 2 * self.exponent_se and abs(self.rate) < 2 * self.rate_se:
            told = f"does not change with depth within errors: {power}"
        worse = max(self.power_p, self.exponential_p)
        off = "; neither law lies within the errors, so look at the points" if worse < 0.01 else ""
        return f"{what} {told} (two standard errors{off})."


def depth_laws(depths: Sequence[int], found: Sequence[xr.Dataset]) -> list[DepthLaw]:
    """Fit both laws to what `sigprop.modules.probe` measured at several depths.

    Parameters
    ----------
    depths : sequence of int
        Three or more.
    found : sequence of Dataset
        Each of two networks or more, for there are no errors otherwise.

    Returns
    -------
    list of DepthLaw
        Of the state and of the gradient, where there is one.

    Raises
    ------
    SpecError
        If there are too few depths or networks.

    Notes
    -----
    Status: a fit. Errors of a mean of few networks are themselves estimates: they are widened by
    the ratio of Student's to the normal 97.5% point, which leaves the intervals honest.
    """
    require_depths(depths, min(int(one.attrs["networks"]) for one in found))
    networks = {int(one.attrs["networks"]) for one in found}
    wider = float(student.isf(0.025, min(networks) - 1)) / 1.96
    trunks = [trunk(one) for one in found]
    laws = []
    for quantity, at, values, errors in (
        ("state", -1, "log_square", "log_square_se"),
        ("gradient", 0, "log_gradient", "log_gradient_se"),
    ):
        y = np.array([getattr(one, values)[at] for one in trunks])
        se = np.array([getattr(one, errors)[at] for one in trunks]) * wider
        if np.isfinite(y).all():
            laws.append(_fitted(quantity, depths, y, np.maximum(se, 1e-9)))
    return laws


def require_depths(depths: Sequence[int], networks: int) -> None:
    """Raise SpecError unless `depth_laws` can be told from these depths, of so many networks."""
    if len(set(depths)) < 3:
        raise SpecError(
            f"two laws of two parameters each are told apart by three depths at least, got "
            f"{len(set(depths))}. Write for example: --depths 8,16,32,64"
        )
    if networks < 2:
        raise SpecError(
            "an exponent needs errors, and one network a depth has none. Write --replicas 4."
        )


def _fitted(quantity: str, depths: Sequence[int], y: np.ndarray, se: np.ndarray) -> DepthLaw:
    x = np.asarray(depths, float)
    power = fit_power_law(x, y, se)
    # A power of exp(L / longest), whose exponent is the rate times the longest.
    longest = float(x.max())
    exponential = fit_power_law(np.exp(x / longest), y, se)
    better = "power" if power.chi_square <= exponential.chi_square else "exponential"
    rate, rate_se = exponential.exponent / longest, exponential.exponent_se / longest
    value, error, limit = (
        (power.exponent, power.exponent_se, 1.0)
        if better == "power"
        else (rate * longest, rate_se * longest, 0.0)
    )
    margin = 2.576 * error
    grows = "yes" if abs(value) - margin > limit else "no"
    if better == "power" and grows == "no" and abs(value) + margin > limit + 1:
        grows = "unsure"
    return DepthLaw(
        quantity, tuple(int(d) for d in depths), tuple(map(float, y)), tuple(map(float, se)),
        power.exponent, power.exponent_se, rate, rate_se, better, power.p, exponential.p,
        grows if math.isfinite(value) else "unsure",
    )  # fmt: skip
