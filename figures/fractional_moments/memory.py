"""Beyond the paper: layers of res1 remember, and their log-norms vary more than each alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_gaussian import log_gaussian_residual
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.inputs import Point
from sigprop.schemes import GivenScheme
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["Memory"]


@Figure.family.register("fractional_moments/memory")
class Memory(Figure):
    """Variance of log|h_L|^2 against alpha in res1, width = depth = 100."""

    title: ClassVar[str] = "beyond the paper: res1 remembers, with and without the sum over lags"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"size": size, "alphas": alphas, "networks": networks, "seed": 0}
        for budget, size, alphas, networks in (
            ("smoke", 40, [0.0, 0.5, 0.9], 400),
            ("draft", 100, [0.0, 0.2, 0.4, 0.6, 0.8, 0.95], 800),
            ("paper", 100, np.linspace(0, 0.98, 15).round(2).tolist(), 10_000),
        )
    }

    def ensemble(self, budget: str, alpha: float) -> Ensemble:
        """Res1 with alpha^2 + lambda^2 = 1."""
        size = self.effort(budget)["size"]
        scheme = GivenScheme(
            skip=alpha,
            branch=math.sqrt(1 - alpha**2),
            variance=2.0,
            variance_over_fan_in=True,
        )
        return Ensemble(Network(depth=size, width=size, block="res1"), scheme, Point())

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        rows = []
        for done, alpha in enumerate(effort["alphas"], 1):
            result = simulate(
                self.ensemble(budget, alpha),
                ["norm"],
                replicas=effort["networks"],
                seed=effort["seed"],
                layers=[effort["size"]],
                workers=workers,
            )
            chosen = result.isel(layer=-1, input=0)
            names = ["log_norm_mean", "log_norm_mean_se", "log_norm_variance"]
            rows.append([float(chosen[name]) for name in [*names, "log_norm_variance_se"]])
            if progress is not None:
                progress(done, len(effort["alphas"]))
        columns = dict(zip(("mean", "mean_se", "variance", "variance_se"), np.array(rows).T))
        data = xr.Dataset(
            {name: ("alpha", values) for name, values in columns.items()},
            {"alpha": effort["alphas"]},
        )
        return {"res1": data.assign_attrs(replicas=effort["networks"], seed=effort["seed"])}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        alphas = np.linspace(0, 0.99, 67)
        found = {}
        for name, memory in (("memory", True), ("fresh", False)):
            ends = np.array(
                [
                    [
                        part[-1]
                        for part in log_gaussian_residual(self.ensemble(budget, a), memory=memory)
                    ]
                    for a in alphas
                ]
            )
            data = xr.Dataset(
                {"mean": ("alpha", ends[:, 0]), "variance": ("alpha", ends[:, 1])},
                {"alpha": alphas},
            )
            for variable in data.data_vars.values():
                variable.attrs = {"status": "limit" if memory else "approximation", "units": "nat"}
            found[name] = data.assign_attrs(size=self.effort(budget)["size"])
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured = results["res1"]
        picture = Picture(figsize=(8.2, 3.4))
        panels = picture.subplots(1, 2)
        labels = {
            "memory": "with the sum over lags: limit of width",
            "fresh": "as if every layer met a fresh state (Balanced ResNet)",
        }
        for axes, name, factor in zip(panels, ("mean", "variance"), (2, 4)):
            axes.errorbar(
                measured.alpha,
                factor * measured[name],
                2 * factor * measured[f"{name}_se"],
                fmt="o",
                ms=3.5,
                color=PALETTE[0],
                label="networks drawn, two standard errors",
            )
            for law, line in (("memory", STATUS_LINE["limit"]), ("fresh", ":")):
                axes.plot(
                    predictions[law].alpha,
                    factor * predictions[law][name],
                    line,
                    color=THEORY if law == "memory" else PALETTE[1],
                    label=labels[law],
                )
            axes.set(xlabel=r"skip coefficient $\alpha$", ylabel=rf"{name} of $\log |h_L|^2$")
        picture.legend(*panels[0].get_legend_handles_labels(), ncols=3)
        size = predictions["memory"].attrs["size"]
        frame(
            picture,
            "A state keeps what earlier branches gave it, and its log-norm varies the more",
            f"res1, ReLU, $\\alpha^2 + \\lambda^2 = 1$, width = depth = {size}; "
            f"{measured.attrs['replicas']} networks a point, seed {measured.attrs['seed']}",
            "Setting of Li, Nica and Roy (2021), beside the schemes of Gurbuzbalaban and Hu. The "
            "mean falls further too, since less than half of the units is active.",
            legend_rows=1,
        )
        return picture
