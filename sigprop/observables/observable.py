"""The base of observables and their registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.accumulate import State
from sigprop.registry import Registry

__all__ = ["Observable", "Trace", "Variable", "observables"]

Trace = Mapping[str, np.ndarray]
Variable = tuple[tuple[str, ...], np.ndarray, dict[str, str]]

observables: Registry[Any] = Registry("observable")


@dataclass(frozen=True, kw_only=True)
class Observable:
    """What is recorded of a trace; see the package for the law that it obeys.

    A subclass that has fields ``orders`` or ``quantiles`` receives those of the run.
    """

    kind: ClassVar[str] = ""

    @property
    def fits(self) -> bool:
        """Whether `configure` reads its pilot, which is drawn for it."""
        return type(self).configure is not Observable.configure

    @property
    def fields(self) -> frozenset[str]:
        """Names of the trace fields (`sigprop.trace.FIELDS`) that it reads."""
        raise NotImplementedError

    def restricted(self, applicable: frozenset[str]) -> Observable | None:
        """The part of it that needs no other fields than these, or None if there is none."""
        return self if self.fields <= applicable else None

    def configure(self, pilot: Trace) -> Observable:
        """Return a copy fitted (bins of histograms) to the trace of the run's first replicas.

        Optional: an observable must work without it.
        """
        return self

    def observe(self, trace: Trace) -> State:
        """Sums of the replicas of ``trace``, arrays of shape (replicas, layers, ...)."""
        raise NotImplementedError

    def merge(self, a: State, b: State) -> State:
        """Sums of the union of two sets of replicas."""
        raise NotImplementedError

    def finalize(self, state: State) -> dict[str, Variable]:
        """Estimates: name to (dimensions, values, attributes)."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that tell it from every other."""
        data: dict[str, Any] = {"kind": self.kind}
        for f in dataclasses.fields(self):
            if f.compare:
                value = getattr(self, f.name)
                data[f.name] = list(value) if isinstance(value, tuple) else value
        return data
