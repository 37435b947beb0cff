"""A block of work: some replicas drawn, checked and reduced to sums, wherever a worker is free.

The block is the atom of a run. What it gives depends on the seed and on the indices of its
replicas alone, and a `Fold` adds blocks up strictly in their order, so that no bit of a
result depends on which worker did what when.

A job may hold several ensembles that share one draw of weights. Their traces are then laid
side by side along the axis of the layers, some in one batch, and summed in one go: every
column is summed by itself, so this changes nothing but the time it takes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop.accumulate import State
from sigprop.errors import NonFinite, SpecError
from sigprop.spec import Ensemble, check_count
from sigprop.trace import FIELDS

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.backends import Sampler
    from sigprop.observables import Observable
    from sigprop.request import Request

__all__ = [
    "PENDING", "PILOT", "Begun", "Done", "Fold", "Job", "begin", "check_pool", "check_travels",
    "configured", "job_of", "pool", "precision_error", "work",
]  # fmt: skip

PENDING = 4  # blocks a worker that may wait to be added up
PILOT = 32  # replicas to which histograms are fitted; fewer leave no complete block
BATCH_COLUMNS = 2048  # of one batch; as many have histograms as fine as one ensemble alone

Trace = Mapping[str, np.ndarray]
Done = tuple[list[State], dict[str, np.ndarray]]  # of a block and batch: sums, kept values


# ------------------------------------------------------------------------- fold


@dataclass(frozen=True)
class Fold:
    """Sums over the first ``blocks`` blocks, and the values kept of their replicas.

    It is never changed in place, so an interrupt cannot catch it half changed.
    """

    blocks: int = 0
    states: tuple[State, ...] = ()
    kept: tuple[dict[str, np.ndarray], ...] = ()

    def plus(self, observables: Sequence[Observable], done: Done) -> Fold:
        """The fold with one more block."""
        states, kept = done
        if self.states:
            pairs = zip(observables, self.states, states, strict=True)
            states = [o.merge(a, b) for o, a, b in pairs]
        return Fold(self.blocks + 1, tuple(states), (*self.kept, kept) if kept else ())

    def values(self) -> dict[str, np.ndarray]:
        """The kept values, replicas first."""
        names = self.kept[0] if self.kept else ()
        return {name: np.concatenate([k[name] for k in self.kept]) for name in names}

    def flat(self, observables: Sequence[Observable]) -> State:
        """All sums in one dict, as they are written."""
        return {
            f"{o.kind}.{name}": values
            for o, state in zip(observables, self.states, strict=False)
            for name, values in state.items()
        }

    @classmethod
    def read(cls, request: Request, dataset: xr.Dataset, sums: State) -> Fold:
        """The fold that a result or a checkpoint keeps."""
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


# -------------------------------------------------------------------------- job


@dataclass(frozen=True)
class Job:
    """What a worker must know beside the number of a block.

    It is pickled without what its parts have cached, and unpickled once a process.

    Attributes
    ----------
    ensembles : tuple of Ensemble
        One, or several that share one draw.
    observables : tuple of tuples of Observable
        Those of each batch, fitted to its first replicas (empty: not yet).
    kept : int64
        Positions in ``layers`` at which the value of every replica is kept.
    """

    ensembles: tuple[Ensemble, ...]
    sampler: Sampler
    observables: tuple[tuple[Observable, ...], ...]
    fields: frozenset[str]
    layers: np.ndarray
    kept: np.ndarray
    key: np.ndarray

    @functools.cached_property
    def packed(self) -> bytes:
        bare = tuple(
            (dataclasses.replace(law.network), dataclasses.replace(law.scheme), law.inputs)
            for law in self.ensembles
        )
        rest = (self.sampler, self.observables, self.fields, self.layers, self.kept, self.key)
        return pickle.dumps((bare, rest))

    def __reduce__(self) -> tuple[object, ...]:
        return _unpack, (self.packed,)

    @property
    def batches(self) -> list[slice]:
        """Which ensembles are summed together."""
        inputs = max(law.inputs.count for law in self.ensembles)
        columns = self.layers.size * max(inputs, inputs * (inputs - 1) // 2)
        size = max(1, BATCH_COLUMNS // columns)
        return [slice(i, i + size) for i in range(0, len(self.ensembles), size)]


@functools.lru_cache(maxsize=4)
def _unpack(packed: bytes) -> Job:
    laws, rest = pickle.loads(packed)
    return Job(tuple(Ensemble(*law) for law in laws), *rest)


def job_of(requests: Sequence[Request]) -> Job:
    """The job of one request, or of several that share one draw; nothing is fitted yet."""
    one = requests[0]
    return Job(
        ensembles=tuple(request.ensemble for request in requests),
        sampler=one.sampler,
        observables=(),
        fields=one.fields,
        layers=one.layers,
        kept=np.searchsorted(one.layers, one.keep),
        key=one.key,
    )


def check_travels(job: Job, executor: Executor) -> None:
    """Raise SpecError if ``executor`` has other processes and the job cannot be sent there."""
    if isinstance(executor, ThreadPoolExecutor):
        return
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SpecError(
            f"executor needs to send the run to other processes, and part of it cannot be "
            f"pickled: {error}. Define your functions and classes at the top of a module, or "
            "use threads (workers=N)."
        ) from error


# ------------------------------------------------------------------------- work


def work(job: Job, first: int, count: int) -> list[Done]:
    """Draw replicas ``first .. first + count - 1`` and reduce them, batch by batch."""
    return _reduce(job, _draw(job, first, count))


@dataclass(frozen=True)
class Begun:
    """What the first block of a run gives: fitted observables and, of it, what `work` gives."""

    observables: tuple[tuple[Observable, ...], ...]
    done: list[Done]
    seconds: float


def begin(job: Job, observables: Sequence[Observable], count: int) -> Begun:
    """The first block, of ``count`` replicas, with observables fitted to the first of them.

    They are those of `configured`, since a replica's numbers depend on its index alone.
    """
    _warm(job)
    start = time.perf_counter()
    traces = _draw(job, 0, count)
    fitted = tuple(_fitted(observables, trace) for trace in traces)
    done = _reduce(dataclasses.replace(job, observables=fitted), traces)
    return Begun(fitted, done, time.perf_counter() - start)


def precision_error(job: Job, count: int) -> dict[str, float] | None:
    """By field, the error of a precision that was lowered; None where none was."""
    (ensemble,) = job.ensembles
    return job.sampler.precision_error(ensemble, job.fields, job.layers, job.key, count)


_WARM: set[tuple[Any, ...]] = set()


def _warm(job: Job) -> None:
    """Have the kernels compiled or loaded in this process, so that no time includes it."""
    law = job.ensembles[0]
    kind = (
        *(job.sampler.name, law.network.block, law.network.phi, law.table.law.kind),
        *(law.inputs.count, law.table.biased, len(job.ensembles) > 1),
    )
    if kind not in _WARM:
        _draw(job, 0, 1)
        _WARM.add(kind)


def configured(job: Job, observables: Sequence[Observable], count: int) -> Job:
    """The job with observables fitted to the first replicas, which are drawn for it."""
    if not any(o.fits for o in observables):
        return dataclasses.replace(job, observables=(tuple(observables),) * len(job.batches))
    traces = _draw(job, 0, min(PILOT, count))
    return dataclasses.replace(job, observables=tuple(_fitted(observables, t) for t in traces))


def _fitted(observables: Sequence[Observable], trace: Trace) -> tuple[Observable, ...]:
    pilot = {name: np.ascontiguousarray(values[:PILOT]) for name, values in trace.items()}
    return tuple(o.configure(pilot) for o in observables)


def _draw(job: Job, first: int, count: int) -> list[Trace]:
    """The traces of some replicas, checked, one a batch."""
    sampler, where = job.sampler, (job.fields, job.layers, job.key, first, count)
    if len(job.ensembles) == 1:
        traces = [sampler.sample(job.ensembles[0], *where)]
    else:
        traces = sampler.sample_coupled(job.ensembles, *where)
    for member, trace in enumerate(traces):
        of = f" of ensemble {member} of {len(traces)}" if len(traces) > 1 else ""
        for name in sorted(job.fields):
            excused = _undefined(name, trace)
            values = trace[name] if excused is None else np.where(excused, 0.0, trace[name])
            _require_finite(name, values, job.layers, first, of)
    return [_side_by_side(traces[batch]) for batch in job.batches]


def _side_by_side(traces: Sequence[Trace]) -> Trace:
    if len(traces) == 1:
        return traces[0]
    return {name: np.concatenate([t[name] for t in traces], axis=1) for name in traces[0]}


def _reduce(job: Job, traces: Sequence[Trace]) -> list[Done]:
    found = []
    for batch, observables, trace in zip(job.batches, job.observables, traces, strict=True):
        states = [o.observe(trace) for o in observables]
        kept = {}
        if job.kept.size:
            starts = job.layers.size * np.arange(len(job.ensembles[batch]))
            places = (starts[:, np.newaxis] + job.kept).ravel()
            kept = {f: trace[f][:, places] for f in sorted(job.fields)}
        found.append((states, kept))
    return found


def _undefined(name: str, trace: Trace) -> np.ndarray | None:
    """Where the field is NaN by definition: a state that is exactly zero has no direction.

    Singular values say with NaN and +inf what is not known or not there.
    """
    if name == "log_singular":
        return ~np.isfinite(trace[name])
    if name == "diversity":
        return np.isnan(trace[name])
    if name in ("branch_energy", "skip_energy"):
        return np.isnan(trace[name])
    pairs = ("cosine", "looks_linear_cosine")
    ranks = ("effective_rank", "looks_linear_effective_rank")
    if name not in (*pairs, *ranks) or "log_norm" not in trace:
        return None
    zero = np.isneginf(trace["log_norm"])
    if not zero.any():
        return None
    if name in ranks:
        return np.asarray(zero.all(axis=-1))
    one, other = np.triu_indices(zero.shape[-1], 1)
    return zero[..., one] | zero[..., other]


def _require_finite(name: str, values: np.ndarray, layers: np.ndarray, first: int, of: str) -> None:
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
        f"{name} is {values[replica, position][tuple(rest)]} in replica {first + replica}{of} at "
        f"layer {layers[start + position]}{axis}: {FIELDS[name].long_name} stopped being finite, "
        "and an average over it would mean nothing. Checkpoints written before are kept. Record "
        "fewer layers, or look at the coefficients of the scheme."
    )


# ------------------------------------------------------------------------- pool


def check_pool(workers: int | None, executor: Executor | None) -> None:
    """Raise SpecError unless `pool` takes these."""
    if workers is not None:
        check_count("workers", workers)
    if executor is not None and not isinstance(executor, Executor):
        raise SpecError(
            f"executor must be a concurrent.futures.Executor, got {executor!r}. "
            "Use workers=N for threads."
        )


@contextmanager
def pool(workers: int | None, executor: Executor | None) -> Iterator[tuple[Executor, int]]:
    """Yield (executor, workers); ours is shut down afterwards, a user's is left alone."""
    check_pool(workers, executor)
    if executor is not None:
        size = workers or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        yield executor, int(size)
        return
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    size = workers or mine or 1
    threads = ThreadPoolExecutor(size, thread_name_prefix="sigprop")
    try:
        yield threads, size
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
