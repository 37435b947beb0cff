"""Figure 7: the regimes over (beta, H), for weights that follow fractional Gaussian noise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory import contour_exponent
from figures._base import Figure, Progress
from figures._style import STATUS_LINE, frame, styled
from figures.scaling_resnets._against_depth import RATIO
from figures.scaling_resnets._cases import predicted
from figures.scaling_resnets._grid import at_the_ends
from sigprop.inputs import Equiangular
from sigprop.processes import FractionalGaussianNoise, LegacyFractionalGaussianNoise
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network
from sigprop.sweep import sweep

__all__ = ["HeatMap"]

_QUANTITIES = ("displacement", "gradient_displacement")
_PROCESS = {"right": FractionalGaussianNoise, "published": LegacyFractionalGaussianNoise}
_THEORY = (*_PROCESS, "deep")
_LINES = {  # of each curve: colour, dashes, name
    "measured": ("#000000", "-", "measured: mean of log₁₀ is 0"),
    "right": (
        "#000000",
        STATUS_LINE["limit"],
        "mean field, limit of great width: mean square is 1",
    ),
    "published": ("#7a5195", ":", "mean field for the noise of the published code"),
    "deep": ("#e69f00", STATUS_LINE["conjecture"], "critical exponent at infinite depth"),
}


def _spaced(start: float, stop: float, count: int) -> list[float]:
    return [round(float(x), 6) for x in np.linspace(start, stop, count)]


@Figure.family.register("scaling_resnets/fig07")
class HeatMap(Figure):
    """Mean of log10 of both displacements over beta and H, width 40, depth 1000."""

    title: ClassVar[str] = "both displacements over (beta, H), fractional noise along depth"
    version: ClassVar[int] = 2  # contours to 1e-5
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": 40,
            "depth": 1000,
            "betas": betas,
            "hurst": hurst,
            "contour_hurst": contour,
            "networks": networks,
            "inputs": inputs,
            "cosine": 0.75,
            "seed": 0,
        }
        for budget, betas, hurst, contour, networks, inputs in (
            (
                "smoke",
                _spaced(0, 1.3, 27),
                [0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97],
                [0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97],
                2,
                2,
            ),
            ("draft", _spaced(0, 1.3, 40), _spaced(0.05, 0.97, 24), _spaced(0.05, 0.97, 24), 2, 4),
            ("paper", _spaced(0, 1.3, 70), _spaced(0.05, 0.97, 51), _spaced(0.05, 0.97, 24), 5, 10),
        )
    }

    def ensemble(self, budget: str, hurst: float, beta: float, process: str = "right") -> Ensemble:
        """Return the law of one cell; ``process`` is ``right`` or ``published``."""
        effort = self.effort(budget)
        return Ensemble(
            Network(depth=effort["depth"], width=effort["width"]),
            Power(beta=beta, process=_PROCESS[process](hurst=hurst)),
            Equiangular(count=effort["inputs"], cosine=effort["cosine"]),
        )

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        swept = sweep(
            functools.partial(self.ensemble, budget),
            {"hurst": effort["hurst"], "beta": effort["betas"]},
            ["displacement", "gradient"],
            replicas=effort["networks"],
            seed=effort["seed"],
            orders=[],
            quantiles=[],
            workers=workers,
            progress=progress,
        )
        names = [f"log_{q}_mean{end}" for q in _QUANTITIES for end in ("", "_se")]
        size = {name: effort[name] for name in ("width", "depth", "inputs")}
        return {"ratio": at_the_ends(swept[names]).assign_attrs(size)}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        hurst, depth = (self.effort(budget)[name] for name in ("contour_hurst", "depth"))
        table = xr.Dataset(coords={"hurst": hurst})
        for process in _PROCESS:
            for quantity in _QUANTITIES:
                betas = [
                    contour_exponent(_PROCESS[process](hurst=h), depth, quantity) for h in hurst
                ]
                attrs = {
                    "status": "limit",
                    "units": "1",
                    "long_name": f"beta where E {quantity}^2 = 1",
                }
                table[f"{quantity}_{process}"] = ("hurst", betas, attrs)
        for quantity, case in zip(_QUANTITIES, ("state", "gradient")):
            exponents = [predicted(case, h) for h in hurst]
            attrs = {"status": "conjecture", "units": "1", "long_name": "critical exponent"}
            table[f"{quantity}_deep"] = ("hurst", exponents, attrs)
        return {"contour": table}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        measured, theory = results["ratio"], predictions["contour"]
        picture = Picture(figsize=(9.6, 5.1))
        *panels, side = picture.subplots(1, 3, width_ratios=[1, 1, 0.04])
        for axes, quantity in zip(panels, _QUANTITIES):
            decades = (measured[f"log_{quantity}_mean"].mean("input") / np.log(10)).T
            x, y = measured.hurst, measured.beta
            mesh = axes.pcolormesh(
                x, y, decades, cmap="RdBu_r", vmin=-1, vmax=1, shading="nearest", rasterized=True
            )
            colour, dashes, _ = _LINES["measured"]
            axes.contour(x, y, decades, [0.0], colors=colour, linestyles=dashes, linewidths=1.1)
            for curve, values in theory[[f"{quantity}_{name}" for name in _THEORY]].items():
                colour, dashes, _ = _LINES[str(curve).rpartition("_")[2]]
                axes.plot(theory.hurst, values, dashes, color=colour, lw=1.6)
            axes.set_title(f"mean of log₁₀ {RATIO[quantity]}")
            axes.set_xlabel("Hurst index $H$ of the weights along depth")
            axes.set_ylabel(r"$\beta$, branch $L^{-\beta}$")
            axes.text(0.5, 0.15, "explosion", color="w", weight="bold", ha="center")
            axes.text(0.25, 1.1, "identity", color="w", weight="bold", ha="center")
            axes.grid(False)
        picture.colorbar(mesh, cax=side, extend="both", label="decades")
        picture.legend(
            handles=[Line2D([], [], color=c, ls=d, label=label) for c, d, label in _LINES.values()],
            ncols=2,
        )
        attrs = measured.attrs
        setting = (
            f"res3, ReLU, width {attrs['width']}, depth {attrs['depth']}, fractional Gaussian "
            f"noise in both matrices; {attrs['replicas']} networks for each H, shared by all β, "
            f"with {attrs['inputs']} inputs each; seed {attrs['seed']}, sampler {attrs['sampler']}"
        )
        caption = (
            "After Figure 7 of Marion, Fermanian, Biau and Vert (2022); colours end at one decade. "
            "The laws at one H share their networks, so noise runs along columns. A map at one "
            "depth does not show where the critical exponent is: at L = 1000 the contour of the "
            "state lies up to 0.1 below it. At large H the gradient of a narrow net has a part of "
            "weight 1 / width that follows the state, and which mean field leaves out. Erratum: "
            "the published noise is wrong at large H, which moved the contour."
        )
        title = "The more weights persist along depth, the smaller the branches must be"
        frame(picture, title, setting, caption, legend_rows=2)
        return picture
