"""LayerScale: every channel of a branch multiplied by a small number that is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sigprop.schemes.he import he_variance
from sigprop.spec import LayerTable, Network, Scheme, check_number

__all__ = ["LayerScale"]


@Scheme.family.register("layerscale")
@dataclass(frozen=True, kw_only=True)
class LayerScale(Scheme):
    """Branch = diag(epsilon, .., epsilon) at initialisation; He weights.

    The diagonal has an entry a channel, and training tells them apart; at initialisation
    they are all epsilon, so the law is that of a scalar branch. Unlike ReZero the branch is
    small and not zero, so that its weights have a gradient from the first step.

    Parameters
    ----------
    epsilon : float, optional
        Default, as in the paper, by depth: 0.1 up to 18, 1e-5 up to 24, 1e-6 beyond.
    """

    formula: ClassVar[str] = (
        "branch = epsilon (default 0.1 up to depth 18, 1e-5 up to 24, 1e-6 beyond); Var w = He."
    )
    source: ClassVar[str] = (
        "Touvron, Cord, Sablayrolles, Synnaeve and Jegou (2021), Going deeper with image "
        "transformers, arXiv:2103.17239"
    )
    blocks: ClassVar[tuple[str, ...]] = ("res1", "res3", "inner", "preact")

    epsilon: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon is not None:
            why = "It is the value of every entry of the diagonal at initialisation."
            object.__setattr__(self, "epsilon", check_number("epsilon", self.epsilon, why=why))

    def layers(self, network: Network) -> LayerTable:
        epsilon = self.epsilon
        if epsilon is None:
            epsilon = 0.1 if network.depth <= 18 else 1e-5 if network.depth <= 24 else 1e-6
        return self.table(network, variance=he_variance(network), branch=epsilon)
