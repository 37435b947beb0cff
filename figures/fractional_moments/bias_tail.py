"""Beyond the paper: with biases the limit of depth has the tail index s."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.kesten import stationary_law
from figures._base import Figure, Progress
from figures._style import PALETTE, frame, styled
from figures.fractional_moments._plain import PAPER, ensemble
from sigprop.simulate import simulate

__all__ = ["BiasTail"]

_SCHEMES = (2.0, 1.5, 1.0)


@Figure.family.register("fractional_moments/bias_tail")
class BiasTail(Figure):
    """Survival function of |x_L| with biases of variance 1, on logarithmic axes."""

    title: ClassVar[str] = "beyond the paper: with biases the limit has the tail index s"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 10, "depth": 80, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 4000), ("draft", 20_000), ("paper", 200_000))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        for s in _SCHEMES:
            found[f"{s:g}"] = simulate(
                ensemble(effort["depth"], effort["width"], s, bias_variance=1.0),
                ["norm"],
                replicas=effort["networks"],
                seed=effort["seed"],
                layers=[effort["depth"]],
                keep=[effort["depth"]],
                workers=workers,
            )
            if progress is not None:
                progress(len(found), len(_SCHEMES))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        norms = np.geomspace(1, 1e4, 81)
        found = {}
        for s in _SCHEMES:
            law = stationary_law(ensemble(effort["depth"], effort["width"], s, bias_variance=1.0))
            data = xr.Dataset(
                {"survival": ("norm", law.sf(norms)), "tail": ("norm", law.tail(norms))},
                {"norm": norms},
            )
            data.survival.attrs = {"status": "limit", "units": "1"}
            data["tail"].attrs = {"status": "limit", "units": "1"}
            found[f"{s:g}"] = data.assign_attrs(
                tail_index=law.tail_index,
                goldie=law.goldie,
                relaxation=law.relaxation_depth,
                start=float(np.sqrt(effort["width"])),  # |x_0|
            )
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(7.4, 4.2))
        axes = picture.subplots()
        for (name, law), colour in zip(predictions.items(), PALETTE):
            measured = results[name]
            norms = np.sort(np.exp(measured.replica_log_norm.values.ravel())) * law.attrs["start"]
            replicas = len(norms)
            share = (np.arange(replicas, 0, -1) - 0.5) / replicas
            shown = np.unique(np.geomspace(1, replicas, 60).astype(int)) - 1
            shown = replicas - 1 - shown
            axes.plot(norms[shown], share[shown], ".", color=colour, ms=4)
            axes.plot(
                law.norm,
                law.survival,
                color=colour,
                label=f"s = {name}: index {law.attrs['tail_index']:.3g}, C = "
                f"{law.attrs['goldie']:.3g}, relaxes in {law.attrs['relaxation']:.0f} layers",
            )
            axes.plot(law.norm, law["tail"], ":", color=colour, lw=0.9)
        axes.set(xscale="log", yscale="log", xlabel="u", ylabel=r"$P(|x_L| > u)$")
        count = replicas
        axes.set_xlim(1, 1e4)
        axes.set_ylim(0.3 / count, 1.6)
        picture.legend(*axes.get_legend_handles_labels(), ncols=1)
        frame(
            picture,
            "With biases the scheme that keeps moment s has a limit of tail index s",
            f"plain ReLU net, width 10, biases of variance 1, depth 80; {count} networks (dots); "
            "stationary law (lines); C u^-s (dotted)",
            f"Schemes of {PAPER}; index and constant by Kesten and Goldie. The variance of the "
            "limit is infinite, so a sample mean of the square never settles. The far tail is the "
            "last to arrive as depth grows.",
            legend_rows=3,
        )
        return picture
