"""Accuracy of a plain network after training, by what was done to it before, at three gains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from figures._base import Figure, Progress
from figures._style import PALETTE, THEORY, frame, styled
from figures.gradinit._training import (
    METHODS,
    add_verdicts,
    by_method,
    compared,
    expected,
    preparation,
    reduced,
    tally,
)

__all__ = ["MLPTraining"]

_GAINS = (0.7, 1.0, 1.5)
_RATES = {"adam": 1e-3, "sgd": 0.1}
_WORD = {"adam": "Adam", "sgd": "SGD"}
_GAMMA = {"adam": 100.0, "sgd": 1.0}

# (mean, deviation between five seeds) of the accuracy, NaN where it is not known.
_EXPECTED: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "adam": {
        "none": ((0.935, 0.010), (0.954, 0.008), (0.597, 0.075)),
        "gradinit": ((0.955, 0.016), (0.961, 0.008), (0.962, 0.017)),
        "lsuv": ((0.965, 0.006),) * 3,
        "autoinit": ((0.952, math.nan), (0.946, math.nan), (0.943, math.nan)),
        "metainit": ((0.913, math.nan), (0.918, math.nan), (0.939, math.nan)),
        "kraehenbuehl": ((0.836, 0.024),) * 3,
    },
    "sgd": {
        "none": ((0.343, 0.088), (0.925, 0.052), (0.100, 0.0)),
        "gradinit": ((0.842, 0.099), (0.824, 0.129), (0.887, 0.052)),
        "lsuv": ((0.962, 0.014),) * 3,
        "autoinit": ((0.911, math.nan), (0.918, math.nan), (0.875, math.nan)),
        "metainit": ((0.271, math.nan), (0.386, math.nan), (0.296, math.nan)),
        "kraehenbuehl": ((0.768, 0.374),) * 3,
    },
}


def _effort(seeds: int, epochs: int = 10, **changed: Any) -> dict[str, Any]:
    methods = ("none", "gradinit", "lsuv", "autoinit", "metainit", "kraehenbuehl")
    usual = {
        "depth": 12,
        "width": 64,
        "gains": list(_GAINS),
        "methods": list(methods),
        "epochs": epochs,
        "batch": 64,
        "seeds": seeds,
        "gradinit_steps": 390,
        "autoinit_steps": 100,
        "metainit_steps": 200,
    }
    return usual | changed


@Figure.family.register("gradinit/mlp_training")
class MLPTraining(Figure):
    """Every seed as a point, six methods, three gains, two optimisers."""

    title: ClassVar[str] = "a plain network after training, prepared by GradInit and its rivals"
    trains: ClassVar[bool] = True
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": _effort(
            2, 1, gains=[1.5], methods=["none", "gradinit", "lsuv"], gradinit_steps=25
        ),
        "draft": _effort(2),
        "paper": _effort(5),
    }

    def effort(self, budget: str) -> Mapping[str, Any]:
        """That of the budget; on other images than digits a part of them."""
        return reduced(super().effort(budget), self.data)

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/mlp_training")
        from sigprop.modules.data import load_data

        effort = self.effort(budget)
        train, test = effort.get("train"), effort.get("test")
        data = load_data(self.data, validation=0, train=train, test=test)
        results = {}
        for place, optimizer in enumerate(_RATES):

            def told(done: int, total: int, place: int = place) -> None:
                if progress is not None:
                    progress(place * total + done, len(_RATES) * total)

            study = self._study(optimizer, data, effort, told)
            results[optimizer] = by_method(study, effort["methods"], "gain", effort["gains"])
            add_verdicts(results[optimizer], "gain")
        return results

    def _study(
        self, optimizer: str, data: Any, effort: Mapping[str, Any], progress: Progress
    ) -> xr.Dataset:
        from sigprop.modules.study import Case, run_study
        from sigprop.modules.train import Recipe

        settings: dict[str, dict[str, Any]] = {
            "none": {},
            "gradinit": {
                "half_batch": 64,
                "optimizer": optimizer,
                "lr": _RATES[optimizer],
                "gamma": _GAMMA[optimizer],
                "tau": 0.01,
                "steps": effort["gradinit_steps"],
            },
            "lsuv": {},
            "autoinit": {"steps": effort["autoinit_steps"]},
            "metainit": {"steps": effort["metainit_steps"]},
            "kraehenbuehl": {},
        }
        cases = {
            f"{method}/{gain}": Case(
                network=f"mlp:depth={effort['depth']},width={effort['width']},gain={gain}",
                prepare=preparation(method, settings[method]),
                about={"method": method} | settings[method],
            )
            for method in effort["methods"]
            for gain in effort["gains"]
        }
        recipe = Recipe(
            optimizer=optimizer,
            lr=_RATES[optimizer],
            epochs=effort["epochs"],
            batch=effort["batch"],
        )
        kept = self.checkpoint
        journal = None if kept is None else kept.with_name(f"{kept.name}.{optimizer}")
        seeds = range(effort["seeds"])
        return run_study(cases, data, recipe, seeds=seeds, journal=journal, progress=progress)

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """No theory: the table that was measured before, where network and epochs are its own."""
        effort = self.effort(budget)
        if budget == "smoke" or self.data != "digits":
            return {}
        return {
            optimizer: expected(
                {m: dict(zip(_GAINS, rows[m])) for m in effort["methods"]}, effort["gains"], "gain"
            )
            for optimizer, rows in _EXPECTED.items()
        }

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        lines = ["test accuracy, mean ± deviation between seeds; in brackets what was expected"]
        for optimizer, result in results.items():
            gains = result.gain.values
            heads = "".join(f"{f'gain {gain:g}':>30s}" for gain in gains)
            lines += [f"\n{_named(optimizer):22s}{heads}{'preparation':>14s}"]
            lines += compared(result, predictions.get(optimizer), "gain", gains)
        return "\n".join([*lines, "", *_sentences(results)])

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 5.8))
        panels = picture.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
        some = next(iter(results.values()))
        for axes, (optimizer, result) in zip(panels, results.items()):
            for g, gain in enumerate(result.gain.values):
                for m, method in enumerate(result.preparation.values):
                    at, last = m + 0.26 * (g - (result.gain.size - 1) / 2), result.isel(epoch=-1)
                    place = {"preparation": method, "gain": gain}
                    ends = last.test_accuracy.isel(lr=0).sel(place)
                    seeds = at + np.linspace(-0.06, 0.06, ends.size)
                    axes.plot(seeds, ends, "o", ms=3.6, color=PALETTE[g], alpha=0.75, mew=0)
                    axes.hlines(
                        last.accuracy_mean.sel(place), at - 0.1, at + 0.1, PALETTE[g], lw=1.6
                    )
                    if optimizer in predictions:
                        theirs = predictions[optimizer].sel(place)
                        spread = np.nan_to_num(theirs.accuracy_deviation)
                        look: dict[str, Any] = {"color": THEORY, "fmt": "_", "ms": 5, "lw": 0.8}
                        axes.errorbar(at + 0.115, theirs.accuracy_mean, spread, **look)
            axes.axhline(0.1, color="0.6", lw=0.8, ls=":")
            axes.set_ylim(0, 1.02)
            axes.set_ylabel("test accuracy")
            axes.set_title(_named(optimizer), loc="left")
        methods = [METHODS[method] for method in some.preparation.values]
        panels[-1].set_xticks(range(len(methods)), methods)
        handles = [
            Line2D([], [], marker="o", ls="", ms=4, color=PALETTE[g], label=f"gain {gain:g}")
            for g, gain in enumerate(some.gain.values)
        ]
        if predictions:
            handles.append(
                Line2D(
                    [], [], marker="_", ls="", color=THEORY, label="measured elsewhere, ± deviation"
                )
            )
        handles.append(Line2D([], [], color="0.6", ls=":", label="chance"))
        picture.legend(handles=handles, ncols=5)
        told = _told(some)
        setting = (
            f"{told['network']}; {told['data']}, {told['epochs']} of batches of "
            f"{told['batch']}; {some.seed.size} seeds, each a point, and their mean"
        )
        frame(
            picture,
            f"Accuracy after {told['epochs']}, by what was done before",
            setting,
            "After Zhu et al. (2021), GradInit. "
            "Weights N(0, gain² 2/fan_in). The learning rates are given, none is chosen. "
            + " ".join(_sentences(results)),
            legend_rows=1,
        )
        return picture


def _named(optimizer: str) -> str:
    return {"adam": "Adam, 0.001", "sgd": "SGD, 0.1, no momentum"}[optimizer]


def _told(result: xr.Dataset) -> dict[str, Any]:
    """What the picture says of the study."""
    import json

    study = json.loads(result.attrs["study"])
    first = next(iter(study["cases"].values()))["network"]
    epochs = study["recipe"]["epochs"]
    shape = dict(option.split("=") for option in first.partition(":")[2].split(","))
    return {
        "network": f"{shape['depth']} hidden layers of {shape['width']}, ReLU",
        "data": study["data"]["name"],
        "epochs": "1 epoch" if epochs == 1 else f"{epochs} epochs",
        "batch": study["recipe"]["batch"],
    }


def _sentences(results: Mapping[str, xr.Dataset]) -> list[str]:
    """What these data show and what they do not, for none and for LSUV."""
    told = []
    for rival in ("none", "lsuv"):
        found = [
            (
                f"{_WORD[optimizer]} at {gain:g}",
                str(result.verdict.sel(rival=rival, gain=gain).values),
            )
            for optimizer, result in results.items()
            for gain in result.gain.values
        ]
        told.append(f"GradInit above {METHODS[rival]}, by gain: {tally(found)}.")
    return told
