r"""Networks of +/- pairs with orthogonal matrices: nothing changes, at any depth and width.

In the looks-linear coordinates :math:`z = h_+ - h_-` such a network is an orthogonal map, so
norms, angles and distances of z stay what they are in every single network. The state itself is
:math:`[\varphi(z); \varphi(-z)]`: its norm is that of z, its raw cosine is that behind a ReLU and
the same at every depth up to O(width^-1/2) of noise. A gradient of all coordinates of a state is
not kept network by network, since half of them are off, but on average: in block projection
:math:`E|p_l|^2/|p_L|^2 = n_l/n_L`. In block identity a coordinate that is off does not feed its
branch, so there a block has a half of LL(M) and the bare skip :math:`\beta` of the rest, where half
of the mixed ones are on behind it: :math:`1/2 + \beta^2 k/(4 n)`, once at any depth, for what is on
is kept from there on; k of the n pairs are mixed.
"""

from __future__ import annotations

import numpy as np

from analysis.prediction import Prediction, predictions
from analysis.theory.projection import arc_kernel
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []

# What is exact is measured with rounding alone, which has no standard error to be judged by.
_ROUNDING = 1e-9


class _Isometry(Prediction):
    """Base: refuses what is no isometry."""

    status = "exact"
    assumptions = "units in +/- pairs, orthogonal matrices, no layer narrower than what it carries"
    source = "Gadhikar, Burkholz (2022), arXiv:2210.02411; Balduzzi et al. (2017), arXiv:1702.08591"
    dependent = True
    post = True

    def check(self, ensemble: Ensemble) -> None:
        network, table = ensemble.network, ensemble.table
        why = None
        widths = network.state_widths if network.form.post else network.state_widths[1:]
        if not table.paired:
            why = "are not made of +/- pairs"
        elif table.law.kind != "orthogonal":
            why = f"are made of matrices of law {table.law.kind!r}, which keep lengths on average"
        elif table.biased:
            why = "have biases"
        elif widths[0] < 2 * network.input_size or (np.diff(widths) < 0).any():
            why = "narrow, so that directions are lost"
        elif not network.form.trunk and (table.branch != 1).any():
            why = "are scaled"
        if why is not None:
            raise Unsupported(f"{self.kind} is a law of isometric networks, and the layers {why}.")

    def alike(self, ensemble: Ensemble) -> bool:
        return self.axis == "input"

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return np.full(ensemble.network.depth + 1, _ROUNDING)

    def kept(self, ensemble: Ensemble) -> np.ndarray:
        self.check(ensemble)
        return np.zeros(ensemble.network.depth + 1)


@predictions.register("isometric_norm")
class IsometricNorm(_Isometry):
    """Every moment of |h_l| / |h_0| is 1."""

    variable = "norm_moment_log"
    orders = ()

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.kept(ensemble)


@predictions.register("isometric_log_norm")
class IsometricLogNorm(_Isometry):
    """log |h_l| / |h_0| is 0."""

    variable = "log_norm_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.kept(ensemble)


@predictions.register("isometric_gradient")
class IsometricGradient(_Isometry):
    """E|p_l|^2 / |p_L|^2 for an isotropic p_L."""

    variable = "gradient_moment_log"
    orders = (2.0,)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        network, table = ensemble.network, ensemble.table
        widths = network.state_widths
        found = self.kept(ensemble) + np.log(widths / widths[-1])
        if network.form.post and not network.form.projected:
            mixed = np.hstack(network.fans).min(axis=1) / network.width
            found[:-1] += np.log(0.5 + table.skip**2 * mixed / 4)
        return found


class _IsometricPair(_Isometry):
    axis = "pair"

    def start(self, ensemble: Ensemble, index: int) -> float:
        """The cosine of two inputs of the network."""
        rows = ensemble.inputs.array(ensemble.network.input_size)
        rows = np.asarray(ensemble.inputs.frame() if rows is None else rows, float)
        i, j = (int(at[index]) for at in np.triu_indices(ensemble.inputs.count, 1))
        square = (rows[i] @ rows[i]) * (rows[j] @ rows[j])
        return float(np.clip(rows[i] @ rows[j] / np.sqrt(square), -1.0, 1.0))


@predictions.register("isometric_cosine")
class IsometricCosine(_IsometricPair):
    """The cosine in looks-linear coordinates is that of the inputs."""

    variable = "looks_linear_cosine_mean"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.kept(ensemble) + self.start(ensemble, index)


@predictions.register("isometric_distance")
class IsometricDistance(_IsometricPair):
    """The distance in looks-linear coordinates is that of the inputs."""

    variable = "looks_linear_distance_moment_log"
    orders = ()

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return self.kept(ensemble)


@predictions.register("isometric_raw_cosine")
class IsometricRawCosine(_IsometricPair):
    """The raw cosine is k_1 of the inputs' at every layer, off by O(1 / width) on average."""

    variable = "cosine_mean"
    status = "limit"

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        start = self.start(ensemble, index)
        found = self.kept(ensemble) + arc_kernel(start)
        if not ensemble.network.form.post:
            found[0] = start  # the input itself
        return found

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        slack = 1.0 / ensemble.network.state_widths
        if not ensemble.network.form.post:
            slack[0] = _ROUNDING
        return slack
