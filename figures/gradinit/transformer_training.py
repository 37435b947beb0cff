"""A Transformer that normalises after its sums, trained without warm-up, by learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from scipy.stats import binomtest

from figures._base import Figure, Progress
from figures._style import PALETTE, frame, styled
from figures._training import checkpoint
from figures.gradinit._training import judged, preparation, tally, written

if TYPE_CHECKING:
    from sigprop.modules.data import ImageSet

__all__ = ["TransformerTraining"]

_WAYS = {
    "none": "post-LN, no warm-up",
    "gradinit": "post-LN, GradInit, no warm-up",
    "warmup": "post-LN, warm-up",
    "pre": "pre-LN, no warm-up",
}
_KINDS = {"constant": ("none", "gradinit", "pre"), "warm": ("warmup",)}  # by how the rate goes
_MARKS = dict(zip(_WAYS, "os^D"))
_KEPT = ("train_loss", "test_loss", "test_accuracy", "diverged_step", "preparation_seconds")


def _effort(seeds: int, **changed: Any) -> dict[str, Any]:
    usual = {
        "network": "depth=6,width=64,heads=4,inner=128",
        "length": 8,
        "vocabulary": 8,
        "train": 3200,
        "test": 1000,
        "epochs": 6,
        "batch": 32,
        "warmup": 100,
        "lrs": [0.0005, 0.001, 0.002, 0.004],
        "gamma": 100.0,
        "tau": 0.01,
        "steps": 200,
        "seeds": seeds,
    }
    return usual | changed


@Figure.family.register("gradinit/transformer_training")
class TransformerTraining(Figure):
    """Accuracy after training by rate, the share that learns nothing, losses by step."""

    title: ClassVar[str] = "a post-LN Transformer without warm-up, with and without GradInit"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": _effort(
            2,
            network="depth=2,width=16,heads=2,inner=32",
            length=4,
            vocabulary=4,
            train=320,
            test=200,
            epochs=2,
            warmup=5,
            lrs=[0.002, 0.02],
            gamma=20.0,
            steps=10,
        ),
        "draft": _effort(2, epochs=4, lrs=[0.001, 0.004], steps=100),
        "paper": _effort(5),
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/transformer_training")
        from sigprop.modules.symbols import reversal

        effort = self.effort(budget)
        task = {name: effort[name] for name in ("length", "vocabulary", "train", "test")}
        data = reversal(**task)
        runs, before = [], 0
        for lr in effort["lrs"]:
            found: dict[str, xr.Dataset] = {}
            for kind, ways in _KINDS.items():

                def told(done: int, total: int, before: int = before) -> None:
                    if progress is not None:
                        whole = len(_WAYS) * effort["seeds"] * effort["epochs"]
                        progress(before + done, whole * len(effort["lrs"]))

                found |= self._studied(kind, ways, lr, data, effort, told)
                before += len(ways) * effort["seeds"] * effort["epochs"]
            runs.append(xr.concat([found[way] for way in _WAYS], "preparation"))
        result = xr.concat(runs, "lr").assign_coords(preparation=list(_WAYS), lr=effort["lrs"])
        _summarise(result, effort)
        norms = [_start_norm(data, effort, seed) for seed in range(effort["seeds"])]
        result["start_norm"] = ("seed", norms, {"long_name": "sum of |gradient| at the start"})
        told_of = {key: value for key, value in effort.items() if key not in ("lrs", "seeds")}
        return {"study": result.assign_attrs(told_of)}

    def _studied(
        self,
        kind: str,
        ways: tuple[str, ...],
        lr: float,
        data: ImageSet,
        effort: Mapping[str, Any],
        progress: Progress,
    ) -> dict[str, xr.Dataset]:
        """What comes of ``ways`` at one rate, each over (seed, epoch)."""
        from sigprop.modules.study import Case, run_study
        from sigprop.modules.train import Recipe

        settings: dict[str, dict[str, Any]] = {way: {} for way in ways}
        settings["gradinit"] = {
            "half_batch": effort["batch"] // 2,
            "optimizer": "adam",
            "lr": lr,
            "gamma": effort["gamma"],
            "tau": effort["tau"],
            "steps": effort["steps"],
        }
        cases = {
            way: Case(
                network=_line(effort, way),
                prepare=preparation("gradinit" if way == "gradinit" else "none", settings[way]),
                about={"way": way} | settings[way],
            )
            for way in ways
        }
        recipe = Recipe(
            optimizer="adam",
            lr=lr,
            warmup=effort["warmup"] if kind == "warm" else 0,
            epochs=effort["epochs"],
            batch=effort["batch"],
        )
        study = run_study(
            cases, data, recipe, seeds=range(effort["seeds"]),
            journal=checkpoint(self, f"{kind}.{lr:g}"), progress=progress,
        )  # fmt: skip
        part = study[list(_KEPT)].isel(lr=0, drop=True)
        part.attrs = {"software": study.attrs["software"]}
        return {way: part.sel(case=way, drop=True) for way in ways}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """No theory of this."""
        return {}

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        study = results["study"]
        heads = "".join(f"{f'rate {lr:g}':>22s}" for lr in study.lr.values)
        lines = [
            f"accuracy per place, mean ± deviation between {study.sizes['seed']} seeds; in "
            "brackets how many did not learn",
            f"{'':32s}{heads}{'preparation':>14s}",
        ]
        for way in study.preparation.values:
            cells = ""
            for lr in study.lr.values:
                at = study.sel(preparation=way, lr=lr)
                lost = int((~at.learned).sum())
                told = written(float(at.accuracy_mean[-1]), float(at.accuracy_deviation[-1]))
                cells += f"{f'{told} [{lost}]':>22s}"
            seconds = float(study.preparation_seconds.sel(preparation=way).mean())
            lines.append(f"{_WAYS[way]:32s}{cells}{seconds:>12.2f} s")
        return "\n".join([*lines, "", *_sentences(study)])

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        study = results["study"]
        rates, steps = study.lr.values, study.attrs["train"] // study.attrs["batch"]
        picture = Picture(figsize=(10.2, 6.6))
        grid = picture.add_gridspec(2, 2 * len(rates))
        ends = picture.add_subplot(grid[0, : len(rates)])
        lost = picture.add_subplot(grid[0, len(rates) :])
        courses = [picture.add_subplot(grid[1, 2 * i : 2 * i + 2]) for i in range(len(rates))]
        chance = 1 / study.attrs["vocabulary"]
        for w, way in enumerate(study.preparation.values):
            _draw_ends(ends, lost, study.sel(preparation=way), w, way)
            for axes, lr in zip(courses, rates):
                runs = study.sel(preparation=way, lr=lr)
                at = steps * runs.epoch
                axes.plot(at, runs.test_loss.T, color=PALETTE[w], lw=0.6, alpha=0.5)
                axes.plot(at, runs.loss_mean, color=PALETTE[w], lw=1.9, marker=_MARKS[way], ms=3.5)
        ends.axhline(chance, color="0.6", lw=0.8, ls=":")
        ends.set_ylim(0, 1.03)
        ends.set_ylabel("accuracy per place")
        ends.set_title("after training: seeds, and mean ± 2 standard errors")
        lost.set_ylim(-0.03, 1.03)
        lost.set_ylabel("share of seeds")
        lost.set_title("did not learn: test loss above half of chance")
        for axes in (ends, lost):
            axes.set_xscale("log")
            axes.set_xticks(rates, [f"{lr:g}" for lr in rates])
            axes.minorticks_off()
            axes.set_xlabel("learning rate of Adam")
        for axes, lr in zip(courses, rates):
            axes.axhline(-math.log(chance), color="0.6", lw=0.8, ls=":")
            axes.set_ylim(0, 1.15 * -math.log(chance))
            axes.set_title(f"rate {lr:g}")
            axes.set_xlabel("steps")
        courses[0].set_ylabel("test loss (nat a place)")
        handles = [
            Line2D([], [], color=PALETTE[w], lw=1.9, marker=_MARKS[way], ms=4, label=_WAYS[way])
            for w, way in enumerate(study.preparation.values)
        ]
        handles.append(Line2D([], [], color="0.6", ls=":", label="chance"))
        picture.legend(handles=handles, ncols=5)
        about = study.attrs
        low, high = float(study.start_norm.min()), float(study.start_norm.max())
        setting = (
            f"Transformer encoder, {about['network'].replace(',', ', ')}, no dropout; to tell "
            f"{about['length']} symbols of {about['vocabulary']} backwards; Adam, batches of "
            f"{about['batch']}; {study.sizes['seed']} seeds"
        )
        caption = (
            "After Zhu et al. (2021), GradInit, who train a post-LN Transformer for translation "
            "without warm-up; this is a small task on one processor and says nothing of theirs. "
            f"GradInit: γ {about['gamma']:g} (at the start the norm, a sum of absolute values, is "
            f"{low:.0f} to {high:.0f}, so it binds), τ {about['tau']:g}, {about['steps']} "
            f"iterations, told the rate of the training. Warm-up: {about['warmup']} steps. Thin "
            "lines are seeds, thick ones their mean; the bars of shares hold 95%. "
            + " ".join(_sentences(study))
        )
        title = "A post-LN Transformer without warm-up, by learning rate"
        frame(picture, title, setting, caption, legend_rows=1)
        return picture


def _draw_ends(ends: Axes, lost: Axes, found: xr.Dataset, w: int, way: str) -> None:
    """Accuracy after training and share that did not learn, of one way, beside the others."""
    at = found.lr.values * 1.06 ** (w - 1.5)
    look: dict[str, Any] = {"color": PALETTE[w], "marker": _MARKS[way], "ms": 4.5, "lw": 1.0}
    last = found.isel(epoch=-1)
    for x, values in zip(at, last.test_accuracy.transpose("lr", "seed").values):
        ends.plot(np.full(values.size, x), values, ".", ms=4, color=PALETTE[w], alpha=0.45)
    ends.errorbar(at, last.accuracy_mean, 2 * last.accuracy_mean_se, **look)
    share = found.lost_share.values
    error = np.abs(np.stack([found.lost_low.values, found.lost_high.values]) - share)
    lost.errorbar(at, share, error, **look)


def _line(effort: Mapping[str, Any], way: str) -> str:
    order = "pre" if way == "pre" else "post"
    return f"transformer:{effort['network']},order={order},output=place"


def _start_norm(data: ImageSet, effort: Mapping[str, Any], seed: int) -> float:
    """The sum of absolute values of the gradient, of the network that is not prepared."""
    import torch

    from sigprop.modules.architectures import architecture
    from sigprop.modules.train import Seeds

    given = Seeds.of(seed)
    network = architecture(_line(effort, "none")).build(data.shape, data.classes, seed=given.init)
    images, labels = next(iter(data.train.batches(effort["batch"], seed=given.preparation)))
    loss = torch.nn.functional.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return float(sum(g.abs().sum(dtype=torch.float64) for g in gradients))


def _summarise(result: xr.Dataset, effort: Mapping[str, Any]) -> None:
    """Means with their errors, who learned, verdicts; in place."""
    accuracy, seeds = result.test_accuracy, result.sizes["seed"]
    result["accuracy_mean"] = accuracy.mean("seed")
    result["accuracy_deviation"] = accuracy.std("seed", ddof=1)
    result["accuracy_mean_se"] = result.accuracy_deviation / math.sqrt(seeds)
    result["loss_mean"] = result.test_loss.mean("seed", skipna=False)
    # A loss that is not finite is not below.
    result["learned"] = result.test_loss.isel(epoch=-1) < math.log(effort["vocabulary"]) / 2
    lost = (~result.learned).sum("seed")
    result["lost_share"] = lost / seeds
    bounds = [binomtest(int(k), seeds).proportion_ci(method="wilson") for k in lost.values.ravel()]
    for name in ("low", "high"):
        values = np.reshape([getattr(bound, name) for bound in bounds], lost.shape)
        result[f"lost_{name}"] = (lost.dims, values)
    rivals = [way for way in result.preparation.values if way != "gradinit"]
    last = accuracy.isel(epoch=-1, drop=True)
    verdicts = [
        [judged(last.sel(lr=lr, drop=True), "gradinit", rival) for lr in result.lr.values]
        for rival in rivals
    ]
    result["verdict"] = (
        ("rival", "lr"),
        np.array(verdicts, dtype=str),
        {"long_name": "whether GradInit is better, by Student's test paired by seed"},
    )
    result.coords["rival"] = ("rival", np.array(rivals, dtype=str))


def _sentences(study: xr.Dataset) -> list[str]:
    """What these data show and what they do not."""
    words = {"none": "nothing", "warmup": "warm-up", "pre": "pre-LN"}
    told = []
    for rival, word in words.items():
        found = [
            (f"{lr:g}", str(study.verdict.sel(rival=rival, lr=lr).values)) for lr in study.lr.values
        ]
        told.append(f"GradInit better than {word}, by rate: {tally(found)}.")
    return told
