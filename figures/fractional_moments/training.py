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
from figures._base import BUDGETS, Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from figures._training import by_epoch, course, data_told, ranked, studied, tabled
from figures.fractional_moments._plain import PAPER, ensemble, told
from sigprop.activations import LeakyReLU, Linear, ReLU
from sigprop.simulate import simulate
from sigprop.spec import Ensemble

__all__ = ["FractionalTraining"]

_XAVIER, _WALK = "Xavier", "random walk"
_RIVALS = {_XAVIER: PALETTE[3], _WALK: PALETTE[4]}
_ORDERS = {
    "smoke": (2.0, 1.0, 0.8, 0.5),
    "draft": (2.0, 1.5, 1.0, 0.8, 0.5),
    "paper": (2.0, 1.75, 1.5, 1.25, 1.0, 0.8, 0.5, 0.25),
}
_PHI = {"relu": ReLU(), "leaky_relu": LeakyReLU(slope=0.01), "linear": Linear()}
_WORDS = {"relu": "ReLU", "leaky_relu": "leaky ReLU of slope 0.01", "linear": "no activation"}
_DIGITS_BATCH = 128  # where the paper's 512 would leave two steps an epoch
_PART = 2000  # images of another set that a draft trains on, and is tested with


def _efforts(
    depth: int,
    rates: Mapping[str, list[float]],
    seeds: Mapping[str, int],
    recipe: Mapping[str, Any],
    **changed: Any,
) -> dict[str, dict[str, Any]]:
    """Of a variant: smoke, draft, and the paper's."""
    small = {"width": 16, "networks": 400, "train": 384}
    sizes = {"smoke": small, "draft": {"networks": 2000}, "paper": {"networks": 10_000}}
    epochs = {"smoke": 3, "draft": 30, "paper": recipe["epochs"]}
    return {
        budget: {
            "depth": depth,
            "width": 64,
            "s": list(_ORDERS[budget]),
            "lrs": rates[budget],
            "seeds": list(range(seeds[budget])),
            "train": None,
            "recipe": {**recipe, "epochs": epochs[budget]},
        }
        | sizes[budget]
        | changed
        for budget in BUDGETS
    }


@Figure.family.register("fractional_moments/training")
class FractionalTraining(Figure):
    """Accuracy of a plain net of 20 layers against the order s of the moment that is kept.

    Class attributes
    ----------------
    activation : str
        ``relu``, ``leaky_relu`` of slope 0.01, or ``linear``, of all hidden layers.
    claimed : float
        The order with which the paper trains.
    net : str
        What the networks are called.
    images, theirs : str
        On what the paper trains them, and how.
    """

    title: ClassVar[str] = "training from fractional initialisation, s in (0, 2], against He"
    trains: ClassVar[bool] = True
    long_budgets: ClassVar[tuple[str, ...]] = ("paper",)
    activation: ClassVar[str] = "relu"
    claimed: ClassVar[float] = 0.8
    net: ClassVar[str] = "plain net"
    images: ClassVar[str] = "MNIST"
    theirs: ClassVar[str] = "with 20 repeats at the rate 0.01"
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

    def effort(self, budget: str) -> Mapping[str, Any]:
        """That of the budget; short of the paper's, a part of other images than digits."""
        found = super().effort(budget)
        if self.data == "digits" or budget == "paper":
            return found
        train = min(_PART, found["train"] or _PART)
        return {**found, "train": train, "validation": _PART, "test": _PART}

    def law(self, budget: str, s: float) -> Ensemble:
        """The hidden layers before training."""
        effort = self.effort(budget)
        return ensemble(effort["depth"], effort["width"], s, _PHI[self.activation])

    def gains(self, budget: str) -> dict[str, float]:
        """Of every start, by how much its weights are larger than He's."""
        width, kept = self.effort(budget)["width"], _PHI[self.activation].second_moment()
        he = 1 / math.sqrt(kept * width)
        found = {
            told(s): float(self.law(budget, s).table.scale[0, 0]) / he
            for s in self.effort(budget)["s"]
        }
        # At constant width: Sussillo and Abbott's value, of two activations, and 1 / fan_in, which
        # is He's own without an activation.
        if self.activation == "relu":
            found[_WALK] = math.exp(1.2 / (width - 2.4))
        if self.activation == "linear":
            return found | {_WALK: math.exp(1 / (2 * width))}
        return found | {_XAVIER: math.sqrt(kept)}

    def line(self, budget: str) -> str:
        """The network, but for its gain, as `sigprop.modules.architecture` reads it."""
        effort = self.effort(budget)
        line = f"mlp:depth={effort['depth']},width={effort['width']}"
        if self.activation == "relu":
            return line
        return f"{line},activation={'identity' if self.activation == 'linear' else 'leaky_relu'}"

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.modules import Case

        effort = self.effort(budget)
        cases = {
            name: Case(network=f"{self.line(budget)},gain={gain:.12g}")
            for name, gain in self.gains(budget).items()
        }
        study = studied(self, effort, cases, "training", progress)
        rivals = [name for name in (told(2.0), _XAVIER, _WALK) if name in cases]
        study.attrs["verdict"] = ranked(study, [told(self.claimed), *rivals], best=True)
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
        rivals = {name: colour for name, colour in _RIVALS.items() if name in study.case.values}
        for name, colour in rivals.items():
            mean, error = (float(last[v].sel(case=name)) for v in
                           ("accuracy_mean", "accuracy_mean_se"))  # fmt: skip
            after.axhline(100 * mean, color=colour, ls="--", lw=1.2)
            low, high = 100 * (mean - 2 * error), 100 * (mean + 2 * error)
            after.axhspan(low, high, color=colour, alpha=0.12, lw=0)
        after.set_xlabel("order $s$ of the moment that is kept")
        after.set_ylabel("test accuracy, %")
        after.set_title(f"after {study.sizes['epoch']} epochs, every seed")
        shown = dict(zip((2.0, self.claimed, 0.5), PALETTE))
        looks = {told(s): colour for s, colour in shown.items()} | rivals
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
            f"{self.net} of {study.attrs['layers']} layers, width {study.attrs['width']}, "
            f"{_WORDS[self.activation]}, biases start at 0; Gaussian weights, He's times a gain"
        )
        he, claimed = (float(norms.log_norm_mean.sel(s=s)) for s in (2.0, self.claimed))
        apart = math.sqrt(norms.log_norm_variance.sel(s=2.0))
        caption = (
            f"After {PAPER} (2020), arXiv:2005.11878, who train on {self.images} {self.theirs} "
            "and pass the last layer through the activation too; here the last layer is linear. "
            f"{data_told(study)}. "
            f"From He to s = {self.claimed:g} the mean log-norm moves by {claimed - he:.2f} nat, "
            f"where networks differ by {apart:.2f}: expect small effects. "
            f"{study.attrs['verdict']}"
        )
        if study.attrs["data"] == "digits":
            caption += f" Of {self.images} these digits say nothing."
        title = "What keeping a lower moment does to training"
        frame(picture, title, setting, caption, legend_rows=2)
        return picture

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        study = results["study"]
        return f"{tabled(study)}\n{study.attrs['verdict']}"


