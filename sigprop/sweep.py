"""A grid of ensembles, simulated into one result that has a dimension for every axis.

A point of the grid is a run like any other: with one seed it has the bits that `simulate`
gives of its ensemble. Points at which the law is the same are run once. Where a sampler can
draw weights once for several points (`Sampler.coupled`), those points form a group and share
them; the result says so.

Every law is made and checked before any work. Finished points are added to a journal beside
the output, so a killed sweep goes on where it stopped and ends in the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop import journal, work
from sigprop import result as results
from sigprop.errors import (
    DeviceMemory,
    Interrupted,
    OutputExists,
    ResultError,
    SpecError,
    StorageError,
)
from sigprop.grid import Grid, grid_of
from sigprop.label import coordinates, estimates, software
from sigprop.request import DEFAULT_QUANTILES, Request, on_device, requested
from sigprop.simulate import COUPLED_WITH
from sigprop.spec import Ensemble
from sigprop.stream import Group, flow
from sigprop.trace import FIELDS

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.backends import Sampler
    from sigprop.observables import Observable, Variable

__all__ = ["Plan", "holds", "plan", "run", "sweep"]

MANY = 10_000  # points beyond which the wish must be confirmed
TOGETHER = 128  # ensembles at most that share one draw: their states stand in memory together
DEFAULT_LAYERS = (0, "top")

Progress = Callable[[int, int], None]
_HEAD = struct.Struct("<Qd")  # index of a point, seconds that one of its networks took


def sweep(
    make: Callable[..., Ensemble] | Mapping[str, Any],
    axes: Mapping[str, Sequence[Any] | Mapping[str, Any]],
    observe: str | Observable | Sequence[str | Observable] | None = None,
    *,
    replicas: int = 1000,
    seed: int = 0,
    sampler: str | Sampler = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    layers: Sequence[int | str] = DEFAULT_LAYERS,
    orders: Sequence[float] | None = None,
    quantiles: Sequence[float] = DEFAULT_QUANTILES,
    keep: Sequence[int | str] = (),
    coupled: bool | str = "auto",
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
    device: str | None = None,
    yes: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Simulate the law at every point of a grid.

    >>> import sigprop
    >>> grid = {"scheme": ["he", "fixup"], "depth": [10, 20]}
    >>> found = sigprop.sweep({"width": 8}, grid, "norm", replicas=10)
    >>> dict(found.log_norm_mean.sizes)
    {'scheme': 2, 'depth': 2, 'layer': 2, 'input': 2}

    Parameters
    ----------
    make : callable or mapping
        What makes the law of a point: a callable that takes the values of the axes as
        keywords and returns an Ensemble; or a mapping of options, named as on the command
        line (``{"scheme": "power", "depth": 1000}``), to which the axes add theirs.
    axes : mapping of str to sequence or mapping
        Values of each axis, numbers or words; or ``{label: value}`` for other objects. The
        last axis runs fastest.
    observe, replicas, seed, workers, executor, orders, quantiles
        As for `simulate`. By default orders are those that every law of the grid has.
    sampler : str or Sampler
        ``auto`` takes at every point the cheapest that is exact in law.
    layers, keep : sequence of int or str
        As for `simulate`, and words: ``"top"`` is the last layer, ``"50%"`` the one in the
        middle. Default: the first and the last. Where the depth differs from point to point,
        layers are 0, ``"top"`` or fractions, and the dimension ``layer`` has the coordinate
        ``t`` (layer over depth) in place of numbers.
    coupled : bool or "auto"
        True: all points share their random numbers. ``"auto"``: points do for which the
        sampler then draws weights only once. False: all points are independent.
    out : path, optional
        Where to write the result; finished points are added to ``<out>.part``.
    force, resume : bool
        What to do with an ``out`` that exists or a sweep that was stopped: replace it; go on.
    device : str, optional
        As for `simulate`.
    yes : bool
        Confirms a grid of more than 10^4 points.
    progress : callable, optional
        Called with (networks done, networks in all) as the run proceeds.

    Returns
    -------
    Dataset
        The variables of `simulate` with the axes as first dimensions and coordinates, and
        the law of every point as JSON in the coordinate ``ensemble``. A variable that does
        not apply at a point is NaN (False) there.

    Raises
    ------
    SpecError, UnknownName, Unsupported
        If the grid is empty or too large, or a point has no law or cannot be simulated as
        asked; the point is named. Before any work.
    OutputExists, ResultError, StorageError, NonFinite, Interrupted
        As `simulate`.
    """
    planned = plan(
        make, axes, observe, replicas=replicas, seed=seed, sampler=sampler, layers=layers,
        orders=orders, quantiles=quantiles, keep=keep, coupled=coupled, device=device, yes=yes,
    )  # fmt: skip
    return run(
        planned, workers=workers, executor=executor, out=out, force=force, resume=resume,
        progress=progress,
    )  # fmt: skip


