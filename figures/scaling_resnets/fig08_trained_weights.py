"""Figure 8: weights against layer index before and after training, and how rough they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.regularity import hurst_index, structure_function
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled
from figures._training import checkpoint
from sigprop.processes import FractionalGaussianNoise, Rbf

__all__ = ["TrainedWeights"]

_CASES = {  # of each start: options of the network, its law along depth, what a title calls it
    "smooth": ("beta=1,bandwidth=0.1", Rbf(bandwidth=0.1), r"smooth, $\beta = 1$"),
    "independent": ("beta=1", FractionalGaussianNoise(hurst=0.5), r"independent, $\beta = 1$"),
    "stable": ("beta=0.5", FractionalGaussianNoise(hurst=0.5), r"independent, $\beta = 1/2$"),
}
_PARTS = {"before": PALETTE[0], "after": PALETTE[1], "change": PALETTE[2]}


@Figure.family.register("scaling_resnets/fig08")
class TrainedWeights(Figure):
    """One entry of the matrices against layer, and the roughness of all, before and after."""

    title: ClassVar[str] = "weights against layer before and after training, and their roughness"
    trains: ClassVar[bool] = True
    long_budgets: ClassVar[tuple[str, ...]] = ("paper",)
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "width": width,
            "depth": depth,
            "entries": 100,
            "seeds": list(range(seeds)),
            "train": train,
            "short": [1, 8],
            "long": long,
            "recipe": {"optimizer": "adam", "lr": lr, "epochs": epochs, "batch": 128},
        }
        for budget, width, depth, long, seeds, train, lr, epochs in (
            ("smoke", 8, 64, [4, 16], 2, 256, 0.03, 2),
            ("draft", 30, 1000, [32, 128], 3, None, 0.01, 10),
            ("paper", 30, 1000, [32, 128], 5, None, 0.01, 10),
        )
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.modules import load_data, weights_before_and_after
        from sigprop.modules.train import Recipe

        effort = self.effort(budget)
        data = load_data(self.data, train=effort["train"])
        shape = f"stacked:depth={effort['depth']},width={effort['width']}"
        found = weights_before_and_after(
            {name: f"{shape},{options}" for name, (options, *_) in _CASES.items()},
            data,
            Recipe(**effort["recipe"]),
            tensor="outer",
            entries=effort["entries"],
            seeds=effort["seeds"],
            journal=checkpoint(self, "weights"),
            progress=progress,
        )
        weights = found.assign(change=found.after - found.before)
        table = xr.concat(
            [xr.concat([_rough(weights[part].sel(case=case), effort) for part in _PARTS], "part")
             for case in _CASES], "case",
        ).assign_coords(part=list(_PARTS), case=list(_CASES))  # fmt: skip
        one = weights[list(_PARTS)].isel(seed=0, entry=effort["entries"] // 3, drop=True)
        sizes = {name: effort[name] for name in ("width", "depth")}
        attrs = found.attrs | sizes | {"data": data.name, "train_images": len(data.train)}
        return {
            "roughness": table.assign(accuracy=found.accuracy, diverged=found.diverged_step),
            "entry": one.assign_attrs(attrs),
        }

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        lags = [2**i for i in range(int(np.log2(effort["depth"] // 4)) + 1)]
        rows = []
        for _, law, _ in _CASES.values():
            rho = law.correlation(np.arange(float(max(lags))), effort["depth"])
            # The mean square of a sum of m is m + 2 sum (m - k) rho_k.
            rows.append([m + 2 * float(np.dot(m - np.arange(1, m), rho[1:m])) for m in lags])
        attrs = {"status": "exact", "units": "1", "long_name": "mean square of a sum over variance"}
        coords = {"case": list(_CASES), "lag": lags}
        return {"initial": xr.Dataset({"structure": (("case", "lag"), rows, attrs)}, coords)}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        entry, rough = results["entry"], results["roughness"]
        picture = Picture(figsize=(10.2, 6.4))
        rows = picture.subplots(2, 3, sharey="row")
        width = entry.attrs["width"]
        for column, (case, (_, _, words)) in enumerate(_CASES.items()):
            upper, lower = rows[:, column]
            for part in ("after", "before", "change"):
                upper.plot(entry.layer, entry[part].sel(case=case), lw=0.7, color=_PARTS[part])
            upper.set_title(words)
            upper.set_xlabel("layer")
            _draw_structure(
                lower, rough.sel(case=case), predictions["initial"].sel(case=case), width
            )
            lower.set_title(_told(rough.sel(case=case)), size=7.5, loc="left", linespacing=1.2)
        rows[0, 0].set_ylabel("one entry of $V$ (first seed)")
        rows[1, 0].set_ylabel(r"$S(m) \times$ width $/\, m$")
        handles = [Line2D([], [], color=c, marker="o", ms=3.5, label=n) for n, c in _PARTS.items()]
        handles[2].set_label("change: after - before")
        exact = Line2D(
            [], [], color="#222222", ls=STATUS_LINE["exact"], label="law at the start, exact"
        )
        picture.legend(handles=[*handles, exact], ncols=4)
        study = json.loads(entry.attrs["study"])
        recipe = study["recipe"]
        setting = (
            f"h + L^-β (V φ(h) + b), ReLU, width {width}, depth {entry.attrs['depth']}; trained on "
            f"{entry.attrs['train_images']} {entry.attrs['data']} images, {recipe['optimizer']} at "
            f"{recipe['lr']:g}, {recipe['epochs']} epochs, batch {recipe['batch']}; seeds "
            f"{study['seeds'][0]}–{study['seeds'][-1]}"
        )
        caption = (
            "After Figure 8 of Marion, Fermanian, Biau and Vert (2022), who show one entry of one "
            "run, and find that a smooth start stays smooth and a noisy one noise with a trend. "
            "Below, over all entries kept, S(m) is the mean square of the sum of m layers: flat is "
            "noise, slope 1 a path that does not change within m; H is half of 1 + slope over the "
            "m in brackets. Errors are between "
            "seeds, since entries of one trained network depend on each other. The rate is fixed, "
            f"not chosen: no accuracies are compared. {_accuracies(rough)}"
        )
        frame(picture, "What training does to weights along depth", setting, caption, legend_rows=1)
        return picture

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        rough = results["roughness"]
        return "\n".join([f"{case}:\n{_told(rough.sel(case=case))}" for case in _CASES]
                         + [_accuracies(rough)])  # fmt: skip


def _rough(weights: xr.DataArray, effort: Mapping[str, Any]) -> xr.Dataset:
    """Structure function and index at short and long lags: mean over seeds and its error."""
    structure = structure_function(weights.transpose("seed", "layer", "entry").values)
    found = xr.Dataset({"structure": structure})
    for name in ("short", "long"):
        found[name] = hurst_index(structure, *effort[name])
        found[name].attrs["lags"] = effort[name]
    attrs = {str(name): found[name].attrs for name in found.data_vars}
    count = np.sqrt(found.sizes["network"])
    told = found.mean("network").assign(
        {f"{name}_se": found[name].std("network", ddof=1) / count for name in attrs}
    )
    for name, values in attrs.items():
        told[name].attrs = values
    return told


def _draw_structure(axes: Axes, rough: xr.Dataset, theory: xr.Dataset, width: int) -> None:
    lag = rough.lag
    for part, colour in _PARTS.items():
        at = rough.sel(part=part)
        value, error = (width * at[name] / lag for name in ("structure", "structure_se"))
        axes.errorbar(lag, value, 2 * error, color=colour, marker="o", ms=3.5, lw=0.9)
    style = STATUS_LINE[str(theory.structure.attrs["status"])]
    axes.plot(theory.lag, theory.structure / theory.lag, style, color="#222222", lw=1.2, zorder=5)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("layers $m$ that are added up")


def _told(rough: xr.Dataset) -> str:
    """The indices of one case, with their errors."""
    lines = []
    for part in _PARTS:
        at = rough.sel(part=part)
        words = []
        for name in ("short", "long"):
            lags = "–".join(str(int(lag)) for lag in rough[name].attrs["lags"])
            words.append(f"{float(at[name]):.2f} ± {float(at[f'{name}_se']):.2f} ({lags})")
        lines.append(f"{part}: H = {', '.join(words)}")
    return "\n".join(lines)


def _accuracies(rough: xr.Dataset) -> str:
    words = []
    for case, (_, _, title) in _CASES.items():
        seen = 100 * rough.accuracy.sel(case=case)
        lost = int((rough.diverged.sel(case=case) >= 0).sum())
        words.append(f"{title}: {float(seen.min()):.0f}–{float(seen.max()):.0f} %"
                     + (f", {lost} diverged" if lost else ""))  # fmt: skip
    return f"Test accuracy, least to most: {'; '.join(words)}."
