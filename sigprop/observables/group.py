"""An observable made of quantities, each summed and read off by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sigprop.accumulate import State
from sigprop.accumulate.histogram import Bins
from sigprop.errors import SpecError
from sigprop.observables.observable import Observable, Trace, Variable
from sigprop.observables.quantity import Quantity

__all__ = ["Group"]


@dataclass(frozen=True, kw_only=True)
class Group(Observable):
    """Base of observables made of `Quantity` members.

    Parameters
    ----------
    orders : tuple of float
        Orders s of the moments E r^s.
    quantiles : tuple of float
    only : tuple of str, optional
        Trace fields to record (default: all of the group).
    bins : mapping, optional
        Bins of the histograms, by field; set by `configure`.
    """

    quantities: ClassVar[tuple[Quantity, ...]] = ()

    orders: tuple[float, ...] = (1.0, 2.0)
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    only: tuple[str, ...] | None = None
    bins: Mapping[str, Bins | None] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        known = [q.field for q in self.quantities]
        for name in self.only or ():
            if name not in known:
                raise SpecError(
                    f"{name!r} is not recorded by observable {self.kind!r}. "
                    f"Its fields: {', '.join(known)}."
                )

    @property
    def members(self) -> tuple[Quantity, ...]:
        """The quantities that are recorded."""
        if self.only is None:
            return self.quantities
        return tuple(q for q in self.quantities if q.field in self.only)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(q.field for q in self.members)

    def restricted(self, applicable: frozenset[str]) -> Observable | None:
        kept = tuple(q.field for q in self.members if q.field in applicable)
        return dataclasses.replace(self, only=kept) if kept else None

    def configure(self, pilot: Trace) -> Observable:
        return dataclasses.replace(self, bins={q.field: q.configure(pilot) for q in self.members})

    def observe(self, trace: Trace) -> State:
        return {
            f"{q.prefix}.{key}": value
            for q in self.members
            for key, value in q.observe(trace, self.orders, self.bins.get(q.field)).items()
        }

    def merge(self, a: State, b: State) -> State:
        return {
            f"{q.prefix}.{key}": value
            for q in self.members
            for key, value in q.merge(_of(a, q), _of(b, q), self.orders).items()
        }

    def finalize(self, state: State) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        for q in self.members:
            bins = self.bins.get(q.field)
            found |= q.finalize(_of(state, q), self.orders, self.quantiles, bins)
        return found

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        values["only"] = [q.field for q in self.members]
        return values


def _of(state: State, quantity: Quantity) -> State:
    start = quantity.prefix + "."
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}
