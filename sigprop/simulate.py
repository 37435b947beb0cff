"""The driver: from a law and an effort to a labelled estimate.

A run is a row of replicas, cut into blocks of a size that the sampler fixes. A block is
drawn and reduced to sums wherever there is a free worker; the main thread adds up the sums
strictly in the order of the blocks. A replica's numbers depend on the seed and on its index
alone, and the order of every sum is fixed, so the result does not depend by a single bit on
the number of workers, on threads or processes, or on whether the run was killed and resumed.

The sums over complete blocks are kept in the result. A longer run goes on from them and
redoes only the last, partial block, so 2000 replicas extend 1000 exactly.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pickle
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop import result as results
from sigprop.accumulate import State
from sigprop.errors import (
    Interrupted,
    NonFinite,
    OutputExists,
    ResultError,
    SpecError,
    StorageError,
    Unsupported,
)
from sigprop.spec import Ensemble, check_count, check_number
from sigprop.trace import FIELDS

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.backends import Sampler
    from sigprop.observables import Observable

__all__ = ["arguments", "simulate", "stands"]

DEFAULT_ORDERS = (1.0, 2.0)
DEFAULT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HIGHEST_ORDER = 4.0
ALL_LAYERS = 200  # up to this depth every layer is recorded by default, beyond about SOME
SOME_LAYERS = 101
PILOT = 32  # replicas, drawn once more by themselves, to which histograms are fitted
CHECKPOINT_SECONDS = 5.0
PENDING = 4  # blocks a worker that may wait to be added up

Progress = Callable[[int, int], None]


def simulate(
    ensemble: Ensemble,
    observe: str | Observable | Sequence[str | Observable] | None = None,
    *,
    replicas: int = 1000,
    seed: int = 0,
    sampler: str | Sampler = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    layers: Sequence[int] | None = None,
    orders: Sequence[float] | None = None,
    quantiles: Sequence[float] = DEFAULT_QUANTILES,
    keep: Sequence[int] = (),
    coupled: bool = False,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Draw random networks, send signals through them, and return what was measured.

    Parameters
    ----------
    ensemble : Ensemble
        The law.
    observe : name, Observable or sequence of them, optional
        Of `sigprop.observables.observables`: ``norm``, ``displacement``, ``gradient``,
        ``separability``, ``activity``. Default: all that apply to the ensemble.
    replicas : int
        Number of independent networks.
    seed : int
        0 .. 2**64 - 1.
    sampler : str or Sampler
        ``auto`` takes the cheapest that is exact in law for what is observed.
    workers : int, optional
        Threads (default: one a processor). The result does not depend on it.
    executor : concurrent.futures.Executor, optional
        Runs the blocks instead of threads of our own: processes, a cluster. The result does
        not depend on it.
    layers : sequence of int, optional
        Layers to record, 0 .. depth. Default: all up to depth 200, then about 100.
    orders : sequence of float, optional
        Orders s of the moments E r^s, 0 < s <= 4. Default: 1 and 2, where the weight law has
        them.
    quantiles : sequence of float
        Probabilities in (0, 1).
    keep : sequence of int
        Layers at which the value of every replica is kept (``replica_log_norm`` ..); they
        are recorded, too.
    coupled : bool
        Share the random numbers with other coupled runs of the same seed and sampler, by
        intention: differences between their ensembles are then seen more sharply, and their
        errors are not independent.
    out : path, optional
        Where to write the result; checkpoints are written to ``<out>.part`` every few
        seconds.
    force, resume : bool
        What to do with an ``out`` that exists: replace it; go on from it, or from its
        checkpoint, to more replicas.
    progress : callable, optional
        Called with (replicas done, replicas in all) as the run proceeds.

    Returns
    -------
    Dataset
        Every variable with ``long_name`` and ``units``, estimates with ``_se``, and in the
        attributes all that is needed to run it again.

    Raises
    ------
    SpecError, UnknownName, Unsupported
        If something asked for is out of range, unknown or not offered; before any work.
    OutputExists, ResultError, StorageError
        If ``out`` stands in the way, does not fit, or cannot be written; before any work, but
        for a disk that fills on the way.
    NonFinite
        If a simulated number is NaN or +inf.
    Interrupted
        On a keyboard interrupt; it is a KeyboardInterrupt, too.
    """
    request = _request(
        ensemble, observe, replicas, seed, sampler, layers, orders, quantiles, keep, coupled
    )
    if workers is not None:
        workers = check_count("workers", workers)
    if executor is not None and not isinstance(executor, Executor):
        raise SpecError(
            f"executor must be a concurrent.futures.Executor, got {executor!r}. "
            "Use workers=N for threads."
        )
    if force and resume:
        raise SpecError("force replaces a result and resume extends it. Give one of the two.")
    if resume and out is None:
        raise SpecError("resume needs to know from what. Give the path of the result as out.")
    path = None if out is None else Path(out)
    fold = _Fold()
    if path is not None:
        found = _standing(request, path, force, resume)
        if not isinstance(found, _Fold):
            return found
        fold = found
        results.require_writable(path)
        _check_space(request, path)
    with _pool(workers, executor) as (pool, size):
        return _run(request, fold, pool, size, path, progress)


