"""Many runs of the trainer side by side: cases, learning rates and seeds, as one Dataset.

The learning rate of every case is chosen on the validation part, by the mean over its seeds,
and never on the test. Every finished run is added to a journal, if one is named, so a study
that was killed goes on where it stopped and ends in the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from sigprop import journal as journals
from sigprop.errors import Interrupted, NonFinite, ResultError, SpecError
from sigprop.label import software
from sigprop.modules.architectures import architecture
from sigprop.modules.data import ImageSet
from sigprop.modules.train import Course, Recipe, Seeds, train_network

__all__ = ["TRAINING", "Case", "begun", "differing", "run_study", "studied"]

TRAINING = "sigprop-training"
VERSION = 1  # raised when the same study would end in other numbers

Progress = Callable[[int, int], None]

# name -> (what it is, unit); an entry an epoch
_BY_EPOCH = {
    "train_loss": ("mean loss of the epoch's batches, each before its step", "nat"),
    "validation_loss": ("loss on the validation part", "nat"),
    "validation_accuracy": ("accuracy on the validation part", "1"),
    "test_loss": ("loss on the test part", "nat"),
    "test_accuracy": ("accuracy on the test part", "1"),
}
_BY_RUN = {
    "diverged_step": ("steps taken when a loss was first not finite; -1: none was", "1"),
    "preparation_seconds": ("wall time of the preparation before training", "s"),
    "seconds": ("wall time of training and judging", "s"),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to begin: a network, and what is done to it before it is trained.

    Parameters
    ----------
    network : str or callable
        A line of text for `sigprop.modules.architecture`, or a function of a seed that returns
        a module.
    prepare : callable, optional
        Called with (network, data, seed): changes the network in place, from ``data.train``
        alone. Its time is told apart. If it raises NonFinite, the run is told as diverged
        before its first step.
    about : mapping
        What the two functions do, in plain values: by this a journal knows the study again.
    """

    network: str | Callable[[int], nn.Module]
    prepare: Callable[[nn.Module, ImageSet, int], object] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """What the case is, in plain values."""
        network = str(architecture(self.network)) if isinstance(self.network, str) else "function"
        prepared = self.prepare is not None
        return {"network": network, "prepared": prepared, "about": dict(self.about)}

    def made(self, data: ImageSet, seed: int) -> nn.Module:
        """The network, before it is prepared."""
        if isinstance(self.network, str):
            return architecture(self.network).build(data.shape, data.classes, seed=seed)
        return self.network(seed)


