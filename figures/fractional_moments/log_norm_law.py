"""Beyond the paper: the law of a standardised log-norm by depth, exact, normal and Edgeworth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from scipy.special import ndtr, ndtri

from analysis.theory.log_norm_law import log_norm_law
from figures._base import Figure, Progress
from figures._style import PALETTE, THEORY, frame, styled
from figures.fractional_moments._plain import ensemble, he_norms

__all__ = ["LogNormByDepth"]


@Figure.family.register("fractional_moments/log_norm_law")
class LogNormByDepth(Figure):
    """Histogram and QQ of (log|x_L| - mean) / deviation at depths 10, 100 and 1000."""

    title: ClassVar[str] = "beyond the paper: how a log-norm becomes normal with depth"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 10, "depths": [10, 100, 1000], "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 2000), ("draft", 20_000), ("paper", 200_000))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        return {"norms": he_norms(self.effort(budget), workers, progress)}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        z = np.linspace(-5, 4, 181)
        # Quantiles as far out as the networks reach, evenly in those of the normal law.
        reach = -ndtri(0.5 / effort["networks"])
        normal = np.linspace(-reach, reach, 81)
        found = {}
        for depth in effort["depths"]:
            law = log_norm_law(ensemble(depth, effort["width"], 2.0))
            x = law.mean + law.deviation * z
            data = xr.Dataset(
                {
                    "density": ("z", law.deviation * law.pdf(x)),
                    "edgeworth": ("z", law.deviation * law.edgeworth_pdf(x)),
                    "normal": ("z", np.exp(-z * z / 2) / np.sqrt(2 * np.pi)),
                    "quantile": ("n", (law.quantile(ndtr(normal)) - law.mean) / law.deviation),
                },
                {"z": z, "n": normal},
            )
            for name, variable in data.data_vars.items():
                exact = name in ("density", "quantile")
                variable.attrs = {"status": "exact" if exact else "limit", "units": "1"}
            found[str(depth)] = data.assign_attrs(
                mean=law.mean,
                deviation=law.deviation,
                skewness=law.skewness,
                distance=law.distance,
            )
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured = results["norms"]
        picture = Picture(figsize=(9.2, 5.0))
        panels = picture.subplots(2, len(predictions))
        for column, (depth, exact) in enumerate(predictions.items()):
            top, bottom = panels[:, column]
            kept = measured.replica_log_norm.sel(kept_layer=int(depth)).isel(input=0).values
            alive = np.sort(kept[np.isfinite(kept)])
            z = (alive - exact.attrs["mean"]) / exact.attrs["deviation"]
            top.hist(
                z,
                np.linspace(-5, 4, 61),
                density=True,
                color=PALETTE[0],
                alpha=0.4,
                label="networks that are alive",
            )
            top.plot(exact.z, exact.density, color=THEORY, label="exact")
            top.plot(exact.z, exact.normal, "--", color=PALETTE[1], label="normal limit")
            top.plot(exact.z, exact.edgeworth, ":", color=PALETTE[2], label="Edgeworth, two terms")
            top.set_title(
                f"L = {depth}: skewness {exact.attrs['skewness']:.3f}, distance "
                f"{exact.attrs['distance']:.3f}"
            )
            top.set_xlabel("standardised log-norm")
            place = ndtri((np.arange(len(z)) + 0.5) / len(z))
            shown = np.unique(np.searchsorted(place, exact.n.values).clip(0, len(z) - 1))
            bottom.plot(place[shown], z[shown], ".", color=PALETTE[0], ms=4)
            bottom.plot(exact.n, exact["quantile"], color=THEORY)
            bottom.plot(exact.n, exact.n, "--", color=PALETTE[1])
            bottom.set_xlabel("quantile of the normal law")
        panels[0, 0].set_ylabel("density")
        panels[1, 0].set_ylabel("quantile, standardised")
        picture.legend(*panels[0, 0].get_legend_handles_labels(), ncols=4)
        frame(
            picture,
            "A log-norm is skewed to the left, and normal only in the limit of depth",
            f"plain ReLU net, He, width 10; {measured.attrs['replicas']} networks, seed "
            f"{measured.attrs['seed']}; all given that the network is alive",
            "Beyond the figures of Gurbuzbalaban and Hu. The distance between the two distribution "
            "functions falls as 1 over the root of the depth; the left tail is the last to follow.",
            legend_rows=1,
        )
        return picture
