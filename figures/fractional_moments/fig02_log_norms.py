"""Figures 2, 5 and 6: log-norms after 100 layers under He and where the first moment is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_norm_law import log_norm_law
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled
from figures.fractional_moments._plain import PAPER, ensemble, told
from sigprop.activations import LeakyReLU
from sigprop.simulate import simulate

__all__ = ["LogNorms"]

_SCHEMES = (2.0, 1.0)
_ACTIVATIONS: dict[str, Any] = {
    "relu": "relu",
    "linear": "linear",
    "leaky 0.01": LeakyReLU(slope=0.01),
}


@Figure.family.register("fractional_moments/fig02")
class LogNorms(Figure):
    """Density and distribution of log|x_100| at width 64, 100 networks, three activations."""

    title: ClassVar[str] = "log-norms after 100 layers: He against s = 1, three activations"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 64, "depth": 100, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 100), ("draft", 100), ("paper", 100))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        for name, activation in _ACTIVATIONS.items():
            for s in _SCHEMES:
                found[f"{name} {s:g}"] = simulate(
                    ensemble(effort["depth"], effort["width"], s, activation),
                    ["norm"],
                    replicas=effort["networks"],
                    seed=effort["seed"],
                    layers=[0, effort["depth"]],
                    keep=[effort["depth"]],
                    workers=workers,
                )
                if progress is not None:
                    progress(len(found), len(_ACTIVATIONS) * len(_SCHEMES))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        shift = np.log(effort["width"]) / 2  # of |x_0|
        for name, activation in _ACTIVATIONS.items():
            for s in _SCHEMES:
                law = log_norm_law(ensemble(effort["depth"], effort["width"], s, activation))
                x = law.mean + law.deviation * np.linspace(-4, 4, 161)
                data = xr.Dataset(
                    {"density": ("x", law.pdf(x)), "distribution": ("x", law.cdf(x))},
                    {"x": x + shift},
                )
                for variable in data.data_vars.values():
                    variable.attrs = {"status": "exact", "units": "1"}
                found[f"{name} {s:g}"] = data.assign_attrs(
                    mean=law.mean + shift, deviation=law.deviation
                )
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.2, 4.8))
        panels = picture.subplots(2, len(_ACTIVATIONS), sharex="col")
        for column, name in enumerate(_ACTIVATIONS):
            top, bottom = panels[:, column]
            for s, colour in zip(_SCHEMES, PALETTE):
                exact, measured = predictions[f"{name} {s:g}"], results[f"{name} {s:g}"]
                kept = measured.replica_log_norm.isel(kept_layer=-1, input=0).values
                values = np.sort(kept) + np.log(64) / 2
                label = f"{told(s)}, exact"
                top.plot(exact.x, exact.density, STATUS_LINE["exact"], color=colour, label=label)
                top.hist(
                    values,
                    15,
                    density=True,
                    color=colour,
                    alpha=0.3,
                    label=f"{told(s)}, {len(values)} networks",
                )
                bottom.plot(exact.x, exact.distribution, STATUS_LINE["exact"], color=colour)
                bottom.step(
                    values,
                    np.arange(1, len(values) + 1) / len(values),
                    where="post",
                    color=colour,
                    lw=0.8,
                    alpha=0.7,
                )
            means = ", ".join(f"{predictions[f'{name} {s:g}'].attrs['mean']:.3f}" for s in _SCHEMES)
            top.set_title(f"{name}: means {means}")
            top.set_ylabel("density")
            bottom.set_ylabel("distribution function")
            bottom.set_xlabel(r"$\log |x_{100}|$")
        picture.legend(*panels[0, 0].get_legend_handles_labels(), ncols=4)
        frame(
            picture,
            "Keeping the first moment instead of the second moves log-norms up by little",
            "plain net, width 64, depth 100, |x_0| = 8; seed 0",
            f"After Figures 2, 5 and 6 of {PAPER}, which draw 100 networks. The spread of the "
            "logarithm, the same under both, is what makes a moment and a typical network differ.",
            legend_rows=1,
        )
        return picture
