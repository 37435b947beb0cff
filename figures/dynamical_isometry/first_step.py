"""How far the first step of training moves the function, against depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory import log_first_step
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.inputs import Point
from sigprop.schemes import Fixup, ReZero, SkipInit
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network, Scheme

__all__ = ["FirstStep"]

_SCHEMES: dict[str, tuple[str, Scheme]] = {
    "unscaled": ("last matrix 0, others He", Fixup(variant="unscaled")),
    "fixup": ("Fixup: the others times depth$^{-1/2}$", Fixup()),
    "skipinit": ("SkipInit, ReZero: branch coefficient 0", SkipInit()),
    "rezero": ("branch coefficient 0.1", ReZero(initial=0.1)),
}


@Figure.family.register("dynamical_isometry/first_step")
class FirstStep(Figure):
    """Mean |df| over the step size: flat for Fixup, linear for what does not know its depth."""

    title: ClassVar[str] = "first-step change of the function against depth"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"width": 30, "inner_width": 18, "depths": [5, 20], "networks": 60, "seed": 0},
        "draft": {
            "width": 50, "inner_width": 30, "depths": [5, 10, 20, 40, 80],
            "networks": 100, "seed": 0,
        },
        "paper": {
            "width": 100, "inner_width": 60, "depths": [5, 10, 20, 40, 80, 160, 320],
            "networks": 400, "seed": 0,
        },
    }  # fmt: skip

    def ensemble(self, budget: str, name: str, depth: int) -> Ensemble:
        """Return the law of one point."""
        effort = self.effort(budget)
        shape = {"width": effort["width"], "inner_width": effort["inner_width"]}
        return Ensemble(Network(depth=depth, **shape), _SCHEMES[name][1], Point())

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        rows, attrs = [], {}
        for done, name in enumerate(_SCHEMES):
            points = []
            for depth in effort["depths"]:
                found = simulate(
                    self.ensemble(budget, name, depth),
                    ["first_step"],
                    replicas=effort["networks"],
                    seed=effort["seed"],
                    layers=[depth],
                    orders=[1.0],
                    quantiles=[],
                    workers=workers,
                )
                kept = [f"first_step_moment_log{end}" for end in ("", "_se")]
                points.append(found[kept].isel(order=0, input=0, layer=0, drop=True))
                attrs = {key: found.attrs[key] for key in ("replicas", "seed", "sampler")}
            rows.append(xr.concat(points, xr.Variable("depth", effort["depths"]), coords="minimal"))
            if progress is not None:
                progress(done + 1, len(_SCHEMES))
        table = xr.concat(rows, xr.Variable("scheme", list(_SCHEMES)), coords="minimal")
        shape = {key: effort[key] for key in ("width", "inner_width")}
        return {"change": table.drop_attrs().assign_attrs(**attrs, **shape)}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        depths = self.effort(budget)["depths"]
        values = [
            [float(log_first_step(self.ensemble(budget, name, depth))[-1]) for depth in depths]
            for name in _SCHEMES
        ]
        about = {"status": "exact", "units": "nat"}
        table = xr.Dataset(coords={"scheme": list(_SCHEMES), "depth": depths})
        table["log_mean"] = (("scheme", "depth"), np.array(values), about)
        return {"change": table}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured, theory = results["change"], predictions["change"]
        picture = Picture(figsize=(6.4, 4.4))
        axes = picture.subplots()
        handles: list[Any] = []
        for (name, (label, _)), colour in zip(_SCHEMES.items(), PALETTE):
            row = measured.sel(scheme=name)
            value = np.exp(row.first_step_moment_log)
            look: dict[str, Any] = {"color": colour, "marker": "o", "ms": 4, "ls": ""}
            axes.errorbar(row.depth, value, 2 * value * row.first_step_moment_log_se, **look)
            line = np.exp(theory.log_mean.sel(scheme=name))
            axes.plot(theory.depth, line, STATUS_LINE["exact"], color=colour)
            handles.append(Line2D([], [], label=label, **look))
        handles.append(Line2D([], [], color=THEORY, label="theory, exact"))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("depth $L$")
        axes.set_ylabel(r"$E|\Delta f|\,/\,(\eta\,|h_0|^2 |p_L|^2)$")
        picture.legend(handles=handles, ncols=2)
        attrs = measured.attrs
        setting = (
            f"res3, ReLU, width {attrs['width']}, hidden {attrs['inner_width']}; one gradient step "
            f"on f = p·h_L, small η; {attrs['replicas']} networks a point, seed {attrs['seed']}"
        )
        caption = (
            "Beyond Gadhikar and Burkholz (2022). All are the identity, or near it, at "
            "initialisation; they differ in what the first step does. Fixup's scaling makes it "
            "independent of depth, its goal; without the scaling, or with a coefficient that "
            "starts at 0, it grows in proportion to depth. Biases, stem and read-out are not "
            "trained. Bars: 2 standard errors."
        )
        frame(picture, "How far the first step goes", setting, caption, legend_rows=3)
        return picture
