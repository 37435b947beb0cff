"""The generators on 10^8 numbers: a minute. Run by ``make verify``."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from tests.draws import assert_event, assert_law, assert_moments, normals, uniforms

N = 10**8
REPLICA = 1  # the daily test draws from replica 0


@pytest.fixture(scope="module")
def many():
    return normals(N, REPLICA)


def test_normals_have_the_normal_law(many):
    """Seen: a distance of 0.00052 between distribution functions."""
    assert_law(many, ndtr, resolution=0.00052)


def test_normals_have_the_moments_of_the_normal_law(many):
    """To the eighth. Seen: 0.0012 deviations of a power: 0.2% of the fourth, 2% of the eighth."""
    moments = [0 if k % 2 else math.prod(range(k - 1, 0, -2)) for k in range(17)]
    assert_moments(many, moments, resolution=0.0012)


def test_normals_have_the_tails_of_the_normal_law(many):
    """Beyond 3, 4, 5 on either side. Seen: 1.02, 1.13 and 2.7 times as many, or a seventh."""
    for at, factor in ((3, 1.02), (4, 1.13), (5, 2.7)):
        count = int((np.abs(many) > at).sum())
        assert_event(count, N, 2 * float(ndtr(-at)), factor=factor)


def test_uniforms_have_the_uniform_law():
    """Seen: a distance of 0.00052; 0.0012 deviations of each of eight powers."""
    x = uniforms(N, REPLICA)
    assert_law(x, lambda u: (u + 1) / 2, resolution=0.00052)
    assert_moments(x, [0 if k % 2 else 1 / (k + 1) for k in range(17)], resolution=0.0012)
