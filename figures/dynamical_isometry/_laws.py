"""The rivals of the paper, by name: which scheme on which block, and how a curve is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import xarray as xr

from analysis.prediction import predict
from figures._style import PALETTE
from sigprop.inputs import Pair
from sigprop.schemes import (
    Fixup,
    He,
    LayerScale,
    NFResNet,
    Normal,
    Risotto,
    SkipInit,
    StableResNet,
)
from sigprop.spec import Ensemble, Network, Scheme

__all__ = ["PROJECTED", "RIVALS", "Rival", "predicted"]


@dataclass(frozen=True)
class Rival:
    """A curve: its label, block and look; the scheme is made for a depth."""

    label: str
    block: str
    colour: str
    inner_layers: int = 2
    line: str = "-"

    def scheme(self, name: str, depth: int) -> Scheme:
        made: dict[str, Scheme] = {
            "he_projection": Normal(alpha=1.0),
            "normal": Normal(alpha=math.sqrt(0.5)),
            "skipinit_projection": SkipInit(),
            "risotto_projection": Risotto(),
            "he_identity": He(),
            "root_identity": SkipInit(initial=depth**-0.5),
            "still_identity": SkipInit(),
            "risotto_identity": Risotto(),
            "he": He(),
            "fixup": Fixup(),
            "root": SkipInit(initial=depth**-0.5),
            "decreasing": StableResNet(form="decreasing", weight_variance=2.0),
            "layerscale": LayerScale(epsilon=0.1),
            "nf": NFResNet(alpha=1.0),
        }
        return made[name]

    def ensemble(self, name: str, depth: int, width: int, cosine: float) -> Ensemble:
        """The law of the curve ``name``."""
        network = Network(
            depth=depth, width=width, block=self.block, inner_layers=self.inner_layers
        )
        return Ensemble(network, self.scheme(name, depth), Pair(cosine=cosine))


_BLUE, _RED, _GREEN, _VIOLET, _AMBER, _GREY = PALETTE

# The paper's Figure 1b is of the first four: a skip matrix in every block (type C).
PROJECTED = {
    "he_projection": Rival("C: He, α = 1", "projection", _RED),
    "normal": Rival("C: He, α² = β² = 1/2", "projection", _AMBER),
    "skipinit_projection": Rival("C: Fixup, SkipInit (α = 0)", "projection", _BLUE),
    "risotto_projection": Rival("C: RISOTTO", "projection", _GREEN),
    "he_identity": Rival("B: He, α = β = 1", "identity", _RED, line="s"),
    "root_identity": Rival("B: α = depth$^{-1/2}$", "identity", _VIOLET, line="s"),
    "still_identity": Rival("B: Fixup, SkipInit (α = 0)", "identity", _BLUE, line="s"),
    "risotto_identity": Rival("B: RISOTTO", "identity", _GREEN, line="s"),
}

RIVALS = {
    "he": Rival("He", "inner", _RED),
    "fixup": Rival("Fixup, SkipInit, ReZero", "inner", _BLUE),
    "root": Rival("branches depth$^{-1/2}$ (Stable)", "inner", _VIOLET),
    "decreasing": Rival("branches $l^{-1/2}/\\log(l+1)$", "inner", _AMBER),
    "layerscale": Rival("LayerScale, ε = 0.1", "inner", _GREY),
    "nf": Rival("NF-ResNet, α = 1", "preact", "#8c510a", inner_layers=3),
    "normal": Rival("type C, α² = β² = 1/2", "projection", "#c51b7d"),
    "risotto_projection": Rival("RISOTTO (type C)", "projection", _GREEN),
}


def predicted(law: Ensemble, layers: list[int], variables: tuple[str, ...]) -> xr.Dataset:
    """What theory says of the first input or pair, with status and slack."""
    found = predict(law, layers, orders=(2.0,), variables=variables)
    first = {dim: 0 for dim in ("input", "pair", "order") if dim in found.dims}
    return found.isel(first, drop=True)
