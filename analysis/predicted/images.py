"""Convolutional networks: mean squares of states and gradients, summed over all pixels."""

from __future__ import annotations

import numpy as np

from analysis import theory
from analysis.prediction import Prediction, predictions
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__: list[str] = []

_CLOSED = "independent symmetric weights of finite variance, a positively homogeneous activation"
_SOURCE = "elementary; circular: Gadhikar and Burkholz (2022), arXiv:2210.02411, theorem 2.3"


class _Image(Prediction):
    """Base: E r^2 of whole images."""

    orders = (2.0,)
    status = "exact"
    assumptions = _CLOSED
    source = _SOURCE
    own_law = True


@predictions.register("image_mean_square")
class ImageMeanSquare(_Image):
    """E|h_l|^2 / |h_0|^2, exact with any border and stride; with a stem for circular borders."""

    variable = "norm_moment_log"

    def alike(self, ensemble: Ensemble) -> bool:
        return not ensemble.table.biased and super().alike(ensemble)

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        network = ensemble.network
        uneven = network.padding != "circular" and max(network.kernels) > 1
        if network.form.post and network.convolutional:
            if uneven or max(network.strides) > 1 or ensemble.table.biased:
                raise Unsupported(
                    "image_mean_square is a ratio to the state behind the stem, whose pixels are "
                    "random: with zero borders, strides or biases the mean of a ratio is no ratio "
                    "of means. theory.image_log_mean_square has the latter."
                )
            states = int(network.state_widths.min())
            if states < 30:  # then a dead stem, of probability 2^-states, has no ratio
                raise Unsupported(
                    f"image_mean_square with a stem needs 30 channels or more, got {states}: with "
                    "few of them a stem may be silent, and norms relative to it have no mean."
                )
        return theory.image_log_mean_square(ensemble, index)


class _Gradient(_Image):
    variable = "gradient_moment_log"
    assumptions = f"{_CLOSED}, an isotropic gradient at the top"

    def alike(self, ensemble: Ensemble) -> bool:
        return True

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        return theory.image_log_gradient_mean_square(ensemble)


@predictions.register("image_gradient_mean_square")
class ImageGradientMeanSquare(_Gradient):
    """E|p_l|^2 / |p_L|^2 where no state is activated."""

    def value(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        form = ensemble.network.form
        if form.post or not form.trunk:
            raise Unsupported(
                f"image_gradient_mean_square does not hold exactly for block "
                f"{ensemble.network.block!r}, where a state may be silent. As a limit it does."
            )
        return super().value(ensemble, index, order)


@predictions.register("image_gradient_many_channels")
class ImageGradientManyChannels(_Gradient):
    """The same of activated states, but for the chance that a pixel of one is silent."""

    status = "limit"
    assumptions = f"{_Gradient.assumptions}, channels to infinity (error 2^-channels)"

    def slack(self, ensemble: Ensemble, index: int, order: float | None) -> np.ndarray:
        network = ensemble.network
        pixels = np.prod(network.images, axis=1)
        silent = pixels * 2.0 ** -network.state_widths.astype(float)
        return np.concatenate([np.cumsum(silent[:0:-1])[::-1], [0.0]]) + silent
