"""Figure 1b for fully connected nets: does a residual net keep two inputs apart, block by block?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from analysis.theory import arc_kernel
from figures._base import Figure, Progress
from figures._style import STATUS_LINE, THEORY, frame, styled
from figures.dynamical_isometry._laws import PROJECTED, predicted
from sigprop.simulate import simulate

__all__ = ["DenseCorrelation"]

_SHOWN = ("cosine_mean", "cosine_mean_se")


@Figure.family.register("dynamical_isometry/fig01b_dense")
class DenseCorrelation(Figure):
    """Mean cosine of two states against block, types B and C; few blocks, and very many."""

    title: ClassVar[str] = "correlation of two inputs against residual block, fully connected"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"width": 30, "depth": 30, "networks": 40, "exact": 4, "cosine": 0.2, "seed": 0},
        "draft": {
            "width": 100, "depth": 300, "networks": 200, "exact": 6, "cosine": 0.2, "seed": 0
        },
        "paper": {
            "width": 200, "depth": 1000, "networks": 1000, "exact": 20, "cosine": 0.2, "seed": 0
        },
    }  # fmt: skip

    def layers(self, budget: str) -> list[int]:
        depth = self.effort(budget)["depth"]
        spaced = np.unique(np.round(np.geomspace(6, depth, 25)).astype(int))
        return [*range(6), *(int(layer) for layer in spaced if layer > 5)]

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        results = {}
        for done, (name, rival) in enumerate(PROJECTED.items()):
            law = rival.ensemble(name, effort["depth"], effort["width"], effort["cosine"])
            exact = name.startswith("risotto")
            found = simulate(
                law,
                ["separability"],
                replicas=effort["exact"] if exact else effort["networks"],
                seed=effort["seed"],
                layers=self.layers(budget),
                orders=[],
                quantiles=[],
                workers=workers,
            )
            kept = [*_SHOWN, *(f"looks_linear_{shown}" for shown in _SHOWN if exact)]
            results[name] = found[kept].isel(pair=0, drop=True)
            if progress is not None:
                progress(done + 1, len(PROJECTED))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        out = {}
        for name, rival in PROJECTED.items():
            law = rival.ensemble(name, effort["depth"], effort["width"], effort["cosine"])
            wanted = ("cosine_mean", "looks_linear_cosine_mean")
            out[name] = predicted(law, self.layers(budget), wanted)
            keep = [v for v in wanted if v in out[name]]
            out[name] = out[name][keep].assign_attrs(width=effort["width"], cosine=effort["cosine"])
        return out

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(9.6, 4.4))
        near, far = picture.subplots(1, 2, sharey=True)
        handles: list[Any] = []
        for name, rival in PROJECTED.items():
            measured, theory = results[name], predictions[name]
            marker = "s" if rival.line == "s" else "o"
            look: dict[str, Any] = {"color": rival.colour, "marker": marker, "ms": 3.4, "ls": ""}
            look["mfc"] = rival.colour if marker == "o" else "w"
            for axes, shown in ((near, slice(0, 5)), (far, slice(1, None))):
                part = measured.sel(layer=shown)
                error = 2 * part.cosine_mean_se
                axes.errorbar(part.layer, part.cosine_mean, error, elinewidth=0.9, **look)
                line = theory.cosine_mean.sel(layer=shown)
                style = STATUS_LINE[str(line.attrs["status"])]
                axes.plot(line.layer, line, style, color=rival.colour, lw=1.1)
            handles.append(Line2D([], [], label=rival.label, **look))
        exact = results["risotto_projection"]
        for axes in (near, far):
            shown = slice(0, 5) if axes is near else slice(1, None)
            part = exact.sel(layer=shown).looks_linear_cosine_mean
            axes.plot(part.layer, part, "-", color=THEORY, lw=1.2)
        start = predictions["normal"].attrs["cosine"]
        near.annotate(
            "RISOTTO in looks-linear coordinates", (2.2, start), (1.0, start + 0.06), size=7
        )
        near.set_xlabel("residual block")
        near.set_ylabel("cosine of two inputs' states")
        near.set_title("the first blocks, as in the paper")
        far.set_xscale("log")
        far.set_xlabel("residual block")
        far.set_title("as deep as you like")
        near.set_ylim(min(0.0, start - 0.1), 1.02)
        handles.append(Line2D([], [], color="#555555", ls="--", label="theory, limit of width"))
        handles.append(Line2D([], [], color=THEORY, label="exact"))
        picture.legend(handles=handles, ncols=5)
        attrs = results["normal"].attrs
        setting = (
            f"h' = φ(α W₂ φ(W₁ h) + β S h), type B: S = 1; ReLU, width "
            f"{predictions['normal'].attrs['width']}, inputs at cosine {start:g}; "
            f"{attrs['replicas']} networks ({exact.attrs['replicas']} of RISOTTO), seed "
            f"{attrs['seed']}; bars: 2 standard errors"
        )
        caption = (
            "After Gadhikar and Burkholz (2022), arXiv:2210.02411, Figure 1b, which is "
            "convolutional: see fig01b_images. Block 0 is the state behind the stem, "
            f"k₁({start:g}) = {float(arc_kernel(start)):.3f}. With every other scheme the angle "
            "closes in the end, in type C even if the branch is off, for then the net is plain; "
            "type B with the branch off keeps it because it is the identity. RISOTTO keeps it "
            "exactly in looks-linear coordinates and up to fluctuations of a finite width as it "
            "stands."
        )
        frame(picture, "Which residual nets keep two inputs apart", setting, caption, legend_rows=2)
        return picture
