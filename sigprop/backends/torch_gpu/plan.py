"""What one network takes of a device, how many fit into a block, and how long a tape is.

Everything here is arithmetic on the law and on a number of bytes: no device is asked. Sizes are
those of the large arrays; a margin for the rest, the kept matrices of small networks among it,
stands in the budget (`device`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sigprop.spec import Ensemble

__all__ = ["EXACT_BELOW", "GRADIENT_FIELDS", "Plan", "block_of", "plan", "product_bytes"]

GRADIENT_FIELDS = frozenset({"log_gradient", "log_gradient_displacement", "alignment"})
EXACT_BELOW = 64  # fan-in below which sums of a few equal weights may cancel exactly
MOST = 1024  # replicas of a block
_TAPE_BYTES = 2**25  # of one network, which are always granted
_WORKING = 12  # vectors of a layer that are there at once


@dataclass(frozen=True)
class Plan:
    """Bytes of one network, and the layers between two states that are kept.

    Attributes
    ----------
    need : int
        Bytes on the device.
    numbers : int
        Of the largest array that is drawn at once.
    segment : int
        Layers whose tape is there at once; the depth, if all of it is.
    """

    need: int
    numbers: int
    segment: int


def product_bytes(ensemble: Ensemble) -> int:
    """Bytes of a number that is multiplied by a matrix.

    Sums of a few weights of a discrete law can cancel exactly, which single precision would turn
    into a small number of random sign: narrow matrices of such a law are multiplied in double.
    """
    narrow = int(ensemble.network.fans[0].min()) < EXACT_BELOW
    return 8 if ensemble.table.law.discrete and narrow else 4


def plan(ensemble: Ensemble, fields: frozenset[str], recorded: int, method: str) -> Plan:
    """What one network takes with ``method``, ``"dense"`` or ``"conditional"``."""
    network, inputs = ensemble.network, ensemble.inputs.count
    fan_in, fan_out = (fan.astype(float) for fan in network.fans)
    widest = max(fan_in.max(), fan_out.max(), network.input_size) + 1
    phi = network.phi
    unit = 1 if phi.negative_slope is not None else 8
    layer = 8 * network.state_widths.max() + unit * (fan_out.sum(axis=1).max() + fan_in[:, 0].max())
    if method == "dense":
        numbers = (fan_in * fan_out).max()
        if network.form.post:
            numbers = max(numbers, float(network.state_widths[0]) * network.input_size)
        # With the copy that a lower precision makes of it, or a law of its uniform numbers.
        matrix = 1.5 * product_bytes(ensemble) * numbers
    else:
        numbers = inputs * (widest + 1)
        matrix = 6 * 4 * numbers
        layer += 8 * fan_in.sum(axis=1).max() + 4 * fan_out.sum(axis=1).max() + 16 * inputs
    states = inputs * widest * 8 * _WORKING
    kept = recorded * 8 * (10 * inputs + 2 * inputs**2)
    tape, segment, depth = inputs * layer, network.depth, network.depth
    stored = 0.0
    if fields & GRADIENT_FIELDS:
        if depth * tape > max(_TAPE_BYTES, matrix):
            state = inputs * 8 * float(network.state_widths.max())
            segment = max(1, min(depth, math.isqrt(int(depth * state / tape)) or 1))
            stored = math.ceil(depth / segment) * state
        stored += segment * tape
    return Plan(int(matrix + states + kept + stored), int(numbers), segment)


def block_of(plan: Plan, budget: float, numbers: int, replicas: int) -> int:
    """Replicas in a block: a power of two, 0 if not even one fits.

    Parameters
    ----------
    budget : float
        Bytes that may be taken.
    numbers : int
        Beyond so many in one array nothing is gained.
    replicas : int
        A block holds no more than are asked for, rounded up to a power of two.
    """
    fits = int(budget // plan.need)
    if fits < 1:
        return 0
    most = min(fits, MOST, max(1, numbers // plan.numbers))
    return min(2 ** int(np.log2(most)), 2 ** math.ceil(math.log2(replicas)))
