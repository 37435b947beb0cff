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
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop import disk, memory, work
from sigprop import result as results
from sigprop.errors import (
    DeviceMemory,
    Interrupted,
    OutputExists,
    ResultError,
    SpecError,
    StorageError,
)
from sigprop.label import attributes, coordinates, estimates, replicas_kept
from sigprop.request import DEFAULT_QUANTILES, Request, defaults, requested
from sigprop.spec import Ensemble
from sigprop.work import PENDING, Done, Fold

if TYPE_CHECKING:
    import xarray as xr

    from sigprop.backends import Sampler
    from sigprop.observables import Observable

__all__ = ["arguments", "simulate", "simulate_coupled", "stands"]

CHECKPOINT_SECONDS = 5.0
COUPLED_WITH = (
    "every run of this seed and sampler with coupled = 1: they share their random numbers, so "
    "differences between them are sharper than their errors say, and errors are not independent"
)

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
    tilt: float | None = None,
    population: int | None = None,
    device: str | None = None,
    precision: str | None = None,
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
    tilt : float, optional
        Draw networks weighted by |h|^tilt and measure moments of the norm alone, each with its
        weight: orders near the tilt at any depth (one input, Gaussian weights).
    population : int, optional
        Networks of a population that splits where the moment of ``orders``, one, is carried: any
        law, block and activation. A replica is then a population.
    device : str, optional
        Of sampler ``torch``: ``auto``, ``cpu`` or ``cuda``. The result records it, and the size of
        a block, which is planned from its free memory.
    precision : str, optional
        Of the products of sampler ``torch``: ``float32``, or ``tf32`` or ``bf16``; then the first
        block is drawn in float32 too, and the result records the largest differences.
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
    request = requested(
        ensemble, observe, replicas, seed, sampler, layers, orders, quantiles, keep, coupled, tilt,
        population, device, precision, _recorded_options(out, sampler) if resume else None,
    )  # fmt: skip
    work.check_pool(workers, executor)
    if force and resume:
        raise SpecError("force replaces a result and resume extends it. Give one of the two.")
    if resume and out is None:
        raise SpecError("resume needs to know from what. Give the path of the result as out.")
    path = None if out is None else Path(out)
    fold = Fold()
    if path is not None:
        found = _standing(request, path, force, resume)
        if not isinstance(found, Fold):
            return found
        fold = found
        results.require_writable(path)
        _check_space(request, path)
    with work.pool(workers, executor) as (pool, size):
        memory.check_request(request, size)
        while True:
            try:
                return _run(request, fold, pool, size, path, progress)
            except DeviceMemory as error:
                request = _smaller(request, fold, error)
                if path is not None:
                    results.checkpoint_path(path).unlink(missing_ok=True)


def simulate_coupled(
    ensembles: Sequence[Ensemble],
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
    progress: Progress | None = None,
) -> list[xr.Dataset]:
    """Send the same draws of weights and inputs through several ensembles.

    What differs between them is seen without the noise that they share: many branch scalings
    on the same networks. A sampler that can (`Sampler.coupled`) draws every weight once for
    all of them; any other draws the same numbers again for each.

    Parameters
    ----------
    ensembles : sequence of Ensemble
        Their networks have one depth, and the same may be observed of all.
    observe, replicas, seed, sampler, workers, executor, layers, orders, quantiles, keep, progress
        As for `simulate`; one sampler serves all.

    Returns
    -------
    list of Dataset
        One an ensemble, in order: what ``simulate(ensemble, coupled=True)`` returns, up to
        rounding, with the attribute ``coupled_with``.

    Raises
    ------
    SpecError, UnknownName, Unsupported, NonFinite
        As `simulate`, and SpecError if the ensembles cannot be run as one.
    """
    from sigprop.stream import Group, flow

    if not ensembles:
        raise SpecError("ensembles is empty, so nothing would be simulated. Give one or more.")
    run = (replicas, seed, sampler, layers, orders, quantiles, keep, True)
    requests = tuple(requested(ensemble, observe, *run) for ensemble in ensembles)
    group = Group(requests)
    group.check()
    found = []
    with work.pool(workers, executor) as (pool, size):
        for _, outcome in flow([group], pool, size, progress):
            for request, variables in zip(requests, outcome.variables, strict=True):
                attrs = attributes(request, results.RESULT, request.replicas)
                dataset = _dataset(request, variables, attrs)
                found.append(dataset.assign_attrs(coupled_with=COUPLED_WITH))
    return found


