"""RISOTTO: residual networks that are exact isometries at initialisation, of any depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.schemes.looks_linear import check_pairs, pair_variance
from sigprop.spec import LayerTable, Network, Scheme, Structure, WeightLaw, check_number

__all__ = ["Risotto"]


@Scheme.family.register("risotto")
@dataclass(frozen=True, kw_only=True)
class Risotto(Scheme):
    r"""Weights such that every block is LL(M), M orthogonal, in spite of its branch and ReLUs.

    Units are pairs (see `sigprop.looks_linear`), so the state is :math:`[\varphi(z);
    \varphi(-z)]`. In a block with a projection all branch matrices are looks-linear with
    independent orthogonal :math:`U_1 .. U_m`, and the skip matrix is looks-linear with
    :math:`(M - \alpha U_m \cdots U_1) / \beta`. In a block with an identity skip all branch
    matrices but the last hand the pairs on, and the last is :math:`(LL(M) - \beta 1) /
    \alpha`, which is not looks-linear: read literally, "looks-linear" there gives a network
    whose norm grows 67 times in 10 blocks. Either way z' = M z: norms, angles and all
    singular values of the Jacobian from the network's input are kept, at any depth.

    An identity block whose branch is narrower than its trunk (a bottleneck) mixes only as many
    pairs as the branch carries; the others pass on the skip, which then must be 1. Where a
    projection narrows the state, M projects: singular values are 0 or 1.

    Parameters
    ----------
    alpha : float or sequence of depth floats
        The branch coefficient, default 1; trainable, one a block. Not 0 beside an identity
        skip, where it must carry M. ``skip`` is the literature's beta, default 1; not 0 in a
        projection.
    lossy : bool
        Whether the state may become narrower than what it carries, or of an image drop pixels
        by a stride (default False): then not an isometry but a projection.
    batch_norm : bool
        Whether batch normalisation is kept all the same (default False), behind every matrix.
        It scales branch and skip connection each by itself, so that M is no longer
        orthogonal: in ten blocks of 16 pairs singular values lie between 0.2 and 2, and with an
        identity skip between 1 and 20. It is an isometry no more.
    """

    formula: ClassVar[str] = (
        "units in +/- pairs, LL(U) = [[U, -U], [-U, U]]; projection: branch LL(U_j), S = "
        "LL((M - alpha U_m..U_1)/skip); identity: first matrices hand pairs on, the last is "
        "(LL(M) - skip 1)/alpha; stem [U; -U]; all U, M orthogonal; branch alpha (default 1)."
    )
    source: ClassVar[str] = (
        "Gadhikar and Burkholz (2022), Dynamical isometry for residual networks, arXiv:2210.02411"
    )
    blocks: ClassVar[tuple[str, ...]] = ("identity", "projection")
    default_block: ClassVar[str] = "projection"

    law: WeightLaw | str = "orthogonal"
    alpha: float | tuple[float, ...] = 1.0
    lossy: bool = False
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        alpha = self.alpha.tolist() if isinstance(self.alpha, np.ndarray) else self.alpha
        if isinstance(alpha, Sequence) and not isinstance(alpha, str):
            alpha = tuple(check_number("each alpha", a) for a in alpha)
        else:
            alpha = check_number("alpha", alpha, why="It is the coefficient of the branch.")
        object.__setattr__(self, "alpha", alpha)

    def to_dict(self) -> dict[str, Any]:
        """As `Scheme.to_dict`; ``batch_norm`` only if it is on."""
        values = super().to_dict()
        if not self.batch_norm:
            del values["batch_norm"]
        return values

    def layers(self, network: Network) -> LayerTable:
        self.check_block(network)
        check_pairs(self.kind, network, lossy=self.lossy)
        projected = network.form.projected
        alpha = np.array(self.alpha)
        if alpha.ndim and len(alpha) != network.depth:
            raise SpecError(
                f"alpha names {len(alpha)} layers, but depth is {network.depth}. Give one number, "
                "or one for each layer."
            )
        if projected and np.any(np.equal(self.skip, 0.0)):
            raise SpecError(
                f"scheme 'risotto' with block 'projection' needs a skip that is not 0, got "
                f"{self.skip!r}: the skip matrix is divided by it. Use another value, or block "
                "'identity'."
            )
        if not projected and np.any(alpha == 0.0):
            raise SpecError(
                f"scheme 'risotto' with block 'identity' needs an alpha that is not 0, got "
                f"{self.alpha!r}: its last matrix is divided by it. Use another value, or block "
                "'projection', where alpha = 0 leaves the looks-linear skip."
            )
        structure = np.full((network.depth, network.matrices), Structure.ROUTED, np.int8)
        if projected:
            structure[:] = Structure.LOOKS_LINEAR
            variance = pair_variance(*network.fans)
        else:
            variance = np.ones(structure.shape)
            variance[:, -1] = 1 / self._routed(network)
        structure[:, -1] = Structure.COMPLEMENT
        return self.table(
            network,
            variance=variance,
            branch=alpha,
            stem_variance=lambda fan_in, fan_out: 1 / np.maximum(fan_in, fan_out / 2),
            structure=structure,
            stem_structure=Structure.MIRRORED,
            paired=True,
            gain=True,
            batch_norm=self.batch_norm,
        )

    def _routed(self, network: Network) -> np.ndarray:
        """The pairs that the branch of an identity block carries, shape (depth,)."""
        pairs = np.hstack(network.fans).min(axis=1) // 2
        skip = np.broadcast_to(np.asarray(self.skip, float), pairs.shape)
        short = pairs < network.width // 2
        if (short & (skip != 1)).any():
            raise SpecError(
                f"scheme 'risotto' with an identity skip of {self.skip!r} needs hidden layers of "
                f"at least {network.width} units, got {2 * int(pairs.min())}: the pairs that the "
                f"branch does not carry pass on the skip, unchanged only if it is 1. Set "
                f"inner_width = {network.width}, or skip = 1."
            )
        return pairs
