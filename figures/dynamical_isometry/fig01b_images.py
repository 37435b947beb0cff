"""Figure 1b on images: how alike two inputs become, block by block, in a convolutional network.

The paper's network is a convolution, five residual blocks with a projection, average pooling
and a linear layer; here are its state before pooling, the same to a hundred blocks, and the
limit of many channels, in which every pixel follows the map of a fully connected network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory.correlation import kernel
from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.activations import ReLU
from sigprop.inputs import Pair
from sigprop.schemes import Fixup, He, Normal, Risotto
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network, Scheme

__all__ = ["ImageCorrelation"]

SCHEMES: Mapping[str, Scheme] = {
    "he": He(),
    "normal": Normal(alpha=0.5),
    "fixup": Fixup(),
    "risotto": Risotto(),
}
LABELS = {
    "he": "He, branch and skip 1",
    "normal": r"normal, $\alpha^2=1/4$",
    "fixup": "Fixup, SkipInit (branch 0)",
    "risotto": "RISOTTO",
    "looks_linear": "RISOTTO, looks-linear coordinates",
}
SHARE = {"he": 0.5, "normal": 0.25, "fixup": 0.0}  # of the branch in the mean square


@Figure.family.register("dynamical_isometry/fig01b_images")
class ImageCorrelation(Figure):
    """Cosine of two images' states against the block, for one scheme each line."""

    title: ClassVar[str] = "cosine of two images against residual block, convolutional networks"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "channels": channels,
            "image": 8,
            "cosine": 0.2,
            "depths": [5, depth],
            "networks": networks,
            "seed": 0,
        }
        for budget, channels, depth, networks in (
            ("smoke", 16, 12, 8),
            ("draft", 64, 40, 12),
            ("paper", 64, 1000, 16),
        )
    }

    def ensemble(self, budget: str, scheme: str, depth: int) -> Ensemble:
        """The law of one line."""
        effort = self.effort(budget)
        network = Network(
            depth=depth,
            width=effort["channels"],
            block="projection",
            input_width=3,
            image=effort["image"],
            kernel=3,
        )
        return Ensemble(network, SCHEMES[scheme], Pair(cosine=effort["cosine"]))

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        found: dict[str, xr.Dataset] = {}
        for depth in effort["depths"]:
            for scheme in SCHEMES:
                measured = simulate(
                    self.ensemble(budget, scheme, depth),
                    "separability",
                    replicas=effort["networks"],
                    seed=effort["seed"],
                    layers=sorted({*range(6), *np.geomspace(1, depth, 25).astype(int)} | {depth})
                    if depth > 5
                    else None,
                    workers=workers,
                )
                names = [name for name in measured.data_vars if "cosine" in str(name)]
                found[f"{scheme} {depth}"] = measured[names].assign_attrs(
                    channels=effort["channels"], image=effort["image"]
                )
                if progress is not None:
                    progress(len(found), len(SCHEMES) * len(effort["depths"]))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        layer = np.arange(max(effort["depths"]) + 1)
        variables: dict[str, Any] = {}
        for scheme, share in SHARE.items():
            cosine = [float(kernel(effort["cosine"], ReLU()))]
            for _ in layer[1:]:
                mixed = share * float(kernel(cosine[-1], ReLU())) + (1 - share) * cosine[-1]
                cosine.append(float(kernel(mixed, ReLU())))
            variables[scheme] = ("layer", cosine, {"status": "limit"})
        constant = np.full(len(layer), float(kernel(effort["cosine"], ReLU())))
        variables["risotto"] = ("layer", constant, {"status": "limit"})
        exact = np.full(len(layer), effort["cosine"])
        variables["looks_linear"] = ("layer", exact, {"status": "exact"})
        return {"cosine": xr.Dataset(variables, {"layer": layer})}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        theory = predictions["cosine"]
        depths = sorted({int(name.split()[1]) for name in results})
        picture = Picture(figsize=(9.6, 4.2))
        panels = picture.subplots(1, 2, sharey=True, width_ratios=(1, 1.35))
        for axes, depth in zip(panels, depths):
            # Before the blocks come the input and the output of the first convolution.
            for index, line in enumerate(LABELS):
                scheme = "risotto" if line == "looks_linear" else line
                measured = results[f"{scheme} {depth}"].isel(pair=0)
                name = "looks_linear_cosine" if line == "looks_linear" else "cosine"
                mean, se = measured[f"{name}_mean"].values, measured[f"{name}_mean_se"].values
                at = measured.layer.values
                colour = PALETTE[index]
                known = theory[line].sel(layer=at)
                style = STATUS_LINE[theory[line].attrs["status"]]
                axes.plot(at + 1, known, style, color=colour, lw=1.1, alpha=0.8, zorder=1)
                axes.errorbar(
                    at + 1, mean, 2 * se, color=colour, marker="o", ms=3.2, lw=1.0, capsize=2
                )
                axes.plot(
                    [0.62 if depth > 5 else 0, at[0] + 1],
                    [theory["looks_linear"].values[0], mean[0]],
                    color=colour,
                    lw=0.8,
                    alpha=0.5,
                )
            axes.set_xlabel("residual block")
        first, second = panels
        first.set_xticks(range(7), ["input", "conv", *map(str, range(1, 6))])
        first.set_title("the paper's network")
        second.set_xscale("log")
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= depths[-1]]
        second.set_xticks([0.62, 1, *(n + 1 for n in ticks)], ["input", "conv", *map(str, ticks)])
        second.minorticks_off()
        second.set_title(f"the same to {depths[-1]} blocks (logarithmic)")
        first.set_ylabel("cosine of two inputs' states")
        first.set_ylim(0, 1.02)
        handles = [
            *(
                Line2D([], [], color=PALETTE[i], marker="o", ms=3.2, label=label)
                for i, label in enumerate(LABELS.values())
            ),
            Line2D([], [], color=THEORY, ls=STATUS_LINE["limit"], label="limit of many channels"),
            Line2D([], [], color=THEORY, ls=STATUS_LINE["exact"], label="exact"),
        ]
        picture.legend(handles=handles, ncols=4)
        one = next(iter(results.values()))
        setting = (
            f"block projection, ReLU, {one.attrs['channels']} channels, {one.attrs['image']}x"
            f"{one.attrs['image']} pixels, input of 3, kernels 3x3, zero borders; "
            f"{one.attrs['replicas']} networks, seed {one.attrs['seed']}; ± 2 standard errors"
        )
        frame(
            picture,
            "Only RISOTTO keeps two images apart",
            setting,
            "After Figure 1b of Gadhikar and Burkholz (2022). Inputs are random images at "
            "cosine 0.2, not photographs. Dashed: with many channels every pixel follows the "
            "map of a fully connected network. With 64 the lengths of pixels drift apart with "
            "depth, the more so where no block mixes them, as Fixup's 1x1 kernels at a branch "
            "of 0, and measured cosines fall behind. What RISOTTO keeps exactly is the cosine "
            "of z = h+ - h-; that of the states themselves jumps once, in the first ReLU, and "
            "stays.",
            legend_rows=2,
        )
        return picture
