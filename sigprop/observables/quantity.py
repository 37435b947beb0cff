"""One quantity of a trace and its estimates: the bricks of which observables are built.

A `LogQuantity` is positive and known by its logarithm, where -inf is an exact zero: the
statistics of the logarithm are those of the replicas where it is positive, the moments
E r^s those of all, and how many are zero is told. A `PlainQuantity` is a number, NaN where
it is not defined (the activity before the first layer), which then has no statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sigprop.accumulate import State, histogram, moments, powers
from sigprop.accumulate.histogram import Bins
from sigprop.accumulate.reliable import reliable
from sigprop.observables.observable import Trace, Variable
from sigprop.trace import FIELDS

__all__ = ["LogQuantity", "PlainQuantity", "Quantity"]


def _part(state: State, name: str) -> State:
    start = name + "."
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}


def _under(name: str, state: State) -> State:
    return {f"{name}.{key}": value for key, value in state.items()}


def _fraction(count: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(fraction, half-width of Wilson's interval at one sigma, which is never 0)."""
    n = np.maximum(total, 1)
    p = count / n
    return p, np.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n)


@dataclass(frozen=True)
class Quantity:
    """Base: the trace field that is read and the prefix of the names of its variables."""

    field: str
    prefix: str

    @property
    def dims(self) -> tuple[str, ...]:
        axis = FIELDS[self.field].axis
        return ("layer", axis) if axis else ("layer",)

    def configure(self, pilot: Trace) -> Bins | None:
        """Bins of its histogram, from a pilot."""
        return histogram.bins_from_pilot(pilot[self.field])

    def observe(self, trace: Trace, orders: Sequence[float], bins: Bins | None) -> State:
        raise NotImplementedError

    def merge(self, a: State, b: State, orders: Sequence[float]) -> State:
        raise NotImplementedError

    def finalize(
        self, state: State, orders: Sequence[float], quantiles: Sequence[float], bins: Bins | None
    ) -> dict[str, Variable]:
        raise NotImplementedError

    def _pair(
        self,
        name: str,
        pair: tuple[np.ndarray, np.ndarray],
        what: str,
        units: str,
        dims: tuple[str, ...] | None = None,
    ) -> dict[str, Variable]:
        dims = self.dims if dims is None else dims
        error = f"standard error of {what}"
        return {
            name: (dims, pair[0], {"long_name": what, "units": units}),
            f"{name}_se": (dims, pair[1], {"long_name": error, "units": units}),
        }

    def _quantiles(
        self,
        name: str,
        state: State,
        bins: Bins,
        probabilities: Sequence[float],
        what: str,
        units: str,
    ) -> dict[str, Variable]:
        value, error, width = histogram.quantiles(state, bins, probabilities)
        dims = ("quantile", *self.dims)
        what = f"quantile of {what}"
        bound = {"long_name": f"bound on the error of {what} by binning", "units": units}
        return {
            **self._pair(f"{name}_quantile", (value, error), what, units, dims),
            f"{name}_quantile_error": (dims, width, bound),
        }


