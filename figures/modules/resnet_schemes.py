"""A ResNet with and without batch normalisation, before and after each scheme, as probe sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from figures._base import Figure, Progress
from figures._style import PALETTE, STATUS_LINE, frame, styled

__all__ = ["ResNetSchemes"]

_SCHEMES = {
    "as built": PALETTE[5],
    "fixup_": PALETTE[0],
    "skipinit_": PALETTE[2],
    "scaled_": PALETTE[1],
    "risotto_": PALETTE[3],
}
# Strides drop pixels and normalisations divide by deviations: no isometry, and said so.
_OPTIONS = {"risotto_": {"lossy": True, "batch_norm": True}}
_NORMS = {"none": "no normalisation", "batch": "batch normalisation"}
_PANELS = {
    "log_sum_second_moment_mean": "mean square of a state",
    "log_sum_gradient_second_moment_mean": "squared length of a gradient",
    "sum_cosine_mean": "cosine of two inputs' states",
}


@Figure.family.register("modules/resnet_schemes")
class ResNetSchemes(Figure):
    """States and gradients at every residual sum: points of networks, bands of the limit."""

    title: ClassVar[str] = "what probe shows on a ResNet, with and without batch normalisation"
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        budget: {
            "widths": widths, "blocks": blocks, "networks": n, "inputs": inputs,
            "pixels": pixels, "seed": 0,
        }
        for budget, widths, blocks, n, inputs, pixels in (
            ("smoke", "8/16/32", 1, 2, 4, 8),
            ("draft", "16/32/64", 3, 4, 8, 16),
            ("paper", "32/64/128", 5, 12, 16, 16),
        )
    }  # fmt: skip

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        cases = [(norm, scheme) for norm in _NORMS for scheme in _SCHEMES]
        results = {}
        for done, (norm, scheme) in enumerate(cases):
            results[_key(norm, scheme)] = self._probed(budget, norm, scheme)[1]
            if progress is not None:
                progress(done + 1, len(cases))
        return results

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        from analysis.module_law import predict_module
        from sigprop.modules.anatomy import anatomy

        out = {}
        for norm in _NORMS:
            for scheme in _SCHEMES:
                model, found, batch = self._probed(budget, norm, scheme, one=True)
                theory = predict_module(model, found, anatomy(model, batch[:1]), batch)
                log = _PANELS.keys() & set(theory.data_vars)
                kept = [f"{name}{end}" for name in sorted(log) for end in ("", "_slack")]
                out[_key(norm, scheme)] = theory[kept].assign_coords(
                    sum_entries=("sum", found.sum_entries.values)
                )
        return out

    def _probed(
        self, budget: str, norm: str, scheme: str, one: bool = False
    ) -> tuple[Any, xr.Dataset, Any]:
        """(a network of the case, what was probed of all, the inputs)."""
        from sigprop.modules import init
        from sigprop.modules.architectures import architecture
        from sigprop.modules.probe import probe
        from sigprop.modules.source import random_batch

        effort = self.effort(budget)
        spec = f"resnet:norm={norm},shortcut=projection,blocks={effort['blocks']}"
        spec += f",widths={effort['widths']}"
        pixels, seed = effort["pixels"], effort["seed"]
        shape = (3, pixels, pixels)
        batch = random_batch((effort["inputs"], *shape), seed=seed)
        seeds = iter(range(seed, seed + effort["networks"] + 1))
        built: list[Any] = []

        def build() -> Any:
            model = architecture(spec).build(shape, seed=next(seeds))
            if scheme != "as built":
                getattr(init, scheme)(model, batch[:1], **_OPTIONS.get(scheme, {}))
            built.append(model)
            return model

        arguments: dict[str, Any] = {"ensemble": 1 if one else effort["networks"], "seed": seed}
        # Fixup starts the classifier at 0, which passes no gradient: it enters at the last state.
        found = probe(build, batch, end=_last(spec, shape, batch), **arguments)
        kept = [name for name in found.data_vars if "sum" in found[name].dims]
        return (
            built[0],
            found if one else found[kept],
            batch,
        )

    @styled
    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> Picture:
        picture = Picture(figsize=(10.2, 6.6))
        panels = picture.subplots(2, 3, sharex=True, squeeze=False)
        for row, (norm, words) in zip(panels, _NORMS.items()):
            for scheme, colour in _SCHEMES.items():
                measured, theory = results[_key(norm, scheme)], predictions[_key(norm, scheme)]
                for axes, variable in zip(row, _PANELS):
                    _curve(axes, variable, measured, theory, colour, _marker(scheme))
            for axes, (variable, title) in zip(row, _PANELS.items()):
                axes.set_title(title)
                axes.set_yscale("linear" if variable == "sum_cosine_mean" else "log")
            row[0].set_ylabel(words)
            row[2].set_ylim(-0.05, 1.02)
        for axes in panels.flat:
            axes.set_xlabel("residual sum")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles: list[Any] = [
            Line2D([], [], color=colour, ls="", label=scheme, **_marker(scheme))
            for scheme, colour in _SCHEMES.items()
        ]
        handles.append(Line2D([], [], color="#555555", ls="--", label="theory, limit of width"))
        picture.legend(handles=handles, ncols=6)
        about = results[_key("none", "as built")].attrs
        setting = (
            f"ResNet of basic blocks (type B, projections where the shape changes), batch "
            f"{about['batch']}, {about['networks']} networks, {about['mode']} mode, "
            f"seed {about['seed']}; random inputs"
        )
        caption = (
            "Every point is the mean over networks of the logarithm (of the cosine itself), bars "
            "two standard errors; bands are as wide as the correction for finite width. Gradients "
            "enter at the right, of length 1 for each input. Where theory knows nothing there is "
            "no line: behind batch normalisation, which needs the whole batch, angles and "
            "gradients; and of RISOTTO, whose +/- pairs are no independent weights (strides and "
            "normalisation make it no isometry here)."
        )
        title = "What initialisation does to a ResNet, sum by sum"
        frame(picture, title, setting, caption, legend_rows=1)
        return picture


def _key(norm: str, scheme: str) -> str:
    return f"{norm}_{scheme.strip('_').replace(' ', '_')}"


def _last(spec: str, shape: tuple[int, int, int], batch: Any) -> str:
    """The name of the last residual sum."""
    from sigprop.modules.anatomy import anatomy
    from sigprop.modules.architectures import architecture

    return anatomy(architecture(spec).build(shape), batch[:1]).sums[-1].name


def _marker(scheme: str) -> dict[str, Any]:
    """Rings for the scheme that coincides with another, whose points they go round."""
    return (
        {"marker": "o", "ms": 6.0, "mfc": "none"}
        if scheme == "fixup_"
        else {"marker": "o", "ms": 3.2}
    )


def _curve(
    axes: Any,
    variable: str,
    measured: xr.Dataset,
    theory: xr.Dataset,
    colour: str,
    marker: dict[str, Any],
) -> None:
    place = np.arange(1, measured.sizes["sum"] + 1)
    value, error = measured[variable].values, 2 * measured[f"{variable}_se"].values
    line, slack = theory[variable].values, theory[f"{variable}_slack"].values
    if variable != "sum_cosine_mean":
        scale = measured.sum_entries.values if "gradient" in variable else 1.0
        low, high = scale * np.exp(line - slack), scale * np.exp(line + slack)
        value, line = scale * np.exp(value), scale * np.exp(line)
        error = value * error
    else:
        low, high = line - slack, line + slack
    axes.errorbar(place, value, error, color=colour, ls="", elinewidth=0.9, **marker)
    axes.plot(place, line, STATUS_LINE["limit"], color=colour, lw=1)
    axes.fill_between(place, low, high, color=colour, alpha=0.10, lw=0)
