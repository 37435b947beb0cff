"""GradInit and its rivals on one deep plain network: one step, and signals layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, Progress
from figures.gradinit._panels import draw_comparison

__all__ = ["Comparison"]


_QUICK = "none gradinit lsuv autoinit-jacobian autoinit-analytic kraehenbuehl".split()


@Figure.family.register("gradinit/comparison")
class Comparison(Figure):
    """What ``sigprop gradinit --compare`` prints, as a picture."""

    title = "GradInit and its rivals: gradient norm, one step, variances forward and backward"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"depth": 3, "width": 16, "steps": 8, "methods": ["none", "gradinit", "lsuv"]},
        "draft": {"depth": 12, "width": 64, "steps": 200, "methods": _QUICK},
        "paper": {"depth": 20, "width": 64, "steps": 390, "methods": [*_QUICK, "metainit"]},
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/comparison")
        from torch.nn.functional import cross_entropy

        from sigprop.modules import architecture, load_data
        from sigprop.modules.gradinit_settings import Settings
        from sigprop.modules.preparation import Task, compare_preparations

        effort, images = self.effort(budget), load_data("digits")
        spec = f"mlp:depth={effort['depth']},width={effort['width']},gain=1.5"
        task = Task(
            batches=images.train.batches(64, seed=0, epochs=None),
            held=images.validation.take(slice(None)),
            loss_fn=lambda output, batch: cross_entropy(output, batch[1]),
            input_shape=images.shape,
            classes=images.classes,
            settings=Settings(steps=effort["steps"]),
        )
        network = architecture(spec).build(images.shape, seed=0)
        names, done = effort["methods"], iter(range(len(effort["methods"])))

        def tell(name: str) -> None:
            if progress is not None:
                progress(next(done), len(names))

        found = compare_preparations(network, names, task, progress=tell)
        return {"comparison": found.assign_attrs(network=spec)}

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        return {}

    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        found = results["comparison"]
        return draw_comparison(found, f"{found.attrs['network']} on digits, seed 0")
