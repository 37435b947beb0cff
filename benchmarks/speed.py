"""The table of speeds: every sampler against plain torch, all timed in one run on one machine.

    python -m benchmarks.speed

Rounds are interleaved: each times every line once, the baseline among them, and what is told
is the median of the ratios of a round, so that a machine which is busy for a while is busy for
both sides. README.md says what each line is.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numba as nb
import numpy as np

import sigprop
from sigprop.backends import choose
from sigprop.kernels import philox
from sigprop.observables import observables

__all__ = ["Job", "main"]

NETWORKS = 10_000
WIDTH, WIDE = 100, 100_000
WORKERS = 2
OBSERVE = ("norm", observables["gradient"](only=("log_gradient",)))
FIELDS = frozenset({"log_norm", "log_gradient"})
GROUP = 4000  # normals that the conditional sampler draws at once at this width
NORMALS_A_LAYER = 4 * WIDTH
COMMANDS = {
    "simulate --scheme fixup": ("--scheme", "fixup"),
    "simulate --scheme power": ("--scheme", "power", "--beta", "0.5"),
}

# --------------------------------------------------------------------- timed work


@dataclass(frozen=True)
class Job:
    """Networks drawn by one sampler through the public driver."""

    sampler: str
    depth: int
    width: int = WIDTH
    law: str = "gaussian"
    every_layer: bool = False

    @property
    def ensemble(self) -> sigprop.Ensemble:
        network = sigprop.Network(depth=self.depth, width=self.width)
        return sigprop.Ensemble(network, sigprop.Power(beta=0.5, law=self.law), sigprop.Point())

    @property
    def few(self) -> int:
        """The least that keeps every worker at work: a block for each."""
        return WORKERS * choose(self.sampler, self.ensemble, FIELDS).block

    def run(self, networks: int) -> float:
        """Seconds that a run takes."""
        layers = range(self.depth + 1) if self.every_layer else None
        start = time.perf_counter()
        sigprop.simulate(
            self.ensemble, OBSERVE, replicas=networks, sampler=self.sampler, workers=WORKERS,
            layers=layers,
        )  # fmt: skip
        return time.perf_counter() - start

    def many(self, seconds: float) -> int:
        """How many networks take about ``seconds``, and no more than the job has."""
        self.run(self.few)  # compiles
        times = seconds / self.run(self.few)
        return min(NETWORKS, self.few * max(2, round(times)))

    def seconds(self, many: int) -> float:
        """Seconds a network of the whole job, from a run of few and one of many networks.

        What a run costs once (bins of histograms are fitted to some networks more) is counted
        once, as it is in the whole job.
        """
        few = self.few
        once = self.run(few)
        each = (self.run(many) - once) / (many - few)
        return (once + each * (NETWORKS - few)) / NETWORKS


@nb.njit(nogil=True, cache=True)
def _draw(key, times, words, out):  # type: ignore[no-untyped-def]
    for layer in range(times):
        philox.singles(key, layer, 0, philox.FORWARD, GROUP, words, out)


def draw_seconds(count: int) -> float:
    """Seconds and worker of one normal drawn into a buffer and left there: the floor."""
    times = -(-count // GROUP)
    key = np.array([1, 2], np.uint32)

    def work(_: int) -> None:
        _draw(key, times, philox.new_words(), np.empty(philox.padded(GROUP), np.float32))

    work(0)  # compiles
    with ThreadPoolExecutor(WORKERS) as pool:
        start = time.perf_counter()
        list(pool.map(work, range(WORKERS)))
        return (time.perf_counter() - start) / (times * GROUP)


def baseline_seconds(networks: int, depth: int) -> float:
    """Seconds of one network in plain torch."""
    from benchmarks.baseline_torch import seconds_per_network

    return seconds_per_network(networks, depth, WIDTH)


def program_seconds(arguments: Sequence[str], cache: str | None) -> float:
    """Wall time of the program in a process of its own, compiled kernels kept in ``cache``.

    With None they are where they always are.
    """
    root = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sigprop.cli", *arguments],
        check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


# ------------------------------------------------------------------------- table


@dataclass(frozen=True)
class Line:
    """A measured number beside what is required of it and what is aimed at."""

    name: str
    value: float
    unit: str
    required: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    note: str = ""

    def verdict(self) -> str:
        if self.required is None:
            return ""
        sign = 1 if self.more_is_better else -1
        if sign * self.value < sign * self.required:
            return "MISSED"
        if self.aim is None:
            return "met"
        return "aim met" if sign * self.value >= sign * self.aim else "met, aim missed"

    def row(self) -> tuple[str, ...]:
        bounds = ("" if x is None else f"{x:g}" for x in (self.required, self.aim))
        return (self.name, f"{self.value:.4g}", self.unit, *bounds, self.verdict(), self.note)


HEADER = ("", "measured", "unit", "required", "aim", "", "")


def print_table(lines: Sequence[Line]) -> None:
    rows = [HEADER, *(line.row() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    for row in rows:
        right = {1, 3, 4}
        cells = (
            x.rjust(w) if i in right else x.ljust(w) for i, (x, w) in enumerate(zip(row, widths))
        )
        print("  ".join(cells).rstrip())


def measure_speed(depth: int, seconds: float, rounds: int, baseline: int) -> list[Line]:
    """Time everything that runs in this process, round by round."""
    jobs = {
        "chain": Job("chain", depth),
        "conditional": Job("conditional", depth),
        "dense, uniform weights": Job("dense", depth, law="uniform"),
        "chain, width 1e5": Job("chain", depth, width=WIDE),
        "chain, every layer recorded": Job("chain", depth, every_layer=True),
    }
    sizes = {name: job.many(seconds) for name, job in jobs.items()}
    draws = int(1e8 * seconds)
    work: dict[str, Callable[[], float]] = {
        "baseline": lambda: baseline_seconds(baseline, depth),
        **{name: lambda j=job, n=sizes[name]: j.seconds(n) for name, job in jobs.items()},
        "normal": lambda: draw_seconds(draws),
    }
    seen = {name: np.array([]) for name in (*work, "cores")}
    for done in range(rounds):
        if sys.stderr.isatty():
            print(f"round {done + 1} of {rounds}", file=sys.stderr)
        for name, once in work.items():
            spent, start = time.process_time(), time.perf_counter()
            seen[name] = np.append(seen[name], once())
            if name == "conditional":
                had = (time.process_time() - spent) / (time.perf_counter() - start)
                seen["cores"] = np.append(seen["cores"], had)
    return _lines(seen, sizes, depth, baseline)


def _lines(
    seen: Mapping[str, np.ndarray], sizes: Mapping[str, int], depth: int, baseline: int
) -> list[Line]:
    def middle(values: np.ndarray) -> float:
        return float(np.median(values))

    note = f"({baseline} timed)"
    lines = [Line("baseline, plain torch", middle(seen["baseline"]), "s a network", note=note)]
    for name, required, aim in (
        ("chain", 8000, 25000),
        ("conditional", 800, 1500),
        ("dense, uniform weights", 20, 60),
        ("chain, every layer recorded", None, None),
    ):
        note = f"{1e3 * middle(seen[name]):.4g} ms a network ({sizes[name]} timed)"
        ratio = middle(seen["baseline"] / seen[name])
        lines.append(Line(name, ratio, "x baseline", required, aim, True, note))
    wide = middle(seen["chain, width 1e5"] / seen["chain"])
    lines.append(Line("chain, width 1e5 against 100", wide, "x time", 1.5))
    nanoseconds = {
        "chain": 1e9 * WORKERS * seen["chain"] / depth,
        "conditional": 1e9 * WORKERS * seen["conditional"] / (depth * NORMALS_A_LAYER),
        "normal": 1e9 * seen["normal"],
    }
    ratio = middle(nanoseconds["conditional"] / nanoseconds["normal"])
    unit = "ns x worker a normal"
    return [
        *lines,
        Line("chain, a layer", middle(nanoseconds["chain"]), "ns x worker"),
        Line("drawing alone (floor)", middle(nanoseconds["normal"]), unit, 1.8),
        Line("conditional, all of it", middle(nanoseconds["conditional"]), unit),
        Line("conditional against the floor", ratio, "x time", 1.5),
        Line("processors had while drawing", middle(seen["cores"]), f"of {WORKERS}"),
    ]


def measure_start(depth: int, rounds: int, cold: bool) -> list[Line]:
    """Time the program from the shell: with an empty cache of compiled kernels, then warm."""
    with tempfile.TemporaryDirectory() as folder:
        out = ("--out", str(Path(folder, "result.nc")), "--force")
        run = {
            name: ("simulate", "--depth", str(depth), *options, *out)
            for name, options in COMMANDS.items()
        }
        caches = {name: str(Path(folder, f"cache-{i}")) for i, name in enumerate(run)}
        first = {name: program_seconds(run[name], caches[name]) for name in run if cold}
        run["--help"] = ("--help",)
        again: dict[str, list[float]] = {name: [] for name in run}
        for _ in range(rounds):
            for name in run:
                again[name].append(program_seconds(run[name], caches.get(name) if cold else None))
    lines = [Line("sigprop --help", float(np.median(again["--help"])), "s", 0.4)]
    for name in COMMANDS:
        lines.append(Line(f"sigprop {name}, warm", float(np.median(again[name])), "s", 3))
        if cold:
            lines.append(Line(f"sigprop {name}, first time", first[name], "s", 20))
    return lines


def machine() -> str:
    """What the numbers were measured on and with."""
    import torch

    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = [x for x in information.read_text().splitlines() if x.startswith("model name")]
        name = found[0].split(":")[1].strip() if found else name
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "numba", "llvmlite", "torch"))
    return (
        f"{len(os.sched_getaffinity(0))} cores ({name}, {nb.config.CPU_NAME or 'native'}), "
        f"Python {platform.python_version()}, {packages}; {WORKERS} workers, "
        f"{torch.get_num_threads()} threads of torch; sigprop {sigprop.__version__}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes; proves nothing")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each (default 5)")
    parser.add_argument("--no-start", action="store_true", help="leave out the start-up times")
    given = parser.parse_args(arguments)
    depth = 100 if given.quick else 1000
    print(machine())
    print(
        f"{NETWORKS} networks, res3, ReLU, width {WIDTH}, depth {depth}, forward and backward,\n"
        "norm and gradient observed; medians of interleaved rounds, each of fewer networks\n"
    )
    if given.quick:
        lines = measure_speed(depth, seconds=0.01, rounds=1, baseline=1)
    else:
        lines = measure_speed(depth, given.seconds, given.rounds, baseline=3)
    if not given.no_start:
        lines += measure_start(depth, 1 if given.quick else given.rounds, not given.quick)
    print_table(lines)


if __name__ == "__main__":
    main()
