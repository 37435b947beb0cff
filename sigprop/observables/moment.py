"""Moments of the norm from weighted networks: a tilted law, or populations that split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sigprop.accumulate import State, powers
from sigprop.accumulate.reliable import reliable
from sigprop.observables.observable import Observable, Trace, Variable, observables

__all__ = ["Moment"]


@observables.register("moment")
@dataclass(frozen=True, kw_only=True)
class Moment(Observable):
    """E |h_l|^s / |h_0|^s from weighted networks: with --tilt or --population only.

    Parameters
    ----------
    orders : tuple of float
        Orders s.
    """

    orders: tuple[float, ...] = (1.0, 2.0)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({"log_tilted_norm", "log_weight"})

    def observe(self, trace: Trace) -> State:
        x, w = trace["log_tilted_norm"], trace["log_weight"]
        # A network of weight 0, or dead, adds nothing to any moment.
        logs = np.stack([s * x + w for s in self.orders], axis=1)
        return powers.observe(logs, (1.0,))

    def merge(self, a: State, b: State) -> State:
        return powers.merge(a, b, (1.0,))

    def finalize(self, state: State) -> dict[str, Variable]:
        dims = ("order", "layer", "input")
        estimate, error = (part[0] for part in powers.log_moment(state, (1.0,)))
        size = powers.effective_size(state)[0]
        what = "log of E (|h_l| / |h_0|)^order"
        carried = "effective number of weighted replicas that carry norm_moment_log"
        good = reliable(size, int(state["count"]))
        trust = "whether enough replicas carry norm_moment_log to believe it and its error"
        return {
            "norm_moment_log": (dims, estimate, {"long_name": what, "units": "nat"}),
            "norm_moment_log_se": (
                dims, error, {"long_name": f"standard error of {what}", "units": "nat"}
            ),
            "norm_moment_ess": (dims, size, {"long_name": carried, "units": "1"}),
            "norm_moment_reliable": (
                dims, good, {"long_name": trust, "units": "1"}
            ),
        }  # fmt: skip