def run_study(
    cases: Mapping[str, Case],
    data: ImageSet,
    recipe: Recipe,
    *,
    lrs: Sequence[float] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    journal: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Train every case with every learning rate and every seed.

    Parameters
    ----------
    cases : mapping of str to Case
    data : ImageSet
    recipe : Recipe
        Its learning rate is used if ``lrs`` is not given.
    lrs : sequence of float, optional
        Learning rates to choose from, for each case apart.
    seeds : sequence of int
        `Seeds.of` each: the cases share orders and, network by network, weights.
    journal : Path, optional
        Where finished runs are kept. If it stands already and is of the same study, the study
        goes on from it. It is left there.
    threads : int
        Of torch, while training: numbers depend on it, and so not on the machine's processors.
    progress : callable, optional
        Called with (epochs done, epochs in all).

    Returns
    -------
    Dataset
        Over case, lr, seed and epoch (1, 2, ...): what `Course` holds, run by run. Over case:
        ``chosen_lr``, the first of the highest mean validation accuracy after the last
        epoch. At that learning rate, over case and epoch: ``accuracy_mean`` of the test with
        ``accuracy_mean_se``, and ``accuracy_deviation`` between seeds (NaN of one seed);
        ``diverged_fraction`` over case.

    Raises
    ------
    SpecError, UnknownName, ResultError, StorageError
        Before any work; ResultError where the journal belongs to another study.
    Interrupted
        If it is stopped: what was finished stands in the journal.
    """
    rates = (recipe.lr,) if lrs is None else tuple(float(lr) for lr in lrs)
    _require(cases, data, rates, seeds)
    recipes = [dataclasses.replace(recipe, lr=rate) for rate in rates]
    data.train.batches(recipe.batch, seed=0)
    about = _about(cases, data, recipe, rates, seeds, threads)
    places = [
        (c, r, s) for c in range(len(cases)) for r in range(len(rates)) for s in range(len(seeds))
    ]
    done = {} if journal is None else _standing(journal, about, recipe.epochs)
    total = len(places) * recipe.epochs

    def tell(epochs: int) -> None:
        if progress is not None:
            progress(len(done) * recipe.epochs + epochs, total)

    with _keeping(journal, about) as keep, _threads(threads):
        try:
            for place in places:
                if place in done:
                    continue
                tell(0)
                c, r, s = place
                case, given = list(cases.values())[c], Seeds.of(seeds[s])
                network = case.made(data, given.init)
                prepared, failed = _prepare(case, network, data, given.preparation)
                if failed:
                    course = _at_chance(data, recipe)
                else:
                    course = train_network(network, data, recipes[r], given, on_epoch=tell)
                numbers = _numbers(course, prepared)
                keep(_record(place, numbers))
                done[place] = numbers
        except KeyboardInterrupt:
            kept = "nothing was kept" if journal is None else f"they stand in {journal}"
            raise Interrupted(
                f"stopped after {len(done)} of {len(places)} runs; {kept}. Called again in the "
                "same words, it goes on from there."
            ) from None
    tell(0)
    return _dataset(cases, rates, seeds, recipe, about, done)


def studied(
    cases: Mapping[str, Case],
    data: ImageSet,
    recipe: Recipe,
    *,
    lrs: Sequence[float] | None = None,
    seeds: Sequence[int],
    threads: int = 1,
) -> dict[str, Any]:
    """What `run_study` would be called with, in the plain values by which a study is known.

    Raises
    ------
    SpecError
        As `run_study`, before any work.
    """
    rates = (recipe.lr,) if lrs is None else tuple(float(lr) for lr in lrs)
    _require(cases, data, rates, seeds)
    return _about(cases, data, recipe, rates, seeds, threads)


def begun(result: xr.Dataset, about: Mapping[str, Any], journal: Path) -> None:
    """Begin the journal of a study with those of its runs that a result holds.

    Parameters
    ----------
    result : Dataset
        Of `run_study`.
    about : mapping
        Of the study that is to be, by `studied`: `differing` finds nothing in the two but more
        cases, rates or seeds.
    journal : Path
    """
    book = journals.Journal.create(journal, _ordered(about))
    try:
        grid = (list(about["cases"]), about["recipe"]["lr"], about["seeds"])
        for place in np.ndindex(*map(len, grid)):
            case, lr, seed = (values[i] for values, i in zip(grid, place, strict=True))
            if case in result.case and lr in result.lr and seed in result.seed:
                run = result.sel(case=case, lr=lr, seed=seed)
                values = [np.atleast_1d(run[name].values) for name in (*_BY_RUN, *_BY_EPOCH)]
                book.add(_record(place, np.concatenate(values)))
    finally:
        book.close()


def differing(
    before: Mapping[str, Any], about: Mapping[str, Any]
) -> tuple[list[str], list[str], list[str]]:
    """What differs between two studies, by `studied` or a result's attribute ``study``.

    Returns
    -------
    (list of str, list of str, list of str)
        What makes their runs other runs; then the cases, rates and seeds that only the first has;
        then those that only the second has.
    """
    grids = [(s["cases"], s["recipe"]["lr"], s["seeds"]) for s in (before, about)]
    differ = [
        key
        for key in sorted({*before, *about} - {"cases", "recipe", "seeds"})
        if before.get(key) != about.get(key)
    ]
    recipes = before["recipe"], about["recipe"]
    differ += [k for k in recipes[1] if k != "lr" and recipes[0].get(k) != recipes[1][k]]
    for name in before["cases"]:
        here, there = before["cases"][name], about["cases"].get(name)
        if there is not None and here != there:
            parts = [here | here["about"], there | there["about"]]
            keys = sorted({*parts[0], *parts[1]} - {"about"})
            differ += [k for k in keys if parts[0].get(k) != parts[1].get(k)]
    lost, more = (
        [
            f"{what} {value}"
            for what, these, those in zip(("case", "rate", "seed"), one, other, strict=True)
            for value in these
            if value not in those
        ]
        for one, other in (grids, grids[::-1])
    )
    return list(dict.fromkeys(differ)), lost, more


def _ordered(about: Mapping[str, Any]) -> dict[str, Any]:
    """With the order of the cases, by which a journal numbers its runs."""
    return {**about, "order": list(about["cases"])}


def _prepare(case: Case, network: nn.Module, data: ImageSet, seed: int) -> tuple[float, bool]:
    """Prepare ``network``; (seconds, whether its numbers were not finite)."""
    started, failed = time.perf_counter(), False
    if case.prepare is not None:
        try:
            case.prepare(network, data, seed)
        except NonFinite:  # as a run that diverges: told, and no reason to stop the others
            failed = True
    return time.perf_counter() - started, failed


def _at_chance(data: ImageSet, recipe: Recipe) -> Course:
    """Of a network that could not be prepared: diverged before the first step."""
    nothing = np.full(recipe.epochs, np.nan)
    chance = [
        np.full(recipe.epochs, 1 / data.classes if len(part) else np.nan)
        for part in (data.validation, data.test)
    ]
    return Course(
        train_loss=nothing,
        validation_loss=nothing,
        validation_accuracy=chance[0],
        test_loss=nothing,
        test_accuracy=chance[1],
        diverged_step=0,
        seconds=0.0,
    )


def _require(
    cases: Mapping[str, Case], data: ImageSet, rates: tuple[float, ...], seeds: Sequence[int]
) -> None:
    for what, values in (("cases", list(cases)), ("lrs", rates), ("seeds", seeds)):
        if not len(values) or len(set(values)) != len(values):
            raise SpecError(
                f"{what} must be one or more different ones, got {list(values)}. "
                "Leave out what is there twice."
            )
    if len(rates) > 1 and not len(data.validation):
        raise SpecError(
            f"one of {len(rates)} learning rates is to be chosen and the validation part is empty; "
            "chosen on the test, its accuracy would be too high. Load the data with a validation "
            "part."
        )


# --------------------------------------------------------------------- the journal


def _about(
    cases: Mapping[str, Case],
    data: ImageSet,
    recipe: Recipe,
    rates: tuple[float, ...],
    seeds: Sequence[int],
    threads: int,
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "schema": TRAINING,
        "version": VERSION,
        "cases": {name: case.told() for name, case in cases.items()},
        "data": {"name": data.name, "digest": data.digest},
        "recipe": dataclasses.asdict(recipe) | {"lr": list(rates)},
        "seeds": [int(seed) for seed in seeds],
        "threads": threads,
        "torch": torch.__version__,
    }
    try:
        found: dict[str, Any] = json.loads(json.dumps(told, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"what is told about a case must be plain values, for a journal knows it by them: "
            f"{error}. Use numbers, words, lists and mappings."
        ) from error
    return found


def _standing(
    journal: Path, about: Mapping[str, Any], epochs: int
) -> dict[tuple[int, ...], np.ndarray]:
    """The finished runs of a journal, empty where there is none."""
    if not os.path.exists(journal):
        return {}
    found = journals.about(journal)
    asked = _ordered(about)
    if found != asked:
        differ = [key for key in {*found, *asked} if found.get(key) != asked.get(key)]
        raise ResultError(
            f"{journal} holds the runs of another study: its {', '.join(sorted(differ))} differ, "
            "so they cannot be gone on from. Name another output or journal, or delete this one."
        )
    numbers = (np.frombuffer(record, "<f8") for record in journals.read(journal))
    return {
        tuple(int(i) for i in row[:3]): row[3:]
        for row in numbers
        if row.size == 3 + len(_BY_RUN) + len(_BY_EPOCH) * epochs
    }


@contextmanager
def _keeping(journal: Path | None, about: Mapping[str, Any]) -> Iterator[Callable[[bytes], None]]:
    if journal is None:
        yield lambda record: None
        return
    standing = os.path.exists(journal)
    book = (
        journals.Journal.reopen(journal)
        if standing
        else journals.Journal.create(journal, _ordered(about))
    )
    try:
        yield book.add
    finally:
        book.close()


def _numbers(course: Course, prepared: float) -> np.ndarray:
    by_run = [course.diverged_step, prepared, course.seconds]
    return np.concatenate([by_run, *(getattr(course, name) for name in _BY_EPOCH)])


def _record(place: tuple[int, ...], numbers: np.ndarray) -> bytes:
    return np.concatenate([place, numbers]).astype("<f8").tobytes()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --------------------------------------------------------------------- the Dataset


def _dataset(
    cases: Mapping[str, Case],
    rates: tuple[float, ...],
    seeds: Sequence[int],
    recipe: Recipe,
    about: Mapping[str, Any],
    done: Mapping[tuple[int, ...], np.ndarray],
) -> xr.Dataset:
    shape = len(cases), len(rates), len(seeds)
    whole = np.array([done[place] for place in np.ndindex(shape)]).reshape(*shape, -1)
    by_run = np.moveaxis(whole[..., : len(_BY_RUN)], -1, 0)
    by_epoch = whole[..., len(_BY_RUN) :].reshape(*shape, len(_BY_EPOCH), recipe.epochs)
    axes = ("case", "lr", "seed")
    made: dict[str, Any] = {}
    for (name, (what, unit)), values in zip(_BY_RUN.items(), by_run, strict=True):
        values = values.astype(np.int64) if name == "diverged_step" else values
        made[name] = (axes, values, {"long_name": what, "units": unit})
    for i, (name, (what, unit)) in enumerate(_BY_EPOCH.items()):
        made[name] = ((*axes, "epoch"), by_epoch[..., i, :], {"long_name": what, "units": unit})
    chosen = np.zeros(len(cases), int)
    if len(rates) > 1:
        chosen = made["validation_accuracy"][1][..., -1].mean(-1).argmax(-1)
    best = np.arange(len(cases)), chosen
    made |= _summary(made["test_accuracy"][1][best], made["diverged_step"][1][best])
    made["chosen_lr"] = (
        "case",
        np.asarray(rates)[chosen],
        {"long_name": "learning rate chosen on the validation part", "units": "1"},
    )
    coordinates = {
        "case": ("case", np.array(list(cases), dtype=str), {"long_name": "how it began"}),
        "lr": ("lr", np.asarray(rates), {"long_name": "learning rate", "units": "1"}),
        "seed": ("seed", np.asarray(seeds, np.int64), {"long_name": "seed of the run"}),
        "epoch": ("epoch", np.arange(1, recipe.epochs + 1), {"long_name": "epochs trained"}),
    }
    attributes = {
        "schema": TRAINING,
        "schema_version": VERSION,
        "title": f"training on {about['data']['name']}, {len(seeds)} seeds",
        "study": json.dumps(about, sort_keys=True),
        "software": json.dumps(json.loads(software()) | {"torch": torch.__version__}),
    }
    return xr.Dataset(made, coordinates, attributes)


def _summary(accuracy: np.ndarray, diverged: np.ndarray) -> dict[str, Any]:
    """Over the seeds of the chosen learning rates: accuracy (case, seed, epoch)."""
    n = accuracy.shape[1]
    spread = accuracy.std(1, ddof=1) if n > 1 else np.full(accuracy[:, 0].shape, math.nan)
    told = "accuracy on the test part at the chosen learning rate"
    return {
        "accuracy_mean": (
            ("case", "epoch"),
            accuracy.mean(1),
            {"long_name": f"mean {told}", "units": "1"},
        ),
        "accuracy_mean_se": (
            ("case", "epoch"),
            spread / math.sqrt(n),
            {"long_name": f"standard error of the mean {told}, between seeds", "units": "1"},
        ),
        "accuracy_deviation": (
            ("case", "epoch"),
            spread,
            {"long_name": f"deviation between seeds of the {told}", "units": "1"},
        ),
        "diverged_fraction": (
            "case",
            (diverged >= 0).mean(1),
            {"long_name": "share of seeds that diverged at the chosen learning rate", "units": "1"},
        ),
    }
