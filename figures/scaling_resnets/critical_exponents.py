"""Beyond the paper: the critical exponent against H, fitted over depths, for states and gradients.

At the critical beta a displacement neither grows nor vanishes with depth. Beside it, it goes like
L^(beta_c - beta), so an exponent fitted over depths at one beta, plus that beta, is beta_c. No
single depth tells it: at L = 1000 the zero contour of Figure 7 is still 0.1 away.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from scipy.optimize import root_scalar

from analysis.fit import fit_power_law
from analysis.theory.mean_field import mean_field
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from figures.scaling_resnets._cases import CASES, predicted, share
from figures.scaling_resnets._grid import at_the_ends
from sigprop.inputs import Point
from sigprop.processes import FractionalGaussianNoise
from sigprop.schemes import Power
from sigprop.spec import Ensemble, Network
from sigprop.sweep import sweep

__all__ = ["CriticalExponents"]

_CHEAP = 5000  # depth up to which the mean field is asked again and again, in fractions of a second


@Figure.family.register("scaling_resnets/critical_exponents")
class CriticalExponents(Figure):
    """Critical beta against H: networks of width 40, mean field, and what is predicted."""

    title: ClassVar[str] = "beyond the paper: the critical beta against H, fitted over depths"
    version: ClassVar[int] = 2  # mean field up to depth 10^5
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": 40,
            "hurst": hurst,
            "depths": depths,
            "networks": networks,
            "theory_depths": theory,
            "seed": 0,
        }
        for budget, hurst, depths, networks, theory in (
            ("smoke", [0.1, 0.4, 0.75, 0.9], [32, 64, 128, 256], 16, [[64, 256], [256, 1024]]),
            (
                "draft",
                [0.05, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95],
                [64, 128, 256, 512, 1024],
                16,
                [[64, 256], [1024, 4096]],
            ),
            (
                "paper",
                [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
                [64, 128, 256, 512, 1024, 2048],
                64,
                [[64, 256], [1024, 4096], [25_000, 100_000]],
            ),
        )
    }

    def ensemble(self, budget: str, case: str, beta: float, hurst: float, depth: int) -> Ensemble:
        """Return the law of one point of panel ``case``."""
        width = self.effort(budget)["width"]
        return Ensemble(
            Network(depth=depth, width=width, block=CASES[case].block),
            Power(beta=beta, process=FractionalGaussianNoise(hurst=hurst)),
            Point(),
        )

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        results = {}
        for index, (case, (_, quantity, _, _)) in enumerate(CASES.items()):
            betas = {h: predicted(case, h) for h in effort["hurst"]}
            swept = sweep(
                functools.partial(self._at, budget, case, betas),
                {"hurst": effort["hurst"], "depth": effort["depths"]},
                "gradient" if quantity == "gradient_displacement" else "displacement",
                replicas=effort["networks"],
                seed=effort["seed"],
                orders=[],
                quantiles=[],
                coupled=False,  # a fit wants points with independent errors
                workers=workers,
                progress=share(progress, index, len(CASES)),
            )
            logs = at_the_ends(swept)[[f"log_{quantity}_mean", f"log_{quantity}_mean_se"]]
            logs = logs.isel(input=0, drop=True).assign_attrs(width=effort["width"])
            fits = [
                fit_power_law(
                    logs.depth,
                    logs[f"log_{quantity}_mean"].sel(hurst=h),
                    logs[f"log_{quantity}_mean_se"].sel(hurst=h),
                )
                for h in effort["hurst"]
            ]
            beta = np.array(list(betas.values()))
            about = {"units": "1", "long_name": "beta + exponent of the mean of the logarithm"}
            critical = beta + [fit.exponent for fit in fits]
            error = [fit.exponent_se for fit in fits]
            results[case] = logs.assign(
                beta=("hurst", beta),
                critical=("hurst", critical, about),
                critical_se=("hurst", error, {"units": "1"}),
            )
        return results

    def _at(
        self, budget: str, case: str, betas: Mapping[float, float], hurst: float, depth: int
    ) -> Ensemble:
        return self.ensemble(budget, case, betas[hurst], hurst, depth)

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        fine = np.linspace(0.01, 0.99, 99)
        predictions = {}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for case in CASES:
                exact = {"status": "conjecture", "units": "1"}
                limit = {"status": "limit", "units": "1"}
                crossings = functools.partial(self._crossings, budget, case)
                pairs = [f"{low}, {high}" for low, high in effort["theory_depths"]]
                predictions[case] = xr.Dataset(
                    {
                        "critical": ("fine_hurst", [predicted(case, h) for h in fine], exact),
                        "crossing": (
                            ("hurst", "depths"),
                            list(pool.map(crossings, effort["hurst"])),
                            limit,
                        ),
                    },
                    {"fine_hurst": fine, "depths": pairs, "hurst": effort["hurst"]},
                )
        return predictions

    def _crossings(self, budget: str, case: str, hurst: float) -> list[float]:
        """For each pair of depths, the beta at which the mean-field displacement is the same.

        It hardly moves from one pair to the next, so where depth makes the mean field dear, one
        step of Newton's method is taken, with the slope of the pair before: within 0.001.
        """

        def growth(beta: float, low: int, high: int) -> float:
            logs = [self._log_square(budget, case, beta, hurst, depth) for depth in (low, high)]
            return logs[1] - logs[0]

        found, slope = [predicted(case, hurst)], -2.0
        for low, high in self.effort(budget)["theory_depths"]:
            near, ratio = found[-1], math.log(high / low)
            if high > _CHEAP:
                found.append(near - growth(near, low, high) / (slope * ratio))
                continue
            solved = root_scalar(
                growth, args=(low, high), method="secant", x0=near, x1=near - 0.02, xtol=2e-3
            )
            found.append(float(solved.root))
            step = growth(found[-1] + 0.01, low, high) - growth(found[-1] - 0.01, low, high)
            slope = step / (0.02 * ratio)
        return found[1:]

    def _log_square(self, budget: str, case: str, beta: float, hurst: float, depth: int) -> float:
        law, backward = self.ensemble(budget, case, beta, hurst, depth), case == "gradient"
        limit = mean_field(law, gradient=backward)
        if backward:
            return float(limit.log_gradient_displacement_mean_square[0])
        return float(limit.log_displacement_mean_square[-1])

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 4.0))
        shades = ("#9ecae1", "#4292c6", "#08519c")
        for axes, (case, (_, _, title, formula)) in zip(
            picture.subplots(1, 3, sharey=True), CASES.items()
        ):
            measured, theory = results[case], predictions[case]
            line = STATUS_LINE["conjecture"]
            axes.plot(theory.fine_hurst, theory.critical, line, color=THEORY, lw=1.2)
            for shade, marker, row in zip(shades, "v^d", theory.crossing.T):
                axes.plot(theory.hurst, row, marker, color=shade, ms=4)
            axes.errorbar(
                measured.hurst, measured.critical, 2 * measured.critical_se, fmt="o", ms=3.5,
                mfc="w", color=PALETTE[1], elinewidth=1.2, capsize=2.5,
            )  # fmt: skip
            axes.set_title(f"{title}: {formula}")
            axes.set_xlabel("Hurst index $H$ of the weights along depth")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.1)
            axes.set_ylabel(r"critical $\beta$")
        depths = measured.depth.values
        handles: list[Any] = [
            Line2D([], [], color=THEORY, ls=line, label="infinite depth and width: predicted"),
            Line2D(
                [], [], color=PALETTE[1], marker="o", mfc="w", ms=3.5, lw=1.2,
                label=f"networks, fitted over L = {depths[0]} .. {depths[-1]}, ± 2 standard errors",
            ),
        ]  # fmt: skip
        handles += [
            Line2D([], [], color=shade, marker=marker, ms=4, ls="",
                   label=f"mean field, the same at L = {pair.replace(', ', ' and ')}")
            for shade, marker, pair in zip(shades, "v^d", theory.depths.values)
        ]  # fmt: skip
        picture.legend(handles=handles, ncols=2)
        attrs = measured.attrs
        setting = (
            f"ReLU, weights follow fractional Gaussian noise, width {attrs['width']}; "
            f"{attrs['replicas']} networks a depth, each with β at its predicted critical value; "
            f"seed {attrs['seed']}, sampler {attrs['sampler']}"
        )
        caption = (
            "Beyond Marion, Fermanian, Biau and Vert (2022), who conjecture a branch of L^−H for "
            "H > 1/2. Near a corner two powers of the depth compete, and the limit is approached "
            "slowly. At finite width d the gradient has a part of weight 1/d that follows the "
            "state, and which wins in the end for H > 1/2; at small H the block of the right panel "
            "grows less than one of infinite width."
        )
        title = "The critical scaling depends on the block, and on what is followed"
        frame(picture, title, setting, caption, legend_rows=(len(handles) + 1) // 2)
        return picture
