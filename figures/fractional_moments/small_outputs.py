"""Beyond the paper: how likely a small output is, against its size and the scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_norm_law import log_norm_law
from figures._base import Figure, Progress
from figures._style import PALETTE, frame, styled
from figures.fractional_moments._plain import PAPER, ensemble, he_norms, told

__all__ = ["SmallOutputs"]

_SCHEMES = (2.0, 1.5, 1.0, 0.5)


@Figure.family.register("fractional_moments/small_outputs")
class SmallOutputs(Figure):
    """P(|x_L| / |x_0| < e) against e for depths 100 and 1000, width 100."""

    title: ClassVar[str] = "beyond the paper: the probability of a small output, by scheme"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 100, "depths": [100, 1000], "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 1000), ("draft", 10_000), ("paper", 100_000))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        return {"he": he_norms(self.effort(budget), workers, progress)}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        sizes = np.geomspace(1e-4, 1, 61)
        x = np.log(sizes)
        found = {}
        for depth in effort["depths"]:
            laws = [log_norm_law(ensemble(depth, effort["width"], s)) for s in _SCHEMES]
            data = xr.Dataset(
                {
                    "chance": (("s", "size"), np.array([law.cdf(x) for law in laws])),
                    "normal": (("s", "size"), np.array([law.normal_cdf(x) for law in laws])),
                },
                {"s": list(_SCHEMES), "size": sizes},
            )
            data.chance.attrs = {"status": "exact", "units": "1"}
            data.normal.attrs = {"status": "limit", "units": "1"}
            found[str(depth)] = data
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured = results["he"]
        replicas = int(measured.attrs["replicas"])
        picture = Picture(figsize=(8.2, 3.6))
        panels = picture.subplots(1, len(predictions))
        for axes, (depth, exact) in zip(panels, predictions.items()):
            for s, colour in zip(exact.s.values, PALETTE):
                axes.plot(
                    exact["size"],
                    exact.chance.sel(s=s),
                    color=colour,
                    label=f"{told(float(s))}, exact",
                )
                axes.plot(exact["size"], exact.normal.sel(s=s), "--", color=colour, lw=0.8)
            kept = measured.replica_log_norm.sel(kept_layer=int(depth)).isel(input=0).values
            places = exact["size"].values[::4]
            count = np.searchsorted(np.sort(kept), np.log(places))
            share = count / replicas
            error = 2 * np.sqrt(np.maximum(share * (1 - share), 0) / replicas)
            seen = count >= 10
            axes.errorbar(
                places[seen], share[seen], error[seen], fmt="o", ms=3, color=PALETTE[0], lw=0.8
            )
            axes.set(xscale="log", yscale="log", xlabel=r"$e$", title=f"depth {depth}")
            axes.set_ylim(max(1e-12, 0.3 * float(exact.chance.min())), 1.5)
        panels[0].set_ylabel(r"$P(|x_L| < e\,|x_0|)$")
        picture.legend(*panels[0].get_legend_handles_labels(), ncols=4)
        frame(
            picture,
            "The lower the moment that is kept, the rarer is a small output",
            f"plain ReLU net, width 100; dots: {replicas} networks under He, seed "
            f"{measured.attrs['seed']}, bars of two standard errors; dashed: normal limit",
            f"The comparison of {PAPER}, exactly. At depth 100 a loss by 1000 is a tail event, "
            "where the normal limit is off by a factor of 2; at depth 1000 it is what happens.",
            legend_rows=1,
        )
        return picture