def stands(path: str | os.PathLike[str], ensemble: Ensemble, **run: Any) -> bool:
    """Whether ``path`` holds exactly the run that `simulate` would make of these arguments.

    ``run`` takes the arguments of `simulate` that say what is measured, from ``observe`` to
    ``coupled``.
    """
    if not os.path.isfile(path):
        return False
    given = {**_defaults(), **run}
    request = _request(ensemble, **given)
    try:
        found = results.load(path)
    except ResultError:
        return False
    return not _differences(request, found) and found.attrs["replicas"] == request.replicas


def arguments(result: xr.Dataset) -> dict[str, Any]:
    """The arguments of `simulate`, beside the ensemble, that make ``result`` again."""
    from sigprop.observables import observables

    asked = json.loads(result.attrs["observe"])
    rebuilt = []
    for data in asked:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        rebuilt.append(observables[data["kind"]](**values))
    return {
        "observe": rebuilt,
        "replicas": result.attrs["replicas"],
        "seed": result.attrs["seed"],
        "sampler": result.attrs["sampler"],
        "layers": result["layer"].values.tolist(),
        "keep": result["kept_layer"].values.tolist() if "kept_layer" in result else [],
        "coupled": bool(result.attrs["coupled"]),
    }


# -------------------------------------------------------------------- request


@dataclass(frozen=True)
class _Request:
    """What is asked for, checked: everything that a bit of the result may depend on."""

    ensemble: Ensemble
    observables: tuple[Observable, ...]
    sampler: Sampler
    layers: np.ndarray
    keep: np.ndarray
    replicas: int
    seed: int
    coupled: bool

    @property
    def fields(self) -> frozenset[str]:
        return frozenset().union(*(o.fields for o in self.observables))

    @property
    def block(self) -> int:
        return self.sampler.block

    @property
    def label(self) -> str:
        return "coupled" if self.coupled else self.ensemble.digest

    @functools.cached_property
    def key(self) -> np.ndarray:
        from sigprop import rng

        return rng.key(self.seed, self.label, self.sampler.name, self.sampler.version)

    def attrs(self) -> dict[str, Any]:
        """What is compared before a run goes on from a file, as it is written there."""
        text = json.dumps(self.ensemble.to_dict(), sort_keys=True, separators=(",", ":"))
        return {
            "ensemble": text,
            "digest": self.ensemble.digest,
            "seed": self.seed,
            "sampler": self.sampler.name,
            "sampler_version": self.sampler.version,
            "block": self.block,
            "label": self.label,
            "coupled": int(self.coupled),
            "observe": json.dumps([o.to_dict() for o in self.observables]),
        }