@dataclass(frozen=True)
class LogQuantity(Quantity):
    """A positive quantity by its logarithm."""

    def observe(self, trace: Trace, orders: Sequence[float], bins: Bins | None) -> State:
        x = trace[self.field]
        bins = histogram.generic_bins(x.shape[1:]) if bins is None else bins
        state = _under("moments", moments.observe(x, 8))
        state |= _under("histogram", histogram.observe(x, bins))
        if orders:
            state |= _under("powers", powers.observe(x, orders))
        return state

    def merge(self, a: State, b: State, orders: Sequence[float]) -> State:
        state = _under("moments", moments.merge(_part(a, "moments"), _part(b, "moments")))
        state |= _under("histogram", histogram.merge(_part(a, "histogram"), _part(b, "histogram")))
        if orders:
            both = powers.merge(_part(a, "powers"), _part(b, "powers"), orders)
            state |= _under("powers", both)
        return state

    def finalize(
        self, state: State, orders: Sequence[float], quantiles: Sequence[float], bins: Bins | None
    ) -> dict[str, Variable]:
        sums, counts = _part(state, "moments"), _part(state, "histogram")
        bins = histogram.generic_bins(counts["zeros"].shape) if bins is None else bins
        what = FIELDS[self.field].long_name
        ratio = what.removeprefix("log of ")
        log = f"log_{self.prefix}"
        found: dict[str, Variable] = {}
        for name, read, label, units in (
            ("mean", moments.mean, "mean", "nat"),
            ("variance", moments.variance, "variance", "nat^2"),
            ("skewness", moments.skewness, "skewness", "1"),
            ("kurtosis", moments.kurtosis, "excess kurtosis", "1"),
        ):
            found |= self._pair(f"{log}_{name}", read(sums), f"{label} of {what}", units)
        if len(quantiles):
            found |= self._quantiles(log, counts, bins, quantiles, what, "nat")
        if len(orders):
            found |= self._moments(_part(state, "powers"), orders, ratio)
        zero = _fraction(counts["zeros"], sums["count"] + counts["zeros"])
        share = f"fraction of replicas where {ratio} is exactly 0"
        return found | self._pair(f"{self.prefix}_zero_fraction", zero, share, "1")

    def _moments(self, state: State, orders: Sequence[float], ratio: str) -> dict[str, Variable]:
        dims = ("order", *self.dims)
        name = f"{self.prefix}_moment"
        size = powers.effective_size(state)
        good = reliable(size, int(state["count"]))
        what = f"log of E ({ratio})^order"
        estimate = powers.log_moment(state, orders)
        trust = f"whether enough replicas carry {name}_log to believe it and its error"
        ess = f"effective number of replicas that carry {name}_log"
        return {
            **self._pair(f"{name}_log", estimate, what, "nat", dims),
            f"{name}_ess": (dims, size, {"long_name": ess, "units": "1"}),
            f"{name}_reliable": (dims, good, {"long_name": trust, "units": "1"}),
        }


@dataclass(frozen=True)
class PlainQuantity(Quantity):
    """A number, NaN where it is not defined.

    ``spread`` says whether the variance is told beside the mean, ``binned`` whether
    quantiles are.
    """

    what: str
    units: str = "1"
    spread: bool = True
    binned: bool = False

    def configure(self, pilot: Trace) -> Bins | None:
        return super().configure(pilot) if self.binned else None

    def observe(self, trace: Trace, orders: Sequence[float], bins: Bins | None) -> State:
        x = trace[self.field]
        state = _under("moments", moments.observe(x, 4 if self.spread else 2, np.nan))
        if self.binned:
            bins = histogram.generic_bins(x.shape[1:]) if bins is None else bins
            state |= _under("histogram", histogram.observe(x, bins))
        return state

    def merge(self, a: State, b: State, orders: Sequence[float]) -> State:
        state = _under("moments", moments.merge(_part(a, "moments"), _part(b, "moments")))
        if self.binned:
            both = histogram.merge(_part(a, "histogram"), _part(b, "histogram"))
            state |= _under("histogram", both)
        return state

    def finalize(
        self, state: State, orders: Sequence[float], quantiles: Sequence[float], bins: Bins | None
    ) -> dict[str, Variable]:
        sums = _part(state, "moments")
        name = self.prefix
        found = self._pair(f"{name}_mean", moments.mean(sums), f"mean of {self.what}", self.units)
        if self.spread:
            units = self.units if self.units == "1" else f"{self.units}^2"
            spread = moments.variance(sums)
            found |= self._pair(f"{name}_variance", spread, f"variance of {self.what}", units)
        if self.binned and len(quantiles):
            counts = _part(state, "histogram")
            bins = histogram.generic_bins(counts["zeros"].shape) if bins is None else bins
            found |= self._quantiles(name, counts, bins, quantiles, self.what, self.units)
        return found
