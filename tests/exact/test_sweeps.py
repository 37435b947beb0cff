"""Sweeps over rows of every length: sums against NumPy in double precision, and what is written.

The rows begin anywhere, singles beside doubles, and stand in arrays with other numbers before
and behind them, which a sweep must neither read nor change.
"""

import numba as nb
import numpy as np
import pytest

from sigprop.kernels import sweeps

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 100, 103)
BEFORE, BEHIND = 3, 5
# Sums of a hundred products: rounding only.
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


@nb.njit
def norm(z, at, n):
    return sweeps.norm(z, at, n), sweeps.norms(z, at, n), sweeps.count(z, at, n)


@nb.njit
def dot(x, x_at, y, y_at, n):
    return sweeps.dot(x, x_at, y, y_at, n)


@nb.njit
def crossed(z, z_at, zeta, zeta_at, n):
    return (
        sweeps.crossed(z, z_at, zeta, zeta_at, n), sweeps.crossed_both(z, z_at, zeta, zeta_at, n)
    )  # fmt: skip


@nb.njit
def square(z, z_at, zeta, zeta_at, slope, more, fresh, along, n):
    return sweeps.square(z, z_at, zeta, zeta_at, slope, more, fresh, along, n)


@nb.njit
def ahead(new, new_at, h, h_at, z, z_at, c, a, n):
    return sweeps.ahead(new, new_at, h, h_at, z, z_at, c, a, n)


@nb.njit
def land(p, zeta, h, z, at, c, a, b, n):
    return sweeps.land(p, at[0], zeta, at[1], h, at[2], z, at[3], c, a, b, n)


def row(n, seed, kind=np.float32, before=BEFORE):
    """An array with a row of ``n`` normals in it, NaN around; and the row in double precision."""
    values = np.random.default_rng(seed).standard_normal(n).astype(kind)
    values[2::7] = 0.0
    array = np.full(before + n + BEHIND, np.nan, kind)
    array[before : before + n] = values
    return array, values.astype(float)


@pytest.mark.parametrize("n", LENGTHS)
def test_sums_over_either_sign(n):
    array, z = row(n, 1)
    plus, (both_plus, minus), on = norm(array, BEFORE, n)
    np.testing.assert_allclose(plus, np.sum(z[z > 0] ** 2), **CLOSE)
    assert both_plus == pytest.approx(plus, rel=1e-12)
    np.testing.assert_allclose(minus, np.sum(z[z <= 0] ** 2), **CLOSE)
    assert on == np.count_nonzero(z > 0)


@pytest.mark.parametrize("n", LENGTHS)
def test_products_over_either_sign(n):
    first, z = row(n, 2)
    second, zeta = row(n, 3, before=6)
    (x, q), (x_plus, x_minus, q_plus, q_minus) = crossed(first, BEFORE, second, 6, n)
    on = z > 0
    np.testing.assert_allclose((x, q), (z[on] @ zeta[on], zeta[on] @ zeta[on]), **CLOSE)
    np.testing.assert_allclose((x_plus, q_plus), (x, q), **CLOSE)
    off = ~on
    np.testing.assert_allclose(
        (x_minus, q_minus), (z[off] @ zeta[off], zeta[off] @ zeta[off]), **CLOSE
    )


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_square_of_a_gradient_behind_the_units(n, slope):
    first, z = row(n, 4)
    second, zeta = row(n, 5, before=0)
    m = np.where(z > 0, 1.0, slope)
    exact = np.sum((m * (1.3 * zeta - 0.7 * m * z)) ** 2)
    found = square(first, BEFORE, second, 0, slope, 1.0 - slope, 1.3, -0.7, n)
    np.testing.assert_allclose(found, exact, **CLOSE)


@pytest.mark.parametrize("n", LENGTHS)
def test_singles_are_widened_before_they_are_multiplied(n):
    first, x = row(n, 6, np.float64)
    second, y = row(n, 7, before=1)
    np.testing.assert_allclose(dot(first, BEFORE, second, 1, n), x @ y, **CLOSE)


@pytest.mark.parametrize("n", LENGTHS)
def test_a_state_goes_ahead_and_nothing_else_is_written(n):
    states, h = row(n, 8, np.float64)
    normals, z = row(n, 9, before=2)
    new = np.full(n + 9, 7.0)
    total = ahead(new, 4, states, BEFORE, normals, 2, 0.8, -1.7, n)
    exact = 0.8 * h - 1.7 * z
    np.testing.assert_allclose(new[4 : 4 + n], exact, **CLOSE)
    np.testing.assert_allclose(total, exact @ exact, **CLOSE)
    assert (new[:4] == 7.0).all()
    assert (new[4 + n :] == 7.0).all()


@pytest.mark.parametrize("n", LENGTHS)
def test_a_gradient_lands_in_place_and_nothing_else_is_written(n):
    gradient, p = row(n, 10, np.float64)
    fresh, zeta = row(n, 11, before=1)
    states, h = row(n, 12, np.float64, before=2)
    normals, z = row(n, 13, before=5)
    found = land(gradient, fresh, states, normals, (BEFORE, 1, 2, 5), 0.9, 0.4, -0.6, n)
    exact = 0.9 * p + 0.4 * zeta - 0.6 * h
    np.testing.assert_allclose(gradient[BEFORE : BEFORE + n], exact, **CLOSE)
    np.testing.assert_allclose(found, (exact @ exact, exact @ z), **CLOSE)
    assert np.isnan(gradient[:BEFORE]).all()
    assert np.isnan(gradient[BEFORE + n :]).all()
