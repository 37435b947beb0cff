"""Condition number of the Jacobian against depth, scheme by scheme."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, Progress
from figures._style import PALETTE, frame, styled
from sigprop.inputs import Point
from sigprop.observables.spectrum import Spectrum
from sigprop.schemes import (
    Fixup,
    He,
    LooksLinear,
    NFResNet,
    Normal,
    OrthogonalScheme,
    Power,
    Risotto,
    StableResNet,
)
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["ConditionNumber"]

# Name: (label, colour, line, marker).
LINES = {
    "he residual": ("He, residual (res3)", PALETTE[1], "-", "o"),
    "nf": ("NF-ResNet", PALETTE[4], "-", "s"),
    "stable": (r"Stable ResNet, branch $\propto L^{-1/2}$ (res1)", PALETTE[2], "-", "o"),
    "power": (r"branch $L^{-1/2}$ (res3)", PALETTE[0], "-", "s"),
    "fixup": ("Fixup, SkipInit, ReZero: identity at initialisation", PALETTE[5], "-", "^"),
    "risotto B": ("RISOTTO, type B", PALETTE[3], "-", "v"),
    "risotto C": ("RISOTTO, type C", PALETTE[3], "--", "o"),
    "looks linear": ("looks-linear plain net", PALETTE[3], ":", "s"),
    "he plain": ("He, plain net", PALETTE[1], "--", "x"),
    "orthogonal": ("orthogonal, plain net", PALETTE[0], "--", "x"),
    "normal": (r"type C, $\alpha^2 = \beta^2 = 1/2$", PALETTE[2], "--", "x"),
}


@Figure.family.register("dynamical_isometry/condition_number")
class ConditionNumber(Figure):
    """Largest over smallest singular value of the Jacobian from the input, typical network."""

    title: ClassVar[str] = "condition number of the Jacobian against depth, for all schemes"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": width, "depth": depth, "networks": networks, "seed": 0}
        for budget, width, depth, networks in (
            ("smoke", 12, 8, 4),
            ("draft", 32, 100, 8),
            ("paper", 64, 1000, 20),
        )
    }

    def ensembles(self, budget: str) -> dict[str, Ensemble]:
        """Return the law of every line."""
        effort = self.effort(budget)
        depth, width = effort["depth"], effort["width"]
        entering = (width // 2,) + (width,) * depth
        post = {"depth": depth, "width": width}
        laws = {
            "he residual": (Network(**post), He()),
            "nf": (Network(**post, block="preact"), NFResNet()),
            "stable": (Network(**post, block="res1"), StableResNet()),
            "power": (Network(**post), Power(beta=0.5)),
            "fixup": (Network(**post), Fixup()),
            "risotto B": (Network(**post, block="identity"), Risotto()),
            "risotto C": (Network(**post, block="projection"), Risotto()),
            "looks linear": (Network(depth=depth, block="plain", widths=entering), LooksLinear()),
            "he plain": (Network(**post, block="plain"), He()),
            "orthogonal": (Network(**post, block="plain"), OrthogonalScheme()),
            "normal": (Network(**post, block="projection"), Normal()),
        }
        return {name: Ensemble(*law, Point()) for name, law in laws.items()}

    def layers(self, budget: str) -> list[int]:
        """Return where singular values are taken."""
        depth = self.effort(budget)["depth"]
        return sorted({1, 2, 3, *np.rint(np.geomspace(5, depth, 9)).astype(int).tolist()})

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort, found = self.effort(budget), {}
        laws = self.ensembles(budget)
        for at, (name, law) in enumerate(laws.items()):
            found[name] = simulate(
                law, Spectrum(), replicas=effort["networks"], seed=effort["seed"],
                layers=self.layers(budget), workers=workers,
            )  # fmt: skip
            if progress:
                progress(at + 1, len(laws))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        from analysis.prediction import predict

        law = self.ensembles(budget)["power"]
        names = ["log_singular_largest", "log_singular_smallest"]
        return {"power": predict(law, self.layers(budget), variables=names)[names]}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 5.2))
        left, right = picture.subplots(1, 2, width_ratios=(3, 2))
        for name, (label, colour, line, marker) in LINES.items():
            result = results[name]
            layers = result.layer.values
            ratio = (result.log_singular_largest - result.log_singular_smallest).values
            # The extremes of a network are nearly independent: their errors add in squares.
            error = 2 * np.hypot(result.log_singular_largest_se, result.log_singular_smallest_se)
            error = np.nan_to_num(error.values)
            left.plot(
                layers, ratio / np.log(10), line, color=colour, marker=marker, ms=4, label=label
            )
            low, high = (ratio - error) / np.log(10), (ratio + error) / np.log(10)
            left.fill_between(layers, low, high, color=colour, alpha=0.2, lw=0)
            lost = result.singular_zero_fraction.values
            if lost.max() > 0:
                right.plot(layers, lost, line, color=colour, marker=marker, ms=4, label=label)
        law = predictions["power"]
        edge = (law.log_singular_largest - law.log_singular_smallest).values / np.log(10)
        left.plot(law.layer, edge, "--", color="#222222", lw=1.2, label="free probability, limit")
        _by_depth(left, layers)
        highest = max(float(line.get_ydata().max()) for line in left.get_lines())
        left.set_ylim(-0.03 * min(highest, 16.0), 1.08 * min(highest, 16.0))
        left.set_ylabel("log10 (largest / smallest that is not 0)")
        _by_depth(right, layers)
        right.set_ylim(0, 1)
        right.set_ylabel("share of values that are exactly 0")
        right.set_title("of the dashed lines: directions lost for good", size=8.5)
        left.set_title("typical network, two standard errors", size=8.5)
        picture.legend(*left.get_legend_handles_labels(), ncols=3)
        network = json.loads(results["power"].attrs["ensemble"])["network"]
        attrs = results["power"].attrs
        frame(
            picture,
            "RISOTTO and nets that begin as the identity keep every direction at every depth",
            f"ReLU, width {network['width']}, depth {network['depth']}; {attrs['replicas']} "
            f"networks each, seed {attrs['seed']}; Jacobian from the network's input",
            "Beyond Gadhikar and Burkholz (2022). Lines at 0: condition number 1. Dashed lines "
            "with crosses are singular: their "
            "condition number is infinite, and the ratio is that of what is left. Branches that "
            "shrink with the depth are those of the depth shown last.",
            legend_rows=4,
        )
        return picture


def _by_depth(axes, layers: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    """A logarithmic axis of layers, with whole numbers at it."""
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlim(0.93, 1.08 * layers[-1])
    axes.set_xlabel("layer")
