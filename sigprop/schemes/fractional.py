"""Fractional initialisation: weights that keep a moment E|h|^s of order s below two.

He keeps the second moment and pays for it: in a deep narrow network the logarithm of the norm
spreads out, rare giants carry the mean square and almost every network dies out. Weights a little
larger keep a lower moment, and at s = 0 the mean of the logarithm itself.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.laws.heavy import Stable, StudentT
from sigprop.registry import did_you_mean
from sigprop.residual_moment import ResidualMoment
from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, WeightLaw, check_number

__all__ = ["Fractional"]

_CHOICES = {
    "preserve": (("coordinate", "norm"), "whether E|h|^s or its size per coordinate is kept"),
    "given": (("all", "alive"), "whether dead networks count, as 0"),
    "expansion": (("exact", "published"), "whether sigma is exact or its published expansion"),
    "adjust": (("gain", "skip", "branch"), "which coefficient of a residual layer is found"),
}


@Scheme.family.register("fractional")
@dataclass(frozen=True, kw_only=True)
class Fractional(Scheme):
    r"""Weights for which E|h'|^s = |h|^s exactly, at any width and depth.

    **Plain net.** :math:`\sigma = (E Q^{s/2})^{-1/s}`, Q the square of a layer's output for unit
    input and unit weights (`sigprop.layer_factor`), for linear, ReLU, leaky and randomised leaky
    ReLU. s = 2 is He; s = 0 keeps the mean of log|h| given that the layer is alive. Moments of
    higher order than s then grow with depth, lower ones shrink, and so does the typical norm if
    s > 0. Orthogonal weights get the gain that does the same.

    **Residual blocks.** res3 and inner multiply |h|^2 by an independent factor r of known law;
    weights have He's variance inside and 1/fan_in last, so that at branch = 1 a branch keeps the
    mean square. No branch a > 0 keeps a moment beside skip c = 1, since |h|^s is subharmonic.
    ``adjust`` says what is done: ``gain`` multiplies c and a by (E r^{s/2})^{-1/s}, ``skip`` finds
    the c for a given a, ``branch`` the a for a given c < 1. In res1, where the factor remembers
    earlier layers, the same is done for a state whose two halves are of equal size: an
    approximation, exact at s = 2 only if the layers were independent.

    Stable weights, which have no variance, get the scale that keeps E|h|^s in the norm of l_alpha,
    s < alpha. Student weights of infinite variance, dof <= 2, get the one that keeps it in a layer
    of isotropic input, to a relative 1e-3: later layers, of states that point along few
    coordinates, miss it by what ``sigprop gain`` tells. For other weights the Gaussian value is
    taken, right at s = 2 and in the limit of width; a moment that the law does not have is refused.
    With biases the tail index of the limit is s.

    Parameters
    ----------
    s : float
        Order of the moment, in [0, 2].
    preserve : str
        ``coordinate`` (default): the size per coordinate |h| / sqrt(d), which is He with fan-in at
        s = 2; ``norm``: |h|. They agree where widths are constant.
    given : str
        ``all`` (default): a dead layer counts as 0; ``alive``: given that the layer is alive.
    expansion : str
        ``exact`` (default), or ``published``: the expansion to second order in 1/width with which
        the paper trains (linear, relu and leaky_relu in a plain net).
    adjust : str
        For residual blocks: ``gain`` (default), ``skip`` or ``branch``.
    branch : float
        For residual blocks: the branch coefficient a before adjustment, default 1.
    """

    formula: ClassVar[str] = (
        "plain: sd w = (E Q^(s/2))^(-1/s), Q = sum phi(g_i)^2, so that E|h|^s is kept; s = 2: He, "
        "s = 0: the mean of log|h|. Residual: skip and branch such that E|h'|^s = |h|^s."
    )
    source: ClassVar[str] = (
        "Gurbuzbalaban and Hu (2020), Fractional moment-preserving initialization schemes for "
        "training deep neural networks, arXiv:2005.11878"
    )
    blocks: ClassVar[tuple[str, ...]] = ("plain", "res1", "res3", "inner")
    default_block: ClassVar[str] = "plain"

    s: float
    preserve: str = "coordinate"
    given: str = "all"
    expansion: str = "exact"
    adjust: str = "gain"
    branch: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        put = object.__setattr__
        why = (
            "Order 2 is He's scheme, 0 keeps the mean of log|h| given that the network is alive; "
            "beyond 2 almost every network would die out faster still."
        )
        put(self, "s", check_number("s", self.s, low=0.0, high=2.0, why=why))
        for name, (known, meaning) in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise SpecError(
                    f"{name} must be one of {', '.join(known)}, got {value!r}: it says {meaning}."
                    f"{did_you_mean(str(value), known)}"
                )
        why = "It multiplies the branch before adjustment; at 0 there is none."
        branch = check_number("branch", self.branch, low=0.0, open_low=True, why=why)
        put(self, "branch", branch)

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        if network.convolutional:
            raise Unsupported(
                f"scheme 'fractional' is of fully connected layers, got an image of "
                f"{network.image}: beside each other pixels share weights, and the norm of a layer "
                f"is no independent factor ({network.phi.kind}). Leave out image."
            )
        return self._residual(network) if network.form.trunk else self._plain(network)

    # ---------------------------------------------------------------------- plain

    def _plain(self, network: Network) -> LayerTable:
        fan_in, fan_out = network.fans
        shapes, place = np.unique(
            np.column_stack([fan_in[:, 0], fan_out[:, 0]]), axis=0, return_inverse=True
        )
        sigma = np.array([self._scale(network, *shape) for shape in shapes.tolist()])
        return self.table(network, variance=sigma[place.ravel()][:, None] ** 2)

    def _scale(self, network: Network, fan_in: int, fan_out: int) -> float:
        """Standard deviation of an entry of one matrix."""
        from sigprop.layer_factor import LayerFactor, preserving_scale

        unit = math.sqrt(fan_out / fan_in) if self.preserve == "coordinate" else 1.0
        law = self.law
        if isinstance(law, Stable) and self.expansion == "exact":
            from sigprop.stable_factor import stable_scale

            unit = (fan_out / fan_in) ** (1 / law.stability) if unit != 1.0 else 1.0
            alive = self.given == "alive"
            return unit * stable_scale(law.stability, network.phi, fan_out, self.s, alive=alive)
        if isinstance(law, StudentT) and law.dof <= 2 and self.expansion == "exact":
            from sigprop.student_factor import student_scale

            alive = self.given == "alive"
            return unit * student_scale(law.dof, network.phi, fan_in, fan_out, self.s, alive=alive)
        if isinstance(law, WeightLaw) and self.s >= law.moment_limit:
            raise SpecError(
                f"s = {self.s:g} cannot be kept: weights of law {law.kind!r} have moments of order "
                f"below {law.moment_limit:g} only, and so has every norm made of them. Choose a "
                f"lower s."
            )
        if self.expansion == "published":
            return unit * math.sqrt(_published_variance(network, self.s, fan_out))
        orthogonal = max(fan_in, fan_out) if getattr(self.law, "kind", "") == "orthogonal" else None
        layer = LayerFactor.of(network.phi, fan_out, orthogonal=orthogonal)
        sigma = unit * preserving_scale(layer, self.s, alive=self.given == "alive")
        # An orthogonal matrix at unit scale has entries of variance 1: it is sqrt(D) long.
        return sigma / math.sqrt(orthogonal) if orthogonal else sigma

    # ------------------------------------------------------------------- residual

    def _residual(self, network: Network) -> LayerTable:
        if self.expansion == "published":
            raise Unsupported(
                f"expansion 'published' is of plain nets, and block {network.block!r} was asked "
                "for: the paper has no residual network. Use expansion 'exact'."
            )
        fan_in, _ = network.fans
        variance = he_variance(network)(*map(np.asarray, network.fans))
        if not network.form.pre:
            variance[:, -1] = 1 / fan_in[:, -1]
        before = self.table(network, variance=variance, branch=self.branch)
        rows = np.column_stack([before.skip, fan_in[:, 1:], variance])
        kinds, place = np.unique(rows, axis=0, return_inverse=True)
        hidden = network.matrices - 1
        found = []
        for row in kinds:
            units = tuple(row[1 : 1 + hidden].astype(int).tolist())
            layer = ResidualMoment.of(network, units, row[1 + hidden :], self.s)
            found.append(self._coefficients(layer, float(row[0])))
        skip, branch = np.array(found)[place.ravel()].T
        return dataclasses.replace(before, skip=skip.copy(), branch=branch.copy())

    def _coefficients(self, layer: ResidualMoment, skip: float) -> tuple[float, float]:
        """(skip, branch) after adjustment."""
        if self.adjust == "skip":
            return layer.skip(self.branch), self.branch
        if self.adjust == "branch":
            return skip, layer.branch(skip)
        gain = layer.gain(skip, self.branch)
        return gain * skip, gain * self.branch


def _published_variance(network: Network, s: float, width: int) -> float:
    """sigma^2 of the expansions with which the paper trains."""
    kind, slope = network.phi.kind, network.phi.negative_slope
    if kind == "relu":
        second = 5 * (2 - s) / 2
    elif kind == "linear":
        second = (2 - s) / 2
    elif kind == "leaky_relu" and slope is not None:
        a2 = slope**2
        second = (2 - s) * ((5 * s - 24) * a2 + 10) / (2 * (s + 2) * a2 + 4)
    else:
        raise Unsupported(
            f"expansion 'published' is known for linear, relu and leaky_relu, not for {kind!r}. "
            "Use expansion 'exact'."
        )
    variance = 1 / (width * network.phi.second_moment()) + second / width**2
    if not variance > 0:
        raise SpecError(
            f"the published expansion of {kind!r} gives a variance of {variance:.3g} at width "
            f"{width}, s = {s:g}: it is of first order in slope^2. Use expansion 'exact'."
        )
    return variance
