r"""What a residual layer does to a moment of the norm, and the coefficients that keep it.

With independent Gaussian weights :math:`|h'|^2 = r |h|^2`, :math:`r = |c e + \tau z|^2`, e a unit
vector, z standard normal in d dimensions and :math:`\tau^2 = a^2 v Q`, v the product of the
variances of the matrices and Q that of the hidden layers' factors (`sigprop.branch_factor`).
:math:`|h|^s` is subharmonic, so that at c = 1 every moment grows with a. A moment is kept by

* a gain on the whole layer, :math:`(E r^{s/2})^{-1/s}`;
* the skip c < 1 that goes with a given a;
* the branch a that goes with a given c < 1.

At s = 2 all three say :math:`c^2 + a^2 = 1` where a branch keeps the mean square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sigprop.errors import SpecError, Unsupported

if TYPE_CHECKING:
    from sigprop.spec import Network

__all__ = ["ResidualMoment", "memory_slack"]

_XTOL = 1e-15


@dataclass(frozen=True, kw_only=True)
class ResidualMoment:
    """The moment of order ``s`` of one residual layer, as a function of skip and branch.

    Parameters
    ----------
    width : int
        Dimension d of the trunk.
    units : tuple of int
        Widths of the hidden layers of the branch; none for res1, whose |phi(h)|^2 is taken as
        E phi(Z)^2 |h|^2: an approximation.
    slopes : (float, float)
        The slope below 0 is uniform between the two.
    log_variance : float
        log v.
    s : float
        0 for the mean of the logarithm.
    """

    width: int
    units: tuple[int, ...]
    slopes: tuple[float, float]
    log_variance: float
    s: float

    @classmethod
    def of(
        cls, network: Network, units: tuple[int, ...], variances: np.ndarray, s: float
    ) -> ResidualMoment:
        """That of a layer of ``network`` with these hidden widths and variances of entries."""
        from sigprop.layer_factor import slopes_of

        if network.dropout:
            raise Unsupported(
                f"the law of a branch under dropout is not known, got dropout = "
                f"{network.dropout:g} in block {network.block!r}. Use block plain, or no dropout."
            )
        log_variance = float(np.log(variances).sum())
        if network.form.pre:
            log_variance += math.log(network.phi.second_moment())
        return cls(
            width=network.width,
            units=units,
            slopes=slopes_of(network.phi),
            log_variance=log_variance,
            s=s,
        )

    def log_growth(self, skip: float, branch: float) -> float:
        r"""log (E r^{s/2})^{1/s}, at s = 0 E log r / 2: by how much the norm of order s grows.

        Status: exact (relative 1e-12) but for res1. Raises SpecError at skip 0.
        """
        from sigprop.branch_factor import cumulants, hidden_law, log_power

        if skip == 0:
            raise SpecError(
                "skip is 0, and moments of a residual layer are measured relative to the state "
                "that it keeps. Use block plain, or a skip that is not 0."
            )
        base = math.log(abs(skip))
        law = hidden_law(self.units, self.slopes)
        log_u = np.array([self.log_variance + 2 * math.log(branch) - 2 * base])
        if self.s == 0:
            return base + float(cumulants(law, log_u, self.width)[0, 0]) / 2
        return base + float(log_power(law, log_u, self.width, self.s / 2)[0]) / self.s

    def gain(self, skip: float, branch: float) -> float:
        """What multiplies skip and branch so that the moment is kept."""
        return math.exp(-self.log_growth(skip, branch))

    def skip(self, branch: float) -> float:
        """The skip in (0.03, 1) that keeps the moment beside ``branch``.

        Raises
        ------
        SpecError
            If the branch alone makes it grow.
        """
        from scipy.optimize import brentq

        low = 0.03  # the law of r in units of c^2 is of full precision so far down
        if self.log_growth(low, branch) >= 0:
            raise SpecError(
                f"no skip keeps the moment of order {self.s:g} beside branch = {branch:g}: the "
                "branch alone makes it grow. Use a smaller branch, or adjust 'gain'."
            )
        return float(brentq(self.log_growth, low, 1.0, args=(branch,), xtol=_XTOL, rtol=1e-14))

    def branch(self, skip: float) -> float:
        """The branch a > 0 that keeps the moment beside ``skip``.

        Raises
        ------
        SpecError
            If skip is 1 or more: then every branch makes it grow.
        """
        from scipy.optimize import brentq

        if abs(skip) >= 1:
            raise SpecError(
                f"no branch keeps the moment of order {self.s:g} beside skip = {skip:g}: |h|^s is "
                "subharmonic, so every branch adds to it. Give a skip below 1, as in --skip 0.9, "
                "or adjust 'gain'."
            )

        def growth(log_branch: float) -> float:
            return self.log_growth(skip, math.exp(log_branch))

        low, high = math.log(1e-8), 1.0
        while growth(high) <= 0:
            high += 1.0
        return math.exp(float(brentq(growth, low, high, xtol=_XTOL, rtol=1e-14)))


def memory_slack(
    width: int, slopes: tuple[float, float], skip: float, branch: float, s: float
) -> float:
    r"""By how much `ResidualMoment.log_growth` of res1 errs a layer, since the state remembers.

    With :math:`\alpha = |c| / \sqrt{c^2 + a^2}`, :math:`\lambda^2 = 1 - \alpha^2` and
    :math:`\kappa = (1 - \bar{s^2}) / (1 + \bar{s^2})`, :math:`\bar{s^2}` the mean square slope,

    .. math:: \frac{\kappa^2 \lambda^4}{4 n} \sum_{m \ge 1} \bigl( s K(\alpha^m)
              - \alpha^m K'(\alpha^m) \bigr), \qquad
              K(x) = \tfrac2\pi [(1 + 2x^2) \arcsin x + 3x \sqrt{1 - x^2}] .

    Status: the leading order in 1/width of the drift and variance that memory adds to log|h|,
    far from the input; itself right to about 8/width, relative. Cost O(1 / (1 - alpha)).
    """
    low, high = slopes
    square = (low**2 + low * high + high**2) / 3
    kappa = (1 - square) / (1 + square)
    alpha2 = skip**2 / (skip**2 + branch**2)
    lambda2 = 1 - alpha2
    terms = min(10**6, 1 + math.ceil(-80 / math.log(alpha2)) if alpha2 > 0 else 1)
    x = alpha2 ** (np.arange(1, terms + 1) / 2)
    root, arc = np.sqrt(1 - x**2), np.arcsin(x)
    k = 2 / math.pi * ((1 + 2 * x**2) * arc + 3 * x * root)
    slope = 8 / math.pi * (root + x * arc)
    return float(kappa**2 * lambda2**2 / (4 * width) * np.sum(s * k - x * slope))
