"""Norm, gradient and cosine of every scheme, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from figures._base import Figure, Progress
from figures._style import STATUS_LINE, frame, styled
from figures.dynamical_isometry._laws import RIVALS, predicted
from sigprop.simulate import simulate

__all__ = ["Rivals"]

_PANELS = {
    "norm_moment_log": r"root mean square of $|h_l|/|h_0|$",
    "gradient_moment_log": r"root mean square of $|p_l|/|p_L|$",
    "cosine_mean": "cosine of two inputs' states",
}


@Figure.family.register("dynamical_isometry/rivals")
class Rivals(Figure):
    """The table of the baselines as curves: networks as points, theory as lines."""

    title: ClassVar[str] = "norm, gradient and cosine of all schemes side by side"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": width, "depth": depth, "networks": n, "cosine": -0.2, "seed": 0}
        for budget, width, depth, n in (
            ("smoke", 40, 12, 60),
            ("draft", 100, 30, 400),
            ("paper", 400, 50, 4000),
        )
    }

    def layers(self, budget: str) -> list[int]:
        depth = self.effort(budget)["depth"]
        return [int(layer) for layer in np.unique(np.linspace(0, depth, 13).round().astype(int))]

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        results = {}
        for done, (name, rival) in enumerate(RIVALS.items()):
            law = rival.ensemble(name, effort["depth"], effort["width"], effort["cosine"])
            fewer = 10 if name.startswith("risotto") else 1
            found = simulate(
                law,
                ["norm", "gradient", "separability"],
                replicas=max(4, effort["networks"] // fewer),
                seed=effort["seed"],
                layers=self.layers(budget),
                orders=[2.0],
                quantiles=[],
                workers=workers,
            )
            kept = [f"{name}{end}" for name in _PANELS for end in ("", "_se")]
            results[name] = found[kept].isel(pair=0, input=0, order=0, drop=True)
            if progress is not None:
                progress(done + 1, len(RIVALS))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        out = {}
        for name, rival in RIVALS.items():
            law = rival.ensemble(name, effort["depth"], effort["width"], effort["cosine"])
            found = predicted(law, self.layers(budget), tuple(_PANELS))
            for variable in found.data_vars.values():
                status = variable.attrs.get("status")
                if isinstance(status, (list, tuple, np.ndarray)):
                    variable.attrs["status"] = str(status[0])
            out[name] = found[list(_PANELS)].assign_attrs(width=effort["width"])
            out[name].attrs["cosine"] = effort["cosine"]
        return out

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(10.2, 4.0))
        handles: list[Any] = []
        panels = picture.subplots(1, 3)
        for name, rival in RIVALS.items():
            look: dict[str, Any] = {"color": rival.colour, "marker": "o", "ms": 3.2, "ls": ""}
            for axes, variable in zip(panels, _PANELS):
                measured, theory = results[name], predictions[name][variable]
                value, error = measured[variable], 2 * measured[f"{variable}_se"]
                line = theory
                if variable != "cosine_mean":  # a root mean square, of the log of a square
                    value, line = (xr.apply_ufunc(np.exp, x / 2) for x in (value, line))
                    error = value * error / 2
                axes.errorbar(measured.layer, value, error, elinewidth=0.9, **look)
                style = STATUS_LINE[str(theory.attrs["status"])]
                axes.plot(theory.layer, line, style, color=rival.colour)
            handles.append(Line2D([], [], label=rival.label, **look))
        for axes, (variable, words) in zip(panels, _PANELS.items()):
            axes.set_title(words)
            axes.set_xlabel("residual block $l$")
            if variable != "cosine_mean":
                axes.set_yscale("log")
        panels[1].set_xlabel("residual block $l$ (the gradient enters at the right)")
        handles.append(Line2D([], [], color="#555555", label="theory, exact"))
        handles.append(Line2D([], [], color="#555555", ls="--", label="theory, limit of width"))
        picture.legend(handles=handles, ncols=5)
        attrs, shape = results["he"].attrs, predictions["he"].attrs
        setting = (
            f"ReLU, width {shape['width']}, two matrices a branch (NF: three); blocks h + αF(h) "
            f"(NF: full pre-activation; last two: type C); {attrs['replicas']} networks "
            f"({results['risotto_projection'].attrs['replicas']} of RISOTTO), seed {attrs['seed']}"
        )
        caption = (
            "The baselines of Gadhikar and Burkholz (2022), arXiv:2210.02411. End to end, forward "
            "and backward agree but for NF-ResNet, whose gradient outgrows its signal. A scheme "
            "that is the identity keeps everything because it computes nothing yet; RISOTTO keeps "
            "norms and gradients and has its branches on. Its raw cosine is that behind the first "
            "ReLU. Bars: two standard errors, of heavy tails where curves explode."
        )
        title = "Norm, gradient and angle, scheme by scheme"
        frame(picture, title, setting, caption, legend_rows=2)
        return picture
