"""What the figures of trained networks share: how a study is run, told and drawn.

The learning rate of every case is chosen on the validation part; what is drawn is the accuracy on
the test part at that rate, every seed by itself and their mean with two standard errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.ranking import final_accuracy, rank
from figures._base import Figure, Progress

if TYPE_CHECKING:
    from sigprop.modules.study import Case

__all__ = ["by_epoch", "checkpoint", "course", "data_told", "ranked", "studied", "tabled"]

_NAMES = {"digits": "digits of scikit-learn (8 x 8)", "mnist": "MNIST", "cifar10": "CIFAR-10"}


def checkpoint(figure: Figure, name: str) -> Path | None:
    """Where a part of the figure keeps its finished runs."""
    path = figure.checkpoint
    return None if path is None else path.with_name(f"{path.name}.{name}")


def studied(
    figure: Figure,
    effort: Mapping[str, Any],
    cases: Mapping[str, Case],
    name: str,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Train all cases as ``effort`` says: ``recipe``, ``lrs``, ``seeds`` and sizes of the parts.

    Parameters
    ----------
    effort : mapping
        ``train``, ``validation`` and ``test`` are numbers of images; None, or left out: as
        `sigprop.modules.load_data` has them.
    name : str
        Of the part, for its checkpoint.

    Returns
    -------
    Dataset
        Of `sigprop.modules.run_study`, and how many images there were.

    Raises
    ------
    SigpropError
        As `sigprop.modules.load_data` and `run_study`, before any work; Unsupported without torch.
    """
    from sigprop.modules import load_data, run_study
    from sigprop.modules.train import Recipe

    parts = {part: effort.get(part) for part in ("train", "validation", "test")}
    data = load_data(figure.data, **parts)
    found: xr.Dataset = run_study(
        cases,
        data,
        Recipe(**effort["recipe"]),
        lrs=effort["lrs"],
        seeds=effort["seeds"],
        journal=checkpoint(figure, name),
        progress=progress,
    )
    sizes = {part: len(getattr(data, part)) for part in ("train", "validation", "test")}
    return found.assign_attrs(data=data.name, **{f"{part}_images": n for part, n in sizes.items()})


def data_told(study: xr.Dataset) -> str:
    """What was trained on and how the rate was chosen, for the line under a title."""
    about = json.loads(study.attrs["study"])
    recipe, seeds = about["recipe"], about["seeds"]
    rates = "/".join(f"{lr:g}" for lr in recipe["lr"])
    chosen = "chosen on the validation part" if len(recipe["lr"]) > 1 else "fixed"
    if recipe["schedule"] == "step":
        chosen += f", a tenth every {recipe['step']} epochs"
    elif recipe["schedule"] == "cosine":
        chosen += ", falling by a cosine"
    counted = "/".join(str(study.attrs[f"{p}_images"]) for p in ("train", "validation", "test"))
    told = f"{len(seeds)} seeds ({seeds[0]}–{seeds[-1]})" if len(seeds) > 1 else f"seed {seeds[0]}"
    return (
        f"Data: {_NAMES[study.attrs['data']]}, {counted} images to train/validate/test; "
        f"{recipe['optimizer']}, {recipe['epochs']} epochs, batch {recipe['batch']}, rate {rates} "
        f"{chosen}; {told}"
    )


def ranked(study: xr.Dataset, claimed: list[str], *, best: bool = False) -> str:
    """The sentence of `analysis.ranking.rank` on the accuracy after the last epoch."""
    return rank(final_accuracy(study), claimed, best=best).sentence()


def by_epoch(study: xr.Dataset) -> xr.DataArray:
    """Test accuracy at the chosen rates, dims (case, seed, epoch)."""
    found: xr.DataArray = study.test_accuracy.sel(lr=study.chosen_lr)
    return found.reset_coords(drop=True).transpose("case", "seed", "epoch")


def course(axes: Axes, study: xr.Dataset, case: str, **look: Any) -> None:
    """Accuracy of a case by epoch: thin lines the seeds, thick their mean and its band."""
    thin = {key: value for key, value in look.items() if key in ("color", "ls")}
    for one in by_epoch(study).sel(case=case):
        axes.plot(study.epoch, 100 * one, lw=0.5, alpha=0.45, **thin)
    mean = 100 * study.accuracy_mean.sel(case=case)
    band = 200 * study.accuracy_mean_se.sel(case=case)
    axes.plot(study.epoch, mean, lw=1.8, **look)
    axes.fill_between(study.epoch, mean - band, mean + band, alpha=0.15, lw=0, color=look["color"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def tabled(study: xr.Dataset, labels: Mapping[str, str] | None = None) -> str:
    """Every case in a line: accuracy with its standard error, every seed, rate, divergence.

    A chosen rate at an end of its grid is marked: one beyond it might be better.
    """
    ends = {float(study.lr[0]), float(study.lr[-1])} if study.sizes["lr"] > 1 else set()
    names = {str(c): (labels or {}).get(str(c), str(c)) for c in study.case.values}
    wide = max(len(name) for name in names.values())
    lines = [f"{'':{wide}s}  test accuracy %   rate    diverged  by seed"]
    for case, values in zip(study.case.values, final_accuracy(study).values, strict=True):
        at = study.sel(case=case)
        mean, se = (100 * float(v[-1]) for v in (at.accuracy_mean, at.accuracy_mean_se))
        seeds = " ".join(f"{100 * value:.1f}" for value in values)
        error = f"± {se:4.1f}" if se == se else "      "
        rate = f"{float(at.chosen_lr):g}" + "*" * (float(at.chosen_lr) in ends)
        lines.append(
            f"{names[str(case)]:{wide}s}  {mean:6.1f} {error}    {rate:7s} "
            f"{100 * float(at.diverged_fraction):3.0f} %     {seeds}"
        )
    if any(float(rate) in ends for rate in study.chosen_lr):
        lines.append("* an end of the grid of rates: one beyond it might be better")
    return "\n".join(lines)
