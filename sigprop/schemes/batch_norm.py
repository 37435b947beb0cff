"""Batch normalisation: the residual baseline that normaliser-free schemes are measured by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme

__all__ = ["BatchNorm"]


@Scheme.family.register("batch_norm")
@dataclass(frozen=True, kw_only=True)
class BatchNorm(Scheme):
    r"""He, and every activation reads the normalised batch: W_2 phi(N(W_1 phi(N(h)))) for preact.

    N subtracts from every unit its mean over the inputs of the network and divides by its
    deviation; of images, channel by channel, over the pixels too. Means and deviations are
    those of the batch at hand, as in training, and the gradient goes through them. There is
    no gain, no shift and no small number added to the variance: a unit that is the same for
    the whole batch passes 0 on. In blocks that activate the sum of trunk and branch, the end
    of the branch and the output of a skip matrix are normalised before they are added.

    In a wide pre-activation ReLU network and for a large batch of independent inputs the
    mean square of the trunk grows linearly, as :math:`1 + l`, and the variance of a unit over
    the batch as :math:`v_l = 1 + l (1 - 1/\pi)`. Hence branch l is smaller than the trunk by
    :math:`\sqrt{l}`. The gradient pays for the normalisation: block l multiplies its mean
    square by :math:`1 + (\pi / (\pi - 1)) / v_l`, a power of the depth in all.
    """

    formula: ClassVar[str] = (
        "Var w = He; every activation reads its argument normalised to mean 0 and variance 1 over "
        "the batch of inputs (and the pixels); branch 1."
    )
    source: ClassVar[str] = (
        "Ioffe and Szegedy (2015), Batch normalization, arXiv:1502.03167; in residual branches: "
        "De and Smith (2020), arXiv:2002.10444"
    )
    blocks: ClassVar[tuple[str, ...]] = (
        "plain", "res3", "inner", "preact", "identity", "projection"
    )  # fmt: skip
    default_block: ClassVar[str] = "preact"

    def layers(self, network: Network) -> LayerTable:
        return self.table(network, variance=he_variance(network), batch_norm=True)