def _defaults() -> dict[str, Any]:
    return {
        "observe": None,
        "replicas": 1000,
        "seed": 0,
        "sampler": "auto",
        "layers": None,
        "orders": None,
        "quantiles": DEFAULT_QUANTILES,
        "keep": (),
        "coupled": False,
    }


def _request(
    ensemble: Ensemble,
    observe: str | Observable | Sequence[str | Observable] | None,
    replicas: int,
    seed: int,
    sampler: str | Sampler,
    layers: Sequence[int] | None,
    orders: Sequence[float] | None,
    quantiles: Sequence[float],
    keep: Sequence[int],
    coupled: bool,
) -> _Request:
    from sigprop import backends

    if not isinstance(ensemble, Ensemble):
        raise SpecError(
            f"ensemble must be an Ensemble, got {ensemble!r}. "
            "Write Ensemble(Network(depth=..), scheme, inputs)."
        )
    depth = ensemble.network.depth
    replicas = check_count("replicas", replicas, why="It counts the networks that are drawn.")
    seed = check_count("seed", seed, least=0)
    if seed >= 2**64:
        raise SpecError(f"seed must be an integer below 2**64, got {seed}: it is a 64-bit word.")
    kept = _layers("keep", keep, depth)
    if layers is None:
        count = depth + 1 if depth <= ALL_LAYERS else SOME_LAYERS
        recorded = np.unique(np.rint(np.linspace(0, depth, count)).astype(np.int64))
    else:
        recorded = _layers("layers", layers, depth)
        if not recorded.size:
            raise SpecError("layers is empty, so nothing would be recorded. Name one layer.")
    chosen = _observables(
        observe,
        backends.applicable(ensemble),
        _orders(orders, ensemble),
        _sequence("quantiles", quantiles, low=0.0, high=1.0, open_low=True, open_high=True),
    )
    fields = frozenset().union(*(o.fields for o in chosen))
    if isinstance(sampler, str):
        drawer = backends.choose(sampler, ensemble, fields)
    elif isinstance(sampler, backends.Sampler):
        drawer = sampler
        refusal = drawer.refusal(ensemble, fields)
        if refusal is not None:
            raise Unsupported(f"sampler {drawer.name!r} cannot do this: {refusal}")
    else:
        raise SpecError(f"sampler must be a name or a Sampler, got {sampler!r}. Use 'auto'.")
    return _Request(
        ensemble=ensemble,
        observables=chosen,
        sampler=drawer,
        layers=np.union1d(recorded, kept),
        keep=kept,
        replicas=replicas,
        seed=seed,
        coupled=bool(coupled),
    )


def _layers(name: str, values: Sequence[int], depth: int) -> np.ndarray:
    """Sorted, without repetitions."""
    try:
        listed = list(values)
    except TypeError:
        raise SpecError(f"{name} must be a sequence of layers, got {values!r}.") from None
    for value in listed:
        if check_count(f"each of {name}", value, least=0) > depth:
            raise SpecError(
                f"{name} names layer {value}, but the network has layers 0 .. {depth}. "
                "Name layers within."
            )
    return np.unique(np.array(listed, np.int64))


def _sequence(name: str, values: Sequence[float], **bounds: Any) -> tuple[float, ...]:
    try:
        listed = list(values)
    except TypeError:
        raise SpecError(f"{name} must be a sequence of numbers, got {values!r}.") from None
    return tuple(sorted({check_number(f"each of {name}", v, **bounds) for v in listed}))


def _orders(orders: Sequence[float] | None, ensemble: Ensemble) -> tuple[float, ...]:
    limit = ensemble.table.law.moment_limit
    if orders is None:
        return tuple(s for s in DEFAULT_ORDERS if s < limit)
    asked = _sequence("orders", orders, low=0.0, high=HIGHEST_ORDER, open_low=True)
    for s in asked:
        if s >= limit:
            raise SpecError(
                f"orders asks for E r^{s:g}, which is infinite: weights of law "
                f"{ensemble.table.law.kind!r} have absolute moments of order below {limit:g} only, "
                f"and so has every norm made of them. Ask for orders below {limit:g}."
            )
    return asked


