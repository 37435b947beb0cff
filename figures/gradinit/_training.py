"""What the training figures of GradInit share: methods of preparation, tables, verdicts.

Nothing here imports torch before a network is prepared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from analysis.ranking import rank

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sigprop.modules.data import ImageSet

__all__ = [
    "BATCH_SEEN",
    "METHODS",
    "add_verdicts",
    "by_method",
    "compared",
    "expected",
    "judged",
    "preparation",
    "reduced",
    "tally",
    "written",
]

Prepare = Callable[["nn.Module", "ImageSet", int], object]

BATCH_SEEN = 256  # images on which the methods that look at one batch look

METHODS = {
    "none": "none",
    "gradinit": "GradInit",
    "lsuv": "LSUV",
    "autoinit": "AutoInit (Jacobian)",
    "metainit": "MetaInit",
    "kraehenbuehl": "Krähenbühl (within)",
}


def reduced(effort: Mapping[str, Any], data: str, **changed: Any) -> Mapping[str, Any]:
    """The effort on ``data``: of other images than digits, 2000 to train and 2000 to test.

    ``changed`` is what else is less for them.
    """
    if data == "digits":
        return effort
    train = min(2000, effort.get("train") or 2000)
    return {**effort, **changed, "train": train, "test": 2000}


def preparation(method: str, settings: Mapping[str, Any]) -> Prepare | None:
    """What ``method`` does to a network before it is trained, with data for training alone.

    Parameters
    ----------
    method : str
        A key of `METHODS`.
    settings : mapping
        Passed to the method; ``half_batch`` is the size of GradInit's half-batches.
    """
    made: dict[str, Prepare | None] = {
        "none": None,
        "gradinit": lambda network, data, seed: _gradinit(network, data, seed, **settings),
        "lsuv": lambda network, data, seed: _modules().lsuv(
            network, _one_batch(data, seed), seed=seed, **settings
        ),
        "autoinit": lambda network, data, seed: _modules().autoinit_jacobian(
            network, _one_batch(data, seed), seed=seed, **settings
        ),
        "metainit": lambda network, data, seed: _modules().metainit(
            network, data.shape, data.classes, _loss, seed=seed, **settings
        ),
        "kraehenbuehl": lambda network, data, seed: _modules().kraehenbuehl(
            network, _one_batch(data, seed), between=False, seed=seed, **settings
        ),
    }
    return made[method]


def _gradinit(
    network: nn.Module, data: ImageSet, seed: int, *, half_batch: int, **settings: Any
) -> object:
    batches = data.train.batches(half_batch, seed=seed, epochs=None)
    return _modules().gradinit(network, batches, _loss, **settings)


def _modules() -> Any:
    import sigprop.modules

    return sigprop.modules


def _loss(output: Tensor, batch: Any) -> Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(output, batch[1])


def _one_batch(data: ImageSet, seed: int) -> Tensor:
    images, _ = next(iter(data.train.batches(min(BATCH_SEEN, len(data.train)), seed=seed)))
    return images


# ------------------------------------------------------------------ numbers in words


def by_method(
    study: xr.Dataset, methods: Sequence[str], axis: str, values: Sequence[Any]
) -> xr.Dataset:
    """The cases of a study, ``METHOD/VALUE``, over two dimensions: preparation and ``axis``."""
    rows = []
    for method in methods:
        row = study.sel(case=[f"{method}/{value}" for value in values])
        rows.append(row.drop_vars("case").rename(case=axis).assign_coords({axis: list(values)}))
    along = xr.DataArray(list(methods), dims="preparation", name="preparation")
    return xr.concat(rows, along, join="exact", combine_attrs="override")


def judged(accuracy: xr.DataArray, better: str, worse: str) -> str:
    """The verdict on ``better > worse``, over dimensions (preparation, seed).

    As `analysis.ranking.rank` has it, at 5% for this pair alone; and a difference within one
    deviation between seeds is no ranking, however many seeds there are.
    """
    pair = accuracy.sel(preparation=[better, worse])
    if pair.sizes["seed"] > 1:
        apart = float(abs(pair.mean("seed").diff("preparation")).item())
        if apart <= float(pair.std("seed", ddof=1).max()):
            return "not shown"
    return rank(pair.rename(preparation="case"), [better, worse]).verdict


def add_verdicts(result: xr.Dataset, axis: str) -> None:
    """Judge GradInit against what else was done at each place of ``axis``, at the end or by epoch.

    Adds ``verdict`` over (rival, axis) in place.
    """
    runs = result.test_accuracy.isel(lr=0, drop=True)
    if axis != "epoch":
        runs = runs.isel(epoch=-1, drop=True)
    rivals = [method for method in result.preparation.values if method != "gradinit"]
    verdicts = [
        [judged(runs.sel({axis: at}, drop=True), "gradinit", rival) for at in result[axis].values]
        for rival in rivals
    ]
    result["verdict"] = (
        ("rival", axis),
        np.array(verdicts, dtype=str),
        {"long_name": "whether GradInit is better, by Student's test paired by seed"},
    )
    result.coords["rival"] = ("rival", np.array(rivals, dtype=str))


def compared(
    result: xr.Dataset, theirs: xr.Dataset | None, axis: str, values: Sequence[Any]
) -> list[str]:
    """A line for each method: accuracy at each of ``values``, what was expected in brackets."""
    shown = result if axis == "epoch" else result.isel(epoch=-1)
    lines = []
    for method in result.preparation.values:
        cells = ""
        for value in values:
            place = {"preparation": method, axis: value}
            at = shown.sel(place)
            cell = written(float(at.accuracy_mean), float(at.accuracy_deviation))
            if theirs is not None:
                known = theirs.sel(place)
                told = written(float(known.accuracy_mean), float(known.accuracy_deviation))
                cell += f" [{told}]"
            cells += f"{cell:>30s}"
        seconds = float(result.preparation_seconds.sel(preparation=method).mean())
        lines.append(f"{METHODS[method]:22s}{cells}{seconds:>12.2f} s")
    return lines


def tally(found: Sequence[tuple[str, str]]) -> str:
    """``shown (adam at 1.5); not shown (sgd at 1)``, of (where, verdict)."""
    words = ("shown", "not shown", "contradicted")
    groups = {word: [where for where, verdict in found if verdict == word] for word in words}
    return "; ".join(f"{word} ({', '.join(where)})" for word, where in groups.items() if where)


def expected(
    rows: Mapping[str, Mapping[Any, tuple[float, float]]], values: Sequence[Any], axis: str
) -> xr.Dataset:
    """A table of (mean, deviation) that was measured elsewhere, as a Dataset."""
    whole = np.array([[rows[method][value] for value in values] for method in rows], float)
    told = "of the accuracy after training that was measured elsewhere"
    return xr.Dataset(
        {
            "accuracy_mean": (("preparation", axis), whole[..., 0], {"long_name": f"mean {told}"}),
            "accuracy_deviation": (
                ("preparation", axis),
                whole[..., 1],
                {"long_name": f"deviation between seeds {told}"},
            ),
        },
        {"preparation": list(rows), axis: list(values)},
        {"status": "measured"},
    )


def written(mean: float, deviation: float) -> str:
    """``.955±.016``, and a mean alone where no deviation is known."""
    if mean != mean:
        return "-"
    told = f"{mean:.3f}"
    return told if deviation != deviation else f"{told}±{deviation:.3f}"
