r"""Which law of `analysis.theory.spectral_laws` the Jacobian of an ensemble has, layer by layer.

========================================================= ===============================
ensemble                                                  law of its singular values
========================================================= ===============================
risotto; looks_linear on orthogonal weights               all 1, exactly, at any width
res3, inner of two matrices, ReLU, equal layers           two-matrix, at any depth
other residual blocks, branches that are small            universal, in the limit of depth
plain, one width, linear / ReLU / leaky ReLU, equal layers plain, Gaussian or orthogonal
projection of two matrices, one width, ReLU, equal layers  projection
========================================================= ===============================

The skip coefficients only shift the logarithms; what counts is the strength
:math:`s_l^2 = t_l / c_l^2` of a branch, with :math:`c^2 + t` the factor of a gradient's mean
square (`infinite_width_gradient`). The universal law has :math:`c = \sum_l \ln (1 + s_l^2)`, with
which the mean of lambda is exact at any strength.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from analysis.theory import spectral_laws
from analysis.theory.free_probability import Spectrum, spectrum
from analysis.theory.wide_kernels import infinite_width_gradient
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Activation, Ensemble, check_count, check_number

__all__ = ["SpectralLaw", "jacobian_spectrum", "outer_strength", "rank_fraction", "spectral_law"]

_EQUAL = 1e-9  # relative difference of layers that count as equal
_SMALL = 0.25  # strength of one branch up to which a net of unequal layers is near its limit


@dataclass(frozen=True, eq=False)
class SpectralLaw:
    """The law of the singular values at every layer.

    Attributes
    ----------
    kind : str
        ``isometry``, ``two-matrix``, ``universal``, ``plain`` or ``projection``.
    log_scale : ndarray, shape (depth + 1,)
        What the skip coefficients add to every ln sigma.
    strength : ndarray, shape (depth,)
        s_l^2, for residual nets.
    ratio : float
        Width of the trunk over the hidden width.
    caveat : str
        ``outlier``: one singular value lies outside; ``mask``: the law is an approximation.
    """

    kind: str
    log_scale: np.ndarray
    strength: np.ndarray
    ratio: float = 1.0
    caveat: str = ""
    slope: float = 0.0
    orthogonal: bool = False
    gain: float = 1.0
    share: float = 0.0
    stem: tuple[float, float] | None = None

    def total(self, layer: int) -> float:
        """c of the universal law."""
        return float(np.log1p(self.strength[:layer]).sum())

    @property
    def reaches_zero(self) -> bool:
        """Whether singular values come arbitrarily close to 0 as the width grows."""
        hard = self.kind == "two-matrix" and bool((self.strength >= 1).any())
        linear = self.kind == "plain" and self.orthogonal and self.slope > 0
        return hard or (self.kind in ("plain", "projection") and not linear)

    def at(self, layer: int, *, scaled: bool = True) -> Spectrum:
        """The law at a layer, without the scale of the skip coefficients if not ``scaled``."""
        shift = float(self.log_scale[layer]) if scaled else 0.0
        begun = self.kind == "projection" or (self.kind == "plain" and layer > 0)
        if not begun and self.total(layer) == 0:  # nothing but the trunk
            ends = np.array([shift, shift])
            return Spectrum(ends, np.array([np.inf, np.inf]), 0.0, shift, 0.0)
        if self.kind == "universal":
            found = spectral_laws.universal_density(self.total(layer))
        else:
            found = _solved(self, layer)
        return Spectrum(
            found.logs + shift, found.density, found.atom, found.mean + shift, found.variance
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpectralLaw) and self._key == other._key

    @property
    def _key(self) -> tuple[object, ...]:
        rest = (self.slope, self.orthogonal, self.gain, self.share, self.stem)
        return (self.kind, self.strength.tobytes(), self.ratio, *rest)


@functools.lru_cache(maxsize=256)
def _solved(law: SpectralLaw, layer: int) -> Spectrum:
    if law.kind == "two-matrix":
        curve = spectral_laws.two_matrix(layer, float(law.strength[0]), law.ratio)
    elif law.kind == "plain":
        curve = spectral_laws.plain(
            layer, slope=law.slope, variance=law.gain, orthogonal=law.orthogonal
        )
    else:
        branch, skip = math.sqrt(law.share), math.sqrt(1 - law.share)
        curve = spectral_laws.projection(
            layer, branch, skip, law.ratio, gain=law.gain, stem=law.stem
        )
    return spectrum(curve)


def jacobian_spectrum(ensemble: Ensemble, layer: int | None = None) -> Spectrum:
    """The density of ln sigma of dh_l / dx, as the width grows.

    Parameters
    ----------
    ensemble : Ensemble
    layer : int, optional
        Default: the last.

    Returns
    -------
    Spectrum
        Of :math:`\\ln\\sigma`; for an isometry both edges coincide.

    Raises
    ------
    Unsupported
        If no law is known for the ensemble.
    SpecError
        If there is no such layer.

    Notes
    -----
    Status: limit of infinite width (isometries: exact); of depth too, where the law is the
    universal one. Assumes Gaussian or orthogonal weights, independent from layer to layer.
    Cost: up to 0.1 s.

    References
    ----------
    See `analysis.theory.spectral_laws`.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> law = jacobian_spectrum(Ensemble(Network(depth=5, width=400, block="plain"), He()))
    >>> round(math.exp(law.edges[1]), 3)
    5.222
    """
    depth = ensemble.network.depth
    layer = depth if layer is None else layer
    if not 0 <= layer <= depth:
        raise SpecError(f"layer must be within 0 .. {depth}, got {layer!r}. Name one of them.")
    return spectral_law(ensemble).at(layer)


def spectral_law(ensemble: Ensemble) -> SpectralLaw:
    """Which law holds; parameters, errors and status are those of `jacobian_spectrum`.

    Cost O(depth).
    """
    network, table = ensemble.network, ensemble.table
    depth = network.depth
    if network.convolutional or table.batch_norm:
        what = "images" if network.convolutional else "batch normalisation"
        raise Unsupported(f"jacobian_spectrum knows no law of {what}. Simulate it.")
    if table.correlated:
        raise Unsupported(
            "jacobian_spectrum needs layers that are independent: the factors of the Jacobian "
            "are free of each other only then. Simulate it."
        )
    if _isometric(ensemble):
        return SpectralLaw("isometry", np.zeros(depth + 1), np.zeros(depth))
    if table.structured or table.centred:
        raise Unsupported(
            f"jacobian_spectrum knows no law for the matrices of scheme "
            f"{ensemble.scheme.kind!r}, whose entries depend on each other. Simulate it."
        )
    if not math.isfinite(table.law.variance):
        raise Unsupported(
            f"jacobian_spectrum needs weights with a variance, got law {table.law.kind!r}: its "
            "singular values are those of a few large entries. Simulate it."
        )
    if network.block == "plain":
        return _plain(ensemble)
    if network.form.projected:
        return _projection(ensemble)
    if network.form.post:
        raise Unsupported(
            f"jacobian_spectrum knows no law for block {network.block!r}: its trunk is activated "
            "and has no matrix of its own, so that masks persist from layer to layer. Simulate it."
        )
    return _residual(ensemble)


def _isometric(ensemble: Ensemble) -> bool:
    """Whether all singular values are 1 by construction."""
    network, table = ensemble.network, ensemble.table
    if not table.paired or table.law.kind != "orthogonal":
        return False
    halves = (network.state_widths if network.form.post else network.state_widths[1:]) // 2
    # A narrowing state projects; scheme `risotto` or `looks_linear` had to be told to.
    return bool(halves.min() >= network.input_size and (np.diff(halves) >= 0).all()) and (
        ensemble.scheme.kind in ("risotto", "looks_linear")
    )


def _equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _EQUAL * np.abs(values).max(initial=0.0))


def _residual(ensemble: Ensemble) -> SpectralLaw:
    network, table = ensemble.network, ensemble.table
    if not table.entrywise:
        raise Unsupported(
            f"jacobian_spectrum knows the law of a residual net of independent weights, got law "
            f"{table.law.kind!r}. Use law 'gaussian', or block 'plain'."
        )
    if np.any(table.skip == 0):
        raise Unsupported(
            "jacobian_spectrum needs skip coefficients other than 0: the law is that of 1 + X. "
            "Use block 'plain' for a net without skip connections."
        )
    gains = np.exp(-np.diff(infinite_width_gradient(ensemble)))
    strength = np.maximum(gains / table.skip**2 - 1, 0.0)
    strength = np.where(strength < 1e-14, 0.0, strength)
    log_scale = np.concatenate([[0.0], np.cumsum(np.log(np.abs(table.skip)))])
    hidden = network.fans[1][:, :-1]
    slope = network.phi.negative_slope
    two = network.matrices == 2 and not network.form.pre and slope == 0.0 and not table.biased
    if two and _equal(strength) and _equal(hidden.astype(float)):
        ratio = network.width / float(hidden[0, 0])
        return SpectralLaw("two-matrix", log_scale, strength, ratio)
    if strength.max(initial=0.0) > _SMALL:
        raise Unsupported(
            f"jacobian_spectrum takes the limit of many small branches for this ensemble, and one "
            f"adds {strength.max():.2g} to the mean square, more than {_SMALL:g}. Use smaller "
            "branches, or block 'res3' with ReLU and equal layers, whose law is known."
        )
    caveat = ""
    if network.form.pre and slope != 1.0 and not _odd(ensemble):
        caveat = "outlier" if network.matrices == 1 else "mask"
    return SpectralLaw("universal", log_scale, strength, caveat=caveat)


def _odd(ensemble: Ensemble) -> bool:
    phi = ensemble.network.phi
    u = np.array([0.3, 1.1, 2.7])
    return bool(np.allclose(phi(u), -phi(-u), rtol=1e-12)) and not ensemble.table.biased


def _plain(ensemble: Ensemble) -> SpectralLaw:
    network, table = ensemble.network, ensemble.table
    slope = network.phi.negative_slope
    variance = (table.branch * table.input_scale * table.scale[:, 0]) ** 2 * network.fans[0][:, 0]
    if slope is None or table.biased:
        raise Unsupported(
            "jacobian_spectrum has the plain net in closed form for linear, relu and leaky_relu "
            f"without biases, got {network.phi.kind!r}. plain_spread gives its second moment."
        )
    if not (_equal(variance) and len(set(network.state_widths.tolist())) == 1):
        raise Unsupported(
            "jacobian_spectrum has the plain net of one width and equal layers. Use one width, "
            "or simulate it."
        )
    return SpectralLaw(
        "plain", np.zeros(network.depth + 1), np.zeros(network.depth), slope=slope,
        orthogonal=table.law.kind == "orthogonal", gain=float(variance[0]),
    )  # fmt: skip


def _projection(ensemble: Ensemble) -> SpectralLaw:
    network, table = ensemble.network, ensemble.table
    fan_out = network.fans[1]
    one_width = len(set(network.state_widths.tolist())) == 1
    plain = table.entrywise and not table.biased and network.phi.negative_slope == 0.0
    if not (one_width and plain and network.branch_matrices == 2):
        raise Unsupported(
            "jacobian_spectrum has block 'projection' for ReLU, one width, branches of two "
            "matrices and independent weights without biases. Simulate it."
        )
    first, second, skip = (table.scale[:, j] ** 2 for j in range(3))
    branch = (table.branch * table.input_scale) ** 2 * second * first * fan_out[:, 0] / 2
    carried = table.skip**2 * skip
    gain = network.width / 2 * (branch + carried)
    if not (_equal(gain) and _equal(branch) and _equal(fan_out[:, 0].astype(float))):
        raise Unsupported(
            "jacobian_spectrum has block 'projection' for layers that are equal. Simulate it."
        )
    assert table.stem is not None  # every net that activates the sum has one
    entering = (network.width / 2 * table.stem.scale**2, network.input_size / network.width)
    return SpectralLaw(
        "projection", np.zeros(network.depth + 1), np.zeros(network.depth),
        ratio=network.width / float(fan_out[0, 0]), gain=float(gain[0]),
        share=float(branch[0] / (branch[0] + carried[0])), stem=entering,
    )  # fmt: skip


def outer_strength(
    activation: Activation,
    depth: int,
    weight_variance: float,
    *,
    bias_variance: float = 0.0,
    skip: float = 1.0,
    mean_square: float = 1.0,
    mean: float = 0.0,
) -> float:
    r"""c of the universal law for x' = a x + phi(W x + b), an activation outside the weights.

    .. math:: c = \frac{\sigma_w^2}{a^2} \sum_l E \varphi'(\sqrt{q_l} g)^2, \quad
              q_l = \sigma_w^2 Q_{l-1} + \sigma_b^2, \quad
              Q_l = a^2 Q + E\varphi^2 + 2 a M\, E\varphi, \quad M_l = a M + E\varphi

    with Q and M the mean square and the mean of a coordinate.

    Parameters
    ----------
    activation : Activation
    depth : int
    weight_variance : float
        sigma_w^2, the variance of an entry times the width.
    bias_variance, skip : float
    mean_square, mean : float
        Of the coordinates of the input.

    Returns
    -------
    float
        J carries skip^depth beside. For an activation that is not odd one singular value lies
        outside the law.

    Raises
    ------
    SpecError
        If depth, a variance or the skip is out of range.

    Notes
    -----
    Status: limit of infinite width, then depth. Cost O(depth).

    References
    ----------
    Tarnowski et al. (2019), arXiv:1809.08848, for the setting.

    Examples
    --------
    >>> from sigprop.activations import Tanh, ReLU
    >>> round(outer_strength(ReLU(), 10, 0.3), 12)
    1.5
    >>> round(outer_strength(Tanh(), 200, 8 / 200), 2)
    4.6
    """
    check_count("depth", depth, why="It counts the layers.")
    for name, value in (("weight_variance", weight_variance), ("bias_variance", bias_variance)):
        check_number(name, value, low=0.0)
    if skip == 0:
        raise SpecError("skip must differ from 0: the law is that of 1 + X. Give a skip.")
    total, q_state, m_state = 0.0, mean_square, mean
    for _ in range(depth):
        q = weight_variance * q_state + bias_variance
        total += weight_variance * activation.derivative_second_moment(q) / skip**2
        first = activation.mean(q)
        q_state = skip**2 * q_state + activation.second_moment(q) + 2 * skip * m_state * first
        m_state = skip * m_state + first
    return total


def rank_fraction(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray]:
    r"""Mean and standard deviation of the share of singular values that are exactly 0.

    In a plain ReLU net of Gaussian weights without biases each unit of a layer whose input is
    not zero is on with probability 1/2, independently of all others, so the rank of J_l is the
    least of the width n_0 and l independent binomial numbers :math:`B_k \sim Bin(n_k, 1/2)`;
    :math:`P(\min > r) = \prod_k P(B_k > r)`. Of residual nets and of units that are never off,
    no value is 0.

    Parameters
    ----------
    ensemble : Ensemble

    Returns
    -------
    (ndarray, ndarray), shape (depth + 1,)
        Of the min(n_0, n_l) values at layer l.

    Raises
    ------
    Unsupported
        If the units are not independent: biases, other weights, a trunk that is activated.

    Notes
    -----
    Status: exact at any width and depth (generic weights lose no other rank). Cost
    O(depth width).

    References
    ----------
    Elementary.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network
    >>> mean, _ = rank_fraction(Ensemble(Network(depth=1, width=2, block="plain"), He()))
    >>> mean.tolist()  # 0, 1 or 2 of two units are off with probabilities 1/4, 1/2, 1/4
    [0.0, 0.5]
    """
    network, table = ensemble.network, ensemble.table
    slope = network.phi.negative_slope
    zero = np.zeros(network.depth + 1)
    if network.form.trunk and not network.form.post and not np.any(table.skip == 0):
        if table.correlated or table.entrywise:
            return zero, zero
    elif network.block == "plain" and slope is not None and slope != 0 and table.entrywise:
        return zero, zero
    plain = network.block == "plain" and slope == 0.0
    if not plain or table.law.kind != "gaussian" or table.biased or table.structured:
        raise Unsupported(
            f"rank_fraction knows plain ReLU nets of Gaussian weights without biases, got block "
            f"{network.block!r}, {network.phi.kind!r}, law {table.law.kind!r}. Simulate it."
        )
    if table.correlated or table.centred:
        raise Unsupported(
            "rank_fraction needs layers that are independent, with independent entries: then a "
            "unit is on with probability 1/2. Simulate it."
        )
    widths = network.state_widths
    values = np.arange(int(widths[0]))  # P(rank > r), r = 0 .. n_0 - 1
    above = np.ones(len(values))
    mean, deviation = zero.copy(), zero.copy()
    for layer in range(1, network.depth + 1):
        above = above * binom.sf(values, int(widths[layer]), 0.5)
        count = min(int(widths[0]), int(widths[layer]))
        rank = above.sum()
        square = ((2 * values + 1) * above).sum()
        mean[layer] = 1 - rank / count
        deviation[layer] = math.sqrt(max(square - rank**2, 0.0)) / count
    return mean, deviation