def _observables(
    observe: str | Observable | Sequence[str | Observable] | None,
    applicable: frozenset[str],
    orders: tuple[float, ...],
    quantiles: tuple[float, ...],
) -> tuple[Observable, ...]:
    from sigprop.observables import Observable, observables

    asked: Sequence[str | Observable]
    if observe is None:
        asked = list(observables)
    else:
        asked = [observe] if isinstance(observe, (str, Observable)) else list(observe)
        if not asked:
            raise SpecError(
                f"observe is empty, so nothing would be measured. Known: {', '.join(observables)}."
            )
    chosen: dict[str, Observable] = {}
    for item in asked:
        if isinstance(item, str):
            known = {f.name for f in dataclasses.fields(observables[item])}
            run = {"orders": orders, "quantiles": quantiles}
            whole = observables[item](**{k: v for k, v in run.items() if k in known})
        elif isinstance(item, Observable):
            whole = item
        else:
            raise SpecError(f"observe takes names and Observable instances, got {item!r}.")
        part = whole.restricted(applicable)
        if part is None:
            if observe is None:
                continue
            raise Unsupported(
                f"observable {whole.kind!r} does not apply to this ensemble: it needs "
                f"{' or '.join(sorted(whole.fields))}, and the ensemble has "
                f"{', '.join(sorted(applicable))}. Cosines and distances need two inputs or more, "
                "a displacement needs a trunk, a gradient an activation with a derivative."
            )
        if chosen.get(whole.kind, part) != part:
            raise SpecError(
                f"observe names {whole.kind!r} twice with different options, and their variables "
                "would have the same names. Run twice."
            )
        chosen[whole.kind] = part
    for name in ("orders", "quantiles"):
        found = {getattr(o, name) for o in chosen.values() if hasattr(o, name)}
        if len(found) > 1:
            raise SpecError(
                f"observe mixes observables of different {name}: {sorted(found)}. "
                "One result has one list of them."
            )
    return tuple(chosen.values())


# ------------------------------------------------------------------------ fold

_Done = tuple[list[State], dict[str, np.ndarray]]  # of one block: sums, kept values


@dataclass(frozen=True)
class _Fold:
    """Sums over the first ``blocks`` blocks, and the values kept of their replicas.

    It is never changed in place, so an interrupt cannot catch it half changed.
    """

    blocks: int = 0
    states: tuple[State, ...] = ()
    kept: tuple[dict[str, np.ndarray], ...] = ()

    def plus(self, request: _Request, done: _Done) -> _Fold:
        """The fold with one more block."""
        states, kept = done
        if self.states:
            pairs = zip(request.observables, self.states, states, strict=True)
            states = [o.merge(a, b) for o, a, b in pairs]
        return _Fold(self.blocks + 1, tuple(states), (*self.kept, kept) if kept else ())

    def values(self) -> dict[str, np.ndarray]:
        """The kept values, replicas first."""
        names = self.kept[0] if self.kept else ()
        return {name: np.concatenate([k[name] for k in self.kept]) for name in names}

    def flat(self, request: _Request) -> State:
        """All sums in one dict, as they are written."""
        return {
            f"{o.kind}.{name}": values
            for o, state in zip(request.observables, self.states, strict=False)
            for name, values in state.items()
        }

    @classmethod
    def read(cls, request: _Request, dataset: xr.Dataset, sums: State) -> _Fold:
        blocks = int(dataset.attrs["replicas"]) // request.block
        if not blocks:
            return cls()
        states = []
        for o in request.observables:
            start = o.kind + "."
            states.append({k[len(start) :]: v for k, v in sums.items() if k.startswith(start)})
        kept = {
            f: dataset[f"replica_{f}"].values[: blocks * request.block]
            for f in request.fields
            if f"replica_{f}" in dataset
        }
        return cls(blocks, tuple(states), (kept,) if kept else ())


