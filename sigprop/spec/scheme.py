"""The base of initialisation schemes: how weights and coefficients are chosen for a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.registry import Registry
from sigprop.spec.checks import check_number
from sigprop.spec.families import Process, WeightLaw
from sigprop.spec.member import Member
from sigprop.spec.network import Network
from sigprop.spec.table import LayerTable, Stem, Structure

__all__ = ["Scheme"]


@dataclass(frozen=True, kw_only=True)
class Scheme(Member):
    """Base of initialisation schemes.

    Parameters
    ----------
    law : WeightLaw or str
        Law of one weight at unit variance (default gaussian).
    bias_variance : float
        Variance of the Gaussian biases of every matrix (default 0: no biases).
    skip : float or sequence of depth floats
        Skip coefficients (default 1).
    process : Process or str
        Dependence along depth of the last matrix of a layer (default independent).
    inner_process : Process or str, optional
        That of all earlier matrices of the layer (default: the same as ``process``).

    Class attributes
    ----------------
    formula, source : str
        What ``sigprop list schemes`` prints.
    blocks : tuple of str
        Blocks for which the scheme is defined.
    default_block : str
        The block of the paper that introduced it.
    """

    family: ClassVar[Registry[Any]] = Registry("scheme")
    formula: ClassVar[str]
    source: ClassVar[str]
    blocks: ClassVar[tuple[str, ...]] = (
        "plain", "res1", "res3", "inner", "preact", "identity", "projection"
    )  # fmt: skip
    default_block: ClassVar[str] = "res3"

    law: WeightLaw | str = "gaussian"
    bias_variance: float = 0.0
    skip: float | tuple[float, ...] = 1.0
    process: Process | str = "independent"
    inner_process: Process | str | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "process", _process("process", self.process))
        if self.inner_process is not None:
            inner = _process("inner_process", self.inner_process)
            put(self, "inner_process", None if inner == self.process else inner)
        if isinstance(self.law, str):
            import sigprop.laws  # noqa: F401  fills the registry

            put(self, "law", WeightLaw.named(self.law))
        elif not isinstance(self.law, WeightLaw):
            raise SpecError(
                f"law must be a WeightLaw or the name of one, got {self.law!r}. Use a law of "
                "sigprop.laws."
            )
        put(self, "bias_variance", check_number("bias_variance", self.bias_variance, low=0.0))
        if isinstance(self.skip, Sequence):
            put(self, "skip", tuple(check_number("each skip", s) for s in self.skip))
        else:
            put(self, "skip", check_number("skip", self.skip))

    def to_dict(self) -> dict[str, Any]:
        """As `Member.to_dict`; processes are left out where all layers are independent.

        So the digest of an ensemble, hence its stream of random numbers, is what it was
        before there were processes.
        """
        values = super().to_dict()
        assert isinstance(self.process, Process)
        if self.inner_process is None:
            del values["inner_process"]
            if self.process.independent:
                del values["process"]
        return values

    def processes(self, network: Network) -> tuple[Process, ...]:
        """The process of each matrix of a layer of ``network``."""
        inner = self.process if self.inner_process is None else self.inner_process
        assert isinstance(self.process, Process) and isinstance(inner, Process)
        return (*(inner,) * (network.matrices - 1), self.process)

    def prepared(self, network: Network) -> Network:
        """The network that the scheme means: another one only where it is a change of its units."""
        return network

    def layers(self, network: Network) -> LayerTable:
        """Lower to the table of ``network``; subclasses end in `table`."""
        raise NotImplementedError

    def fans(
        self, network: Network, structure: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(fan_in, fan_out) of which a variance is a function; of delta kernels one tap counts."""
        assert isinstance(self.law, WeightLaw)
        return network.connections if self.law.independent and structure is None else network.fans

    def check_block(self, network: Network) -> None:
        """Raise Unsupported unless the scheme is defined for the block of ``network``."""
        if network.block not in self.blocks:
            raise Unsupported(
                f"scheme {self.kind!r} is not defined for block {network.block!r}: "
                f"{self.formula} Use one of: {', '.join(self.blocks)}."
            )

    def table(
        self,
        network: Network,
        *,
        variance: np.ndarray | Callable[[np.ndarray, np.ndarray], np.ndarray],
        branch: float | np.ndarray = 1.0,
        input_scale: float | np.ndarray = 1.0,
        centred: bool = False,
        skip: float | np.ndarray | None = None,
        stem_variance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        structure: np.ndarray | None = None,
        stem_structure: Structure = Structure.ENTRIES,
        paired: bool = False,
        gain: bool = False,
        batch_norm: bool = False,
    ) -> LayerTable:
        """Build the table from per-matrix variances, given as an array or of (fan_in, fan_out).

        A plain net has no trunk: its skip column is 0 whatever ``self.skip`` says, which
        ``skip`` replaces. The variance of a stem is ``stem_variance`` of its fans, or
        ``variance`` of them if that is a function.
        """
        self.check_block(network)
        shape = (network.depth, network.matrices)
        fans = self.fans(network, structure)
        entries = variance(*fans) if callable(variance) else variance
        column = (network.depth,)
        skip = np.array((self.skip if skip is None else skip) if network.form.trunk else 0.0, float)
        if skip.ndim and skip.shape != column:
            raise SpecError(
                f"skip names {skip.size} layers, but depth is {network.depth}. Give one number, "
                "or one for each layer."
            )
        assert isinstance(self.law, WeightLaw)
        stem = None
        if network.form.post:
            of_fans = variance if stem_variance is None else stem_variance
            assert callable(of_fans), f"scheme {self.kind!r} does not say what its stem is"
            ends = np.array([network.input_channels]), network.state_widths[:1]
            if fans is not network.fans and stem_structure == Structure.ENTRIES:
                ends = network.stem_connections
            stem = Stem(
                scale=math.sqrt(np.asarray(of_fans(*ends), float).item()),
                bias_scale=math.sqrt(self.bias_variance),
                structure=stem_structure,
            )
        return LayerTable(
            skip=np.broadcast_to(skip, column).copy(),
            branch=np.broadcast_to(np.asarray(branch, float), column).copy(),
            input_scale=np.broadcast_to(np.asarray(input_scale, float), column).copy(),
            scale=np.sqrt(np.broadcast_to(np.asarray(entries, float), shape)),
            bias_scale=np.full(shape, math.sqrt(self.bias_variance)),
            law=self.law,
            centred=centred,
            batch_norm=batch_norm,
            processes=self.processes(network),
            structure=np.zeros((0, 0), np.int8) if structure is None else structure,
            stem=stem,
            paired=paired,
            gain=gain,
        )


def _process(name: str, value: Any) -> Process:
    """The process that ``value`` is or names."""
    import sigprop.processes  # noqa: F401  fills the registry

    if isinstance(value, str):
        return Process.named(value)
    if not isinstance(value, Process):
        raise SpecError(
            f"{name} must be a Process or the name of one, got {value!r}. Use a process of "
            "sigprop.processes."
        )
    return value
