"""Order and chaos of plain nets: predicted depth scales, and whether gradients of networks grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory import phase_diagram
from figures._base import Figure, Progress
from figures._style import STATUS_LINE, THEORY, frame, styled
from figures.gallery.phases import paint
from sigprop.inputs import Point
from sigprop.schemes import GivenScheme
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["EdgeOfChaos"]

_ACTIVATIONS = ("tanh", "erf")
_BIASES = [0.02, 0.15, 0.3, 0.45]


@Figure.family.register("dynamical_isometry/edge_of_chaos")
class EdgeOfChaos(Figure):
    """The plane of variances: colour and edge predicted, markers from networks."""

    title: ClassVar[str] = "edge of chaos of plain nets, with networks as a check"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": width,
            "depth": depth,
            "weights": weights,
            "networks": networks,
            "mesh": mesh,
            "seed": 0,
        }
        for budget, width, depth, weights, networks, mesh in (
            ("smoke", 100, 16, [0.8, 1.6, 2.4, 3.2], 24, 12),
            ("draft", 300, 24, [0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0, 3.4], 32, 36),
            ("paper", 1000, 40, [0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6], 64, 70),
        )
    }

    def ensemble(self, budget: str, activation: str, weight: float, bias: float) -> Ensemble:
        """Return the law of one marker."""
        effort = self.effort(budget)
        shape = {"depth": effort["depth"], "width": effort["width"], "block": "plain"}
        scheme = GivenScheme(variance=weight, variance_over_fan_in=True, bias_variance=bias)
        return Ensemble(Network(activation=activation, **shape), scheme, Point())

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        weights, half = effort["weights"], effort["depth"] // 2
        results = {}
        for done, activation in enumerate(_ACTIVATIONS):
            rate = np.empty((len(weights), len(_BIASES), 2))
            for i, weight in enumerate(weights):
                for j, bias in enumerate(_BIASES):
                    # From the middle down: above it states have settled and gradients are of
                    # the fixed point.
                    found = simulate(
                        self.ensemble(budget, activation, weight, bias),
                        ["gradient"],
                        replicas=effort["networks"],
                        seed=effort["seed"],
                        layers=[half, effort["depth"]],
                        orders=[2.0],
                        quantiles=[],
                        workers=workers,
                    ).isel(order=0, input=0)
                    layers = effort["depth"] - half
                    for at, end in enumerate(("", "_se")):
                        rate[i, j, at] = found[f"gradient_moment_log{end}"][0] / layers
            data = xr.Dataset(coords={"weight_variance": weights, "bias_variance": _BIASES})
            for at, name in enumerate(("rate", "rate_se")):
                data[name] = (("weight_variance", "bias_variance"), rate[..., at])
            keep = ("width", "depth", "networks", "seed")
            results[activation] = data.assign_attrs({key: effort[key] for key in keep})
            if progress is not None:
                progress(done + 1, len(_ACTIVATIONS))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        mesh = self.effort(budget)["mesh"]
        axes = (np.linspace(0.2, 3.8, mesh), np.linspace(0.0, 0.5, mesh))
        out = {name: phase_diagram(name, *axes) for name in _ACTIVATIONS}
        for data in out.values():
            for variable in data.data_vars.values():
                variable.attrs.setdefault("status", "limit")
        return out

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 4.4))
        panels = picture.subplots(1, 2, sharey=True)
        mesh = None
        for axes, name in zip(panels, _ACTIVATIONS):
            mesh = paint(axes, predictions[name]) or mesh
            measured = results[name]
            weight, bias = xr.broadcast(measured.weight_variance, measured.bias_variance)
            doubt = 2 * measured.rate_se
            for chosen, marker, fill in (
                (measured.rate > doubt, "^", "w"),
                (measured.rate < -doubt, "v", "w"),
                (np.abs(measured.rate) <= doubt, "o", "w"),
            ):
                places = chosen.values
                axes.plot(
                    weight.values[places], bias.values[places], marker, color=THEORY, mfc=fill, ms=5
                )
            axes.set_title(name)
        panels[1].set_ylabel("")
        if mesh is not None:
            bar = picture.colorbar(mesh, ax=panels[-1], extend="both", pad=0.02)
            bar.set_label(r"depth scale $\xi_c$, layers (predicted)")
        open_marker: dict[str, Any] = {"color": THEORY, "mfc": "w", "ls": ""}
        edge = Line2D([], [], color=THEORY, ls=STATUS_LINE["limit"])
        edge.set_label("edge of chaos (predicted)")
        words = {"^": "gradients of networks grow", "v": "they shrink", "o": "within 2 errors"}
        marks = [Line2D([], [], marker=m, label=w, **open_marker) for m, w in words.items()]
        picture.legend(handles=[edge, *marks], ncols=4)
        attrs = results["tanh"].attrs
        setting = (
            f"plain nets with biases; networks of width {attrs['width']}, depth {attrs['depth']}, "
            f"{attrs['networks']} a point, seed {attrs['seed']}"
        )
        caption = (
            "Mean field of Poole et al. (2016) and Schoenholz et al. (2017), the setting in which "
            "Gadhikar and Burkholz (2022) judge residual nets. Left of the edge all inputs merge "
            "and gradients vanish, right of it alike inputs part and gradients explode; deeper "
            "than some depth scales a net says nothing of its input. Markers: the mean square of "
            "the gradient between the last layer and the middle one, where states have settled; "
            "2 standard errors."
        )
        frame(picture, "Order and chaos without skip connections", setting, caption, legend_rows=1)
        return picture