@Figure.family.register("fractional_moments/training_linear")
class LinearTraining(FractionalTraining):
    """The same of a plain net of 30 layers without activations."""

    title: ClassVar[str] = "the same of 30 linear layers"
    activation: ClassVar[str] = "linear"
    claimed: ClassVar[float] = 1.0
    theirs: ClassVar[str] = "with 20 repeats at the rate 0.001"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = _efforts(
        29,
        {"smoke": [0.01], "draft": [0.001, 0.003, 0.01], "paper": [0.0003, 0.001, 0.003]},
        {"smoke": 2, "draft": 6, "paper": 20},
        {"epochs": 30, "batch": 128},
    )


@Figure.family.register("fractional_moments/training_leaky")
class LeakyTraining(FractionalTraining):
    """The same with leaky ReLUs of slope 0.01."""

    title: ClassVar[str] = "the same of 20 layers of leaky ReLUs"
    activation: ClassVar[str] = "leaky_relu"
    claimed: ClassVar[float] = 1.0
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = _efforts(
        19,
        {"smoke": [0.1], "draft": [0.01, 0.03, 0.1], "paper": [0.003, 0.01, 0.03]},
        {"smoke": 2, "draft": 6, "paper": 20},
        {"epochs": 30, "batch": 128},
    )


@Figure.family.register("fractional_moments/training_convolutional")
class ConvolutionalTraining(FractionalTraining):
    """The same where two convolutions, from He in every case, stand before 20 hidden layers."""

    title: ClassVar[str] = "the same of two convolutions and 20 layers, as on CIFAR-10"
    net: ClassVar[str] = "two convolutions from He, then a plain net"
    images: ClassVar[str] = "CIFAR-10"
    theirs: ClassVar[str] = "with 10 repeats at the rate 0.01"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = _efforts(
        20,
        {"smoke": [0.1], "draft": [0.03, 0.1], "paper": [0.003, 0.01, 0.03]},
        {"smoke": 2, "draft": 4, "paper": 10},
        {"epochs": 50, "batch": 512, "schedule": "step", "step": 30, "weight_decay": 1e-4,
         "crop": 4, "flip": True},
    )  # fmt: skip

    def effort(self, budget: str) -> Mapping[str, Any]:
        """That of the budget; digits, which a mirror makes no digits, in smaller batches."""
        found = super().effort(budget)
        if self.data.startswith("cifar10:"):
            return found
        recipe = found["recipe"] | {"flip": False}
        if self.data == "digits":
            recipe |= {"crop": 0, "batch": _DIGITS_BATCH}
        return {**found, "recipe": recipe}

    def line(self, budget: str) -> str:
        effort = self.effort(budget)
        border = "zeros" if self.data == "digits" else "none"  # 8 x 8 pixels are soon used up
        return f"convmlp:depth={effort['depth']},width={effort['width']},border={border}"


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
