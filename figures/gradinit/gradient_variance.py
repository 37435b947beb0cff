"""How much gradients differ from batch to batch, layer by layer, before and after GradInit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures._base import Figure, Progress, replacing
from figures._style import PALETTE, THEORY, frame, styled
from figures.gradinit._training import reduced

if TYPE_CHECKING:
    from torch import nn

    from sigprop.modules.data import ImageSet

__all__ = ["GradientVariance"]

_DRAWN = ("relvar_before", "relvar_after", "weight_norm_before", "weight_norm_after", "scale",
          "gain_scale")  # fmt: skip
_NORMS = {"batch": "with batch normalisation", "none": "without normalisation"}
_NOISE_SEED = 2**16  # of the batches that gradients are compared on: not those of GradInit

# What the same experiment gave elsewhere: from .. to, over three seeds.
_EXPECTED: dict[str, dict[str, tuple[float, float]]] = {
    "batch": {
        "norm_before": (2.8, 3.9),
        "norm_after": (1.0, 1.1),
        "fallen": (0.74, 0.79),
        "median_before": (0.86, 1.1),
        "median_after": (0.52, 0.70),
        "classifier_before": (0.11, 0.20),
        "classifier_after": (0.94, 1.4),
        "last_gain_smallest": (20 / 27, 20 / 27),
    },
    "none": {
        "median_before": (0.04, 0.40),
        "median_after": (0.47, 0.69),
        "accuracy_before": (0.20, 0.84),
        "accuracy_after": (0.35, 0.87),
    },
}

_WORDS = {
    "norm_before": "gradient norm, before",
    "norm_after": "gradient norm, after",
    "fallen": "share of weights and gains below the classifier whose relvar falls",
    "median_before": "their median relvar, before",
    "median_after": "their median relvar, after",
    "classifier_before": "relvar of the classifier, before",
    "classifier_after": "relvar of the classifier, after",
    "last_gain_smallest": "share of blocks whose last gain is the smallest",
    "risen": "share of convolutions that grow",
    "accuracy_before": "test accuracy after training, none",
    "accuracy_after": "test accuracy after training, GradInit",
}


def _effort(seeds: int, **changed: Any) -> dict[str, Any]:
    usual = {
        "network": "resnet:stages=3,blocks=3,widths=8/16/32",
        "norms": list(_NORMS),
        "seeds": seeds,
        "half_batch": 64,
        "lr": 0.1,
        "gamma": 1.0,
        "tau": 0.01,
        "steps": 390,
        "batches": 16,
        "batch": 128,
        "epochs": 3,
        "momentum": 0.9,
    }
    return usual | changed


@Figure.family.register("gradinit/gradient_variance")
class GradientVariance(Figure):
    """Relative variance of gradients across batches, norms of weights, learned scales."""

    title: ClassVar[str] = "gradients across batches, layer by layer, before and after GradInit"
    trains: ClassVar[bool] = True
    version: ClassVar[int] = 2  # gains are counted
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": _effort(
            1,
            network="resnet:stages=2,blocks=1,widths=4/6",
            steps=12,
            batch=32,
            half_batch=16,
            epochs=1,
        ),
        "draft": _effort(1, steps=195),
        "paper": _effort(3),
    }

    def effort(self, budget: str) -> Mapping[str, Any]:
        """That of the budget; on other images than digits a part of them and fewer iterations."""
        effort = super().effort(budget)
        return reduced(effort, self.data, steps=min(100, effort["steps"]))

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/gradient_variance")
        from sigprop.modules.data import load_data

        effort = self.effort(budget)
        train, test = effort.get("train"), effort.get("test")
        data = load_data(self.data, validation=0, train=train, test=test)
        total, results = len(effort["norms"]) * effort["seeds"], {}
        for n, norm in enumerate(effort["norms"]):
            runs = []
            for seed in range(effort["seeds"]):
                runs.append(self._kept_run(norm, seed, data, effort))
                if progress is not None:
                    progress(n * effort["seeds"] + seed + 1, total)
            found = xr.concat(runs, xr.DataArray(np.arange(len(runs)), dims="seed", name="seed"))
            medians = {f"{v}_median": found[v].median("seed") for v in _DRAWN if v in found}
            if "last_gain_smallest" in found:
                medians["last_gain_smallest_mean"] = found.last_gain_smallest.mean("seed")
            results[norm] = found.assign(medians).assign_attrs(
                network=effort["network"], data=data.name, **_plain(effort)
            )
        return results

    def _kept_run(
        self, norm: str, seed: int, data: ImageSet, effort: Mapping[str, Any]
    ) -> xr.Dataset:
        """One network, from the disk if a run that was stopped left it there."""
        path = self.checkpoint
        if path is not None:
            path = path.with_name(f"{path.name}.{norm}.{seed}")
            if path.is_file():
                with xr.open_dataset(path, engine="h5netcdf") as standing:
                    return standing.load()
        found = _run(f"{effort['network']},norm={norm}", seed, data, effort)
        if path is not None:
            with replacing(path) as part:
                found.to_netcdf(part, engine="h5netcdf")
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """No theory: what was measured before, of the same networks on the same data."""
        if budget != "paper" or self.data != "digits":
            return {}
        return {
            norm: xr.Dataset(
                {name: ("end", list(ends)) for name, ends in rows.items()},
                {"end": ["from", "to"]},
                {"status": "measured"},
            )
            for norm, rows in _EXPECTED.items()
        }

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        lines = [f"{'every seed':>60s}   expected"]
        for norm, found in results.items():
            lines.append(f"{_NORMS[norm]}, relvar over {found.attrs['batches']} batches")
            for name, words in _WORDS.items():
                if name not in found:
                    continue
                seeds = " ".join(f"{value:.3g}" for value in found[name].values)
                told = ""
                if norm in predictions and name in predictions[norm]:
                    low, high = (float(end) for end in predictions[norm][name])
                    told = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
                lines.append(f"  {words:60s} {seeds:24s} {told}")
        return "\n".join(lines)

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(10.2, 2.6 * len(results) + 1.5))
        rows = picture.subplots(len(results), 3, squeeze=False)
        for axes, (norm, found) in zip(rows, results.items()):
            layer = 1 + np.arange(found.weight.size)
            for variable, ax in (("relvar", axes[0]), ("weight_norm", axes[1])):
                for when, colour in zip(("before", "after"), PALETTE):
                    _lines(ax, layer, found, f"{variable}_{when}", color=colour, marker="o")
            axes[0].set_yscale("log")
            axes[1].set_ylim(bottom=0)
            axes[0].axhline(found.attrs["batches"], color=THEORY, lw=0.9, ls="--")
            axes[0].set_ylabel(f"{_NORMS[norm]}\nrelvar of the gradient")
            axes[1].set_ylabel("norm of the tensor")
            _lines(axes[2], layer, found, "scale", color=PALETTE[2], marker="o")
            if "gain_scale" in found:
                at = found.gain_layer.isel(seed=0).values
                _lines(axes[2], at, found, "gain_scale", color=PALETTE[3], marker="s")
            axes[2].axhline(1.0, color="0.6", lw=0.8, zorder=0)
            axes[2].set_ylabel("learned scale")
        rows[0, 0].set_title("gradient across batches")
        rows[0, 1].set_title("size of the weights")
        rows[0, 2].set_title("what GradInit multiplies by")
        for ax in rows.flat:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        for ax in rows[-1]:
            ax.set_xlabel("weight tensor, from the input (last: classifier)")
        look = (("before", PALETTE[0], "o"), ("after GradInit", PALETTE[1], "o"),
                ("scale of a weight", PALETTE[2], "o"),
                ("scale of a gain (at its layer)", PALETTE[3], "s"))  # fmt: skip
        handles = [Line2D([], [], color=c, marker=m, ms=3, label=w) for w, c, m in look]
        handles.append(Line2D([], [], color=THEORY, ls="--", label="pure noise: about B"))
        picture.legend(handles=handles, ncols=5)
        some = next(iter(results.values()))
        about = some.attrs
        told = f"{some.seed.size} seeds, thin, and their median" if some.seed.size > 1 else "seed 0"
        setting = (
            f"ResNet, {about['network'].partition(':')[2]}; {about['data']}; GradInit: half-batch "
            f"{about['half_batch']}, lr {about['lr']:g}, γ {about['gamma']:g}, τ {about['tau']:g}, "
            f"{about['steps']} iterations; relvar over B = {about['batches']} batches of "
            f"{about['batch']}; {told}"
        )
        caption = (
            "Zhu et al. (2021), GradInit, its figure of gradient variance, on small networks. "
            "relvar = Σ Var g_j / |mean g|² over batches; it is near B where a gradient is noise. "
            + " ".join(_sentences(results, predictions))
        )
        frame(
            picture, "Gradients across batches before and after GradInit", setting, caption,
            legend_rows=1,
        )  # fmt: skip
        return picture


def _lines(axes: Axes, layer: np.ndarray, found: xr.Dataset, name: str, **look: Any) -> None:
    """Every seed as a thin line, and their median."""
    axes.plot(layer, found[name].T, color=look["color"], lw=0.6, alpha=0.5)
    axes.plot(layer, found[f"{name}_median"], ms=3, **look)


def _plain(effort: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in effort.items() if key not in ("network", "norms")}


# ------------------------------------------------------------------------- one network


def _run(spec: str, seed: int, data: ImageSet, effort: Mapping[str, Any]) -> xr.Dataset:
    """Everything that is told of one network before and after, over its weight tensors."""
    from torch.nn.functional import cross_entropy

    from sigprop.modules.architectures import architecture
    from sigprop.modules.gradient_noise import gradient_noise
    from sigprop.modules.gradinit import gradinit
    from sigprop.modules.init_result import kinds

    def loss(output: Any, batch: Any) -> Any:
        return cross_entropy(output, batch[1])

    endless = data.train.batches(effort["batch"], seed=_NOISE_SEED + seed, epochs=None)
    batches = [batch for batch, _ in zip(endless, range(effort["batches"]))]
    network = architecture(spec).build(data.shape, data.classes, seed=seed)
    first = copy.deepcopy(network)
    before = gradient_noise(network, batches, loss)
    half = data.train.batches(effort["half_batch"], seed=seed, epochs=None)
    settings = {key: effort[key] for key in ("lr", "gamma", "tau", "steps")}
    result = gradinit(network, half, loss, optimizer="sgd", **settings)
    after = gradient_noise(network, batches, loss)
    kind = kinds(network)
    weights = [name for name, what in kind.items() if what == "weight"]
    gains = [name for name, what in kind.items() if what == "gain"]
    found = _by_layer(before, after, result.scales, weights, gains, list(kind))
    found |= _in_short(before, after, result, weights, gains)
    for name, which in (("before", first), ("after", network)):
        found[f"accuracy_{name}"] = ((), _trained(which, data, effort, seed))
    return xr.Dataset(found, {"weight": weights} | ({"gain": gains} if gains else {}))


def _by_layer(
    before: xr.Dataset,
    after: xr.Dataset,
    scales: Mapping[str, float],
    weights: list[str],
    gains: list[str],
    order: list[str],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{variable}_{when}": ("weight", data[variable].sel(parameter=weights).values)
        for variable in ("relvar", "relvar_se", "weight_norm")
        for when, data in (("before", before), ("after", after))
    }
    found["scale"] = ("weight", [scales[name] for name in weights])
    if gains:
        found["gain_scale"] = ("gain", [scales[name] for name in gains])
        places = [sum(w in weights for w in order[: order.index(name)]) for name in gains]
        found["gain_layer"] = ("gain", places)  # that of the weight that it follows
    return found


def _in_short(
    before: xr.Dataset, after: xr.Dataset, result: Any, weights: list[str], gains: list[str]
) -> dict[str, Any]:
    """The numbers that are compared with those that were expected."""
    *below, last = weights
    # Gains are tensors "weight" too, and are counted as the method counts them.
    was, now = (data.relvar.sel(parameter=below + gains).values for data in (before, after))
    found = {
        "norm_before": result.before["grad_norm"],
        "norm_after": result.after["grad_norm"],
        "fallen": np.mean(now < was),
        "median_before": np.median(was),
        "median_after": np.median(now),
        "classifier_before": before.relvar.sel(parameter=last).item(),
        "classifier_after": after.relvar.sel(parameter=last).item(),
        "risen": np.mean([result.scales[name] > 1 for name in below]),
    }
    blocks = [name.removesuffix("bn2.weight") for name in gains if name.endswith("bn2.weight")]
    if blocks:
        inside = [
            [result.scales[name] for name in (*weights, *gains) if name.startswith(block)]
            for block in blocks
        ]
        lasts = [result.scales[f"{block}bn2.weight"] for block in blocks]
        found["last_gain_smallest"] = np.mean([min(s) == own for s, own in zip(inside, lasts)])
    return {name: ((), float(value)) for name, value in found.items()}


def _trained(network: nn.Module, data: ImageSet, effort: Mapping[str, Any], seed: int) -> float:
    """Test accuracy after a few epochs."""
    from sigprop.modules.train import Recipe, Seeds, train_network

    recipe = Recipe(
        lr=effort["lr"],
        momentum=effort["momentum"],
        epochs=effort["epochs"],
        batch=effort["half_batch"],
    )
    seeds = Seeds.of(seed)
    return float(train_network(network, data, recipe, seeds).test_accuracy[-1])


def _sentences(
    results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
) -> list[str]:
    """What these data show of what the paper says, and what they do not."""
    told = []
    for norm, found in results.items():
        share = _span(found.fallen.values)
        expected = ""
        if norm in predictions and "fallen" in predictions[norm]:
            expected = f" (expected {_span(predictions[norm].fallen.values)})"
        classifier = int((found.classifier_after > found.classifier_before).sum())
        words = (
            f"{_NORMS[norm].capitalize()} it falls in {share}{expected} of the tensors below the "
            f"classifier, and rises in the classifier in {classifier} of {found.seed.size} seeds"
        )
        if "last_gain_smallest" in found:
            smallest = 100 * float(found.last_gain_smallest_mean)
            words += f"; the last gain is the smallest of its block in {smallest:.0f} %"
        before, after = (
            " ".join(f"{value:.2f}" for value in found[f"accuracy_{when}"].values)
            for when in ("before", "after")
        )
        told.append(f"{words}; accuracy after training {before}, with GradInit {after}.")
    return told


def _span(shares: np.ndarray) -> str:
    low, high = (f"{100 * end:.0f}" for end in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"