# ----------------------------------------------------------------- a block of work


@dataclass(frozen=True)
class _Job:
    """What a worker must know beside the number of a block.

    It is pickled without what its parts have cached, and unpickled once a process.
    """

    ensemble: Ensemble
    sampler: Sampler
    observables: tuple[Observable, ...]
    fields: frozenset[str]
    layers: np.ndarray
    kept: np.ndarray  # positions in ``layers``
    key: np.ndarray

    @functools.cached_property
    def packed(self) -> bytes:
        law = self.ensemble
        bare = (dataclasses.replace(law.network), dataclasses.replace(law.scheme), law.inputs)
        rest = (self.sampler, self.observables, self.fields, self.layers, self.kept, self.key)
        return pickle.dumps((bare, rest))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.packed,)


@functools.lru_cache(maxsize=4)
def _unpack(packed: bytes) -> _Job:
    law, rest = pickle.loads(packed)
    return _Job(Ensemble(*law), *rest)


def _draw(job: _Job, first: int, count: int) -> dict[str, np.ndarray]:
    """The trace of some replicas, checked."""
    trace = job.sampler.sample(job.ensemble, job.fields, job.layers, job.key, first, count)
    for name in sorted(job.fields):
        excused = _undefined(name, trace)
        values = trace[name] if excused is None else np.where(excused, 0.0, trace[name])
        _require_finite(name, values, job.layers, first)
    return trace