def stands(path: str | os.PathLike[str], ensemble: Ensemble, **run: Any) -> bool:
    """Whether ``path`` holds exactly the run that `simulate` would make of these arguments.

    ``run`` takes the arguments of `simulate` that say what is measured, from ``observe`` to
    ``coupled``.
    """
    if not os.path.isfile(path):
        return False
    given = {**defaults(), **run}
    request = requested(ensemble, **given)
    try:
        found, _ = results.read(path)
    except ResultError:
        return False
    options = found.attrs.get("sampler_options")
    if options and found.attrs["sampler"] == request.sampler.name:
        request = requested(ensemble, **given, recorded_options=json.loads(options))
    return not _differences(request, found) and found.attrs["replicas"] == request.replicas


def arguments(result: xr.Dataset) -> dict[str, Any]:
    """The arguments of `simulate`, beside the ensemble, that make ``result`` again."""
    from sigprop.backends import samplers
    from sigprop.observables import observables

    options = result.attrs.get("sampler_options")
    sampler = result.attrs["sampler"]
    asked = json.loads(result.attrs["observe"])
    rebuilt = []
    for data in asked:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
        rebuilt.append(observables[data["kind"]](**values))
    return {
        "observe": rebuilt,
        "replicas": result.attrs["replicas"],
        "seed": result.attrs["seed"],
        "sampler": samplers[sampler](**json.loads(options)) if options else sampler,
        "layers": result["layer"].values.tolist(),
        "keep": result["kept_layer"].values.tolist() if "kept_layer" in result else [],
        "coupled": bool(result.attrs["coupled"]),
    }


def _recorded_options(
    out: str | os.PathLike[str] | None, sampler: str | Sampler
) -> dict[str, Any] | None:
    """What the sampler recorded of itself in a result or checkpoint that stands there."""
    if out is None:
        return None
    name = sampler if isinstance(sampler, str) else sampler.name
    places = ((Path(out), results.RESULT), (results.checkpoint_path(Path(out)), results.CHECKPOINT))
    for path, schema in places:
        if path.exists():
            attrs = results.read(path, schema)[0].attrs
            options: str | None = attrs.get("sampler_options")
            if name in (attrs["sampler"], "auto"):
                return json.loads(options) if options else None
    return None


# ------------------------------------------------------------------------- run


def _smaller(request: Request, fold: Fold, error: DeviceMemory) -> Request:
    """The request of a run that starts again after its device had less memory than planned."""
    drawer = request.sampler.smaller()
    if fold.blocks:
        raise DeviceMemory(
            f"{error} This run goes on from {fold.blocks} blocks of {request.block} networks, and "
            "another size would be another run: start it anew with --force (force=True)."
        ) from error
    if drawer is None:
        raise error
    return dataclasses.replace(request, sampler=drawer)


