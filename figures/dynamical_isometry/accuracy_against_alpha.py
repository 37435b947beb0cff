"""Accuracy against alpha, the coefficient with which the branches of RISOTTO start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from figures._base import Figure, Progress
from figures._style import PALETTE, frame, styled
from figures._training import by_epoch, data_told, ranked, studied, tabled
from figures.dynamical_isometry._trained import BLOCKS, case, line, net_told

__all__ = ["AccuracyAgainstAlpha"]

_CASES = {"RISOTTO": PALETTE[0], "He, branches times alpha": PALETTE[3]}


@Figure.family.register("dynamical_isometry/accuracy_against_alpha")
class AccuracyAgainstAlpha(Figure):
    """Networks without normalisation, type C; RISOTTO keeps the isometry at every alpha."""

    title: ClassVar[str] = "accuracy after training against alpha of RISOTTO, and of He's branches"
    trains: ClassVar[bool] = True
    long_budgets: ClassVar[tuple[str, ...]] = ("paper",)
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "widths": widths,
            "blocks": blocks,
            "alphas": alphas,
            "lrs": lrs,
            "seeds": list(range(seeds)),
            "train": train,
            "recipe": {"momentum": 0.9, "schedule": "cosine", "epochs": epochs, "batch": 128,
                       **more},
        }
        for budget, widths, blocks, alphas, lrs, seeds, train, epochs, more in (
            ("smoke", [4, 8], 1, [0.0, 1.0], [0.1], 2, 256, 2, {}),
            ("draft", [8, 16], 3, [0.0, 0.25, 0.5, 1.0], [0.01, 0.03, 0.1], 3, None, 10, {}),
            ("paper", [64, 128, 256, 512], 2, [0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5],
             [0.001, 0.005, 0.01, 0.05, 0.1], 3, None, 200,
             {"weight_decay": 5e-4, "crop": 4, "flip": True}),
        )
    }  # fmt: skip

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        network = line(effort, "everywhere", "none")
        cases = {}
        for alpha in effort["alphas"]:
            cases[f"RISOTTO, alpha = {alpha:g}"] = case(network, "risotto", alpha=alpha)
            name = f"He, branches times alpha, alpha = {alpha:g}"
            cases[name] = case(network, "skipinit", initial=alpha)
        study = studied(self, effort, cases, "alphas", progress)
        low, high = effort["alphas"][0], 1.0
        verdict = ranked(study, [f"RISOTTO, alpha = {a:g}" for a in (high, low)])
        return {"study": study.assign_attrs(verdict=verdict, net=net_told(effort),
                                            alphas=effort["alphas"])}  # fmt: skip

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        return {}  # of accuracies there is no theory

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        study = results["study"]
        picture = Picture(figsize=(6.6, 4.9))
        axes = picture.subplots()
        alphas = np.atleast_1d(study.attrs["alphas"])
        shift = 0.008 * (alphas.max() - alphas.min())
        for move, (label, colour) in zip((-shift, shift), _CASES.items()):
            names = [f"{label}, alpha = {alpha:g}" for alpha in alphas]
            at = study.sel(case=names).isel(epoch=-1)
            seeds = 100 * by_epoch(study).sel(case=names).isel(epoch=-1)
            axes.plot(alphas + move, seeds, ".", ms=4, color=colour, alpha=0.5)
            axes.errorbar(
                alphas + move, 100 * at.accuracy_mean, 200 * at.accuracy_mean_se, color=colour,
                marker="o", ms=4.5, lw=0.9,
            )  # fmt: skip
            lost = at.diverged_fraction.values > 0
            axes.plot((alphas + move)[lost], 100 * at.accuracy_mean.values[lost], "x", ms=10,
                      mew=2, color=colour)  # fmt: skip
        axes.axhline(10, color="#999999", ls=":", lw=0.9)
        axes.set_xlabel("α at the start, trained afterwards")
        axes.set_ylabel("test accuracy, %")
        axes.set_ylim(0, 100)
        handles = [Line2D([], [], color=c, marker="o", ms=4.5, label=n.replace("alpha", "α"))
                   for n, c in _CASES.items()]  # fmt: skip
        handles.append(Line2D([], [], color="#555555", marker="x", ls="", mew=2, ms=8,
                              label="some seed diverged"))  # fmt: skip
        handles.append(Line2D([], [], color="#999999", ls=":", lw=0.9, label="chance"))
        picture.legend(handles=handles, ncols=4)
        caption = (
            "After the figure of accuracy against α of Gadhikar and Burkholz (2022), "
            f"arXiv:2210.02411, with ResNet-18 on CIFAR-10. {data_told(study)}. Dots: seeds; bars: "
            f"2 standard errors. At α = 0 He's start is SkipInit. {study.attrs['verdict']}"
        )
        setting = f"{study.attrs['net']}, {BLOCKS['everywhere']}, no normalisation"
        title = "How much of the branches should be on when training starts"
        frame(picture, title, setting.replace(", a trained scalar α on every branch", ""), caption,
              legend_rows=1)  # fmt: skip
        return picture

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        return f"{tabled(results['study'])}\n{results['study'].attrs['verdict']}"
