"""Beyond the paper: stable weights, log-norms by stability, and which moments live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.theory.stable_plain import log_alpha_norm_cumulants, log_alpha_norm_moment
from figures._base import Figure, Progress
from figures._style import PALETTE, THEORY, frame, styled
from sigprop.inputs import Point
from sigprop.laws import Stable
from sigprop.schemes import Fractional
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["HeavyWeights"]

_STABILITIES = (0.8, 1.2, 1.6, 1.95)
_KEPT = 0.5
_SHARES = (0.05, 0.95)
_NORMAL = 1.6448536269514722  # its quantile at 0.95


@Figure.family.register("fractional_moments/heavy_weights")
class HeavyWeights(Figure):
    """log|x_k|_alpha by alpha, at the end and against depth, and E|x|_alpha^r against r."""

    title: ClassVar[str] = "beyond the paper: stable weights, log-norms and the moments that live"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": 50, "depth": 100, "early": 10, "networks": networks, "seed": 0}
        for budget, networks in (("smoke", 256), ("draft", 4096), ("paper", 51_200))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        depth, early = effort["depth"], effort["early"]
        found = {}
        for alpha in _STABILITIES:
            found[f"{alpha:g}"] = simulate(
                _ensemble(effort, alpha),
                ["alpha_norm"],
                sampler="alpha_chain",
                replicas=effort["networks"],
                seed=effort["seed"],
                orders=_orders(alpha)[::3].tolist(),
                quantiles=list(_SHARES),
                layers=sorted({0, early, *range(0, depth + 1, 10)}),
                keep=[depth],
                workers=workers,
            )
            if progress is not None:
                progress(len(found), len(_STABILITIES))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found = {}
        for alpha in _STABILITIES:
            law = _ensemble(effort, alpha)
            mean, variance = log_alpha_norm_cumulants(law)
            orders = _orders(alpha)
            moments = [log_alpha_norm_moment(law, r)[effort["early"]] for r in orders.tolist()]
            data = xr.Dataset(
                {
                    "log_mean": ("layer", mean),
                    "log_variance": ("layer", variance),
                    "log_moment": ("order", moments),
                },
                {"layer": np.arange(len(mean)), "order": orders},
            )
            for variable in data.data_vars.values():
                variable.attrs = {"status": "exact", "units": "nat"}
            found[f"{alpha:g}"] = data.assign_attrs(stability=alpha, early=effort["early"])
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.2, 3.9))
        left, middle, right = picture.subplots(1, 3)
        for (name, exact), colour in zip(predictions.items(), PALETTE):
            measured, alpha = results[name].isel(input=0), exact.attrs["stability"]
            early = exact.attrs["early"]
            kept = measured.replica_log_alpha_norm.isel(kept_layer=-1).values
            mean, deviation = exact.log_mean.values, np.sqrt(exact.log_variance.values)
            alive = kept[np.isfinite(kept)]
            bins = mean[-1] + deviation[-1] * np.linspace(-4, 6, 41)
            left.hist(alive, bins, density=True, color=colour, alpha=0.35)
            x = mean[-1] + deviation[-1] * np.linspace(-4, 4, 121)
            z = (x - mean[-1]) / deviation[-1]
            left.plot(
                x, np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / deviation[-1], "--", color=colour
            )
            middle.plot(exact.layer, mean, color=colour, label=rf"$\alpha$ = {name}")
            for sign in (-1, 1):
                edge = mean + sign * _NORMAL * deviation
                middle.plot(exact.layer, edge, "--", color=colour, lw=0.8)
            middle.errorbar(
                measured.layer,
                measured.log_alpha_norm_mean,
                2 * measured.log_alpha_norm_mean_se,
                fmt="o",
                ms=2.5,
                lw=0.8,
                color=colour,
            )
            for share in measured["quantile"].values:
                middle.plot(
                    measured.layer,
                    measured.log_alpha_norm_quantile.sel(quantile=share),
                    "_",
                    ms=5,
                    color=colour,
                )
            right.plot(exact.order, exact.log_moment, color=colour)
            right.axvline(alpha, color=colour, ls=":", lw=0.9)
            there = measured.sel(layer=early)
            good = there.alpha_norm_moment_reliable.values.astype(bool)
            value, error = there.alpha_norm_moment_log, there.alpha_norm_moment_log_se
            right.errorbar(
                there.order[good],
                value[good],
                2 * error[good],
                fmt="o",
                ms=3,
                lw=0.8,
                color=colour,
            )
            right.plot(there.order[~good], value[~good], "x", ms=4.5, color=colour)
        left.set(xlabel=r"$\log |x_{100}|_\alpha$", ylabel="density", title="law at layer 100")
        middle.set(xlabel="layer", ylabel=r"$\log |x_k|_\alpha$", title="mean, 5% and 95% by layer")
        right.set(xlabel="order r", title=f"moments at layer {early}, up to order 0.95 $\\alpha$")
        right.set_ylabel(r"$\log E|x_k|_\alpha^r$")
        right.axhline(0, color=THEORY, lw=0.5)
        right.set_ylim(-2, 12)
        (limit,) = right.plot([], [], "--", color=THEORY)
        (cross,) = right.plot([], [], "x", color=THEORY)
        handles, labels = middle.get_legend_handles_labels()
        picture.legend(
            [*handles, limit, cross],
            [*labels, "normal limit", "fewer than 100 effective networks"],
            ncols=6,
        )
        first = results[next(iter(results))]
        frame(
            picture,
            "Heavy-tailed weights: the logarithm is tame, moments of order alpha and more are not",
            f"plain ReLU net, width 50, symmetric stable weights, E|x|^0.5 kept; "
            f"{first.attrs['replicas']} networks each, seed {first.attrs['seed']}",
            "Solid lines are exact, dots and dashes measured; bars of two standard errors. Norms "
            "are those of l_alpha, in which a layer is an independent factor. Dotted: the order "
            "alpha, from which on every moment is infinite, after one layer already; sample means "
            "miss the truth long before. Beyond the figures of Gurbuzbalaban and Hu.",
            legend_rows=1,
        )
        return picture


def _orders(alpha: float) -> np.ndarray:
    """Orders up to where moments are computed, evenly; every third one is measured."""
    return np.linspace(0.05, 0.95, 28) * alpha


def _ensemble(effort: Mapping[str, Any], alpha: float) -> Ensemble:
    network = Network(depth=effort["depth"], width=effort["width"], block="plain")
    return Ensemble(network, Fractional(s=_KEPT, law=Stable(stability=alpha)), Point())
