"""Accuracy by epoch from RISOTTO, Fixup, SkipInit and He, with batch normalisation and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from figures._base import Figure, Progress
from figures._style import frame, styled
from figures._training import course, data_told, ranked, studied, tabled
from figures.dynamical_isometry._trained import BLOCKS, LABELS, LOOKS, case, line, net_told

__all__ = ["TrainingSchemes"]

_NORMS = {"none": "without batch normalisation", "batch": "with batch normalisation"}
# What the paper's tables are said to show; with normalisation it compares RISOTTO with He.
_CLAIMS = {"none": ["risotto", "fixup", "skipinit"], "batch": ["risotto", "he"]}


@Figure.family.register("dynamical_isometry/training_schemes")
class TrainingSchemes(Figure):
    """A panel for each block type and each normalisation, a curve for each initialisation."""

    title: ClassVar[str] = "training from RISOTTO, Fixup, SkipInit and He, with and without BN"
    trains: ClassVar[bool] = True
    long_budgets: ClassVar[tuple[str, ...]] = ("paper",)
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "widths": widths,
            "blocks": blocks,
            "shortcuts": shortcuts,
            "lrs": lrs,
            "seeds": list(range(seeds)),
            "train": train,
            "recipe": {"momentum": 0.9, "schedule": "cosine", "epochs": epochs, "batch": 128,
                       **more},
        }
        for budget, widths, blocks, shortcuts, lrs, seeds, train, epochs, more in (
            ("smoke", [4, 8], 1, ["everywhere"], [0.1], 2, 256, 2, {}),
            ("draft", [8, 16], 3, ["everywhere"], [0.01, 0.1, 0.3], 3, None, 10, {}),
            ("paper", [64, 128, 256, 512], 2, ["everywhere", "projection"],
             [0.001, 0.005, 0.01, 0.05, 0.1], 3, None, 200,
             {"weight_decay": 5e-4, "crop": 4, "flip": True}),
        )
    }  # fmt: skip

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        parts = [(s, norm) for s in effort["shortcuts"] for norm in _NORMS]
        found = {}
        for done, (shortcut, norm) in enumerate(parts):
            cases = {scheme: case(line(effort, shortcut, norm), scheme) for scheme in LABELS}
            name = f"{shortcut}_{norm}"

            def tell(epochs: int, total: int, done: int = done) -> None:
                if progress is not None:
                    progress(done * total + epochs, len(parts) * total)

            study = studied(self, effort, cases, name, tell)
            claim = [LABELS[scheme] for scheme in _CLAIMS[norm]]
            named = study.assign_coords(case=[LABELS[str(c)] for c in study.case.values])
            verdict = ranked(named, claim, best=True)
            found[name] = study.assign_attrs(verdict=verdict, net=net_told(effort))
        return found

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        return {}  # of accuracies there is no theory

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        rows = len(results) // len(_NORMS)
        picture = Picture(figsize=(9.2, 1.5 + 3.2 * rows))
        panels = picture.subplots(rows, len(_NORMS), sharey=True, squeeze=False)
        verdicts = []
        for axes, (name, study) in zip(panels.flat, results.items()):
            shortcut, _, norm = name.partition("_")
            for scheme, colour in LOOKS.items():
                course(axes, study, scheme, color=colour)
            shares = zip(study.case.values, study.diverged_fraction.values)
            lost = [f"{LABELS[str(c)]} {100 * float(x):.0f} %" for c, x in shares if x > 0]
            if lost:
                axes.text(0.98, 0.03, "diverged: " + ", ".join(lost), size=7.5, ha="right",
                          transform=axes.transAxes)  # fmt: skip
            axes.axhline(10, color="#999999", ls=":", lw=0.9)
            axes.set_title(f"{BLOCKS[shortcut]}, {_NORMS[norm]}")
            axes.set_xlabel("epoch")
            axes.set_ylabel("test accuracy, %")
            axes.set_ylim(0, 100)
            short = {"none": "No BN", "batch": "BN"}[norm]
            verdicts.append(f"{short}, {BLOCKS[shortcut]}: {study.attrs['verdict']}")
        handles = [Line2D([], [], color=c, lw=1.8, label=LABELS[s]) for s, c in LOOKS.items()]
        handles.append(Line2D([], [], color="#999999", ls=":", lw=0.9, label="chance"))
        picture.legend(handles=handles, ncols=5)
        study = next(iter(results.values()))
        caption = (
            "After the tables of Gadhikar and Burkholz (2022), arXiv:2210.02411, with ResNet-18 on "
            f"CIFAR-10. Thin: seeds; bands: 2 standard errors. {data_told(study)}. Strides and "
            "pooling make RISOTTO a projection, normalisation takes the isometry from it. Fixup "
            "without its scalar biases, whose place the biases of the convolutions take. "
            + " ".join(verdicts)
        )
        title = "Training from four initialisations, with batch normalisation and without"
        frame(picture, title, study.attrs["net"], caption, legend_rows=1)
        return picture

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        parts = []
        for name, study in results.items():
            shortcut, _, norm = name.partition("_")
            parts += [f"{BLOCKS[shortcut]}, {_NORMS[norm]}", tabled(study, LABELS),
                      study.attrs["verdict"]]  # fmt: skip
        return "\n".join(parts)
