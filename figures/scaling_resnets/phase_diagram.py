"""Beyond the paper: the regimes in the plane of beta and H, by name, and networks as a check."""

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

from figures._base import Figure, Progress
from figures._style import STATUS_LINE, THEORY, frame, styled
from figures.scaling_resnets._cases import CASES, predicted, share
from figures.scaling_resnets._grid import at_the_ends
from sigprop.inputs import Point
from sigprop.processes import FractionalGaussianNoise
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network
from sigprop.sweep import sweep

__all__ = ["PhaseDiagram"]

_IDENTITY, _EXPLOSION = "#0b5394", "#b03a2e"
_HIGHEST = 1.1


@Figure.family.register("scaling_resnets/phase_diagram")
class PhaseDiagram(Figure):
    """Identity, stable, explosion: predicted boundaries, and whether networks grow with depth."""

    title: ClassVar[str] = "beyond the paper: the regimes in the plane of beta and H"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": 40,
            "hurst": hurst,
            "betas": betas,
            "depths": depths,
            "networks": networks,
            "seed": 0,
        }
        for budget, hurst, betas, depths, networks in (
            ("smoke", [0.1, 0.35, 0.6, 0.85], [0.15, 0.3, 0.5, 0.7, 0.9], [64, 256], 6),
            (
                "draft",
                [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95],
                [0.2, 0.35, 0.5, 0.65, 0.8, 0.95],
                [128, 512],
                16,
            ),
            (
                "paper",
                [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95],
                [0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95],
                [256, 2048],
                32,
            ),
        )
    }

    def ensemble(self, budget: str, block: str, hurst: float, depth: int, beta: float) -> Ensemble:
        """Return the law of one marker."""
        width = self.effort(budget)["width"]
        return Ensemble(
            Network(depth=depth, width=width, block=block),
            Power(beta=beta, process=FractionalGaussianNoise(hurst=hurst)),
            Point(),
        )

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        results = {}
        blocks = ("res3", "res1")
        for index, block in enumerate(blocks):
            swept = sweep(
                functools.partial(self.ensemble, budget, block),
                {name: effort[name + "s"] if name != "hurst" else effort[name]
                 for name in ("hurst", "depth", "beta")},
                ["displacement", "gradient"],
                replicas=effort["networks"],
                seed=effort["seed"],
                orders=[],
                quantiles=[],
                workers=workers,
                progress=share(progress, index, len(blocks)),
            )  # fmt: skip
            ends = at_the_ends(swept).isel(input=0, drop=True)
            names = [f"log_{q}_mean{end}" for q in ("displacement", "gradient_displacement")
                     for end in ("", "_se")]  # fmt: skip
            results[block] = ends[names].assign_attrs(width=effort["width"])
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        hurst = np.linspace(0.0, 1.0, 101)[1:-1]
        table = xr.Dataset(coords={"hurst": hurst})
        for name in CASES:
            attrs = {"status": "conjecture", "units": "1", "long_name": "critical beta"}
            table[name] = ("hurst", [predicted(name, h) for h in hurst], attrs)
        return {"critical": table}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        theory = predictions["critical"]
        picture = Picture(figsize=(10.2, 4.7))
        for axes, (name, case) in zip(picture.subplots(1, 3), CASES.items()):
            critical = theory[name]
            axes.fill_between(theory.hurst, critical, _HIGHEST, color=_IDENTITY, alpha=0.14, lw=0)
            axes.fill_between(theory.hurst, 0, critical, color=_EXPLOSION, alpha=0.14, lw=0)
            axes.plot(theory.hurst, critical, STATUS_LINE["conjecture"], color=THEORY, lw=1.6)
            _paint_growth(axes, results[case.block], case.quantity)
            axes.text(0.04, 1.04, "IDENTITY", color=_IDENTITY, weight="bold", va="center")
            axes.text(0.96, 0.02, "EXPLOSION", color=_EXPLOSION, weight="bold", ha="right")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, _HIGHEST)
            axes.set_title(f"{case.title}: {case.formula}")
            axes.set_xlabel("Hurst index $H$ of the weights along depth")
            axes.set_ylabel(r"$\beta$, branch $L^{-\beta}$")
            axes.grid(False)
        _name_limits(picture.axes)
        measured = results["res3"]
        low, high = (int(depth) for depth in measured.depth)
        picture.legend(
            handles=[
                Line2D([], [], color=THEORY, ls=STATUS_LINE["conjecture"],
                       label="critical: STABLE, of order 1 at every depth (predicted)"),
                Patch(color=_IDENTITY, alpha=0.14, lw=0, label="vanishes with depth (predicted)"),
                Patch(color=_EXPLOSION, alpha=0.14, lw=0, label="grows with depth (predicted)"),
                Line2D([], [], color=_EXPLOSION, marker="^", ls="", ms=5,
                       label=f"networks: larger at L = {high} than at {low}"),
                Line2D([], [], color=_IDENTITY, marker="v", ls="", ms=5,
                       label=f"networks: smaller at L = {high}"),
                Line2D([], [], color="#555555", marker="o", mfc="w", ls="", ms=4,
                       label="networks: within 2 standard errors"),
            ],
            ncols=3,
        )  # fmt: skip
        attrs = measured.attrs
        setting = (
            f"what the displacement does as depth grows; ReLU, weights follow fractional Gaussian "
            f"noise; networks of width {attrs['width']}, {attrs['replicas']} a point; "
            f"seed {attrs['seed']}, sampler {attrs['sampler']}"
        )
        caption = (
            "Beyond Marion, Fermanian, Biau and Vert (2022). Boundaries are those of infinite "
            "width, then infinite depth. Markers compare two finite depths, where the boundary is "
            "elsewhere near corners; and at small H a narrow block of the right panel grows less "
            "than one of infinite width. On the critical line the network tends to an equation in "
            "continuous time, named where it is known."
        )
        frame(picture, "Identity, stable, explosion", setting, caption, legend_rows=2)
        return picture