# ------------------------------------------------------------------------- plan


@dataclass(frozen=True)
class Layout:
    """The variables of a point: what is needed to write their values one behind the other."""

    names: tuple[str, ...]
    dims: tuple[tuple[str, ...], ...]
    shapes: tuple[tuple[int, ...], ...]
    types: tuple[np.dtype[Any], ...]
    attrs: tuple[dict[str, str], ...]

    @property
    def size(self) -> int:
        """Bytes of a point."""
        pairs = zip(self.shapes, self.types, strict=True)
        return sum(math.prod(shape) * kind.itemsize for shape, kind in pairs)

    def pack(self, variables: Mapping[str, Variable]) -> bytes:
        parts = []
        for name, shape, kind in zip(self.names, self.shapes, self.types, strict=True):
            values = np.ascontiguousarray(variables[name][1], kind)
            assert values.shape == shape, (name, values.shape, shape)
            parts.append(values.tobytes())
        return b"".join(parts)

    def unpack(self, data: bytes) -> dict[str, np.ndarray]:
        found, at = {}, 0
        for name, shape, kind in zip(self.names, self.shapes, self.types, strict=True):
            count = math.prod(shape)
            found[name] = np.frombuffer(data, kind, count, at).reshape(shape)
            at += count * kind.itemsize
        return found


@dataclass(frozen=True)
class Plan:
    """A sweep that is known to be possible; what `plan` returns and `run` takes.

    Attributes
    ----------
    grid : Grid
    request : callable
        From the index of a point and whether it is coupled to its Request.
    digest : str
        SHA-256 of the axes and of every law.
    groups : tuple of (tuple of int, bool)
        Points that are run together, and whether they share random numbers on purpose; of
        points with the same law the first alone.
    same : dict
        From the index of a first point to all of the same law.
    layouts : dict
        From the index of a first point to its layout.
    fractions : tuple of float, or None
        Layers over depth, where the depth differs from point to point.
    identity : dict
        What is compared before a sweep goes on from a file.
    """

    grid: Grid
    request: Callable[[int, bool], Request]
    digest: str
    groups: tuple[tuple[tuple[int, ...], bool], ...]
    same: dict[int, list[int]]
    layouts: dict[int, Layout]
    fractions: tuple[float, ...] | None
    kept_fractions: tuple[float, ...] | None
    replicas: int
    seed: int
    identity: dict[str, Any]

    @property
    def name(self) -> str:
        """The default name of the file: axes with their sizes, seed, digest."""
        axes = "-".join(f"{axis.name}{len(axis.values)}" for axis in self.grid.axes)
        return f"sweep-{axes}-s{self.seed}-{self.digest[:8]}.nc"

    @property
    def networks(self) -> int:
        """Networks to draw, those of coupled points counted at each."""
        return self.replicas * len(self.same)


@dataclass(frozen=True)
class _Point:
    """What is remembered of a point that was checked."""

    digest: str
    layout: Layout
    orders: tuple[float, ...]
    recorded: tuple[int, int]  # layers, kept layers
    sampler: tuple[str, int, int, str]
    observe: tuple[str, ...]
    shared: str  # digest of what coupled points have in common
    fixed: tuple[int, int]  # depth, inputs