def _run(
    request: Request,
    fold: Fold,
    pool: Executor,
    workers: int,
    path: Path | None,
    progress: Progress | None,
) -> xr.Dataset:
    part = None if path is None else results.checkpoint_path(path)
    saved = fold.blocks
    pending: deque[Future[Any]] = deque()
    try:
        count = min(request.block, request.replicas)
        job = work.configured(work.job_of([request]), request.observables, count)
        work.check_travels(job, pool)
        request = dataclasses.replace(request, observables=job.observables[0])
        full, rest = divmod(request.replicas, request.block)
        blocks = full + (rest > 0)
        last_save = time.monotonic()
        submitted = fold.blocks
        partial: Done | None = None
        done: Done | None = None
        if progress:
            progress(fold.blocks * request.block, request.replicas)
        for block in range(fold.blocks, blocks):
            while submitted < min(blocks, block + PENDING * workers):
                first = submitted * request.block
                count = min(request.block, request.replicas - first)
                pending.append(pool.submit(work.work, job, first, count))
                submitted += 1
            if not done:
                # The label needs xarray, half a second of loading: while the workers draw.
                import xarray  # noqa: F401
            (done,) = pending.popleft().result()
            if block < full:
                fold = fold.plus(request.observables, done)
            else:
                partial = done
            if progress:
                progress(min((block + 1) * request.block, request.replicas), request.replicas)
            if part and block < full and time.monotonic() - last_save >= CHECKPOINT_SECONDS:
                _save_checkpoint(request, fold, part)
                saved, last_save = fold.blocks, time.monotonic()
        dataset = _label(request, fold, partial)
        if request.sampler.options.get("precision", "float32") != "float32":
            error = pool.submit(work.precision_error, job, min(request.replicas, request.block))
            dataset.attrs["precision_error"] = json.dumps(error.result(), sort_keys=True)
        if path is not None and part is not None:
            results.save(dataset, fold.flat(request.observables), path)
            part.unlink(missing_ok=True)
        return dataset
    except (KeyboardInterrupt, BrokenExecutor, CancelledError, StorageError) as stop:
        if part and fold.blocks > saved:
            with suppress(StorageError):  # else the checkpoint before stands
                _save_checkpoint(request, fold, part)
                saved = fold.blocks
        advice = _how_to_go_on(request, path, saved)
        if isinstance(stop, StorageError):
            raise StorageError(f"{stop} {advice}") from stop
        what = "interrupted" if isinstance(stop, KeyboardInterrupt) else f"a worker died: {stop}"
        raise Interrupted(f"{what}. {advice}") from stop
    except DeviceMemory:
        # What is being drawn holds memory that the next attempt needs.
        wait([future for future in pending if not future.cancel()])
        raise
    finally:
        for future in pending:
            future.cancel()


def _how_to_go_on(request: Request, path: Path | None, saved: int) -> str:
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


def _label(request: Request, fold: Fold, partial: Done | None) -> xr.Dataset:
    """Estimates of the whole run: the complete blocks and the last one."""
    whole = fold if partial is None else fold.plus(request.observables, partial)
    limit = request.ensemble.table.law.moment_limit
    variables = estimates(request.observables, whole, limit)
    return _dataset(request, variables, attributes(request, results.RESULT, request.replicas))


def _dataset(request: Request, variables: dict[str, Any], attrs: dict[str, Any]) -> xr.Dataset:
    import xarray as xr

    used = {dim for dims, _, _ in variables.values() for dim in dims}
    coords = {k: v for k, v in coordinates(request).items() if k in used}
    return xr.Dataset(variables, coords, attrs)


# ---------------------------------------------------------------- what stands there


def _save_checkpoint(request: Request, fold: Fold, part: Path) -> None:
    import xarray as xr

    coords = coordinates(request)
    variables = replicas_kept(fold.values())
    names = ("layer", *(("kept_layer",) if variables else ()))
    attrs = attributes(request, results.CHECKPOINT, fold.blocks * request.block)
    dataset = xr.Dataset(variables, {k: coords[k] for k in names}, attrs)
    results.save(dataset, fold.flat(request.observables), part)


def _standing(request: Request, path: Path, force: bool, resume: bool) -> xr.Dataset | Fold:
    """The finished result that was asked for, or the fold from which to go on."""
    part = results.checkpoint_path(path)
    if force:
        return Fold()
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
        return Fold()
    best = Fold()
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
        fold = Fold.read(request, dataset, sums)
        best = max(best, fold, key=lambda f: f.blocks)
    return best


def _differences(request: Request, dataset: xr.Dataset) -> list[str]:
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


def _check_space(request: Request, path: Path) -> None:
    """Raise StorageError if the result and a checkpoint beside it may not fit on the disk."""
    need = disk.of_request(request)
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise StorageError(
            f"{path} may take up to {need / 2**20:.1f} MiB with its checkpoint, and its disk has "
            f"{free / 2**20:.1f} MiB left. Nothing was simulated. Record fewer layers, keep "
            "fewer values (--keep), or write to another disk."
        )