def _paint_growth(axes: Axes, measured: xr.Dataset, quantity: str) -> None:
    """One marker a law: whether the mean logarithm is larger at the greater depth."""
    log, error = measured[f"log_{quantity}_mean"], measured[f"log_{quantity}_mean_se"]
    change = log.isel(depth=-1) - log.isel(depth=0)
    doubt = 2 * np.hypot(error.isel(depth=-1), error.isel(depth=0))
    for chosen, marker, colour, fill in (
        (change > doubt, "^", _EXPLOSION, _EXPLOSION),
        (change < -doubt, "v", _IDENTITY, _IDENTITY),
        (abs(change) <= doubt, "o", "#555555", "w"),
    ):
        hurst, beta = xr.broadcast(change.hurst, change.beta)
        places = chosen.transpose(*hurst.dims).values
        axes.plot(hurst.values[places], beta.values[places], marker, color=colour, mfc=fill, ms=5)


def _name_limits(panels: list[Axes]) -> None:
    """The equations in continuous time that hold on the critical line."""
    arrow = {"arrowstyle": "-", "lw": 0.6, "color": THEORY}
    state, _, res1 = panels
    for axes, words, point, place in (
        (state, "Itô SDE", (0.5, 0.5), (0.27, 0.56)),
        (state, "ODE", (0.99, 0.99), (0.8, 1.04)),
        (res1, "Itô SDE", (0.5, 0.5), (0.27, 0.56)),
        (res1, "Young equation", (0.72, 0.72), (0.68, 0.56)),
        (res1, "ODE", (0.99, 0.99), (0.8, 1.04)),
    ):
        box = {"boxstyle": "square,pad=0.15", "fc": "w", "alpha": 0.85, "lw": 0}
        axes.annotate(words, point, place, arrowprops=arrow, size=7.5, color=THEORY, bbox=box)
