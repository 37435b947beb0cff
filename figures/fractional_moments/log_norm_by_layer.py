"""Beyond the paper: mean and variance of log|x_k| by layer, exact and by the -5/2 and 5 over d."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_gaussian import log_gaussian_plain
from analysis.theory.log_normal import log_norm_mean, log_norm_variance
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled
from figures.fractional_moments._plain import ensemble
from sigprop.simulate import simulate

__all__ = ["LogNormByLayer"]


@Figure.family.register("fractional_moments/log_norm_by_layer")
class LogNormByLayer(Figure):
    """Mean and variance of log|x_k|^2 under He at widths 10 and 100: simulation, exact, limit."""

    title: ClassVar[str] = "beyond the paper: mean and variance of log-norms, and where 5/n ends"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"widths": [10, 100], "depth": 1000, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 1000), ("draft", 10_000), ("paper", 100_000))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        for width in effort["widths"]:
            found[str(width)] = simulate(
                ensemble(effort["depth"], width, 2.0),
                ["norm"],
                replicas=effort["networks"],
                seed=effort["seed"],
                layers=np.linspace(0, effort["depth"], 11).astype(int).tolist(),
                workers=workers,
            )
            if progress is not None:
                progress(len(found), len(effort["widths"]))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        for width in effort["widths"]:
            law = ensemble(effort["depth"], width, 2.0)
            limit_mean, limit_variance = log_gaussian_plain(law)
            # Of the square, as the rule of five over the width is told.
            data = xr.Dataset(
                {
                    "mean": ("layer", 2 * log_norm_mean(law)),
                    "variance": ("layer", 4 * log_norm_variance(law)),
                    "limit_mean": ("layer", 2 * limit_mean),
                    "limit_variance": ("layer", 4 * limit_variance),
                },
                {"layer": np.arange(effort["depth"] + 1)},
            )
            for name, variable in data.data_vars.items():
                status = "limit" if str(name).startswith("limit") else "exact"
                variable.attrs = {"status": status, "units": "nat"}
            found[str(width)] = data
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.2, 5.0))
        panels = picture.subplots(2, 1 + len(predictions), sharex=True)
        for column, ((width, exact), colour) in enumerate(zip(predictions.items(), PALETTE)):
            measured = results[width].isel(input=0)
            rows = {
                "mean": (2 * measured.log_norm_mean, 2 * measured.log_norm_mean_se),
                "variance": (4 * measured.log_norm_variance, 4 * measured.log_norm_variance_se),
            }
            for axes, last, (name, (value, error)) in zip(
                panels[:, column], panels[:, -1], rows.items()
            ):
                truth, limit = exact[name], exact[f"limit_{name}"]
                axes.plot(exact.layer, truth, STATUS_LINE["exact"], color=colour)
                axes.plot(exact.layer, limit, STATUS_LINE["limit"], color=colour)
                style = {"fmt": "o", "ms": 3, "lw": 0.9, "color": colour}
                axes.errorbar(measured.layer, value, 2 * error, **style)
                # The gap to the limit, in percent: layer 0 has none.
                here = limit.sel(layer=measured.layer)[1:]
                last.plot(
                    exact.layer[1:],
                    100 * (truth / limit - 1)[1:],
                    STATUS_LINE["exact"],
                    color=colour,
                    label=f"width {width}",
                )
                last.errorbar(
                    measured.layer[1:],
                    100 * (value[1:] / here - 1),
                    200 * error[1:] / np.abs(here),
                    **style,
                )
            panels[0, column].set_title(f"width {width}")
        panels[0, -1].set_title("what the rule misses")
        for axes, other in panels[:, :-1].T:
            axes.set_ylabel(r"$E\,\log |x_k|^2$")
            other.set_ylabel(r"$\mathrm{Var}\,\log |x_k|^2$")
        for axes in panels[1]:
            axes.set_xlabel("layer k")
        for axes in panels[:, -1]:
            axes.set_ylabel("exact / rule - 1, in %")
            axes.axhline(0, color="0.4", ls=STATUS_LINE["limit"], lw=0.9)
        handles, labels = panels[0, -1].get_legend_handles_labels()
        lines = [
            panels[0, 0].plot([], [], STATUS_LINE[status], color="0.2")[0]
            for status in ("exact", "limit")
        ]
        picture.legend(
            [*handles, *lines],
            [*labels, "exact", r"rule: $-\frac{5}{2} \sum 1/d$ and $5 \sum 1/d$"],
            ncols=4,
        )
        first = next(iter(results.values()))
        frame(
            picture,
            "The rule of five over the width is right to about 4% at width 100, and far off at 10",
            f"plain ReLU net, He, |x_0| = 1; {first.attrs['replicas']} networks, seed "
            f"{first.attrs['seed']}; given that the network is alive; bars of two standard errors",
            "The rule is Hanin and Nica's log-Gaussian limit. A layer of width d misses about "
            "4/d^2 in the mean and 20/d^2 in the variance, so that the error in percent depends "
            "on width alone, and the error itself grows with depth. Beyond the figures of "
            "Gurbuzbalaban and Hu.",
            legend_rows=1,
        )
        return picture
