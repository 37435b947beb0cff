"""The comparison of `tests/statistical` with seven times the networks: half an hour.

Run by ``make verify``. Sees differences of distribution functions of 0.032 and of
correlations of 0.055 wherever `tests.agreement` has a case.
"""

from __future__ import annotations

import pytest

from tests.agreement import AGREEMENTS, assert_agreement

REPLICAS = 200_000


@pytest.mark.parametrize("case, sampler", AGREEMENTS)
def test_sampler_draws_from_the_law_of_the_reference(case, sampler):
    # Another seed than the daily test's, so that the two are independent.
    assert_agreement(case, sampler, REPLICAS, resolution=0.032, scores=0.055, seed=1)
