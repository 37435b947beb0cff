"""The ratio |h_L - h_0| / |h_0|, or its twin for the gradient, against the depth, one panel a beta.

Figures 1, 3, 4 and 5 of the paper are of this kind. The ratio of a network is a random number; the
paper plots its mean over networks, and so do we, with two standard errors. What theory knows is
its root mean square; the mean is a little below, and much where tails are heavy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.theory import (
    displacement_relative_variance,
    log_displacement_mean_square,
    log_gradient_displacement_mean_square,
)
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from figures.scaling_resnets._grid import at_the_ends, predicted
from sigprop.inputs import Point
from sigprop.processes import Independent
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network, Process
from sigprop.sweep import sweep

__all__ = ["DEPTHS", "RATIO", "AgainstDepth"]

DEPTHS = [int(depth) for depth in np.linspace(10, 1000, 10)]
RATIO = {
    "displacement": r"$|h_L-h_0|\,/\,|h_0|$",
    "gradient_displacement": r"$|p_0-p_L|\,/\,|p_L|$",
    "norm": r"$|h_L|\,/\,|h_0|$",
    "gradient": r"$|p_0|\,/\,|p_L|$",
}
_OBSERVABLE = {"displacement": "displacement", "gradient_displacement": "gradient"}
_BETWEEN = [15, 20, 30, 45, 70]  # depths at which theory is drawn beside those of the effort
_STATUS = {
    ("root_mean_square", "exact"): "root mean square: exact",
    ("root_mean_square", "limit"): "root mean square: limit of infinite width (mean field)",
    ("root_mean_square", "approximation"): (
        "root mean square: mean field, and the part of weight 1 / width that follows the state"
    ),
    ("mean", "approximation"): (
        "mean: approximation, log-normal of the exact second and fourth moments"
    ),
}


class AgainstDepth(Figure):
    """Base: block res3, ReLU, width 40; weights that follow one process or another.

    Class attributes
    ----------------
    quantity : str
        ``displacement`` or ``gradient_displacement``.
    critical : float
        The beta that keeps the ratio of order 1.
    processes : mapping of str to Process
        What weights follow along depth.
    labels : sequence of str
        What the processes are called in the legend.
    statuses : mapping
        The numbers of `numbers`, and how far each can be trusted.
    headline, caption, weights : str
        What stands above and below the panels, and what the setting says of the weights.
    """

    quantity: ClassVar[str]
    critical: ClassVar[float] = 0.5
    processes: ClassVar[Mapping[str, Process]] = {"independent": Independent()}
    labels: ClassVar[tuple[str, ...]] = ("mean of networks",)
    statuses: ClassVar[Mapping[str, str]] = {"root_mean_square": "exact", "mean": "approximation"}
    headline: ClassVar[str]
    caption: ClassVar[str]
    weights: ClassVar[str] = "Gaussian weights independent along depth"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": 40,
            "betas": [1.0, 0.25, 0.5],
            "depths": DEPTHS,
            "networks": networks,
            "seed": 0,
        }
        for budget, networks in (("smoke", 400), ("draft", 2000), ("paper", 10_000))
    }

    def ensemble(self, budget: str, process: str, beta: float, depth: int) -> Ensemble:
        """Return the law at one point of the figure; ``process`` is a name."""
        effort = self.effort(budget)
        network = Network(depth=depth, width=effort["width"])
        return Ensemble(network, Power(beta=beta, process=self.processes[process]), Point())

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        swept = sweep(
            functools.partial(self.ensemble, budget),
            self._axes(effort, effort["depths"]),
            _OBSERVABLE[self.quantity],
            replicas=effort["networks"],
            seed=effort["seed"],
            workers=workers,
            progress=progress,
        )
        return {"ratio": at_the_ends(swept).isel(input=0).assign_attrs(width=effort["width"])}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        axes = self._axes(effort, sorted({*effort["depths"], *_BETWEEN}))

        def point(**corner: Any) -> dict[str, float]:
            return self.numbers(self.ensemble(budget, **corner))

        return {"ratio": predicted(axes, point, self.statuses)}

    def _axes(self, effort: Mapping[str, Any], depths: list[int]) -> dict[str, list[Any]]:
        return {"process": list(self.processes), "beta": effort["betas"], "depth": depths}

    def numbers(self, law: Ensemble) -> dict[str, float]:
        """The numbers of `statuses` for one law."""
        square = {
            "displacement": lambda: log_displacement_mean_square(law)[-1],
            "gradient_displacement": lambda: log_gradient_displacement_mean_square(law)[0],
        }[self.quantity]()
        # For Gaussian weights the gradient's ratio has the law of the state's, and fourth
        # moments cost O(depth) when asked for that way.
        spread = displacement_relative_variance(law)[-1]
        root = float(np.exp(square / 2))
        # If log X is normal, E X = (E X^2)^(1/2) (E X^4 / (E X^2)^2)^(-1/8); for any X it is so
        # to first order in the relative variance of X^2.
        return {"root_mean_square": root, "mean": root * float(1 + spread) ** -0.125}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured, theories = results["ratio"], predictions["ratio"]
        picture = Picture(figsize=(9.6, 3.6))
        panels = picture.subplots(1, measured.sizes["beta"])
        count = measured.sizes["process"]
        for axes, beta in zip(panels, measured.beta.values):
            for index in range(count):
                lines = theories.isel(process=index).sel(beta=beta)
                for name in theories.data_vars:
                    line = STATUS_LINE[theories[name].attrs["status"]]
                    colour = THEORY if count == 1 else PALETTE[index]
                    axes.plot(lines.depth, lines[name], line, color=colour)
                few = measured.isel(process=index).sel(beta=beta)
                _paint_networks(axes, few, self.quantity, PALETTE[index], bar=7 - 3 * index)
            side = int(np.sign(beta - self.critical))
            regime = {-1: "explosion", 0: "stable", 1: "identity"}[side]
            axes.set_title(rf"$\beta$ = {beta:g}: {regime}")
            axes.set_xlabel("depth $L$")
            if side:
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
        panels[0].set_ylabel(f"mean of {RATIO[self.quantity]}")
        picture.legend(handles=self._legend(), ncols=2)
        setting = (
            f"res3, ReLU, width {measured.attrs['width']}, {self.weights}, "
            rf"branch $L^{{-\beta}}$; {measured.attrs['replicas']} networks a point, "
            f"seed {measured.attrs['seed']}, sampler {measured.attrs['sampler']}"
            + ", one set of random numbers for all laws"
            * bool(measured.attrs["coupled"])
        )
        frame(picture, self.headline, setting, self.caption, legend_rows=2)
        return picture

    def _legend(self) -> list[Any]:
        bars: list[Any] = [
            Line2D(
                [], [], color=colour, marker="o", ms=3, ls="", label=f"{label} ± 2 standard errors"
            )
            for colour, label in zip(PALETTE, self.labels)
        ]
        lines = [
            Line2D([], [], color=THEORY, ls=STATUS_LINE[status], label=_STATUS[name, status])
            for name, status in self.statuses.items()
        ]
        spread = Patch(color="#555555", alpha=0.3, lw=0, label="middle 90% of networks")
        return [*bars, spread, *lines] if len(bars) == 1 else [*bars, *lines, spread]


def _paint_networks(
    axes: Axes, measured: xr.Dataset, quantity: str, colour: str, bar: float
) -> None:
    """Draw the mean ratio with two standard errors, and the middle 90% of networks."""
    log = measured[f"{quantity}_moment_log"].sel(order=1)
    error = measured[f"{quantity}_moment_log_se"].sel(order=1)
    low, high = (np.exp(measured[f"log_{quantity}_quantile"].sel(quantile=q)) for q in (0.05, 0.95))
    x = measured.depth
    axes.vlines(x, low, high, color=colour, alpha=0.25, lw=bar)
    gaps = np.exp(log) - np.exp(log - 2 * error), np.exp(log + 2 * error) - np.exp(log)
    axes.errorbar(x, np.exp(log), gaps, fmt="o", ms=3, color=colour, elinewidth=1.3, capsize=2)