def plan(
    make: Callable[..., Ensemble] | Mapping[str, Any],
    axes: Mapping[str, Sequence[Any] | Mapping[str, Any]],
    observe: str | Observable | Sequence[str | Observable] | None = None,
    *,
    replicas: int = 1000,
    seed: int = 0,
    sampler: str | Sampler = "auto",
    layers: Sequence[int | str] = DEFAULT_LAYERS,
    orders: Sequence[float] | None = None,
    quantiles: Sequence[float] = DEFAULT_QUANTILES,
    keep: Sequence[int | str] = (),
    coupled: bool | str = "auto",
    device: str | None = None,
    yes: bool = False,
) -> Plan:
    """Check a sweep, every point of it; parameters and errors are those of `sweep`."""
    if coupled not in (True, False, "auto"):
        raise SpecError(f"coupled must be True, False or 'auto', got {coupled!r}.")
    grid = grid_of(make, axes)
    sampler = _placed(on_device(sampler, device, None))
    layers, keep = _place_words("layers", layers), _place_words("keep", keep)

    def request(index: int, shared: bool) -> Request:
        ensemble = grid.ensemble(index)
        depth = ensemble.network.depth
        with grid.naming(index):
            return requested(
                ensemble, observe, replicas, seed, sampler, _at(layers, depth), orders, quantiles,
                _at(keep, depth), shared,
            )  # fmt: skip

    if len(grid) > MANY and not yes:
        _refuse_many(grid, request)
    blank = functools.lru_cache(maxsize=64)(_layout)

    def check() -> list[_Point]:
        return [_checked(request(index, False), blank) for index in range(len(grid))]

    points = check()
    lists = {point.orders for point in points}
    if orders is None and len(lists) > 1:
        # Some laws have fewer moments: those that all have are observed of all.
        orders = tuple(sorted(set.intersection(*map(set, lists))))
        points = check()
    _require_one_shape(grid, points)
    depths = {point.fixed[0] for point in points}
    fractions = kept_fractions = None
    if len(depths) > 1:
        fractions = _fractions("layers", (*layers, *keep))
        kept_fractions = _fractions("keep", keep)
        for index, point in enumerate(points):
            if point.recorded != (len(fractions), len(kept_fractions)):
                raise SpecError(
                    f"at {grid.name(index)}: two of the layers asked for are one and the same at "
                    f"depth {point.fixed[0]}, and every point must record as many. Ask for fewer."
                )
    first: dict[str, int] = {}
    same: dict[int, list[int]] = {}
    for index, point in enumerate(points):
        same.setdefault(first.setdefault(point.digest, index), []).append(index)
    groups = tuple(sorted(_groups(request, points, list(same), coupled)))
    digest = hashlib.sha256(
        json.dumps([[axis.name, axis.labels.tolist()] for axis in grid.axes]).encode()
    )
    for point in points:
        digest.update(point.digest.encode())
    name = digest.hexdigest()
    texts = dict.fromkeys(text for point in points for text in point.observe)
    samplers = sorted({point.sampler for point in points})
    identity = {
        "axes": " ".join(axis.name for axis in grid.axes),
        "digest": name,
        "seed": int(seed),
        "replicas": int(replicas),
        "sampler": ",".join(s for s, *_ in samplers),
        "sampler_version": ",".join(str(version) for _, version, *_ in samplers),
        "block": ",".join(str(block) for _, _, block, _ in samplers),
        "layers": ",".join(map(str, layers)),
        "keep": ",".join(map(str, keep)),
        "observe": f"[{', '.join(texts)}]",
        "coupled": int(any(shared for _, shared in groups)),
    }
    options = [said for *_, said in samplers if said]
    identity |= {"sampler_options": f"[{', '.join(options)}]"} if options else {}
    return Plan(
        grid=grid,
        request=request,
        digest=name,
        groups=groups,
        same=same,
        layouts={index: points[index].layout for index in same},
        fractions=fractions,
        kept_fractions=kept_fractions,
        replicas=int(replicas),
        seed=int(seed),
        identity=identity,
    )


