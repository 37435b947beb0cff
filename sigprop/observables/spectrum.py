r"""The singular spectrum of the Jacobian: how are distances stretched, in every direction?

Of every network the singular values :math:`\sigma_1 \ge \sigma_2 \ge ..` of
:math:`\partial h_l / \partial h_0` are reduced to a few numbers and to the share of them in each
bin of :math:`\ln \sigma`; networks are then averaged. The values of one network repel each
other, so they are no sample: every error is that between networks.

A value that is exactly zero counts as such, one that is too small to be known (NaN in the
trace) is told apart; both are left out of whatever is said of the logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sigprop.accumulate import State, moments, powers
from sigprop.accumulate.reliable import reliable
from sigprop.errors import SpecError
from sigprop.observables.observable import Observable, Trace, Variable, observables
from sigprop.spec import check_count, check_number

__all__ = ["Spectrum"]


# What is averaged over networks: name, what it is, units.
_NUMBERS = {
    "log_singular_mean": ("mean of log singular", "nat"),
    "log_singular_variance": ("variance within a network of log singular", "nat^2"),
    "log_singular_largest": ("log of the largest singular value", "nat"),
    "log_singular_smallest": ("log of the smallest singular value that is not 0", "nat"),
    "log_singular_condition": ("log of largest over smallest, where none is 0 or unknown", "nat"),
    "singular_zero_fraction": ("fraction of singular values that are exactly 0", "1"),
    "singular_unresolved_fraction": ("fraction of singular values too small to be known", "1"),
    "singular_below_fraction": ("fraction of singular values below the bins", "1"),
    "singular_above_fraction": ("fraction of singular values above the bins", "1"),
}
_DISTANCES = {
    "isometry_max_log": "log of E max |singular - 1|",
    "isometry_rms_log": "log of E root mean square of (singular - 1)",
}


@observables.register("spectrum")
@dataclass(frozen=True, kw_only=True)
class Spectrum(Observable):
    """Singular values of dh_l / dh_0: logarithm, extremes, condition, histogram, isometry.

    Parameters
    ----------
    orders : tuple of float
        Orders s of the moments E (1/n) sum of singular^s.
    quantiles : tuple of float
        Of the values of one network, averaged over networks.
    bins : int
        Bins of equal width over +-reach, one of them in the middle of 0 if odd.
    reach : float
        Of the histogram of log singular. Bins are the same for every run and ensemble.
    """

    orders: tuple[float, ...] = (1.0, 2.0)
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    bins: int = 321
    reach: float = 8.025

    def __post_init__(self) -> None:
        check_count("bins", self.bins, least=3, why="It counts the bins of the histogram.")
        check_number("reach", self.reach, low=0.0, open_low=True)
        if self.bins > 10_000:
            raise SpecError(
                f"bins = {self.bins} is more than 10000: as many numbers are kept at every layer, "
                "and a network of moderate width has fewer singular values. Use fewer."
            )

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({"log_singular"})

    @property
    def edges(self) -> np.ndarray:
        """Of the bins, shape (bins + 1,)."""
        return np.linspace(-self.reach, self.reach, self.bins + 1)

    @property
    def centres(self) -> tuple[float, ...]:
        """The middle of every bin."""
        edges = self.edges
        return tuple(((edges[:-1] + edges[1:]) / 2).tolist())

    def observe(self, trace: Trace) -> State:
        logs = trace["log_singular"]
        found = _numbers(logs, self.edges)
        state: State = {}
        for name in _NUMBERS:
            state |= _under(name, moments.observe(found[name], 4, np.nan))
        for name in ("density", "quantile"):
            values = found[name] if name == "density" else _quantiles(logs, self.quantiles)
            state |= _under(name, moments.observe(values, 2, np.nan))
        for name in _DISTANCES:
            state |= _under(name, powers.observe(found[name], (1.0,)))
        for s in self.orders:
            state |= _under(f"moment_{s!r}", powers.observe(_log_mean_power(logs, s), (1.0,)))
        return state

    def merge(self, a: State, b: State) -> State:
        state: State = {}
        for name in (*_NUMBERS, "density", "quantile"):
            state |= _under(name, moments.merge(_part(a, name), _part(b, name)))
        for name in (*_DISTANCES, *(f"moment_{s!r}" for s in self.orders)):
            state |= _under(name, powers.merge(_part(a, name), _part(b, name), (1.0,)))
        return state

    def finalize(self, state: State) -> dict[str, Variable]:
        variables: dict[str, Variable] = {}
        for name, (what, units) in _NUMBERS.items():
            estimate = moments.mean(_part(state, name))
            variables |= _pair(name, ("layer",), estimate, what, units)
        for name, what in _DISTANCES.items():
            value, error = powers.log_moment(_part(state, name), (1.0,))
            variables |= _pair(name, ("layer",), (value[0], error[0]), what, "nat")
        if self.quantiles:
            sums = _part(state, "quantile")
            what = "quantile of log singular within a network, of those that are not 0"
            values = tuple(np.moveaxis(x, -1, 0) for x in moments.mean(sums))
            dims: tuple[str, ...] = ("quantile", "layer")
            variables |= _pair("log_singular_quantile", dims, values, what, "nat")
        width = 2 * self.reach / self.bins
        value, error = moments.mean(_part(state, "density"))
        what = "density of log singular, whose integral lacks what is 0, unknown or outside"
        dims = ("layer", "singular_bin")
        variables |= _pair("singular_density", dims, (value / width, error / width), what, "1")
        if self.orders:
            variables |= self._moments(state)
        return variables

    def _moments(self, state: State) -> dict[str, Variable]:
        sums = [_part(state, f"moment_{s!r}") for s in self.orders]
        read = [powers.log_moment(part, (1.0,)) for part in sums]
        value, error = (np.concatenate([pair[i] for pair in read]) for i in range(2))
        size = np.concatenate([powers.effective_size(part) for part in sums])
        dims = ("order", "layer")
        ess = "effective number of replicas that carry singular_moment_log"
        good = reliable(size, int(sums[0]["count"]))
        trust = "whether enough replicas carry singular_moment_log to believe it and its error"
        return {
            **_pair(
                "singular_moment_log", dims, (value, error), "log of E mean singular^order", "nat"
            ),
            "singular_moment_ess": (dims, size, {"long_name": ess, "units": "1"}),
            "singular_moment_reliable": (
                dims, good, {"long_name": trust, "units": "1"},
            ),
        }  # fmt: skip


# ------------------------------------------------------- of every network and layer


def _numbers(logs: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """What is averaged, by name, each of shape (replicas, layers), from (.., values)."""
    there = logs != np.inf
    size = np.maximum(there.sum(-1), 1)
    zero, unknown = np.isneginf(logs), np.isnan(logs)
    finite = np.isfinite(logs)
    count = finite.sum(-1)
    some = count > 0
    safe = np.where(finite, logs, 0.0)
    n = np.maximum(count, 1)
    mean = safe.sum(-1) / n
    spread = np.where(finite, logs - mean[..., None], 0.0)
    largest = np.where(finite, logs, -np.inf).max(-1, initial=-np.inf)
    smallest = np.where(finite, logs, np.inf).min(-1, initial=np.inf)
    all_known = some & ~(zero | unknown).any(-1)

    def defined(values: np.ndarray, where: np.ndarray) -> np.ndarray:
        return np.where(where, values, np.nan)

    width = edges[1] - edges[0]
    place = np.floor((np.clip(safe, edges[0] - width, edges[-1] + width) - edges[0]) / width)
    place = np.where(finite, place.astype(np.int64), len(edges))
    below, above = (place < 0) & finite, finite & (place >= len(edges) - 1)
    rows = int(np.prod(logs.shape[:-1], dtype=np.int64))
    slots = len(edges) + 2  # below, the bins, above, and what is in none
    flat = (1 + place).reshape(rows, logs.shape[-1]) + slots * np.arange(rows)[:, None]
    counts = np.bincount(flat.ravel(), minlength=rows * slots).reshape(*logs.shape[:-1], slots)
    with np.errstate(divide="ignore", over="ignore"):
        # |sigma - 1| without loss near 1, in logarithm so that nothing overflows.
        away = np.where(logs > 1.0, logs, 0.0) + np.log(
            np.abs(np.where(logs > 1.0, -np.expm1(-np.maximum(safe, 1.0)), np.expm1(safe)))
        )
        away = np.where(zero | unknown, 0.0, np.where(there, away, -np.inf))
        top = away.max(-1, initial=-np.inf)
        level = np.where(top > -np.inf, top, 0.0)
        square = np.exp(2 * (away - level[..., None])).sum(-1) / size
        rms = np.where(top > -np.inf, level + 0.5 * np.log(np.maximum(square, 1e-300)), -np.inf)
    return {
        "log_singular_mean": defined(mean, some),
        "log_singular_variance": defined((spread**2).sum(-1) / n, some),
        "log_singular_largest": defined(largest, some),
        "log_singular_smallest": defined(smallest, some),
        "log_singular_condition": defined(
            np.where(all_known, largest, 0.0) - np.where(all_known, smallest, 0.0), all_known
        ),
        "singular_zero_fraction": zero.sum(-1) / size,
        "singular_unresolved_fraction": unknown.sum(-1) / size,
        "singular_below_fraction": below.sum(-1) / size,
        "singular_above_fraction": above.sum(-1) / size,
        "isometry_max_log": top,
        "isometry_rms_log": rms,
        "density": counts[..., 1 : len(edges)] / size[..., None],
    }


def _log_mean_power(logs: np.ndarray, order: float) -> np.ndarray:
    """log of (1/n) sum of singular^order; what is not known is below all that matters."""
    scaled = np.where(np.isfinite(logs), order * np.where(np.isfinite(logs), logs, 0.0), -np.inf)
    top = scaled.max(-1, initial=-np.inf)
    level = np.where(top > -np.inf, top, 0.0)
    size = np.maximum((logs != np.inf).sum(-1), 1)
    total = np.exp(scaled - level[..., None]).sum(-1) / size
    with np.errstate(divide="ignore"):
        return np.where(top > -np.inf, level + np.log(total), -np.inf)


def _quantiles(logs: np.ndarray, probabilities: tuple[float, ...]) -> np.ndarray:
    """Quantiles of the finite values of every row, interpolated; shape (.., probabilities)."""
    ordered = np.sort(np.where(np.isfinite(logs), logs, np.inf), axis=-1)
    count = np.isfinite(logs).sum(-1)
    found = np.full((*logs.shape[:-1], len(probabilities)), np.nan)
    last = np.maximum(count - 1, 0)
    for i, p in enumerate(probabilities):
        place = p * last
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, last)
        a = np.take_along_axis(ordered, low[..., None], -1)[..., 0]
        b = np.take_along_axis(ordered, high[..., None], -1)[..., 0]
        some = count > 0
        a, b = np.where(some, a, 0.0), np.where(some, b, 0.0)
        found[..., i] = np.where(some, a + (place - low) * (b - a), np.nan)
    return found


# --------------------------------------------------------------------- the sums


def _under(name: str, state: State) -> State:
    return {f"{name}.{key}": value for key, value in state.items()}


def _part(state: Mapping[str, np.ndarray], name: str) -> State:
    start = name + "."
    return {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}


def _pair(
    name: str,
    dims: tuple[str, ...],
    estimate: tuple[np.ndarray, ...],
    what: str,
    units: str,
) -> dict[str, Variable]:
    value, error = estimate
    return {
        name: (dims, value, {"long_name": what, "units": units}),
        f"{name}_se": (dims, error, {"long_name": f"standard error of {what}", "units": units}),
    }
