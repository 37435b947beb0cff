r"""Limits of infinite width: weights correlated along depth, other activations, several inputs.

What is left of an ensemble when the width d grows are second moments. At finite width they are
off by O(1/d), and the more so the more branches add to the state: with
:math:`T = \sum \log(1 + t_k)`, where branch k multiplies a mean square by :math:`1 + t_k` beside
its skip coefficient, the slacks are

======================================= ========================================================
cosines of two inputs                   :math:`1.5\, T / d` a hidden layer; plain: T = l / 3
mean squares, independent layers        :math:`T / d`; plain: norms l / d, others 4 l / d
displacements D, correlated layers      :math:`4 (1 + T) / d`
norms, correlated layers                :math:`(4 (1 + T) D + 2 T_0) / (1 + D) / d`
======================================= ========================================================

with :math:`T_0` what T would be without correlation: at finite width correlated layers turn a
state toward or away from where it began, by about :math:`T_0 / (2d)`. The slacks are 1.5 to 4
times the largest differences seen in simulations of widths 10 to 60 at depths 20 to 200 (relu,
linear, tanh; fractional Gaussian noise with H = 0.1, 0.7, 0.9; tied and smooth processes), and
for plain nets and gradients of widths 20 and 100 at depth 30 (tanh, erf, gelu, relu with biases,
on both sides of the edge of chaos). Where nothing is skipped the worst is gelu, whose gain depends
most on the size of its input; tanh and erf need a fifth of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory.correlation import correlation_map
from analysis.theory.mean_field import MeanField, mean_field
from analysis.theory.second_moment import log_mean_square
from analysis.theory.wide_kernels import (
    check_kernel,
    infinite_width_gradient,
    infinite_width_gram,
    start_squares,
)
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []

_DEEPEST = 10_000  # of O(depth^2): a second
_MOST_INTEGRALS = 400  # of double integrals, some 10 ms each


@dataclass(frozen=True)
class _Law:
    """An ensemble that is known by its digest, to be a key of a cache."""

    digest: str
    ensemble: Ensemble = field(compare=False)


def _width(ensemble: Ensemble) -> float:
    return float(
        min(ensemble.network.state_widths.min(), *(f.min() for f in ensemble.network.fans))
    )


# ------------------------------------------------------------------ correlated weights


@functools.lru_cache(maxsize=4)
def _computed(law: _Law) -> MeanField:
    return mean_field(law.ensemble)


class _MeanField(Prediction):
    """Base: one of the four mean squares of `analysis.theory.mean_field`."""

    status = "limit"
    orders = (2.0,)
    assumptions = "width to infinity; weights Gaussian, or independent along depth"
    source = "Marion, Fermanian, Biau, Vert (2022), arXiv:2206.06929, for the setting"
    correlated = True

    def alike(self, ensemble: Ensemble) -> bool:
        return True

    def field(self, ensemble: Ensemble) -> MeanField:
        depth = ensemble.network.depth
        if depth > _DEEPEST:
            raise Unsupported(
                f"mean_field takes O(depth^2) time, minutes at depth {depth}; it is consulted by "
                f"itself up to depth {_DEEPEST}. Call analysis.theory.mean_field if you can wait."
            )
        return _computed(_Law(ensemble.digest, ensemble))

    def moved(self, ensemble: Ensemble, whole: np.ndarray, displacement: np.ndarray) -> np.ndarray:
        """Slack of the log of a displacement: 0 where nothing moved, or nothing can err."""
        if not ensemble.table.correlated and ensemble.network.block == "res3":
            return np.zeros(len(whole))  # then the recursion is exact
        slack = 4 * (1 + np.maximum(whole, 0.0)) / _width(ensemble)
        return np.where(np.isneginf(displacement), 0.0, slack)

    def stretched(
        self, ensemble: Ensemble, whole: np.ndarray, displacement: np.ndarray
    ) -> np.ndarray:
        """Slack of the log of a mean square of which the displacement is a part."""
        share = np.exp(np.minimum(displacement - whole, 0.0))  # D / (1 + D)
        turned = 2 * self.uncorrelated(ensemble) / _width(ensemble)
        if not ensemble.table.correlated and ensemble.network.block == "res3":
            turned = 0 * turned
        return self.moved(ensemble, whole, displacement) * share + turned * (1 - share)

    def uncorrelated(self, ensemble: Ensemble) -> np.ndarray:
        """T of the same layers, were they independent; from the end where a signal starts."""
        network, table = ensemble.network, ensemble.table
        slope = network.phi.negative_slope
        assert slope is not None
        gain = np.prod(table.scale**2 * network.fans[1], axis=1) * (1 + slope**2) / 2
        steps = np.log1p(gain * (table.branch * table.input_scale / table.skip) ** 2)
        if self.variable.startswith("gradient"):
            return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
        return np.concatenate([[0.0], np.cumsum(steps)])


@predictions.register("mean_field")
class MeanFieldNorm(_MeanField):
    """E|h_l|^2 for any covariance along depth."""

    variable = "norm_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.field(ensemble)
        return self.stretched(ensemble, found.log_mean_square, found.log_displacement_mean_square)


@predictions.register("displacement_mean_field")
class MeanFieldDisplacement(_MeanField):
    """E|h_l - h_0|^2 for any covariance along depth."""

    variable = "displacement_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_displacement_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.field(ensemble)
        return self.moved(ensemble, found.log_mean_square, found.log_displacement_mean_square)


@predictions.register("gradient_mean_field")
class MeanFieldGradient(_MeanField):
    """E|p_l|^2 for any covariance along depth."""

    variable = "gradient_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_gradient_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.field(ensemble)
        return self.stretched(
            ensemble, found.log_gradient_mean_square, found.log_gradient_displacement_mean_square
        )


@predictions.register("gradient_displacement_mean_field")
class MeanFieldGradientDisplacement(_MeanField):
    """E|p_l - p_L|^2 for any covariance along depth."""

    variable = "gradient_displacement_moment_log"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.field(ensemble).log_gradient_displacement_mean_square

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        found = self.field(ensemble)
        return self.moved(
            ensemble, found.log_gradient_mean_square, found.log_gradient_displacement_mean_square
        )


# ---------------------------------------------------------------- products of states


@functools.lru_cache(maxsize=4)
def _gram(law: _Law) -> np.ndarray:
    ensemble = law.ensemble
    count, depth = ensemble.inputs.count, ensemble.network.depth
    if ensemble.network.phi.negative_slope is None:
        form, matrices = ensemble.network.form, ensemble.network.branch_matrices
        bends = matrices - (form.trunk and not form.pre) + form.projected
        integrals = bends * depth * count * (count - 1) // 2
        if integrals > _MOST_INTEGRALS:
            raise Unsupported(
                f"infinite_width_gram takes {integrals} double integrals for activation "
                f"{ensemble.network.phi.kind!r}, some 10 ms each; it is consulted by itself up to "
                f"{_MOST_INTEGRALS}. Call analysis.theory.infinite_width_gram if you can wait."
            )
    return _finite(ensemble)


def _finite(ensemble: Ensemble, gram: np.ndarray | None = None) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        found = infinite_width_gram(ensemble, gram)
    if not (np.isfinite(found).all() and (np.diagonal(found, 0, 1, 2) > 0).all()):
        raise Unsupported(
            "infinite_width_gram leaves the range of float64: the states of this ensemble grow or "
            "shrink too far. Take a smaller depth."
        )
    return found


@functools.lru_cache(maxsize=16)
def _square(law: _Law, index: int) -> np.ndarray:
    """|h_l|^2 / d of one input alone, which takes no double integral."""
    ensemble = law.ensemble
    check_kernel(ensemble, "infinite_width_gram", False)
    return _finite(ensemble, start_squares(ensemble)[index].reshape(1, 1))[:, 0, 0]


def _added(square: np.ndarray, skip: np.ndarray, unskipped: float = 1 / 3) -> np.ndarray:
    """T of a mean square along its way; a layer in which nothing is skipped counts in full."""
    with np.errstate(divide="ignore"):
        steps = np.diff(np.log(square)) - 2 * np.log(np.abs(skip))
    steps = np.where(skip == 0, unskipped, np.maximum(steps, 0.0))
    return np.concatenate([[0.0], np.cumsum(steps)])


def _carried(ensemble: Ensemble) -> np.ndarray:
    """The skip coefficients, 0 where a trunk does not carry the state itself."""
    skip = ensemble.table.skip
    return np.zeros_like(skip) if ensemble.network.form.projected else skip


class _Kernel(Prediction):
    """Base: products of states at one or two inputs as the width grows."""

    status = "limit"
    assumptions = "width to infinity; independent layers, weights of finite variance"
    source = "Hayou, Yang (2023), arXiv:2302.00453"

    def square(self, ensemble: Ensemble, index: int) -> np.ndarray:
        return _square(_Law(ensemble.digest, ensemble), index)

    post = True  # of block projection; the theory refuses the other
    unskipped: ClassVar[float] = 1 / 3  # what a layer without skip connection adds to T

    def added(self, ensemble: Ensemble, index: int) -> np.ndarray:
        """T, shape (depth + 1,)."""
        return _added(self.square(ensemble, index), _carried(ensemble), self.unskipped)


@predictions.register("kernel_norm")
class KernelNorm(_Kernel):
    """E|h_l|^2 for any activation."""

    variable = "norm_moment_log"
    orders = (2.0,)
    unskipped = 1.0

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        square = self.square(ensemble, index)
        return np.log(square / square[0]) + _wider(ensemble)

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.added(ensemble, index) / _width(ensemble)


@predictions.register("kernel_gradient")
class KernelGradient(_Kernel):
    """E|p_l|^2 for any activation."""

    variable = "gradient_moment_log"
    orders = (2.0,)
    unskipped = 4.0
    assumptions = f"{_Kernel.assumptions}; an isotropic gradient at the top"
    source = "Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), arXiv:1611.01232, for plain nets"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        self.square(ensemble, index)  # refuses what has no kernel
        found = infinite_width_gradient(ensemble, index)
        if not np.isfinite(found).all():
            raise Unsupported(f"{self.kind}: no gradient passes the branches of this ensemble.")
        return found

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        downward = np.exp(infinite_width_gradient(ensemble, index)[::-1])
        return _added(downward, _carried(ensemble)[::-1], self.unskipped)[::-1] / _width(ensemble)


@predictions.register("kernel_displacement")
class KernelDisplacement(_Kernel):
    """E|h_l - h_0|^2 for any activation, skip coefficients 1: what branches add is centred."""

    variable = "displacement_moment_log"
    orders = (2.0,)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        if (ensemble.table.skip != 1).any():
            raise Unsupported(f"{self.kind} is for skip coefficients of 1.")
        square = self.square(ensemble, index)
        with np.errstate(divide="ignore"):
            return np.log(np.expm1(np.log(square / square[0])))

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        growth = np.log(self.square(ensemble, index) / self.square(ensemble, index)[0])
        moved = growth > 0
        share = np.where(moved, -np.expm1(-np.where(moved, growth, 1.0)), 1.0)
        return np.where(moved, self.added(ensemble, index) / share / _width(ensemble), 0.0)


def _wider(ensemble: Ensemble) -> np.ndarray:
    """Log of the number of coordinates over that of the input: squares are told by coordinate."""
    widths = ensemble.network.state_widths
    return np.log(widths / widths[0])


class _Pair(_Kernel):
    axis = "pair"

    def places(self, ensemble: Ensemble, index: int) -> tuple[int, int]:
        one, other = np.triu_indices(ensemble.inputs.count, 1)
        return int(one[index]), int(other[index])

    def products(self, ensemble: Ensemble, index: int) -> tuple[np.ndarray, ...]:
        """(G_ii, G_jj, G_ij), each of shape (depth + 1,)."""
        i, j = self.places(ensemble, index)
        gram = _gram(_Law(ensemble.digest, ensemble))
        return gram[:, i, i], gram[:, j, j], gram[:, i, j]

    def both(self, ensemble: Ensemble, index: int) -> np.ndarray:
        """T of the input to which more is added."""
        return np.maximum(*(self.added(ensemble, at) for at in self.places(ensemble, index)))


@predictions.register("correlation_map")
class CorrelationMap(_Pair):
    """Mean cosine of the angle between two states, for activations of linear pieces."""

    variable = "cosine_mean"
    assumptions = f"{_Kernel.assumptions}, no biases"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        i, j = self.places(ensemble, index)
        rows = ensemble.inputs.array(ensemble.network.input_size)
        rows = np.asarray(ensemble.inputs.frame() if rows is None else rows, float)
        cosine = rows[i] @ rows[j] / np.sqrt((rows[i] @ rows[i]) * (rows[j] @ rows[j]))
        return correlation_map(ensemble, float(np.clip(cosine, -1.0, 1.0)))

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        network = ensemble.network
        hidden = max(network.branch_matrices - 1, 1)
        if network.form.pre:
            added = self.both(ensemble, index)
        elif network.form.trunk and (_carried(ensemble) != 0).all():
            steps = np.diff(log_mean_square(ensemble))
            steps = steps - 2 * np.log(np.abs(ensemble.table.skip))
            added = np.concatenate([[0.0], np.cumsum(steps)])
        else:  # nothing is left of the layer before: every one counts in full
            added = (np.arange(network.depth + 1.0) + network.form.post) / 3
        return 1.5 * hidden * added / _width(ensemble)


@predictions.register("kernel_cosine")
class KernelCosine(_Pair):
    """Mean cosine of the angle between two states."""

    variable = "cosine_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        one, other, product = self.products(ensemble, index)
        return product / np.sqrt(one) / np.sqrt(other)

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return 1.5 * self.both(ensemble, index) / _width(ensemble)


@predictions.register("kernel_distance")
class KernelDistance(_Pair):
    """E|h_l - h~_l|^2 of two inputs."""

    variable = "distance_moment_log"
    orders = (2.0,)
    unskipped = 4.0

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        one, other, product = self.products(ensemble, index)
        square = one + other - 2 * product
        return np.log(square / square[0]) + _wider(ensemble)

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.both(ensemble, index) / _width(ensemble)