def _undefined(name: str, trace: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Where the field is NaN by definition: a state that is exactly zero has no direction."""
    if name not in ("cosine", "effective_rank") or "log_norm" not in trace:
        return None
    zero = np.isneginf(trace["log_norm"])
    if not zero.any():
        return None
    if name == "effective_rank":
        return np.asarray(zero.all(axis=-1))
    one, other = np.triu_indices(zero.shape[-1], 1)
    return zero[..., one] | zero[..., other]


def _work(job: _Job, first: int, count: int) -> _Done:
    """Draw replicas ``first .. first + count - 1`` and reduce them to sums and kept values."""
    trace = _draw(job, first, count)
    states = [o.observe(trace) for o in job.observables]
    kept = {f: trace[f][:, job.kept] for f in sorted(job.fields)} if job.kept.size else {}
    return states, kept


def _require_finite(name: str, values: np.ndarray, layers: np.ndarray, first: int) -> None:
    """Raise NonFinite for NaN and +inf, and for -inf where it is no logarithm of zero.

    Before layer 1 there is no activity, and NaN is right.
    """
    start = int(name in ("activity", "alignment") and layers[0] == 0)
    values = values[:, start:]
    log = name.startswith("log_")
    # A comparison with NaN is false.
    if not values.size or (values.max() < np.inf and (log or values.min() > -np.inf)):
        return
    bad = ~(values < np.inf) if log else ~np.isfinite(values)
    replica, position, *rest = np.argwhere(bad)[0]
    axis = f" and {FIELDS[name].axis} {rest[0]}" if rest else ""
    raise NonFinite(
        f"{name} is {values[replica, position][tuple(rest)]} in replica {first + replica} at layer "
        f"{layers[start + position]}{axis}: {FIELDS[name].long_name} stopped being finite, and an "
        "average over it would mean nothing. Checkpoints written before are kept. Record fewer "
        "layers, or look at the coefficients of the scheme."
    )


@contextmanager
def _pool(workers: int | None, executor: Executor | None) -> Iterator[tuple[Executor, int]]:
    """Yield (executor, workers); ours is shut down afterwards, a user's is left alone."""
    if executor is not None:
        size = workers or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        yield executor, int(size)
        return
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    size = workers or mine or 1
    pool = ThreadPoolExecutor(size, thread_name_prefix="sigprop")
    try:
        yield pool, size
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# ------------------------------------------------------------------------- run


def _run(
    request: _Request,
    fold: _Fold,
    pool: Executor,
    workers: int,
    path: Path | None,
    progress: Progress | None,
) -> xr.Dataset:
    part = None if path is None else results.checkpoint_path(path)
    saved = fold.blocks
    pending: deque[Future[Any]] = deque()
    try:
        request, job = _configured(request, pool)
        full, rest = divmod(request.replicas, request.block)
        blocks = full + (rest > 0)
        last_save = time.monotonic()
        submitted = fold.blocks
        partial: _Done | None = None
        done: _Done | None = None
        if progress:
            progress(fold.blocks * request.block, request.replicas)
        for block in range(fold.blocks, blocks):
            while submitted < min(blocks, block + PENDING * workers):
                first = submitted * request.block
                count = min(request.block, request.replicas - first)
                pending.append(pool.submit(_work, job, first, count))
                submitted += 1
            if not done:
                # The label needs xarray, half a second of loading: while the workers draw.
                import xarray  # noqa: F401
            done = pending.popleft().result()
            if block < full:
                fold = fold.plus(request, done)
            else:
                partial = done
            if progress:
                progress(min((block + 1) * request.block, request.replicas), request.replicas)
            if part and block < full and time.monotonic() - last_save >= CHECKPOINT_SECONDS:
                _save_checkpoint(request, fold, part)
                saved, last_save = fold.blocks, time.monotonic()
        dataset = _label(request, fold, partial)
        if path is not None and part is not None:
            results.save(dataset, fold.flat(request), path)
            part.unlink(missing_ok=True)
        return dataset
    except (KeyboardInterrupt, BrokenExecutor, StorageError) as stop:
        if part and fold.blocks > saved:
            with suppress(StorageError):  # else the checkpoint before stands
                _save_checkpoint(request, fold, part)
                saved = fold.blocks
        advice = _how_to_go_on(request, path, saved)
        if isinstance(stop, StorageError):
            raise StorageError(f"{stop} {advice}") from stop
        what = "interrupted" if isinstance(stop, KeyboardInterrupt) else f"a worker died: {stop}"
        raise Interrupted(f"{what}. {advice}") from stop
    finally:
        for future in pending:
            future.cancel()


def _how_to_go_on(request: _Request, path: Path | None, saved: int) -> str:
    if path is None:
        return "Nothing was kept, since no output was named."
    kept = results.checkpoint_path(path)
    source = kept if os.path.exists(kept) else path
    if not saved or not os.path.exists(source):
        return "Nothing was kept: it was too early for a checkpoint."
    return (
        f"{source} keeps {saved * request.block} of {request.replicas} replicas. "
        "Run the same with --resume (resume=True) to go on from there."
    )


def _configured(request: _Request, pool: Executor) -> tuple[_Request, _Job]:
    """Fit the observables to the first replicas, and pack what workers need."""
    job = _Job(
        ensemble=request.ensemble,
        sampler=request.sampler,
        observables=(),
        fields=request.fields,
        layers=request.layers,
        kept=np.searchsorted(request.layers, request.keep),
        key=request.key,
    )
    # A longer run finds the same bins: fewer than PILOT replicas leave no complete block.
    pilot = _draw(job, 0, min(PILOT, request.block, request.replicas))
    fitted = tuple(o.configure(pilot) for o in request.observables)
    job = dataclasses.replace(job, observables=fitted)
    if not isinstance(pool, ThreadPoolExecutor):
        try:
            pickle.dumps(job)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SpecError(
                f"executor needs to send the run to other processes, and part of it cannot be "
                f"pickled: {error}. Define your functions and classes at the top of a module, or "
                "use threads (workers=N)."
            ) from error
    return dataclasses.replace(request, observables=fitted), job


# ------------------------------------------------------------------------ label


def _label(
    request: _Request,
    fold: _Fold,
    partial: _Done | None,
) -> xr.Dataset:
    """Estimates of the whole run: the complete blocks and the last one."""
    import xarray as xr

    whole = fold if partial is None else fold.plus(request, partial)
    variables: dict[str, Any] = {}
    for observable, state in zip(request.observables, whole.states, strict=True):
        variables |= observable.finalize(state)
    variables |= _replicas(whole.values())
    used = {dim for dims, _, _ in variables.values() for dim in dims}
    coords = {k: v for k, v in _coordinates(request).items() if k in used}
    dataset = xr.Dataset(variables, coords, _attrs(request, results.RESULT, request.replicas))
    _distrust_infinite_variance(dataset, request.ensemble.table.law.moment_limit)
    return dataset


def _replicas(kept: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        f"replica_{name}": (
            ("replica", "kept_layer", *([FIELDS[name].axis] if FIELDS[name].axis else [])),
            values,
            {"long_name": f"{FIELDS[name].long_name}, of every replica", "units": _units(name)},
        )
        for name, values in kept.items()
    }


def _units(field: str) -> str:
    return "nat" if field.startswith("log_") else "1"


def _coordinates(request: _Request) -> dict[str, Any]:
    count = request.ensemble.inputs.count
    pairs = [f"{i}-{j}" for i in range(count) for j in range(i + 1, count)]
    lists: dict[str, Any] = {"order": (), "quantile": ()}
    for o in request.observables:
        lists["order"] = getattr(o, "orders", lists["order"])
        lists["quantile"] = getattr(o, "quantiles", lists["quantile"])
    values = {
        "layer": (request.layers, "layer"),
        "input": (np.arange(count), "input"),
        "pair": (np.array(pairs, dtype=str), "pair of inputs"),
        "order": (np.array(lists["order"], float), "order of the moment"),
        "quantile": (np.array(lists["quantile"], float), "probability"),
        "kept_layer": (request.keep, "layer at which values of replicas are kept"),
    }
    return {
        name: (name, array, {"long_name": what, "units": "1"})
        for name, (array, what) in values.items()
    }


def _attrs(request: _Request, schema: str, replicas: int) -> dict[str, Any]:
    import importlib.metadata
    import platform

    import sigprop

    network = request.ensemble.network
    software = {"python": platform.python_version(), "sigprop": sigprop.__version__}
    for name in ("numpy", "numba", "scipy", "xarray"):
        software[name] = importlib.metadata.version(name)
    return {
        "schema": schema,
        "schema_version": results.VERSION,
        "title": (
            f"{request.ensemble.scheme.kind} {network.block} {network.phi.kind}, "
            f"depth {network.depth}, width {network.width}, {replicas} replicas"
        ),
        **request.attrs(),
        "replicas": replicas,
        "software": json.dumps(software),
    }


def _distrust_infinite_variance(dataset: xr.Dataset, limit: float) -> None:
    """Where E r^2s is infinite, no number of replicas makes the error of E r^s reliable."""
    for name in dataset.data_vars:
        if str(name).endswith("_moment_reliable"):
            finite = (2 * dataset["order"] < limit).broadcast_like(dataset[name])
            dataset[name] = dataset[name].copy(data=dataset[name].values & finite.values)


# ---------------------------------------------------------------- what stands there


def _save_checkpoint(request: _Request, fold: _Fold, part: Path) -> None:
    import xarray as xr

    coords = _coordinates(request)
    variables = _replicas(fold.values())
    names = ("layer", *(("kept_layer",) if variables else ()))
    attrs = _attrs(request, results.CHECKPOINT, fold.blocks * request.block)
    dataset = xr.Dataset(variables, {k: coords[k] for k in names}, attrs)
    results.save(dataset, fold.flat(request), part)


def _standing(request: _Request, path: Path, force: bool, resume: bool) -> xr.Dataset | _Fold:
    """The finished result that was asked for, or the fold from which to go on."""
    part = results.checkpoint_path(path)
    if force:
        return _Fold()
    if not resume:
        if os.path.exists(path):
            raise OutputExists(
                f"{path} exists, and is left as it is. Use --resume (resume=True) to extend it, "
                "--force (force=True) to replace it, or name another output."
            )
        if os.path.exists(part):
            raise OutputExists(
                f"{part} exists: a run into {path} was stopped on its way. Use --resume "
                "(resume=True) to go on from there, or --force (force=True) to start anew."
            )
        return _Fold()
    best = _Fold()
    for source, schema in ((path, results.RESULT), (part, results.CHECKPOINT)):
        if not os.path.exists(source):
            continue
        dataset, sums = results.read(source, schema, state=True)
        differences = _differences(request, dataset)
        if differences:
            raise ResultError(
                f"{source} cannot be resumed, since it holds another run: "
                f"{'; '.join(differences)}. Ask for the same, or use --force (force=True) to "
                "replace it."
            )
        done = int(dataset.attrs["replicas"])
        if done > request.replicas:
            raise ResultError(
                f"{source} holds {done} replicas already, more than the {request.replicas} asked "
                "for, and taking some away would waste them. Ask for more, or use --force "
                "(force=True) to start anew."
            )
        if schema == results.RESULT and done == request.replicas:
            return dataset
        fold = _Fold.read(request, dataset, sums)
        best = max(best, fold, key=lambda f: f.blocks)
    return best


def _differences(request: _Request, dataset: xr.Dataset) -> list[str]:
    """What another run than ``request`` made the file, in words; nothing if none did."""
    found, asked = dataset.attrs, request.attrs()
    pairs = [
        (name.replace("_", " "), found.get(name), value)
        for name, value in asked.items()
        if name not in ("ensemble", "digest", "label", "observe")
    ]
    said = [f"{name} is {old} there and {new} here" for name, old, new in pairs if old != new]
    if found["digest"] != asked["digest"]:
        said.insert(0, f"its ensemble is {found['ensemble']}, not {asked['ensemble']}")
    if found.get("observe") != asked["observe"]:
        said.append(f"it observes {found.get('observe')}, not {asked['observe']}")
    there = {"layers": dataset["layer"].values}
    there["keep"] = dataset["kept_layer"].values if "kept_layer" in dataset else np.array([])
    for name, here in (("layers", request.layers), ("keep", request.keep)):
        if not np.array_equal(there[name], here):
            said.append(f"its {name} are {_brief(there[name])}, not {_brief(here)}")
    return said


def _brief(values: np.ndarray) -> str:
    shown = [str(v) for v in values]
    return ", ".join(shown if len(shown) < 8 else [*shown[:3], "..", *shown[-2:]]) or "none"


def _check_space(request: _Request, path: Path) -> None:
    """Raise StorageError if the result and a checkpoint beside it may not fit on the disk."""
    count = request.ensemble.inputs.count
    size = {"input": count, "pair": count * (count - 1) // 2}
    shapes = {
        name: (request.layers.size, *([size[FIELDS[name].axis]] if FIELDS[name].axis else []))
        for name in request.fields
    }
    blank = {name: np.zeros((1, *shape)) for name, shape in shapes.items()}
    state = sum(v.nbytes for o in request.observables for v in o.observe(blank).values())
    values = sum(math.prod(shape[1:]) for shape in shapes.values()) * request.keep.size * 8
    need = 3 * (2 * state + request.replicas * values) + 2**20
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise StorageError(
            f"{path} may need {need / 2**20:.0f} MiB with its checkpoints, and its disk has "
            f"{free / 2**20:.0f} MiB left. Nothing was simulated. Record fewer layers, keep "
            "fewer values (--keep), or write to another disk."
        )
