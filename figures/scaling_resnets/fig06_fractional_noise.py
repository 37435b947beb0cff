"""Figure 6: paths of fractional Brownian motion, and the fractional noise that weights follow.

The paper shows the motion; weights are its increments. Both are drawn here, and beside them the
increments that the published generator makes at a large Hurst index: an error there adds a term
of alternating sign, which the sum cancels, so that a picture of the motion does not show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, THEORY, frame, styled
from sigprop.processes import FractionalGaussianNoise, LegacyFractionalGaussianNoise
from sigprop.spec import Process

__all__ = ["FractionalNoise"]

_SHOWN = 100  # layers in the panels of the noise


@Figure.family.register("scaling_resnets/fig06")
class FractionalNoise(Figure):
    """Paths of fractional Brownian motion and their increments, H = 0.2, 0.5, 0.8 and 0.97."""

    title: ClassVar[str] = "paths of fractional Brownian motion, and the weights they make"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {"depth": 1000, "hurst": [0.2, 0.5, 0.8], "legacy_hurst": 0.97, "seed": 0}
        for budget in ("smoke", "draft", "paper")
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        depth = effort["depth"]
        noise: dict[str, Any] = {}
        last = effort["legacy_hurst"]
        members: dict[str, Process] = {
            f"fgn({h:g})": FractionalGaussianNoise(hurst=h) for h in (*effort["hurst"], last)
        }
        members[f"legacy_fgn({last:g})"] = LegacyFractionalGaussianNoise(hurst=last)
        for name, process in members.items():
            stream = np.random.default_rng(effort["seed"])
            noise[name] = process.paths(stream.standard_normal((3, process.draws(depth))), depth)
        table = xr.Dataset(
            {"noise": (("process", "path", "layer"), np.stack(list(noise.values())))},
            {"process": list(noise), "layer": np.arange(1, depth + 1)},
            {"seed": effort["seed"]},
        )
        table["motion"] = table.noise.cumsum("layer")
        return {"paths": table}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        effort = self.effort(budget)
        layer = np.arange(1, effort["depth"] + 1)
        hurst = np.array([*effort["hurst"], effort["legacy_hurst"]])
        law = xr.Dataset(
            {
                "motion_deviation": (
                    ("hurst", "layer"),
                    layer ** hurst[:, None],
                    {"status": "exact"},
                )
            },
            {"hurst": hurst, "layer": layer},
        )
        return {"paths": law}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        paths, law = results["paths"], predictions["paths"]
        picture = Picture(figsize=(10.4, 5.0))
        grid = picture.subplots(2, law.sizes["hurst"])
        for (above, below), hurst in zip(grid.T, law.hurst.values):
            chosen = paths.sel(process=f"fgn({hurst:g})")
            deviation = 2 * law.motion_deviation.sel(hurst=hurst)
            for path in range(paths.sizes["path"]):
                above.plot(paths.layer, chosen.motion[path], color=PALETTE[path], lw=0.8)
            for sign in (-1, 1):
                above.plot(law.layer, sign * deviation, STATUS_LINE["exact"], color=THEORY, lw=0.9)
            few = paths.layer <= _SHOWN
            below.plot(paths.layer[few], chosen.noise[0][few], color=PALETTE[0], lw=0.9)
            above.set_title(f"$H$ = {hurst:g}")
            above.set_xlabel("layer")
            below.set_xlabel(f"layer, the first {_SHOWN}")
            below.set_ylim(-4.2, 4.2)
        legacy = f"legacy_fgn({law.hurst.values[-1]:g})"
        published = paths.sel(process=legacy)
        grid[0, -1].plot(paths.layer, published.motion[0], color="#000000", ls=":", lw=1.6)
        grid[1, -1].plot(paths.layer[few], published.noise[0][few], color="#000000", ls=":", lw=0.9)
        grid[0, 0].set_ylabel("fractional motion")
        grid[1, 0].set_ylabel("its increments: one weight")
        handles: list[Any] = [
            tuple(Line2D([], [], color=colour) for colour in PALETTE[:3]),
            Line2D([], [], color=THEORY),
            Line2D([], [], color="#000000", ls=":"),
        ]
        picture.legend(
            handles,
            [
                "three paths",
                r"± 2 standard deviations, $2\ell^H$: exact",
                "a path of the published generator",
            ],
            ncols=3,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
            handlelength=3.5,
        )
        frame(
            picture,
            "Weights along depth: opposed, independent, persistent",
            f"unit fractional Gaussian noise over {paths.sizes['layer']} layers, "
            f"seed {paths.attrs['seed']}",
            "After Figure 6 of Marion, Fermanian, Biau and Vert (2022), which has H = 0.2, 0.5 and "
            "0.8; one stream of numbers makes all panels. Erratum: the published generator takes "
            "the eigenvalue of the highest frequency from the lowest one and so adds A(−1)^layer, "
            "Var A = 0.64 at H = 0.97 and 0.05 at 0.8. The sum cancels that and the motion looks "
            "right, but the weights do not.",
            legend_rows=1,
        )
        return picture
