"""Beyond the paper: moments of several orders against depth, and which estimators see them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.log_normal import log_norm_moment
from figures._base import Figure, Progress
from figures._style import PALETTE, THEORY, frame, styled
from figures.fractional_moments._plain import PAPER, ensemble
from sigprop.moment import estimate_moment

__all__ = ["MomentsByDepth"]

_KEPT = 1.0
_ORDERS = (0.5, 1.0, 1.5, 2.0)
_METHODS = ("plain", "tilt", "population")


@Figure.family.register("fractional_moments/moments_by_depth")
class MomentsByDepth(Figure):
    """log10 E|x_k|^r against k at width 100 where E|x| is kept: exact and estimated."""

    title: ClassVar[str] = "beyond the paper: moments against depth, and which estimators see them"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 100, "depth": depth, "networks": networks, "seed": 0}
        for budget, depth, networks in (
            ("smoke", 200, 400),
            ("draft", 1000, 4000),
            ("paper", 1000, 20_000),
        )
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        depth, networks = effort["depth"], effort["networks"]
        law = ensemble(depth, effort["width"], _KEPT)
        layers = np.linspace(0, depth, 11).astype(int).tolist()
        run: dict[str, Any] = {"seed": effort["seed"], "layers": layers, "workers": workers}
        found, total = {}, 2 * len(_ORDERS) + 1
        for order in _ORDERS:
            for method in ("plain", "tilt"):
                # A tilt a little off the order, so that there is an error to be seen.
                tilt: dict[str, Any] = {"tilt": 0.9 * order} if method == "tilt" else {}
                found[f"{method} {order:g}"] = estimate_moment(
                    law, order, method=method, replicas=networks, **tilt, **run
                )
                if progress is not None:
                    progress(len(found), total)
        # The same number of networks, in 20 populations whose spread is the error.
        found["population 2"] = estimate_moment(
            law, 2.0, method="population", population=networks // 20, replicas=20, **run
        )
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        law = ensemble(effort["depth"], effort["width"], _KEPT)
        data = xr.Dataset(
            {"log_moment": (("order", "layer"), [log_norm_moment(law, r) for r in _ORDERS])},
            {"order": list(_ORDERS), "layer": np.arange(effort["depth"] + 1)},
        )
        data.log_moment.attrs = {"status": "exact", "units": "nat"}
        return {"moments": data}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        exact = predictions["moments"]
        picture = Picture(figsize=(9.2, 3.8))
        panels = picture.subplots(1, len(_METHODS), sharey=True)
        titles = {
            "plain": "sample mean: misses what carries it",
            "tilt": "tilted networks, at 0.9 of the order",
            "population": "20 populations that split, order 2",
        }
        for axes, method in zip(panels, _METHODS):
            for r, colour in zip(exact.order.values, PALETTE):
                axes.plot(
                    exact.layer,
                    exact.log_moment.sel(order=r) / math.log(10),
                    color=colour,
                    label=f"r = {r:g}, exact" + (" (kept)" if r == _KEPT else ""),
                )
                key = f"{method} {r:g}"
                if key not in results:
                    continue
                measured = results[key].isel(order=0, input=0)
                place = measured.layer.values
                value = measured.norm_moment_log.values / math.log(10)
                error = 2 * measured.norm_moment_log_se.values / math.log(10)
                good = measured.norm_moment_reliable.values.astype(bool)
                axes.errorbar(
                    place[good], value[good], error[good], fmt="o", ms=3.5, color=colour, lw=0.8
                )
                axes.plot(place[~good], value[~good], "x", ms=5, color=colour)
            axes.set(xlabel="layer", title=titles[method])
        panels[0].set_ylabel(r"$\log_{10} E|x_k|^r$")
        handles, labels = panels[0].get_legend_handles_labels()
        (cross,) = panels[0].plot([], [], "x", color=THEORY)
        picture.legend([*handles, cross], [*labels, "fewer than 100 effective networks"], ncols=5)
        count = results["plain 2"].attrs["replicas"]
        frame(
            picture,
            "The moment that is kept stays flat; the others part, and plain means lose them",
            f"plain ReLU net, width 100, E|x| kept (s = 1); {count} networks for every point, seed "
            f"{results['plain 2'].attrs['seed']}; bars of two standard errors",
            f"The schemes of {PAPER}. Dots carry 100 effective networks or more, crosses fewer and "
            "no bar: there the number is of what was drawn, not of the law. Tilting and splitting "
            "draw the rare giants on purpose; twenty populations agree, but are few by this rule.",
            legend_rows=1,
        )
        return picture
