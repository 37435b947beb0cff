"""Figure 2: at the critical scaling the norms of a deep network are log-normal, not constant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_normal import log_norm_mean, log_norm_variance
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from figures.scaling_resnets._against_depth import RATIO
from sigprop.inputs import Point
from sigprop.schemes import Power
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["LogNormal"]

_FORWARD, _BACKWARD = "norm", "gradient"
_TITLE = {"norm": "state at the top", "gradient": "gradient at the bottom"}


@Figure.family.register("scaling_resnets/fig02")
class LogNormal(Figure):
    """Histograms of |h_L| / |h_0| and |p_0| / |p_L| at beta = 1/2, width 100, depth 1000."""

    title: ClassVar[str] = "histograms of the norms of state and gradient at beta = 1/2"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 100, "depth": 1000, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 2000), ("draft", 10_000), ("paper", 10_000))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        depth = effort["depth"]
        result = simulate(
            self.ensemble(budget),
            [_FORWARD, _BACKWARD],
            replicas=effort["networks"],
            seed=effort["seed"],
            layers=[0, depth],
            keep=[0, depth],
            workers=workers,
            progress=progress,
        )
        return {"norms": result}

    def ensemble(self, budget: str) -> Ensemble:
        """Return the law of the figure."""
        effort = self.effort(budget)
        network = Network(depth=effort["depth"], width=effort["width"])
        return Ensemble(network, Power(beta=0.5), Point())

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        law_of_norms = self.ensemble(budget)
        mean = float(log_norm_mean(law_of_norms)[-1])  # that of the gradient is the same
        variance = float(log_norm_variance(law_of_norms)[-1])
        ratio = np.exp(mean + np.sqrt(variance) * np.linspace(-4.5, 4.5, 241))
        exponent = -((np.log(ratio) - mean) ** 2) / (2 * variance)
        density = np.exp(exponent) / (ratio * np.sqrt(2 * np.pi * variance))
        law = xr.Dataset({"density": ("ratio", density)}, {"ratio": ratio})
        law["density"].attrs = {"status": "limit", "units": "1"}
        return {"norms": law.assign_attrs(log_mean=mean, log_variance=variance)}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured, law = results["norms"], predictions["norms"]
        network = json.loads(measured.attrs["ensemble"])["network"]
        picture = Picture(figsize=(8.4, 3.3))
        panels = picture.subplots(1, 2, sharex=True, sharey=True)
        for axes, name, layer in zip(panels, (_FORWARD, _BACKWARD), (network["depth"], 0)):
            values = np.exp(
                measured[f"replica_log_{name}"].sel(kept_layer=layer).isel(input=0).values
            )
            bins = np.linspace(float(law.ratio[0]), float(law.ratio[-1]), 61)
            axes.hist(
                values, bins, density=True, color=PALETTE[0], alpha=0.45, label="networks drawn"
            )
            mean, variance = law.attrs["log_mean"], law.attrs["log_variance"]
            axes.plot(
                law.ratio,
                law["density"],
                STATUS_LINE["limit"],
                color=THEORY,
                label=f"normal law of the logarithm: limit of great depth; its mean {mean:.3f} "
                f"and variance {variance:.4f}: exact",
            )
            axes.set_xlabel(RATIO[name])
            quantile = measured[f"log_{name}_quantile"].sel(quantile=0.5, layer=layer)
            axes.set_title(
                f"{_TITLE[name]}: median {float(np.exp(quantile.isel(input=0))):.3f}, predicted "
                f"{np.exp(mean):.3f}"
            )
        panels[0].set_ylabel("probability density")
        picture.legend(*panels[0].get_legend_handles_labels(), ncols=2)
        setting = (
            f"res3, ReLU, Gaussian weights independent along depth, width {network['width']}, "
            f"depth {network['depth']}, branch $L^{{-1/2}}$; "
            f"{measured.attrs['replicas']} networks, seed {measured.attrs['seed']}, "
            f"sampler {measured.attrs['sampler']}"
        )
        frame(
            picture,
            "At the critical scaling norms stay random however deep the network",
            setting,
            "After Figure 2 of Marion, Fermanian, Biau and Vert (2022). The spread does not shrink "
            "with depth, only with width; state and gradient have one law.",
            legend_rows=1,
        )
        return picture
