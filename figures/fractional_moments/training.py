"""Training from fractional initialisation, s in (0, 2], against He and other rivals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory.log_normal import log_norm_mean, log_norm_variance
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from figures._training import by_epoch, course, data_told, ranked, studied, tabled
from figures.fractional_moments._plain import PAPER, ensemble, told
from sigprop.simulate import simulate
from sigprop.spec import Ensemble

__all__ = ["FractionalTraining"]

_XAVIER, _WALK = "Xavier", "random walk"
_SHOWN = {2.0: PALETTE[0], 0.8: PALETTE[1], 0.5: PALETTE[2]}
_RIVALS = {_XAVIER: PALETTE[3], _WALK: PALETTE[4]}


@Figure.family.register("fractional_moments/training")
class FractionalTraining(Figure):
    """Accuracy of a plain net of 20 layers against the order s of the moment that is kept."""

    title: ClassVar[str] = "training from fractional initialisation, s in (0, 2], against He"
    trains: ClassVar[bool] = True
    long_budgets: ClassVar[tuple[str, ...]] = ("paper",)
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "depth": 19,
            "width": width,
            "s": orders,
            "networks": networks,
            "lrs": lrs,
            "seeds": list(range(seeds)),
            "train": train,
            "recipe": {"epochs": epochs, "batch": 128},
        }
        for budget, width, orders, networks, lrs, seeds, train, epochs in (
            ("smoke", 16, [2.0, 0.8, 0.5], 400, [0.1], 2, 384, 3),
            ("draft", 64, [2.0, 1.5, 1.0, 0.8, 0.5], 2000, [0.01, 0.03, 0.1], 8, None, 30),
            (
                "paper",
                64,
                [2.0, 1.75, 1.5, 1.25, 1.0, 0.8, 0.5, 0.25],
                10_000,
                [0.003, 0.01, 0.03],
                20,
                None,
                30,
            ),
        )
    }

    def law(self, budget: str, s: float) -> Ensemble:
        """The hidden layers before training."""
        effort = self.effort(budget)
        return ensemble(effort["depth"], effort["width"], s)

    def gains(self, budget: str) -> dict[str, float]:
        """Of every start, by how much its weights are larger than He's."""
        width = self.effort(budget)["width"]
        he = math.sqrt(2 / width)
        found = {
            told(s): float(self.law(budget, s).table.scale[0, 0]) / he
            for s in self.effort(budget)["s"]
        }
        # At constant width: Sussillo and Abbott's value for the ReLU, and 1 / fan_in.
        return found | {_WALK: math.exp(1.2 / (width - 2.4)), _XAVIER: math.sqrt(0.5)}

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.modules import Case

        effort = self.effort(budget)
        shape = f"mlp:depth={effort['depth']},width={effort['width']}"
        cases = {
            name: Case(network=f"{shape},gain={gain:.12g}")
            for name, gain in self.gains(budget).items()
        }
        study = studied(self, effort, cases, "training", progress)
        study.attrs["verdict"] = ranked(study, ["s = 0.8", told(2.0), _XAVIER, _WALK], best=True)
        start = [
            simulate(
                self.law(budget, s),
                ["norm"],
                replicas=effort["networks"],
                seed=0,
                layers=[0, effort["depth"]],
                orders=[],
                quantiles=[],
                workers=workers,
            )[["log_norm_mean", "log_norm_mean_se", "log_norm_variance"]].isel(
                layer=-1, input=0, drop=True
            )
            for s in effort["s"]
        ]
        norms = xr.concat(start, "s", combine_attrs="drop_conflicts").assign_coords(s=effort["s"])
        sizes = {"width": effort["width"], "layers": effort["depth"] + 1}
        return {"study": study.assign_attrs(sizes), "norms": norms}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        orders = np.linspace(0.05, 2.0, 14)
        laws = [self.law(budget, float(s)) for s in orders]
        attrs = {"status": "exact", "units": "nat"}
        rows = {
            "mean": [log_norm_mean(law)[-1] for law in laws],
            "deviation": [math.sqrt(log_norm_variance(law)[-1]) for law in laws],
        }
        return {"norms": xr.Dataset({k: ("s", v, attrs) for k, v in rows.items()}, {"s": orders})}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        study, norms = results["study"], results["norms"]
        picture = Picture(figsize=(10.2, 4.6))
        before, after, courses = picture.subplots(1, 3)
        _draw_norms(before, norms, predictions["norms"])
        values = 100 * by_epoch(study).isel(epoch=-1)
        last = study.isel(epoch=-1)
        for s in norms.s.values:
            one = values.sel(case=told(s))
            after.plot(np.full(one.size, s), one, ".", ms=3.5, color="#777777")
        at = last.sel(case=[told(s) for s in norms.s.values])
        after.errorbar(
            norms.s, 100 * at.accuracy_mean, 200 * at.accuracy_mean_se, color=PALETTE[0],
            marker="o", ms=4.5, lw=0.9, zorder=4,
        )  # fmt: skip
        for name, colour in _RIVALS.items():
            mean, error = (float(last[v].sel(case=name)) for v in
                           ("accuracy_mean", "accuracy_mean_se"))  # fmt: skip
            after.axhline(100 * mean, color=colour, ls="--", lw=1.2)
            low, high = 100 * (mean - 2 * error), 100 * (mean + 2 * error)
            after.axhspan(low, high, color=colour, alpha=0.12, lw=0)
        after.set_xlabel("order $s$ of the moment that is kept")
        after.set_ylabel("test accuracy, %")
        after.set_title(f"after {study.sizes['epoch']} epochs, every seed")
        looks = {told(s): colour for s, colour in _SHOWN.items()} | _RIVALS
        for name, colour in looks.items():
            course(courses, study, name, color=colour)
        courses.set_xlabel("epoch")
        courses.set_ylabel("test accuracy, %")
        courses.set_title("by epoch: seeds and their mean")
        handles = [Line2D([], [], color=c, lw=1.8, label=name) for name, c in looks.items()]
        handles.append(
            Line2D([], [], color=PALETTE[0], marker="o", ms=4, ls="",
                   label="networks; bars: 2 standard errors")
        )  # fmt: skip
        handles.append(Line2D([], [], color=THEORY, label="exact mean, ± deviation of networks"))
        picture.legend(handles=handles, ncols=4)
        setting = (
            f"plain net of {study.attrs['layers']} layers, width {study.attrs['width']}, ReLU, "
            "biases start at 0; Gaussian weights, He's times a gain"
        )
        caption = (
            f"After {PAPER} (2020), arXiv:2005.11878, who train on MNIST with 20 repeats at one "
            "rate and pass the last layer through the activation too; here the last layer is "
            f"linear. {data_told(study)}. From He to s = 0.8 weights grow by little, and so small "
            f"effects are expected. {study.attrs['verdict']}"
        )
        title = "What keeping a lower moment does to training"
        frame(picture, title, setting, caption, legend_rows=2)
        return picture

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        study = results["study"]
        return f"{tabled(study)}\n{study.attrs['verdict']}"


def _draw_norms(axes: Axes, norms: xr.Dataset, theory: xr.Dataset) -> None:
    """The log-norm of the last hidden layer before training, against s."""
    line = STATUS_LINE[str(theory["mean"].attrs["status"])]
    mean, deviation = theory["mean"], theory["deviation"]
    axes.plot(theory.s, mean, line, color=THEORY, lw=1.2)
    axes.fill_between(theory.s, mean - deviation, mean + deviation, color=THEORY, alpha=0.1, lw=0)
    axes.errorbar(
        norms.s, norms.log_norm_mean, 2 * norms.log_norm_mean_se, color=PALETTE[0], marker="o",
        ms=4.5, ls="",
    )  # fmt: skip
    axes.axhline(0, color="#999999", lw=0.7)
    axes.set_xlabel("order $s$ of the moment that is kept")
    axes.set_ylabel("nat")
    axes.set_title("before: log of the last hidden norm\nover that of the input")
