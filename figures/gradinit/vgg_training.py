"""Accuracy of a convolutional network as it trains, with and without batch normalisation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

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

__all__ = ["VGGTraining"]

_METHODS = ("none", "gradinit", "lsuv")
_NORMS = {"none": "without normalisation, gradient clipped at 1", "batch": "batch normalisation"}
_SEEDS = 3  # of other images than digits
_TAU = {"none": 0.01, "batch": 0.1}

# (mean, deviation between five seeds) of the accuracy after 2 and 6 epochs.
_EXPECTED = {
    "none": {
        "none": {2: (0.094, 0.015), 6: (0.638, 0.095)},
        "gradinit": {2: (0.643, 0.115), 6: (0.918, 0.028)},
        "lsuv": {2: (0.848, 0.045), 6: (0.936, 0.016)},
    },
    "batch": {
        "none": {2: (0.488, 0.177), 6: (0.958, 0.013)},
        "gradinit": {2: (0.667, 0.110), 6: (0.978, 0.006)},
        "lsuv": {2: (0.791, 0.146), 6: (0.964, 0.008)},
    },
}


def _effort(seeds: Mapping[str, int], **changed: Any) -> dict[str, Any]:
    usual = {"widths": "16/32/64", "convolutions": 4, "epochs": 6, "steps": 200, "train": None}
    return usual | {"seeds": dict(seeds)} | changed


@Figure.family.register("gradinit/vgg_training")
class VGGTraining(Figure):
    """Every seed as a thin line, their mean as a thick one."""

    title: ClassVar[str] = "a convolutional network as it trains, prepared by GradInit and LSUV"
    trains: ClassVar[bool] = True
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": _effort(
            {"none": 1, "batch": 1}, widths="8/16", convolutions=2, epochs=2, steps=6, train=320
        ),
        "draft": _effort({"none": 2, "batch": 2}),
        # With batch normalisation the gap is within the noise of five seeds.
        "paper": _effort({"none": 5, "batch": 10}),
    }

    def effort(self, budget: str) -> Mapping[str, Any]:
        """That of the budget; of other images than digits a part, fewer epochs and three seeds."""
        effort = super().effort(budget)
        epochs = min(3, effort.get("epochs", 3))
        seeds = {norm: min(_SEEDS, count) for norm, count in effort["seeds"].items()}
        less = {"steps": min(100, effort["steps"]), "epochs": epochs, "seeds": seeds}
        return reduced(effort, self.data, **less)

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/vgg_training")
        from sigprop.modules.data import load_data

        effort = self.effort(budget)
        train, test = effort.get("train"), effort.get("test")
        data = load_data(self.data, validation=0, train=train, test=test)
        seeds, results, before = effort["seeds"], {}, 0
        whole = sum(seeds.values()) * len(_METHODS) * effort["epochs"]
        for norm in _NORMS:

            def told(done: int, total: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, whole)

            study = self._study(norm, data, effort, told)
            results[norm] = by_method(study, _METHODS, "norm", [norm]).isel(norm=0, drop=True)
            add_verdicts(results[norm], "epoch")
            before += seeds[norm] * len(_METHODS) * effort["epochs"]
        return results

    def _study(
        self, norm: str, data: Any, effort: Mapping[str, Any], progress: Progress
    ) -> xr.Dataset:
        from sigprop.modules.study import Case, run_study
        from sigprop.modules.train import Recipe

        settings: dict[str, dict[str, Any]] = {
            "none": {},
            "gradinit": {
                "half_batch": 32,
                "lr": 0.1,
                "gamma": 1.0,
                "tau": _TAU[norm],
                "steps": effort["steps"],
            },
            "lsuv": {},
        }
        network = f"vgg:widths={effort['widths']},convolutions={effort['convolutions']},norm={norm}"
        cases = {
            f"{method}/{norm}": Case(
                network=network,
                prepare=preparation(method, settings[method]),
                about={"method": method} | settings[method],
            )
            for method in _METHODS
        }
        clip = 1.0 if norm == "none" else None
        recipe = Recipe(lr=0.1, momentum=0.9, clip=clip, epochs=effort["epochs"], batch=64)
        kept = self.checkpoint
        journal = None if kept is None else kept.with_name(f"{kept.name}.{norm}")
        seeds = range(effort["seeds"][norm])
        return run_study(cases, data, recipe, seeds=seeds, journal=journal, progress=progress)

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """No theory: the table that was measured before, where network and epochs are its own."""
        if budget == "smoke" or self.data != "digits":
            return {}
        return {norm: expected(rows, [2, 6], "epoch") for norm, rows in _EXPECTED.items()}

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        lines = ["test accuracy, mean ± deviation between seeds; in brackets what was expected"]
        for norm, result in results.items():
            epochs = [e for e in (2, 6) if e in result.epoch.values]
            heads = "".join(f"{f'epoch {epoch}':>30s}" for epoch in epochs)
            lines += ["", f"{_NORMS[norm]}, {result.seed.size} seeds"]
            lines += [f"{'':22s}{heads}{'preparation':>14s}"]
            lines += compared(result, predictions.get(norm), "epoch", epochs)
        return "\n".join([*lines, "", *_sentences(results)])

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 4.4))
        panels = picture.subplots(1, len(results), sharey=True, squeeze=False)[0]
        some = next(iter(results.values()))
        for axes, (norm, result) in zip(panels, results.items()):
            for m, method in enumerate(result.preparation.values):
                runs = result.test_accuracy.isel(lr=0).sel(preparation=method)
                runs = runs.transpose("epoch", "seed")
                axes.plot(runs.epoch, runs, color=PALETTE[m], lw=0.7, alpha=0.55)
                mean = result.accuracy_mean.sel(preparation=method)
                axes.plot(mean.epoch, mean, color=PALETTE[m], lw=2)
                if norm in predictions:
                    theirs = predictions[norm].sel(preparation=method)
                    at = theirs.epoch + 0.09 * (m - 1)
                    look: dict[str, Any] = {"color": THEORY, "mfc": PALETTE[m], "fmt": "D", "ms": 4}
                    axes.errorbar(
                        at, theirs.accuracy_mean, theirs.accuracy_deviation, lw=0.9, **look
                    )
            axes.axhline(0.1, color="0.6", lw=0.8, ls=":")
            axes.set_title(f"{_NORMS[norm]}, {result.seed.size} seeds", loc="left")
            axes.set_xlabel("epochs trained")
            axes.set_xticks(result.epoch.values)
        panels[0].set_ylim(0, 1.02)
        panels[0].set_ylabel("test accuracy")
        handles = [
            Line2D([], [], lw=2, color=PALETTE[m], label=METHODS[method])
            for m, method in enumerate(some.preparation.values)
        ]
        if predictions:
            look = {"marker": "D", "ms": 4, "ls": "", "mfc": "w"}
            told = "measured elsewhere, ± deviation of five seeds"
            handles.append(Line2D([], [], color=THEORY, label=told, **look))
        handles.append(Line2D([], [], color="0.6", ls=":", label="chance"))
        picture.legend(handles=handles, ncols=5)
        study = json.loads(some.attrs["study"])
        network = next(iter(study["cases"].values()))["network"]
        shape = dict(option.split("=") for option in network.partition(":")[2].split(","))
        setting = (
            f"{shape['convolutions']} convolutions each of {shape['widths'].replace('/', ', ')} "
            f"channels, ReLU; {study['data']['name']}; SGD, rate 0.1, momentum 0.9, batches of 64"
        )
        frame(
            picture,
            "A convolutional network as it trains, by what was done before",
            setting,
            "After Zhu et al. (2021), GradInit. "
            "He's weights by fan-out, the classifier N(0, 0.01²). Thin lines are seeds. The rate "
            "is given, none is chosen. " + " ".join(_sentences(results)),
            legend_rows=1,
        )
        return picture


def _sentences(results: Mapping[str, xr.Dataset]) -> list[str]:
    """What these data show and what they do not, after 2 epochs and at the end."""
    words = {"none": "without BN", "batch": "with BN"}
    told = []
    for rival in ("none", "lsuv"):
        found = [
            (
                f"{words[norm]} after {epoch}",
                str(result.verdict.sel(rival=rival, epoch=epoch).values),
            )
            for norm, result in results.items()
            for epoch in sorted({2, int(result.epoch[-1])})
        ]
        told.append(f"GradInit above {METHODS[rival]}, by epochs: {tally(found)}.")
    return told
