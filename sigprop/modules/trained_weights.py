"""The weights of one tensor before and after training, run by run.

A study keeps accuracies; what happens to the weights along depth is asked of a few networks. Every
finished run is added to a journal, if one is named, so that a killed one goes on and ends in the
same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from sigprop import journal as journals
from sigprop.errors import ResultError, SpecError
from sigprop.modules.architectures import architecture
from sigprop.modules.data import ImageSet
from sigprop.modules.train import Recipe, Seeds, train_network

__all__ = ["weights_before_and_after"]

SCHEMA = "sigprop-trained-weights"
VERSION = 1  # raised when the same call would end in other numbers


def weights_before_and_after(
    networks: Mapping[str, str],
    data: ImageSet,
    recipe: Recipe,
    *,
    tensor: str,
    entries: int,
    seeds: Sequence[int] = (0, 1, 2),
    journal: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Train every network with every seed and keep some entries of one tensor.

    Parameters
    ----------
    networks : mapping of str to str
        Lines of text for `sigprop.modules.architecture`, such as ``stacked:depth=1000``; all of
        one depth.
    tensor : str
        Name of a parameter of shape (depth, ..), one layer a row.
    entries : int
        How many entries of a layer are kept, spread evenly over it; all if there are fewer.
    seeds : sequence of int
    journal : Path, optional
        Where finished runs are kept; gone on from if it stands and is of the same call.
    progress : callable, optional
        Called with (epochs done, epochs in all).

    Returns
    -------
    Dataset
        ``before`` and ``after``, float32 over case, seed, layer and entry; ``accuracy`` on the
        test part and ``diverged_step`` (-1: not) over case and seed.

    Raises
    ------
    SpecError, ResultError
        Before any work: no network or seed, a network without such a tensor, networks of
        unequal depth, a journal of another call.
    """
    shapes = {_shape(name, line, data, tensor) for name, line in networks.items()}
    if len(shapes) != 1 or not seeds or entries < 1:
        raise SpecError(
            f"weights are compared of one or more networks of one shape, seeds and entries, got "
            f"shapes {sorted(shapes)} of {tensor!r}, seeds {list(seeds)}, {entries} entries. Give "
            "networks of one depth and width."
        )
    ((depth, size),) = shapes
    places = np.unique(np.linspace(0, size - 1, min(entries, size)).round().astype(int))
    about = {
        "schema": SCHEMA,
        "version": VERSION,
        "networks": {name: str(architecture(line)) for name, line in networks.items()},
        "data": {"name": data.name, "digest": data.digest},
        "recipe": json.loads(json.dumps(vars(recipe))),
        "tensor": tensor,
        "entries": places.tolist(),
        "seeds": [int(seed) for seed in seeds],
        "torch": torch.__version__,
    }
    length = 2 + 2 + 2 * depth * len(places)
    done = {} if journal is None else _standing(journal, about, length)
    total = len(networks) * len(seeds) * recipe.epochs

    def tell(epochs: int) -> None:
        if progress is not None:
            progress(len(done) * recipe.epochs + epochs, total)

    book, threads = _book(journal, about), torch.get_num_threads()
    torch.set_num_threads(1)  # numbers depend on it, and so not on the machine's processors
    try:
        for c, line in enumerate(networks.values()):
            for s, seed in enumerate(seeds):
                if (c, s) in done:
                    continue
                network, given = _built(line, data, seed)
                before = _kept(network, tensor, places)
                course = train_network(network, data, recipe, given, on_epoch=tell)
                after = _kept(network, tensor, places)
                told = [course.diverged_step, course.test_accuracy[-1]]
                numbers = np.concatenate([told, before.ravel(), after.ravel()])
                if book is not None:
                    book.add(np.concatenate([[c, s], numbers]).astype("<f8").tobytes())
                done[c, s] = numbers
    finally:
        torch.set_num_threads(threads)
        if book is not None:
            book.close()
    return _dataset(networks, seeds, about, done, (depth, len(places)))


def _book(journal: Path | None, about: Mapping[str, Any]) -> journals.Journal | None:
    if journal is None:
        return None
    if journal.exists():
        return journals.Journal.reopen(journal)
    return journals.Journal.create(journal, about)


def _standing(
    journal: Path, about: Mapping[str, Any], length: int
) -> dict[tuple[int, ...], np.ndarray]:
    """The finished runs of a journal, empty where there is none."""
    if not journal.exists():
        return {}
    if journals.about(journal) != about:
        raise ResultError(
            f"{journal} holds the runs of other networks, so they cannot be gone on from. Name "
            "another journal, or delete this one."
        )
    rows = (np.frombuffer(record, "<f8") for record in journals.read(journal))
    return {(int(row[0]), int(row[1])): row[2:] for row in rows if row.size == length}


def _built(line: str, data: ImageSet, seed: int) -> tuple[nn.Module, Seeds]:
    given = Seeds.of(seed)
    return architecture(line).build(data.shape, data.classes, seed=given.init), given


def _shape(name: str, line: str, data: ImageSet, tensor: str) -> tuple[int, int]:
    """(depth, entries of a layer) of the tensor; refuses what has none."""
    known = dict(_built(line, data, 0)[0].named_parameters())
    if tensor not in known or known[tensor].ndim < 2:
        raise SpecError(
            f"network {name!r} has no tensor {tensor!r} with a layer in each row: it has "
            f"{', '.join(list(known)[:8])}. Take 'stacked', which has 'outer'."
        )
    depth, *rest = known[tensor].shape
    return depth, int(np.prod(rest))


def _kept(network: nn.Module, tensor: str, places: np.ndarray) -> np.ndarray:
    values: np.ndarray = network.get_parameter(tensor).detach().numpy()
    return values.reshape(len(values), -1)[:, places]  # a copy: places is an array


def _dataset(
    networks: Mapping[str, str],
    seeds: Sequence[int],
    about: Mapping[str, Any],
    done: Mapping[tuple[int, ...], np.ndarray],
    shape: tuple[int, int],
) -> xr.Dataset:
    size = len(networks), len(seeds)
    whole = np.array([done[place] for place in np.ndindex(size)]).reshape(*size, -1)
    weights = whole[..., 2:].reshape(*size, 2, *shape).astype(np.float32)
    axes = ("case", "seed", "layer", "entry")
    step, accuracy = whole[..., 0].astype(np.int64), whole[..., 1]
    return xr.Dataset(
        {
            "before": (axes, weights[:, :, 0], {"long_name": "initial weights", "units": "1"}),
            "after": (axes, weights[:, :, 1], {"long_name": "trained weights", "units": "1"}),
            "accuracy": (axes[:2], accuracy, {"long_name": "test accuracy", "units": "1"}),
            "diverged_step": (
                axes[:2],
                step,
                {"long_name": "steps taken when a loss was not finite; -1: none", "units": "1"},
            ),
        },
        {
            "case": np.array(list(networks), dtype=str),
            "seed": np.asarray(seeds, np.int64),
            "layer": np.arange(1, shape[0] + 1),
            "entry": about["entries"],
        },
        {"schema": SCHEMA, "schema_version": VERSION, "study": json.dumps(about, sort_keys=True)},
    )
