"""Jacobian spectra of RISOTTO and its rivals side by side, over the density of free probability."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from analysis.spectra import densities
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.inputs import Point
from sigprop.observables.spectrum import Spectrum
from sigprop.schemes import GivenScheme, He, Normal, OrthogonalScheme, Power, Risotto
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network

__all__ = ["Spectra"]

SHALLOW, DEEP = 5, 20
TITLES = {
    "risotto": f"RISOTTO, {DEEP} blocks: all values 1",
    "power": rf"residual, branch $L^{{-1/2}}$, L = {DEEP}, c = 1/2",
    "strong": rf"residual, He and branch $L^{{-1/2}}$, c = {DEEP * math.log1p(2 / DEEP):.2f}",
    "orthogonal": f"plain ReLU net, orthogonal, {SHALLOW} layers",
    "gaussian": f"plain ReLU net, He, {SHALLOW} layers",
    "normal": rf"type C, $\alpha^2 = \beta^2 = 1/2$, {SHALLOW} blocks",
}


@Figure.family.register("dynamical_isometry/spectra")
class Spectra(Figure):
    """Histograms of ln sigma for six models, with the law of great width."""

    title: ClassVar[str] = "Jacobian spectra of RISOTTO and its rivals, with free probability"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": width, "networks": networks, "seed": 0}
        for budget, width, networks in (("smoke", 40, 6), ("draft", 200, 12), ("paper", 400, 40))
    }

    def ensembles(self, budget: str) -> dict[str, Ensemble]:
        """Return the law of every panel."""
        width = self.effort(budget)["width"]
        deep, shallow = {"depth": DEEP, "width": width}, {"depth": SHALLOW, "width": width}
        strong = GivenScheme(branch=math.sqrt(1 / DEEP), variance=2 / width)
        laws = {
            "risotto": (Network(**deep, block="projection"), Risotto()),
            "power": (Network(**deep), Power(beta=0.5)),
            "strong": (Network(**deep), strong),
            "orthogonal": (Network(**shallow, block="plain"), OrthogonalScheme()),
            "gaussian": (Network(**shallow, block="plain"), He()),
            "normal": (Network(**shallow, block="projection", input_width=width), Normal()),
        }
        return {name: Ensemble(*law, Point()) for name, law in laws.items()}

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort, found = self.effort(budget), {}
        laws = self.ensembles(budget)
        for at, (name, law) in enumerate(laws.items()):
            found[name] = simulate(
                law, Spectrum(), replicas=effort["networks"], seed=effort["seed"],
                layers=[law.network.depth], workers=workers,
            )  # fmt: skip
            if progress:
                progress(at + 1, len(laws))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        laws = self.ensembles(budget)
        found = {}
        for name, law in laws.items():
            known = densities(law, [law.network.depth])
            if known is not None:
                for variable in known.data_vars.values():
                    variable.attrs["status"] = known.attrs["status"]
                found[name] = known
        return found

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 5.6))
        panels = picture.subplots(2, 3).ravel()
        for axes, (name, title) in zip(panels, TITLES.items(), strict=True):
            _panel(axes, results[name].isel(layer=-1), predictions.get(name), title)
        for axes in panels[::3]:
            axes.set_ylabel("density of ln s")
        picture.legend(*panels[1].get_legend_handles_labels(), ncols=2)
        attrs = results["power"].attrs
        frame(
            picture,
            "Of these only RISOTTO is an isometry: a norm kept on average keeps no direction",
            f"singular values s of the Jacobian from the network's input, width "
            f"{self._width(results)}, ReLU; {attrs['replicas']} networks each, seed "
            f"{attrs['seed']}",
            "The rivals of Gadhikar and Burkholz (2022). Bars: mean over networks, with one "
            "standard error between them. The nets of the "
            "lower row lose directions for good (their share is told) and have a long tail of "
            "small values, which finite rank cuts. Dashed: the limit of great width, no parameter "
            "fitted.",
            legend_rows=1,
        )
        return picture

    @staticmethod
    def _width(results: Mapping[str, xr.Dataset]) -> int:
        import json

        return int(json.loads(results["power"].attrs["ensemble"])["network"]["width"])


def _panel(axes, here: xr.Dataset, law: xr.Dataset | None, title: str) -> None:  # type: ignore[no-untyped-def]
    density, error = here.singular_density.values, here.singular_density_se.values
    centres = here.singular_bin.values
    width = centres[1] - centres[0]
    low = -4.0 if float(here.singular_zero_fraction) > 0 else None
    on = np.flatnonzero(density > 0)
    first = on[0] if low is None else max(on[0], int(np.searchsorted(centres, low)))
    group = max(1, (on[-1] - first + 1) // 30)
    count = -(-(on[-1] - first + 1) // group)
    padded = [np.pad(x, (0, group))[first : first + count * group] for x in (density, error)]
    bars = padded[0].reshape(count, group).mean(axis=1)
    errors = np.sqrt((padded[1].reshape(count, group) ** 2).sum(axis=1)) / group
    middle = centres[first] + width * (np.arange(count) * group + (group - 1) / 2)
    axes.bar(middle, bars, group * width, color=PALETTE[0], alpha=0.45, label="networks drawn")
    axes.errorbar(middle, bars, errors, fmt="none", ecolor=PALETTE[0], lw=0.7)
    top = 1.35 * bars.max()
    if law is not None:
        inside = law.isel(layer=-1)
        axes.plot(
            inside.log_singular, inside.density, STATUS_LINE["limit"], color=THEORY, lw=1.2,
            label="free probability: limit of great width",
        )  # fmt: skip
    lost = float(here.singular_zero_fraction)
    said = f"{lost:.0%} exactly 0" if lost > 0 else ""
    if not lost:
        condition = float(np.exp(here.log_singular_condition))
        said = f"condition number {condition:.4g}"
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    place = {"transform": axes.transAxes, "va": "top", "size": 7.5, "color": "0.3"}
    axes.text(0.03, 0.96, said, bbox=box, **place)
    axes.set_title(title, size=8.5)
    axes.set_ylim(0, top)
    span = max(0.35, 0.06 * (middle[-1] - middle[0]))
    axes.set_xlim((low if low is not None else middle[0]) - span, middle[-1] + span)
    axes.set_xlabel("ln s")
