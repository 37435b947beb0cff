"""What GradInit learns, tensor by tensor, and the course of its gradient norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, Progress
from figures._style import frame, styled

__all__ = ["LearnedScales"]

# Name -> (network, settings of GradInit, words).
_NETWORKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "large": ("mlp:depth={depth},width=64,gain=1.5", {}, "plain MLP, gain 1.5"),
    "small": ("mlp:depth={depth},width=64,gain=0.7", {}, "plain MLP, gain 0.7"),
    "resnet": (
        "resnet:stages={stages},blocks={blocks},widths={widths},norm=batch",
        {},
        "ResNet with batch normalisation",
    ),
}


@Figure.family.register("gradinit/scales")
class LearnedScales(Figure):
    """Scales by layer, weights and gains apart, above the norm of every iteration.

    Only the bound gamma is theory: the norm ends below or about it.
    """

    title = "GradInit: learned scales by layer and the course of the gradient norm"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"depth": 4, "stages": 1, "blocks": 1, "widths": "4", "steps": 8, "half": 16},
        "draft": {"depth": 20, "stages": 3, "blocks": 1, "widths": "8/16/32", "steps": 200}
        | {"half": 32},
        "paper": {"depth": 20, "stages": 3, "blocks": 3, "widths": "8/16/32", "steps": 390}
        | {"half": 64},
    }

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        from sigprop.extras import require_torch

        require_torch("figure gradinit/scales")
        from torch.nn.functional import cross_entropy

        from sigprop.modules import architecture, load_data
        from sigprop.modules.gradinit import gradinit

        effort, images, results = self.effort(budget), load_data("digits"), {}
        for done, (name, (spec, settings, _)) in enumerate(_NETWORKS.items()):
            network = architecture(spec.format(**effort)).build(images.shape, seed=0)
            found = gradinit(
                network,
                images.train.batches(effort["half"], seed=0, epochs=None),
                lambda output, batch: cross_entropy(output, batch[1]),
                steps=effort["steps"],
                apply=False,
                **settings,
            )
            results[name] = xr.Dataset({"result": ((), found.to_json())})
            if progress is not None:
                progress(done + 1, len(_NETWORKS))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        return {}

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        from sigprop.modules import InitResult

        picture = Picture(figsize=(10.2, 5.6))
        panels = picture.subplots(2, len(_NETWORKS))
        for column, (name, (*_, words)) in enumerate(_NETWORKS.items()):
            found = InitResult.from_json(str(results[name].result.item()))
            found.plot_scales(panels[0, column])
            found.plot_history(panels[1, column])
            panels[0, column].set_title(words)
            low, high = panels[0, column].get_ylim()
            panels[0, column].set_ylim(low, high + 0.4 * (high - low))  # for the legend
            panels[0, column].legend(loc="upper center")
        for axes in panels[:, 1:].flat:
            axes.set_ylabel("")
        settings = found.settings
        setting = (
            f"digits, seed 0; sgd, lr {settings['lr']:g}, γ {settings['gamma']:g}, "
            f"{settings['steps']} iterations of τ {settings['tau']:g}"
        )
        caption = (
            "GradInit, Zhu et al. (2021). Above: the factor of every tensor, weights and gains of "
            "batch normalisation as two lines; tensors that are zero have none. A gain of 1.5 a "
            "layer is undone by factors of about 1/1.5, one of 0.7 by 1.3 to 1.4. Behind batch "
            "normalisation a weight acts through the size of its gradient alone, and the last gain "
            "of a block tends to be the smallest. Below: the norm of every batch; above γ it is "
            "lowered, below it the loss after one step."
        )
        frame(picture, "Scales that GradInit learns, and how", setting, caption)
        return picture
