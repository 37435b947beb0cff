"""What a run is asked for, checked before any work.

A `Request` holds everything on which a bit of a result may depend, and nothing else: the
ensemble, what is observed of it and where, how many replicas, from which seed and by which
sampler. Every refusal that can be told without drawing is told here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Ensemble, check_count, check_number

if TYPE_CHECKING:
    from sigprop.backends import Sampler
    from sigprop.observables import Observable

__all__ = [
    "COUPLED",
    "DEFAULT_ORDERS",
    "DEFAULT_QUANTILES",
    "Request",
    "check_sequence",
    "defaults",
    "on_device",
    "requested",
]

DEFAULT_ORDERS = (1.0, 2.0)
DEFAULT_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
HIGHEST_ORDER = 4.0
ALL_LAYERS = 200  # up to this depth every layer is recorded by default, beyond about SOME
SOME_LAYERS = 101
SPECTRUM_LAYERS = 11  # where singular values are wanted, each of them a decomposition
COUPLED = "coupled"  # the label of all runs that share their random numbers on purpose


@dataclass(frozen=True)
class Request:
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
    def sizes(self) -> dict[str, int]:
        """The size of every axis that a field may have."""
        inputs = self.ensemble.inputs.count
        start = self.ensemble.network.input_size
        return {"input": inputs, "pair": inputs * (inputs - 1) // 2, "singular": start}

    @property
    def block(self) -> int:
        return self.sampler.block

    @property
    def label(self) -> str:
        return COUPLED if self.coupled else self.ensemble.digest

    @functools.cached_property
    def key(self) -> np.ndarray:
        from sigprop import rng

        return rng.key(self.seed, self.label, self.sampler.name, self.sampler.version)

    def attrs(self) -> dict[str, Any]:
        """What is compared before a run goes on from a file, as it is written there."""
        text = json.dumps(self.ensemble.to_dict(), sort_keys=True, separators=(",", ":"))
        options = self.sampler.options
        return {
            **({"sampler_options": json.dumps(options, sort_keys=True)} if options else {}),
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


def defaults() -> dict[str, Any]:
    """The arguments of `requested` beside the ensemble, where nothing else is said."""
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
        "tilt": None,
        "population": None,
        "device": None,
        "precision": None,
    }


def requested(
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
    tilt: float | None = None,
    population: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    recorded_options: Mapping[str, Any] | None = None,
) -> Request:
    """Check what is asked for; parameters and errors are those of `sigprop.simulate`.

    A run that goes on hands in the options that its sampler recorded.
    """
    from sigprop import backends

    if not isinstance(ensemble, Ensemble):
        raise SpecError(
            f"ensemble must be an Ensemble, got {ensemble!r}. "
            "Write Ensemble(Network(depth=..), scheme, inputs)."
        )
    depth = ensemble.network.depth
    why = "It counts the networks that are drawn."
    replicas = check_count("replicas", replicas, addressed=True, why=why)
    seed = check_count("seed", seed, least=0)
    if seed >= 2**64:
        raise SpecError(f"seed must be an integer below 2**64, got {seed}: it is a 64-bit word.")
    kept = _layers("keep", keep, depth)
    asked = _orders(orders, ensemble)
    sampler = on_device(sampler, device, precision)
    drawer = _weighing(ensemble, sampler, tilt, population, orders, asked)
    chosen = _observables(
        observe,
        (drawer or backends.Sampler()).applicable(ensemble, on_request=observe is not None),
        asked,
        check_sequence("quantiles", quantiles, low=0.0, high=1.0, open_low=True, open_high=True),
    )
    fields = frozenset().union(*(o.fields for o in chosen))
    if layers is None:
        count = depth + 1 if depth <= ALL_LAYERS else SOME_LAYERS
        if "log_singular" in fields:
            count = min(count, SPECTRUM_LAYERS)
        recorded = np.unique(np.rint(np.linspace(0, depth, count)).astype(np.int64))
    else:
        recorded = _layers("layers", layers, depth)
        if not recorded.size:
            raise SpecError("layers is empty, so nothing would be recorded. Name one layer.")
    if drawer is None:
        if not isinstance(sampler, str):
            raise SpecError(f"sampler must be a name or a Sampler, got {sampler!r}. Use 'auto'.")
        drawer = backends.choose(sampler, ensemble, fields)
    else:
        refusal = drawer.refusal(ensemble, fields)
        if refusal is not None:
            raise Unsupported(f"sampler {drawer.name!r} cannot do this: {refusal}")
    every = np.union1d(recorded, kept)
    if recorded_options:
        drawer = drawer.continuing(dict(recorded_options))
    return Request(
        ensemble=ensemble,
        observables=chosen,
        sampler=drawer.planned(ensemble, fields, every.size, replicas),
        layers=every,
        keep=kept,
        replicas=replicas,
        seed=seed,
        coupled=bool(coupled),
    )


def on_device(sampler: str | Sampler, device: str | None, precision: str | None) -> str | Sampler:
    """``sampler`` as it works on a device, where one or a precision is named.

    Raises
    ------
    SpecError
        If they are of another sampler, or no such device or precision exists.
    """
    given = {"device": device, "precision": precision}
    said = {name: value for name, value in given.items() if value is not None}
    if not said:
        return sampler
    if sampler != "torch":
        named = " and ".join(f"{name} = {value!r}" for name, value in said.items())
        raise SpecError(
            f"{named} was given beside sampler {sampler!r}, but only sampler 'torch' works on a "
            "device. Leave it out, or add --sampler torch (sampler='torch')."
        )
    from sigprop.backends import Torch

    return Torch(device or "auto", precision or "float32")


def _weighing(
    ensemble: Ensemble,
    sampler: str | Sampler,
    tilt: float | None,
    population: int | None,
    orders: Sequence[float] | None,
    asked: tuple[float, ...],
) -> Sampler | None:
    """The sampler that is given, or that a tilt or a population means; None for a mere name."""
    from sigprop import backends

    if tilt is None and population is None:
        if isinstance(sampler, str) and sampler in backends.samplers:
            kind = backends.samplers[sampler]
            # One with fields of its own decides what may be observed; others are chosen by it.
            return None if kind.applicable is backends.Sampler.applicable else kind()
        return sampler if isinstance(sampler, backends.Sampler) else None
    if not isinstance(sampler, str):
        raise SpecError(
            f"sampler {sampler!r} was given beside a tilt or a population, which choose their own. "
            "Give one of the two."
        )
    if population is not None and tilt is None and (orders is None or len(asked) != 1):
        raise SpecError(
            f"a population follows one moment, got orders {orders!r}: its networks are split in "
            "proportion to |h|^order. Give one order, as in --orders 2."
        )
    order = asked[0] if asked else 1.0
    return backends.choose_weighted(sampler, ensemble, tilt, population, order)


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


def check_sequence(name: str, values: Sequence[float], **bounds: Any) -> tuple[float, ...]:
    """Return the numbers, sorted and without repetitions, or raise SpecError."""
    try:
        listed = list(values)
    except TypeError:
        raise SpecError(f"{name} must be a sequence of numbers, got {values!r}.") from None
    return tuple(sorted({check_number(f"each of {name}", v, **bounds) for v in listed}))


def _orders(orders: Sequence[float] | None, ensemble: Ensemble) -> tuple[float, ...]:
    limit = ensemble.table.law.moment_limit
    if orders is None:
        return tuple(s for s in DEFAULT_ORDERS if s < limit)
    asked = check_sequence("orders", orders, low=0.0, high=HIGHEST_ORDER, open_low=True)
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
