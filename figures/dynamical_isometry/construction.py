"""Figures 1a and 2: the matrices of one block of RISOTTO, drawn, and what they make together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, Progress
from figures._style import frame, styled
from sigprop import looks_linear
from sigprop.backends.reference import draw as draw_networks
from sigprop.inputs import Point
from sigprop.schemes import Risotto
from sigprop.spec import Ensemble, Network

__all__ = ["Construction"]

_WORDS = {
    "projection": (
        "type C", ("W₁ = LL(U₁)", "W₂ = LL(U₂)", "S = LL(M − U₂U₁)", "block on pairs = LL(M)")
    ),
    "identity": (
        "type B", ("W₁ = 1 (pairs pass)", "W₂ = LL(M) − 1", "skip = 1", "block on pairs = LL(M)")
    ),
}  # fmt: skip


@Figure.family.register("dynamical_isometry/construction")
class Construction(Figure):
    """One block of each type: its three matrices, and the orthogonal map that is their sum."""

    title: ClassVar[str] = "the matrices of RISOTTO, types B and C"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"width": width, "seed": 1}
        for budget, width in (("smoke", 6), ("draft", 8), ("paper", 8))
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        n = effort["width"]
        results = {}
        for block in _WORDS:
            law = Ensemble(Network(depth=1, width=n, block=block), Risotto(), Point())
            drawn = draw_networks(law, [np.random.default_rng(effort["seed"])])
            one, two, *skip = (matrix[0] for matrix in drawn.weights[0])
            carried = skip[0] if skip else np.eye(n)
            # On pairs [x; 0] and [0; x] every ReLU is known, so the block is a matrix.
            columns = []
            for column in np.eye(n):
                hidden = np.maximum(one @ column, 0.0)
                columns.append(two @ hidden + carried @ column)
            stack = np.stack([one, two, carried, np.stack(columns, axis=1)])
            data = xr.Dataset({"entry": (("matrix", "row", "column"), stack)})
            results[block] = data.assign_attrs(width=n, seed=effort["seed"])
            if progress is not None:
                progress(len(results), len(_WORDS))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        n = self.effort(budget)["width"]
        # What the block must be: LL of an orthogonal matrix, whose Gram matrix is the identity.
        gram = np.eye(n // 2)
        about = {"status": "exact", "units": "1"}
        return {block: xr.Dataset({"gram": (("i", "j"), gram, about)}) for block in _WORDS}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(10.2, 5.6))
        grid = picture.subplots(2, 5, width_ratios=(1, 1, 1, 1, 0.06))
        worst = 0.0
        image = None
        for row, (block, (kind, words)) in zip(grid, _WORDS.items()):
            entries = results[block].entry.values
            half = entries.shape[-1] // 2
            m = entries[-1][:half, :half]
            worst = max(worst, float(np.abs(m.T @ m - predictions[block].gram.values).max()))
            worst = max(worst, float(np.abs(entries[-1] - looks_linear.looks_linear(m)).max()))
            for axes, matrix, title in zip(row, entries, words):
                image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1.2, vmax=1.2, aspect="auto")
                axes.axhline(half - 0.5, color="#333333", lw=0.7)
                axes.axvline(half - 0.5, color="#333333", lw=0.7)
                axes.set_title(title)
                axes.set_xticks([(half - 1) / 2, half + (half - 1) / 2], ["+", "−"])
                axes.set_yticks([(half - 1) / 2, half + (half - 1) / 2], ["+", "−"])
                axes.grid(False)
                axes.set_xlabel("from the pair's half")
            row[0].set_ylabel(f"{kind}: to the half")
        assert image is not None
        for row in grid:
            picture.colorbar(image, cax=row[-1], label="entry")
        marks = [
            picture.axes[0].plot([], [], ls="", marker="s", color=colour, label=label)[0]
            for colour, label in (("#b2182b", "positive entry"), ("#2166ac", "negative entry"))
        ]
        picture.legend(handles=marks, ncols=2)
        attrs = results["projection"].attrs
        setting = (
            f"one block of width {attrs['width']}, α = β = 1, seed {attrs['seed']}; "
            "LL(U) = [[U, −U], [−U, U]], all U and M orthogonal; state [φ(z); φ(−z)]"
        )
        caption = (
            "After Gadhikar and Burkholz (2022), arXiv:2210.02411, Figures 1a and 2. Branch and "
            "skip add up to LL(M), so z becomes M z: no length, angle or singular value changes. "
            "In type C the skip matrix supplies what is missing. In type B the last matrix does, "
            "and is not looks-linear itself: the skip does not exchange the halves of a pair. M is "
            f"orthogonal, and each block is LL(M), to {worst:.0e} here."
        )
        frame(
            picture,
            "How a block with a branch becomes an isometry",
            setting,
            caption,
            legend_rows=1,
        )
        return picture