def _checked(request: Request, layout: Callable[..., Layout]) -> _Point:
    """What of a request every later step needs; the request itself is let go."""
    ensemble = request.ensemble
    table, inputs = ensemble.table, ensemble.inputs.count
    lists = [getattr(o, "orders") for o in request.observables if hasattr(o, "orders")]  # noqa: B009
    common = (
        json.dumps([ensemble.network.to_dict(), ensemble.inputs.to_dict(), table.law.to_dict()]),
        json.dumps([process.to_dict() for process in table.processes]),
        hashlib.sha256(np.ascontiguousarray(table.bias_scale).tobytes()).hexdigest(),
        f"{table.centred} {request.sampler.name}",
    )
    recorded = (request.layers.size, request.keep.size)
    return _Point(
        digest=ensemble.digest,
        layout=layout(request.observables, recorded, inputs, request.replicas),
        orders=lists[0] if lists else (),
        recorded=recorded,
        sampler=(
            request.sampler.name,
            request.sampler.version,
            request.sampler.block,
            _options(request),
        ),
        observe=tuple(json.dumps(o.to_dict()) for o in request.observables),
        shared=hashlib.sha256("\n".join(common).encode()).hexdigest(),
        fixed=(ensemble.network.depth, inputs),
    )


def _options(request: Request) -> str:
    options = request.sampler.options
    return json.dumps(options, sort_keys=True) if options else ""


def _placed(sampler: str | Sampler) -> str | Sampler:
    """``sampler``, one that works on a device with that and its memory fixed for all points."""
    from sigprop.backends import Torch

    drawer = Torch() if sampler == "torch" else sampler
    if not isinstance(drawer, Torch):
        return sampler
    if drawer.precision != "float32":
        raise SpecError(
            f"precision {drawer.precision!r} was asked for in a sweep, but its error is measured "
            "run by run. Use simulate, or float32."
        )
    return drawer.placed()


