"""Figures 1, right, and 4: the standard deviation that keeps a moment, against width and order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled
from figures.fractional_moments._plain import PAPER, told
from sigprop.activations import ReLU
from sigprop.layer_factor import LayerFactor, preserving_scale

__all__ = ["Scale"]

_SCHEMES = (2.0, 1.5, 1.0, 0.5, 0.1)
_WIDTHS = (30, 40, 50)


@Figure.family.register("fractional_moments/fig04")
class Scale(Figure):
    """sigma - He against d = 30 .. 89, sigma against d = 1 .. 30, and against s."""

    title: ClassVar[str] = "the standard deviation that keeps E|x|^s, against width and s"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"orders": orders}
        for budget, orders in (("smoke", 20), ("draft", 60), ("paper", 200))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        """Nothing is measured: the scale is a formula."""
        return {}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        orders = np.linspace(0, 2, self.effort(budget)["orders"] + 1)[1:]
        wide, narrow = np.arange(30, 90), np.arange(1, 31)

        def scales(widths: np.ndarray, chosen: np.ndarray) -> np.ndarray:
            layers = [LayerFactor.of(ReLU(), int(d)) for d in widths]
            return np.array([[preserving_scale(x, float(s)) for x in layers] for s in chosen])

        data = xr.Dataset(
            {
                "excess": (("s", "wide"), scales(wide, np.array(_SCHEMES[1:])) ** 2 - 2 / wide),
                "narrow_scale": (("label", "narrow"), scales(narrow, np.array(_SCHEMES))),
                "scale": (("order", "width"), scales(np.array(_WIDTHS), orders)),
            },
            {
                "s": list(_SCHEMES[1:]),
                "label": list(_SCHEMES),
                "wide": wide,
                "narrow": narrow,
                "order": orders,
                "width": list(_WIDTHS),
            },
        )
        fit = np.polyfit(np.log(wide), np.log(data.excess.values.T), 1)
        data["slope"] = ("s", fit[0])
        for variable in data.data_vars.values():
            variable.attrs = {"status": "exact", "units": "1"}
        return {"scale": data}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        exact = predictions["scale"]
        picture = Picture(figsize=(9.2, 3.3))
        left, middle, right = picture.subplots(1, 3)
        for s, colour in zip(exact.label.values, PALETTE):
            middle.plot(
                exact.narrow,
                exact.narrow_scale.sel(label=s),
                STATUS_LINE["exact"],
                color=colour,
                label=told(float(s)),
            )
            if s < 2:
                excess = exact.excess.sel(s=s)
                left.plot(exact.wide, excess, STATUS_LINE["exact"], color=colour)
                left.annotate(
                    f"slope {float(exact.slope.sel(s=s)):.3f}",
                    (31, float(excess.sel(wide=31))),
                    xytext=(0, -15),
                    textcoords="offset points",
                    size=7,
                    color=colour,
                )
        left.set(xscale="log", yscale="log", xlabel="width d", ylabel=r"$\sigma^2 - 2/d$")
        left.set_xticks([30, 50, 80], ["30", "50", "80"])
        left.minorticks_off()
        middle.set(xlabel="width d", ylabel=r"$\sigma$", yscale="log")
        for width, style in zip(exact.width.values, ("-", "--", ":")):
            right.plot(
                exact.order,
                exact.scale.sel(width=width),
                style,
                color="#222222",
                label=f"d = {width}",
            )
        right.set(xlabel="order s", ylabel=r"$\sigma$")
        handles, labels = middle.get_legend_handles_labels()
        more, names = right.get_legend_handles_labels()
        picture.legend(handles + more, labels + names, ncols=8)
        frame(
            picture,
            "Keeping a lower moment takes weights larger than He's, by 1/d squared",
            "ReLU, Gaussian weights; exact at every width",
            f"After Figures 1, right, and 4 of {PAPER}. In theirs the curve labelled s = 2 is "
            "computed with s = 0.1; both are drawn here. At width 1 and s = 0.1 a layer is dead "
            "half of the time, and the scale that makes up for it is beyond the panel's others.",
            legend_rows=1,
        )
        return picture
