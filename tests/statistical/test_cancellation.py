"""Sums of weights of one size cancel, and then the unit is silent on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sigprop.inputs import Given
from sigprop.schemes import GivenScheme
from sigprop.spec import Ensemble, Network
from tests.agreement import networks
from tests.stat import assert_agrees

COUNT, UNITS = 20_000, 9


@pytest.mark.parametrize("name", ["dense", "torch dense", "reference"])
def test_a_sum_that_cancels_activates_no_unit(name):
    """Six signs add up to 0 with probability 20/64; no rounding of 0.1 may activate a unit then.

    The scale is one whose products round, so that a fused product would leave a rest.
    """
    if name.startswith("torch"):
        pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)
    ensemble = Ensemble(
        Network(depth=1, widths=(6, UNITS), block="plain", activation="relu"),
        GivenScheme(branch=0.7, variance=((0.3,),), law="rademacher"),
        Given([[0.1] * 6]),
    )

    activity = networks(name, ensemble, COUNT)["activity"][:, -1, 0]

    active = (1 - math.comb(6, 3) / 2**6) / 2
    se = math.sqrt(active * (1 - active) / UNITS / COUNT)
    assert_agrees(np.mean(activity), active, se, resolution=0.012)
