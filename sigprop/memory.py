"""How much memory there is, and whether a request fits: asked before anything is allocated.

Running out of memory on the way ends in a killed process that can say nothing. The estimates
are of what grows with the request, not of what every run takes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sigprop.errors import SpecError

if TYPE_CHECKING:
    from sigprop.request import Request
    from sigprop.spec import Network

__all__ = ["available", "check_network", "check_request", "of_network", "of_request"]

_NUMBER = 8  # bytes


def available() -> float:
    """Bytes that a process may still take; inf where the system does not tell."""
    return min(_told(), default=math.inf)


def _told() -> Iterator[float]:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:  # of a container
        limit = Path("/sys/fs/cgroup/memory.max").read_text()
        yield float(limit) - float(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        pass
    try:
        yield float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        pass


def of_network(network: Network) -> int:
    """Bytes of the arrays with a row a layer: widths, coefficients, scales, their copies."""
    columns = 5 + 6 * network.matrices
    return _NUMBER * 2 * columns * network.depth


def of_request(request: Request, workers: int) -> int:
    """Bytes of the tables, of what is recorded of a block, and of the vectors of a network."""
    network, inputs = request.ensemble.network, request.ensemble.inputs.count
    recorded = request.block * request.layers.size
    # Per input some numbers, per two of them Gram matrices, their spectra and cosines.
    block = recorded * (8 * inputs + (4 * inputs * inputs if inputs > 1 else 0))
    widest = max(int(fan.max()) for fan in network.fans)
    vectors = 0
    if request.sampler.name != "chain":
        # Those of a layer and its matrices, and about one state at every sqrt(depth)-th layer.
        vectors = inputs * widest * (8 * network.matrices + 4 * math.isqrt(network.depth))
    at_once = min(workers, -(-request.replicas // request.block))
    return of_network(network) + at_once * _NUMBER * (block + vectors)


def _require(need: float, what: str, instead: str) -> None:
    free = available()
    if need > free:
        raise SpecError(
            f"{what} takes {need / 2**30:.3g} GiB of memory by estimate, and there are "
            f"{free / 2**30:.3g} GiB. Nothing was simulated. {instead}"
        )


def check_network(network: Network) -> None:
    """Raise SpecError if the table of ``network`` does not fit into memory."""
    _require(of_network(network), f"a table of {network.depth} layers", "Use a smaller depth.")


def check_request(request: Request, workers: int) -> None:
    """Raise SpecError if a run does not fit into memory."""
    network, inputs = request.ensemble.network, request.ensemble.inputs.count
    widest = max(int(fan.max()) for fan in network.fans)
    _require(
        of_request(request, workers),
        f"a run with {inputs} input(s), widths up to {widest}, {request.layers.size} recorded "
        f"layers and {workers} workers",
        "Use fewer inputs, layers or workers, or a smaller width.",
    )
