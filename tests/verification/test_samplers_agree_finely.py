"""The comparison of `tests/statistical` with seven times the networks: half an hour.

Run by ``make verify``. Sees differences of distribution functions of 0.032 and of
correlations of 0.055 wherever `tests.agreement` has a case.
"""

from __future__ import annotations

import pytest

from sigprop.backends import Torch, applicable
from tests.agreement import AGREEMENTS, CASES, assert_agreement

REPLICAS = 200_000


@pytest.mark.parametrize("case, sampler", AGREEMENTS)
def test_sampler_draws_from_the_law_of_the_reference(case, sampler):
    # Another seed than the daily test's, so that the two are independent.
    assert_agreement(case, sampler, REPLICAS, resolution=0.032, scores=0.055, seed=1)


@pytest.mark.parametrize("method", ["dense", "conditional"])
@pytest.mark.parametrize("case", list(CASES))
def test_both_methods_of_torch_draw_from_the_law_of_the_reference(case, method):
    """With as many networks as the daily test has for a few of these cases: three minutes."""
    pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)
    ensemble = CASES[case].ensemble
    refused = Torch("cpu", method=method).refusal(ensemble, applicable(ensemble))
    if refused is not None:
        pytest.skip(refused)
    assert_agreement(case, f"torch {method}", 20_000, resolution=0.08, scores=0.17, seed=1)
