"""Figure 1, left: moments of the entries of a deep net, and what 500 networks see of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from scipy.special import gammaln

from analysis.theory.log_normal import log_norm_moment
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled
from figures.fractional_moments._plain import PAPER, ensemble, told
from sigprop.layer_factor import LayerFactor
from sigprop.simulate import simulate

__all__ = ["EntryMoments"]

_ORDERS = np.linspace(1, 3, 21)
_SCHEMES = (2.0, 1.5, 1.0, 0.5)


@Figure.family.register("fractional_moments/fig01")
class EntryMoments(Figure):
    """(mean |x_i|^q)^(1/q) over entries and networks against q, width 64, depth 500."""

    title: ClassVar[str] = "moments of entries at depth 500, and what 500 networks see of them"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 64, "depth": 500, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 500), ("draft", 500), ("paper", 500))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        result = simulate(
            ensemble(effort["depth"], effort["width"], 2.0),
            ["norm"],
            orders=_ORDERS.tolist(),
            replicas=effort["networks"],
            seed=effort["seed"],
            layers=[0, effort["depth"] - 1],
            workers=workers,
            progress=progress,
        )
        return {"norms": result}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """Exact curves, the factors between schemes, and what turns norms into entries."""
        effort = self.effort(budget)
        depth, width = effort["depth"], effort["width"]
        # E |phi(g)|^q of a standard normal, and sigma^q for the last layer.
        entry = _ORDERS / 2 * math.log(2) + gammaln((_ORDERS + 1) / 2) - gammaln(0.5) - math.log(2)
        he = float(ensemble(1, width, 2.0).table.scale[0, 0])
        last = (entry + _ORDERS * (math.log(he) + math.log(width) / 2)) / _ORDERS
        curves, factors, published = [], [], []
        for s in _SCHEMES:
            law = ensemble(depth, width, s)
            shift = math.log(float(law.table.scale[0, 0]) / he)
            moments = [log_norm_moment(law, q)[depth - 1] for q in _ORDERS]
            curves.append(np.array(moments) / _ORDERS + last + shift)
            factors.append(depth * shift)
            expanded = ensemble(depth, width, s, expansion="published").table.scale[0, 0]
            published.append(depth * math.log(float(expanded) / he))
        data = xr.Dataset(
            {
                "log_moment": (("s", "order"), np.array(curves)),
                "log_factor": ("s", np.array(factors)),
                "log_factor_published": ("s", np.array(published)),
                "log_entry": ("order", last),
            },
            {"s": list(_SCHEMES), "order": _ORDERS},
        )
        for variable in data.data_vars.values():
            variable.attrs = {"status": "exact", "units": "nat"}
        silence = LayerFactor.of(ensemble(1, width, 2.0).network.phi, width).silence
        return {"moments": data.assign_attrs(dead_probability=silence)}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured, exact = results["norms"], predictions["moments"]
        picture = Picture(figsize=(6.4, 3.9))
        axes = picture.subplots()
        last = measured.isel(layer=-1, input=0).norm_moment_log.sel(order=exact.order)
        for s, colour in zip(exact.s.values, PALETTE):
            shift = float(exact.log_factor.sel(s=s))
            seen = last / exact.order + exact.log_entry + shift
            axes.plot(exact.order, np.exp(seen), "o", ms=3, color=colour)
            axes.plot(
                exact.order,
                np.exp(exact.log_moment.sel(s=s)),
                STATUS_LINE["exact"],
                color=colour,
                label=f"{told(float(s))}: {np.exp(shift):.4g} x He, expansion "
                f"{float(np.exp(exact.log_factor_published.sel(s=s))):.4g} x",
            )
        axes.set_yscale("log")
        axes.set_xlabel("order q of the moment")
        axes.set_ylabel(r"$(E |x_i|^q)^{1/q}$ at the last layer")
        picture.legend(*axes.get_legend_handles_labels(), ncols=2)
        frame(
            picture,
            "Five hundred networks do not see the moments that a scheme preserves",
            f"plain ReLU net, width 64, depth 500; {measured.attrs['replicas']} networks (dots), "
            f"seed {measured.attrs['seed']}; lines: exact",
            f"After Figure 1, left, of {PAPER}. All schemes share one draw, so dots are exact "
            "multiples of one another. A square has a log-variance of 41 here: the dots "
            "are moments of what was drawn, the lines those of the law, and they part by orders "
            "of magnitude. Of the last layer, entries given the norm are averaged in closed form.",
            legend_rows=2,
        )
        return picture
