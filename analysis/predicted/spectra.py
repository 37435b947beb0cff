r"""The singular values of the Jacobian: exact mean squares and ranks, limits of their spectrum.

At width N averages over the spectrum are off by O(1/N) and extremes by O(N^-2/3); c below is
:math:`\sum \ln(1 + s_l^2)` over the branches. Slacks are about twice the largest differences
seen in simulations of blocks res3, inner, res1 and preact, widths 20 to 200, c = 0.1 to 3:

=================== ===========================================================================
mean of ln sigma    :math:`c / N`
variance of it      :math:`(c + c^2) / N`
largest, smallest   0.8 of the mean shift of a Tracy-Widom edge, which is in the prediction; in the
                    limit of depth 1/(2l) of the edge more, l the number of layers
=================== ===========================================================================

Where the law reaches down to 0 (a plain net, branches that add as much as the trunk), finite
rank cuts its tail at a place that depends on the width, and only the largest value is
predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.interpolate import PchipInterpolator

from analysis.prediction import Prediction, predictions
from analysis.theory.free_probability import Spectrum
from analysis.theory.jacobian_spectrum import SpectralLaw, rank_fraction, spectral_law
from analysis.theory.second_moment import _tangent
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []

_NODES = 12  # depths at which a law is solved; between them it is interpolated
_TRACY_WIDOM = 1.2065335745820  # minus the mean of the law of real matrices
_EDGE_SLACK, _DEPTH_SLACK = 0.8, 0.5
_SOURCE = "Tarnowski et al. (2019), arXiv:1809.08848; Pennington et al. (2018), arXiv:1802.09979"


class _OfSpectrum(Prediction):
    """Base: a number of the law of ln sigma at every layer."""

    status = "limit"
    axis = ""
    on_request = True
    post = True
    dependent = True
    assumptions = "width to infinity; independent layers of independent or orthogonal weights"
    source = _SOURCE

    def law(self, ensemble: Ensemble) -> SpectralLaw:
        return spectral_law(ensemble)

    def read(self, found: Spectrum, width: int) -> float:
        raise NotImplementedError

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        law, width = self.law(ensemble), ensemble.network.input_size
        return self.along(law, lambda found: self.read(found, width)) + law.log_scale * self.shifts

    def along(self, law: SpectralLaw, read: Callable[[Spectrum], float]) -> np.ndarray:
        """A number of the law without its scale, at every layer: solved at some, else between.

        NaN where a few layers leave directions alone, so that the law has a gap.
        """
        depth = len(law.log_scale) - 1
        nodes, values = [], []
        for layer in _nodes(depth):
            try:
                values.append(read(law.at(layer, scaled=False)))
            except Unsupported:
                continue
            nodes.append(layer)
        if len(nodes) < 2:
            return np.full(depth + 1, values[0] if nodes and not depth else np.nan)
        found = np.full(depth + 1, np.nan)
        gap = nodes[1] if nodes[0] == 0 and nodes[1] > 1 else nodes[0]
        inside = np.arange(gap, depth + 1)
        found[inside] = PchipInterpolator(nodes, values)(inside)
        found[nodes] = values
        return found

    shifts = 1.0  # whether skip coefficients move it

    def totals(self, ensemble: Ensemble) -> np.ndarray:
        law = self.law(ensemble)
        return np.concatenate([[0.0], np.cumsum(np.log1p(law.strength))])


def _nodes(depth: int) -> list[int]:
    if depth <= _NODES:
        return list(range(depth + 1))
    far = np.geomspace(4, depth, _NODES - 4)
    return sorted({0, 1, 2, 3, *np.rint(far).astype(int).tolist()})


def _soft(law: SpectralLaw, what: str) -> SpectralLaw:
    if law.reaches_zero:
        raise Unsupported(
            f"{what} of ln sigma has no limit that a network of moderate width is near: the law "
            "reaches down to 0, and finite rank cuts its tail. The largest value is predicted."
        )
    return law


def _whole(law: SpectralLaw) -> SpectralLaw:
    if law.caveat == "mask":
        raise Unsupported(
            "the spectrum of block 'preact' with an activation that is not odd is not that of "
            "free factors: the mask of the trunk persists. Only the mean of ln sigma is predicted."
        )
    return law


@predictions.register("singular_mean")
class SingularMean(_OfSpectrum):
    """Mean of ln sigma."""

    variable = "log_singular_mean"

    def law(self, ensemble: Ensemble) -> SpectralLaw:
        return _soft(spectral_law(ensemble), "the mean")

    def read(self, found: Spectrum, width: int) -> float:
        return found.mean

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.totals(ensemble) / _narrowest(ensemble)


@predictions.register("singular_variance")
class SingularVariance(_OfSpectrum):
    """Variance of ln sigma within a network."""

    variable = "log_singular_variance"
    shifts = 0.0

    def law(self, ensemble: Ensemble) -> SpectralLaw:
        law = _whole(_soft(spectral_law(ensemble), "the variance"))
        if law.kind == "isometry":
            raise Unsupported("the variance of an isometry is 0, of which no share can be missed.")
        if law.caveat == "outlier":
            raise Unsupported(
                "one singular value of block 'res1' with an activation that is not odd lies "
                "outside the law, and its share of the variance is O(log^2 N / N)."
            )
        return law

    def read(self, found: Spectrum, width: int) -> float:
        return found.variance

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        c = self.totals(ensemble)
        return (c + c**2) / _narrowest(ensemble)


class _Edge(_OfSpectrum):
    """An extreme value: the edge, drawn inward as that of a random matrix is."""

    side_of = 1

    def law(self, ensemble: Ensemble) -> SpectralLaw:
        law = _whole(spectral_law(ensemble))
        if law.caveat:
            raise Unsupported(
                "an extreme singular value of this block lies outside the law: the derivative "
                "is correlated with the weights through the state."
            )
        return law if self.side_of > 0 else _soft(law, "the smallest value")

    def read(self, found: Spectrum, width: int) -> float:
        edge = found.edges[1] if self.side_of > 0 else found.edges[0]
        return edge - self.side_of * edge_shift(found, self.side_of, width)

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        law, width = self.law(ensemble), ensemble.network.input_size
        side = self.side_of
        slack = _EDGE_SLACK * self.along(law, lambda found: edge_shift(found, side, width))
        if law.kind == "universal":  # the edge of a few layers lies farther out than the limit's
            edge = self.along(law, lambda found: found.edges[1])
            slack += _DEPTH_SLACK * edge / np.maximum(np.arange(len(edge)), 1)
        return slack


@predictions.register("singular_largest")
class SingularLargest(_Edge):
    """ln of the largest singular value."""

    variable = "log_singular_largest"


@predictions.register("singular_smallest")
class SingularSmallest(_Edge):
    """ln of the smallest singular value."""

    variable = "log_singular_smallest"
    side_of = -1


def edge_shift(found: Spectrum, side: int, width: int) -> float:
    r"""How far inside the edge the extreme value of ``width`` lies on average.

    Where the density of ln sigma vanishes as :math:`A \sqrt{d}`, d the distance from the edge,
    the scale of the extreme value is :math:`(\pi A N)^{-2/3}`, and its mean is that of
    Tracy and Widom's law of real matrices.
    """
    if not np.isfinite(found.density).all():
        return 0.0
    at = -6 if side > 0 else 5
    distance = abs(found.logs[at] - (found.logs[-1] if side > 0 else found.logs[0]))
    amplitude = found.density[at] / math.sqrt(distance)
    return _TRACY_WIDOM * float(math.pi * amplitude * width) ** (-2 / 3)


def _narrowest(ensemble: Ensemble) -> float:
    fan_in, fan_out = ensemble.network.fans
    return float(min(ensemble.network.input_size, fan_in.min(), fan_out.min()))


# ------------------------------------------------------------------------ exact


@predictions.register("singular_mean_square")
class SingularMeanSquare(Prediction):
    """E of the mean of sigma^2, the mean square of a random direction carried forward."""

    variable = "singular_moment_log"
    orders = (2.0,)
    status = "exact"
    axis = ""
    on_request = True
    assumptions = "independent symmetric weights of finite variance, positively homogeneous units"
    source = "elementary: E|J v|^2 of a direction v that does not depend on the weights"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        steps = _tangent(ensemble, "the mean square of singular values")
        with np.errstate(divide="ignore"):
            total = np.concatenate([[0.0], np.cumsum(np.log(steps.gain))])
        widths = ensemble.network.state_widths
        return total + np.log(widths[0] / np.minimum(widths[0], widths))


@predictions.register("singular_rank")
class SingularRank(Prediction):
    """The share of singular values that are exactly 0."""

    post = True
    dependent = True

    variable = "singular_zero_fraction"
    status = "exact"
    axis = ""
    on_request = True
    assumptions = "Gaussian weights, no biases; or a trunk that is not activated"
    source = "elementary: the least number of units that are on in one of the layers"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return rank_fraction(ensemble)[0]

    def spread(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray | None:
        return rank_fraction(ensemble)[1]


class _Isometry(Prediction):
    """Base: what is 0 because every singular value is 1."""

    post = True
    dependent = True

    status = "exact"
    axis = ""
    on_request = True
    assumptions = "the input of the network, ReLU, states that do not narrow"
    source = "Gadhikar and Burkholz (2022), arXiv:2210.02411; Balduzzi et al. (2017)"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        if spectral_law(ensemble).kind != "isometry":
            raise Unsupported("an isometry was not asked for: the scheme is another.")
        return np.zeros(ensemble.network.depth + 1)


for _variable in ("mean", "largest", "smallest", "condition"):
    predictions.register(f"isometry_{_variable}")(
        type(
            f"Isometry{_variable.title()}", (_Isometry,), {"variable": f"log_singular_{_variable}"}
        )
    )
