"""What a scheme means: coefficients and scales layer by layer, and how a matrix is made."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from sigprop.spec.families import Process, WeightLaw

__all__ = ["LayerTable", "Stem", "Structure"]


class Structure(enum.IntEnum):
    r"""How a matrix W is made of one of the law, X, at scale s.

    In the last four the units of a layer are pairs (+, -): the first half of them, then the
    second. Beside each stands what becomes of :math:`z = h_+ - h_-`, the looks-linear
    coordinates, if :math:`h_\pm = \varphi(\pm z)` with phi the ReLU.
    """

    #: W = s X.
    ENTRIES = 0
    #: W = [[U, -U], [-U, U]], U = s X of half the rows and columns: z' = U z.
    LOOKS_LINEAR = 1
    #: W = [[U], [-U]], U = s X of half the rows; reads a vector h, not pairs: z' = U h.
    MIRRORED = 2
    #: W = s E, E the identity from the i-th pair to the i-th pair, as far as both go.
    ROUTED = 3
    #: W is what makes the whole layer z' = M z, M = s X of half the rows and columns. In a
    #: skip matrix, the rest that looks-linear branches leave: [[V, -V], [-V, V]] with
    #: V = (M - branch input_scale U_m .. U_1) / skip. As the last matrix of a branch whose
    #: others are routed: ([[M, -M], [-M, M]] - skip 1) / (branch input_scale) from routed
    #: pairs to routed pairs, M of as many rows; the other pairs are the skip's alone.
    COMPLEMENT = 4


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The first matrix, which turns the network's input x into the state h_0 = phi(W_0 x + b).

    Attributes
    ----------
    scale, bias_scale : float
        As in `LayerTable`.
    structure : Structure
        ``ENTRIES`` or ``MIRRORED``.
    """

    scale: float
    bias_scale: float = 0.0
    structure: Structure = Structure.ENTRIES


@dataclass(frozen=True, kw_only=True)
class LayerTable:
    """What a scheme means: one row a layer, nothing else reaches a sampler.

    Attributes
    ----------
    skip, branch : float64, shape (depth,)
        ``h' = skip h + branch F(h)``; a plain net has skip 0. In blocks ``identity`` and
        ``projection`` the state is phi of that sum.
    input_scale : float64, shape (depth,)
        The branch reads ``input_scale * h`` (1 but for NF-ResNet).
    scale : float64, shape (depth, matrices)
        Standard deviation of an entry (scale, for a law without variance).
    bias_scale : float64, shape (depth, matrices)
        Standard deviation of the Gaussian biases, 0 for none.
    law : WeightLaw
        The law of an entry at unit scale.
    centred : bool
        Whether every row of every matrix is projected to sum zero.
    batch_norm : bool
        Whether every activation reads, in place of its argument, that argument with the mean
        0 and the variance 1 over the inputs of the network (and the pixels), unit by unit
        (channel by channel). Then every input has a top gradient of its own.
    processes : tuple of Process, one a matrix
        How the entries of a matrix depend on those of the same place in other layers. The
        empty tuple, the default, becomes independent layers.
    structure : int8, shape (depth, matrices)
        A `Structure` for each matrix; the empty array, the default, becomes ``ENTRIES``.
    stem : Stem, optional
        Where the block has one.
    paired : bool
        Whether every state is made of +/- pairs, so that looks-linear coordinates exist
        (those of a plain net at layer 0 are the input itself).
    gain : bool
        Whether the branch coefficient is a parameter that is trained.
    """

    skip: np.ndarray
    branch: np.ndarray
    input_scale: np.ndarray
    scale: np.ndarray
    bias_scale: np.ndarray
    law: WeightLaw
    centred: bool = False
    batch_norm: bool = False
    processes: tuple[Process, ...] = ()
    structure: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int8))
    stem: Stem | None = None
    paired: bool = False
    gain: bool = False

    def __post_init__(self) -> None:
        if not self.structure.size:
            object.__setattr__(self, "structure", np.zeros(self.scale.shape, np.int8))
        if not self.processes:
            import sigprop.processes  # noqa: F401  fills the registry

            processes = (Process.named("independent"),) * self.scale.shape[1]
            object.__setattr__(self, "processes", processes)

    @property
    def biased(self) -> bool:
        stem = self.stem is not None and self.stem.bias_scale != 0
        return stem or bool(np.any(self.bias_scale != 0))

    @property
    def structured(self) -> bool:
        """Whether any matrix is made of another that is smaller."""
        stem = self.stem is not None and self.stem.structure != Structure.ENTRIES
        return stem or bool(np.any(self.structure != Structure.ENTRIES))

    @property
    def delta(self) -> bool:
        """Whether only the central tap of a kernel is not 0, where there are kernels."""
        return not self.entrywise

    @property
    def entrywise(self) -> bool:
        """Whether all entries of all matrices of a layer are independent."""
        return self.law.independent and not self.structured

    @property
    def correlated(self) -> bool:
        """Whether the layers of any matrix depend on each other."""
        return not all(process.independent for process in self.processes)