def _layout(
    observables: tuple[Observable, ...],
    recorded: tuple[int, int],
    inputs: int,
    replicas: int,
) -> Layout:
    """Names, shapes and types of the variables, from one replica of zeros."""
    size = {"input": inputs, "pair": inputs * (inputs - 1) // 2, "singular": 1}
    fields = sorted(frozenset().union(*(o.fields for o in observables)))

    def zeros(*shape: int) -> dict[str, np.ndarray]:
        axes = {f: ([size[FIELDS[f].axis]] if FIELDS[f].axis else []) for f in fields}
        return {f: np.zeros((*shape, *axes[f])) for f in fields}

    blank = zeros(1, recorded[0])
    states = tuple(o.observe(blank) for o in observables)
    kept = ({f: v[:, : recorded[1]] for f, v in blank.items()},) if recorded[1] else ()
    found = estimates(observables, work.Fold(1, states, kept), math.inf)
    shapes = [
        tuple(replicas if d == "replica" else n for d, n in zip(dims, values.shape, strict=True))
        for dims, values, _ in found.values()
    ]
    return Layout(
        names=tuple(found),
        dims=tuple(dims for dims, _, _ in found.values()),
        shapes=tuple(shapes),
        types=tuple(values.dtype for _, values, _ in found.values()),
        attrs=tuple(attrs for _, _, attrs in found.values()),
    )


def _require_one_shape(grid: Grid, points: Sequence[_Point]) -> None:
    """Raise SpecError if a variable has another shape at one point than at another."""
    one, depths = points[0], {point.fixed[0] for point in points}
    for index, point in enumerate(points):
        if point.fixed[1] != one.fixed[1]:
            raise SpecError(
                f"at {grid.name(index)}: there are {point.fixed[1]} inputs, and {one.fixed[1]} at "
                f"{grid.name(0)}, so one result cannot hold both. Make two sweeps."
            )
        if len(depths) == 1 and point.recorded != one.recorded:
            raise SpecError(f"at {grid.name(index)}: other layers are recorded.")


# ------------------------------------------------------------------------ layers


def _place_words(name: str, values: Sequence[int | str]) -> tuple[int | str, ...]:
    """Check layers that may be words: numbers, ``top``, ``50%``."""
    given = [values] if isinstance(values, str) else values
    try:
        listed = [_place_word(value) for value in given]
    except TypeError:
        raise SpecError(f"{name} must be a sequence of layers, got {values!r}.") from None
    for value, found in zip(given, listed, strict=True):
        if found is None:
            raise SpecError(
                f"{name} has {value!r}, which is no layer: write a number counted from the input, "
                "'top' for the last, or a fraction of the depth such as '50%'."
            )
    return tuple(dict.fromkeys(word for word in listed if word is not None))


def _place_word(value: Any) -> int | str | None:
    if isinstance(value, str):
        if value.endswith("%"):
            return f"{float(value[:-1]):g}%" if _percent(value) is not None else None
        return "top" if value == "top" else int(value) if value.isdecimal() else None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    return None


def _percent(word: str) -> float | None:
    try:
        fraction = float(word[:-1]) / 100
    except ValueError:
        return None
    return fraction if 0 <= fraction <= 1 else None


def _at(places: Sequence[int | str], depth: int) -> list[int]:
    """The layers that words mean at a depth; halves are rounded to the even layer."""
    found = []
    for place in places:
        if place == "top":
            found.append(depth)
        elif isinstance(place, str):
            found.append(round(float(place[:-1]) / 100 * depth))
        else:
            found.append(place)
    return found


def _fractions(name: str, places: Sequence[int | str]) -> tuple[float, ...]:
    """Layers over depth, sorted."""
    found = set()
    for place in places:
        if place not in (0, "top") and isinstance(place, int):
            raise SpecError(
                f"{name} names layer {place}, but the depth differs from point to point, and with "
                "it what that layer is. Use 0, 'top', or fractions of the depth such as '50%'."
            )
        found.add(0.0 if place == 0 else 1.0 if place == "top" else float(str(place)[:-1]) / 100)
    return tuple(sorted(found))


# ------------------------------------------------------------------------ groups


def _groups(
    request: Callable[[int, bool], Request],
    points: Sequence[_Point],
    firsts: Sequence[int],
    coupled: bool | str,
) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Which points are run together, and whether they share their random numbers."""
    from sigprop.backends import Sampler

    alike: dict[str, list[int]] = {}
    for index in firsts:
        alike.setdefault(points[index].shared if coupled else str(index), []).append(index)
    for candidates in alike.values():
        shares = False
        if len(candidates) > 1:
            # What they have in common decides, so two of them speak for all.
            one, other = request(candidates[0], True), request(candidates[-1], True)
            if type(one.sampler).coupled is not Sampler.coupled:
                shares = one.sampler.coupled([one.ensemble, other.ensemble])
        if shares:
            for start in range(0, len(candidates), TOGETHER):
                yield tuple(candidates[start : start + TOGETHER]), True
        else:
            yield from (((index,), coupled is True) for index in candidates)


# --------------------------------------------------------------------- many points


def _refuse_many(grid: Grid, request: Callable[[int, bool], Request]) -> None:
    sizes = " x ".join(f"{n} {axis.name}" for n, axis in zip(grid.shape, grid.axes, strict=True))
    one = request(len(grid) - 1, False)
    job = work.job_of([one])
    work.work(dataclasses.replace(job, observables=((),)), 0, 1)
    start = time.perf_counter()
    work.work(dataclasses.replace(job, observables=((),)), 0, 1)
    seconds = (time.perf_counter() - start) * one.replicas * len(grid)
    if one.sampler.name == "chain":  # which draws a whole block abreast
        seconds /= min(one.block, one.replicas)
    raise SpecError(
        f"the grid has {len(grid)} points ({sizes}), more than {MANY}: with {one.replicas} "
        f"networks at each it would take about {_duration(seconds)} of one processor, if all cost "
        f"as much as the last. Take fewer values, or confirm it with --yes (yes=True)."
    )


def _duration(seconds: float) -> str:
    for size, name in ((86400 * 365, "years"), (86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds" if seconds >= 2 else "some seconds"


# -------------------------------------------------------------------------- run


def run(
    planned: Plan,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Run what was planned; parameters and errors are those of `sweep`."""
    work.check_pool(workers, executor)
    if force and resume:
        raise SpecError("force replaces a result and resume goes on. Give one of the two.")
    if resume and out is None:
        raise SpecError("resume needs to know from what. Give the path of the result as out.")
    table = _Table(planned)
    path = None if out is None else Path(out)
    log: journal.Journal | None = None
    if path is not None:
        part = results.checkpoint_path(path)
        found = _standing(planned, path, force, resume)
        if found is not None:
            return found
        results.require_writable(path)
        _check_space(planned, path)
        if resume and part.exists():
            for record in journal.read(part):
                table.read(record)
            log = journal.Journal.reopen(part)
        else:
            log = journal.Journal.create(part, planned.identity)
    try:
        _fill(planned, table, log, workers, executor, progress)
        dataset = table.dataset()
        if path is not None:
            results.save(dataset, {"seconds": table.seconds}, path)
            assert log is not None
            log.path.unlink(missing_ok=True)
        return dataset
    except (
        KeyboardInterrupt, BrokenExecutor, CancelledError, StorageError, DeviceMemory
    ) as stop:  # fmt: skip
        advice = "Nothing was kept, since no output was named."
        if path is not None:
            advice = (
                f"{results.checkpoint_path(path)} keeps {len(table.done)} of {len(planned.same)} "
                "points. Run the same with --resume (resume=True) to go on from there."
            )
        if isinstance(stop, StorageError | DeviceMemory):
            raise type(stop)(f"{stop} {advice}") from stop
        what = "interrupted" if isinstance(stop, KeyboardInterrupt) else f"a worker died: {stop}"
        raise Interrupted(f"{what}. {advice}") from stop
    finally:
        if log is not None:
            log.close()


def _fill(
    planned: Plan,
    table: _Table,
    log: journal.Journal | None,
    workers: int | None,
    executor: Executor | None,
    progress: Progress | None,
) -> None:
    def missing() -> Iterator[Group]:
        for points, shared in planned.groups:
            if not table.done.issuperset(points):
                requests = tuple(planned.request(index, shared) for index in points)
                names = tuple(planned.grid.name(index) for index in points)
                yield Group(requests, names, points)

    before = planned.replicas * len(table.done)
    if progress:
        progress(before, planned.networks)
    with work.pool(workers, executor) as (pool, size):
        for group, outcome in flow(missing(), pool, size, progress, planned.networks, before):
            record = table.record(group.tag, outcome.variables, outcome.seconds)
            if log is not None:
                log.add(record)
            table.read(record)


class _Table:
    """The arrays of the result, filled point by point."""

    def __init__(self, planned: Plan) -> None:
        self.planned = planned
        self.done: set[int] = set()
        size = len(planned.grid)
        self.seconds = np.full(size, np.nan)
        self._arrays: dict[str, np.ndarray] = {}
        self._about: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        for layout in {id(layout): layout for layout in planned.layouts.values()}.values():
            for name, dims, shape, kind, attrs in zip(
                layout.names, layout.dims, layout.shapes, layout.types, layout.attrs, strict=True
            ):
                if name not in self._arrays:
                    blank = False if kind.kind == "b" else np.nan
                    self._arrays[name] = np.full((size, *shape), blank, kind)
                    self._about[name] = (dims, attrs)

    def record(
        self, points: Sequence[int], variables: Sequence[Mapping[str, Variable]], seconds: float
    ) -> bytes:
        """The points of a group as they are written."""
        parts = []
        for index, found in zip(points, variables, strict=True):
            parts += [_HEAD.pack(index, seconds), self.planned.layouts[index].pack(found)]
        return b"".join(parts)

    def read(self, record: bytes) -> None:
        """Put what `record` wrote in its places."""
        at = 0
        while at < len(record):
            index, seconds = _HEAD.unpack_from(record, at)
            layout = self.planned.layouts[index]
            at += _HEAD.size
            found = layout.unpack(record[at : at + layout.size])
            at += layout.size
            same = self.planned.same[index]
            self.seconds[same] = seconds
            for name, values in found.items():
                self._arrays[name][same] = values
            self.done.add(index)

    def dataset(self) -> xr.Dataset:
        import xarray as xr

        planned = self.planned
        grid = planned.grid
        names = tuple(axis.name for axis in grid.axes)
        variables = {
            name: ((*names, *dims), self._arrays[name].reshape(*grid.shape, *shape), attrs)
            for name, (dims, attrs) in self._about.items()
            for shape in [self._arrays[name].shape[1:]]
        }
        used = {dim for dims, _, _ in variables.values() for dim in dims}
        coords: dict[str, Any] = {
            axis.name: (axis.name, axis.labels, {"long_name": axis.name, "units": "1"})
            for axis in grid.axes
        }
        one = planned.request(0, False)
        coords |= {name: c for name, c in coordinates(one).items() if name in used}
        if planned.fractions is not None:
            del coords["layer"]
            coords["t"] = ("layer", np.array(planned.fractions), _T)
            if coords.pop("kept_layer", None):
                coords["kept_t"] = ("kept_layer", np.array(planned.kept_fractions), _T)
        laws = [
            json.dumps(grid.ensemble(i).to_dict(), sort_keys=True, separators=(",", ":"))
            for i in range(len(grid))
        ]
        about = {"long_name": "the law of the point, as JSON", "units": "1"}
        coords["ensemble"] = (names, np.array(laws, dtype=str).reshape(grid.shape), about)
        return xr.Dataset(variables, coords, self._attrs(one.sampler))

    def _attrs(self, sampler: Sampler) -> dict[str, Any]:
        planned = self.planned
        sizes = " x ".join(f"{len(axis.values)} {axis.name}" for axis in planned.grid.axes)
        attrs = {
            "schema": results.SWEEP,
            "schema_version": results.VERSION,
            "title": f"sweep over {sizes}, {planned.replicas} replicas at each point",
            **planned.identity,
            "software": software(sampler.made_of()),
        }
        if planned.identity["coupled"]:
            attrs["coupled_with"] = COUPLED_WITH
        return attrs


_T = {"long_name": "layer over depth", "units": "1"}


# --------------------------------------------------------------- what stands there


def holds(path: str | os.PathLike[str], planned: Plan) -> bool:
    """Whether ``path`` holds exactly this sweep, finished."""
    if not os.path.isfile(path):
        return False
    try:
        found, _ = results.read(path, results.SWEEP)
    except ResultError:
        return False
    return not _differences(planned.identity, found.attrs)


def _standing(planned: Plan, path: Path, force: bool, resume: bool) -> xr.Dataset | None:
    """The finished sweep that was asked for, or None if there is work to do."""
    part = results.checkpoint_path(path)
    if force:
        return None
    if not resume:
        if os.path.exists(path):
            raise OutputExists(
                f"{path} exists, and is left as it is. Use --force (force=True) to replace it, or "
                "name another output."
            )
        if os.path.exists(part):
            raise OutputExists(
                f"{part} exists: a sweep into {path} was stopped on its way. Use --resume "
                "(resume=True) to go on from there, or --force (force=True) to start anew."
            )
        return None
    for source in (path, part):
        if not os.path.exists(source):
            continue
        if source == path:
            dataset, _ = results.read(path, results.SWEEP)
            found: Mapping[str, Any] = dataset.attrs
        else:
            found = journal.about(part)
        differences = _differences(planned.identity, found)
        if differences:
            raise ResultError(
                f"{source} cannot be resumed, since it holds another sweep: "
                f"{'; '.join(differences)}. Ask for the same, or use --force (force=True) to "
                "replace it."
            )
        if source == path:
            return dataset
    return None


def _differences(asked: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    said = [
        f"{name.replace('_', ' ')} is {found.get(name)} there and {value} here"
        for name, value in asked.items()
        if found.get(name) != value and name != "digest"
    ]
    if found.get("digest") != asked["digest"]:
        said.insert(0, "its points or their laws are others")
    return said


def _check_space(planned: Plan, path: Path) -> None:
    """Raise StorageError if the result and its journal may not fit on the disk."""
    size = max(layout.size for layout in planned.layouts.values())
    need = 2 * len(planned.grid) * size + 2**20
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise StorageError(
            f"{path} may need {need / 2**20:.0f} MiB with its checkpoint, and its disk has "
            f"{free / 2**20:.0f} MiB left. Nothing was simulated. Record fewer layers, keep "
            "fewer values, or write to another disk."
        )
