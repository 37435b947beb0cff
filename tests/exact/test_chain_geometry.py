"""Every step of the chain is what happens to vectors: the scalars against explicit geometry.

The chain carries lengths and scalar products in place of vectors, and draws the coordinates of
vectors that it never forms. Here the vectors are formed, the coordinates are read off them and
handed to the chain in place of its draws; what it makes of them must then be the lengths and
products of the vectors that come out, number by number. A mistake that a comparison of laws
can hardly see, since it moves a variance and no mean, shows in the first digits.
"""

from __future__ import annotations

import numpy as np
import pytest

from sigprop.kernels.chain import by_frame, by_norm, hidden, lengths
from sigprop.kernels.lanes import LANES

# What a hundred operations in single precision may lose, relative to the largest number.
ROUNDING = 100 * 2.0**-24
C, A, SCALE = -0.8, 0.7, 1.3
LOST = np.float32(np.nan)  # what an output holds before it is written
UNUSED = np.full(LANES, 0.9)  # a draw for which there is no dimension: it must not matter


def python(function):
    """The body of a kernel; without compilation the kernel is its body."""
    return getattr(function, "py_func", function)


def single(*arrays):
    return [np.array(a, np.float32) for a in arrays]


def blank(count):
    return [np.full(LANES, LOST) for _ in range(count)]


def dot(a, b):
    return np.sum(a * b, axis=1)


def unit(a):
    """Directions; 0 where there is no vector, as in dimensions too few."""
    size = np.sqrt(dot(a, a))[:, None]
    return np.divide(a, size, out=np.zeros_like(a), where=size > 1e-9)


def across(a, *directions):
    """What is left of ``a`` across orthonormal directions."""
    for direction in (*directions, *directions):  # twice, against rounding
        a = a - dot(a, direction)[:, None] * direction
    return a


def assert_same(found, expected, name):
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * scale, err_msg=name)


@pytest.fixture
def vectors():
    """A source of as many random vectors as there are lanes."""
    generator = np.random.default_rng(3)
    return lambda d: generator.normal(size=(LANES, d))


@pytest.fixture(autouse=True)
def plain_growth(monkeypatch):
    """Growth of a norm in double precision: bit patterns are for the compiled one."""

    def grow(c, change, square, log_size, ratio):
        np.testing.assert_allclose(square, c * c + change, rtol=0, atol=1e-4)
        log_size += 0.5 * np.log(square)
        ratio[:] = np.sqrt(square)

    monkeypatch.setattr(lengths, "grow", grow)


# ------------------------------------------------------------------------ norms alone


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_norms_one_layer_ahead_and_back(vectors, d):
    h, y, p = unit(vectors(d)), vectors(d), vectors(d)
    sigma = np.linspace(0.3, 2.0, LANES)
    rest_y = across(y, h)
    along, far, ratio, change, square = blank(5)
    log_size = np.zeros(LANES)
    python(by_norm.step)(
        C, A, *single(sigma**2, dot(y, h) / sigma, dot(rest_y, rest_y) / sigma**2), along, far,
        log_size, ratio, change, square,
    )  # fmt: skip
    new = C * h + A * y
    assert_same(along, dot(y, h), "y along h")
    assert_same(far, np.sqrt(dot(rest_y, rest_y)), "y across h")
    assert_same(square, dot(new, new), "|h'|^2")
    assert_same(change, dot(new, new) - C * C, "|h'|^2 - c^2")

    # Back: the gradient is known along h' and by the length of the rest.
    top = unit(new)
    rest = across(p, top)
    e = unit(rest_y)
    tangent = dot(top, h)[:, None] * e - dot(top, e)[:, None] * h
    t = dot(unit(rest), tangent)
    draws = (2 * t, 4 * (1 - t**2)) if d >= 2 else (UNUSED, 0 * t)
    ph, r2, eta = blank(3)
    python(by_norm.turn)(
        C, A, along, far, *single(dot(p, top), dot(rest, rest), *draws), d >= 2, ph, r2, eta,
    )  # fmt: skip
    assert_same(ph, dot(p, h), "p along h")
    assert_same(eta, dot(y, p), "y.p")
    assert_same(r2, dot(across(p, h), across(p, h)), "|p across h|^2")

    # And through the first matrix: h eta + |q| (normals across h).
    q2 = np.linspace(0.1, 3.0, LANES)
    fresh = across(vectors(d), h)
    ahead = across(p, h)
    z = dot(fresh, unit(ahead)) if d >= 2 else UNUSED
    left = dot(fresh, fresh) - z**2 if d >= 2 else 0 * z
    p1, p2, change = blank(3)
    python(by_norm.land)(
        C, A, SCALE, *single(q2), ph, r2, eta, *single(z, left), d >= 2, p1, p2, change,
    )  # fmt: skip
    below = C * p + A * dot(y, p)[:, None] * h + (A * SCALE * np.sqrt(q2))[:, None] * fresh
    assert_same(p1, dot(below, h), "new p along h")
    assert_same(p2, dot(across(below, h), across(below, h)), "|new p across h|^2")
    assert_same(change, dot(below, below) - C * C * dot(p, p), "change of |p|^2")


# ------------------------------------------------------- jointly with the displacement


@pytest.mark.parametrize("start", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7])
def test_a_layer_in_the_frame_of_the_input(vectors, d, start):
    """``start`` is |h_0| where |h| = 1: displacements are kept in the units of the larger."""
    e = unit(vectors(d))
    h, y = unit(vectors(d)), vectors(d)
    eps = unit(across(h, e))
    far_y = across(y, e, eps)
    x, xi = dot(h, e), dot(h, eps)
    if d == 1:
        xi = np.zeros(LANES)
    yx, yk, yz, ratio, change, square = blank(6)
    state = single(x, xi)
    second = dot(y, eps) if d >= 2 else UNUSED
    log_size, inverse = np.zeros(LANES), np.full(LANES, start)
    displacement = (x - start) / max(1.0, start)
    python(by_frame.step)(
        C, A, *single(np.ones(LANES), dot(y, e), second, dot(far_y, far_y)), d >= 2, yx, yk,
        yz, *state, log_size, ratio, change, square, displacement, inverse,
    )  # fmt: skip
    new = C * h + A * y
    size = np.sqrt(dot(new, new))
    new_eps = unit(across(new, e))
    assert_same(square, size**2, "|h'|^2")
    assert_same(change, size**2 - C * C, "|h'|^2 - c^2")
    assert_same(state[0], dot(new, e) / size, "x'")
    assert_same(state[1], dot(new, new_eps) / size, "xi'")
    assert_same(inverse, start / size, "|h_0| / |h'|")
    assert_same(displacement, (dot(new, e) - start) / np.maximum(size, start), "h'.e - |h_0|")

    # Back: a gradient and its displacement, of which the rests are known by their products.
    p, apart = vectors(d), vectors(d)
    if d == 3:  # one dimension is left: both rests lie along it
        apart = across(apart, unit(across(p, e, new_eps))) + 0.6 * across(p, e, new_eps)
    rest, rest_d = across(p, e, new_eps), across(apart, e, new_eps)
    third = unit(far_y)
    tangent = dot(new_eps, eps)[:, None] * third - dot(new_eps, third)[:, None] * eps
    if d <= 2:
        rest, rest_d, tangent = 0 * rest, 0 * rest_d, 0 * tangent
    t1, t2 = dot(tangent, unit(rest)), dot(tangent, unit(across(rest_d, unit(rest))))
    qk, rp, eta, ek, rd, rpd = blank(6)
    scalars = single(
        dot(p, e), dot(p, new_eps), dot(rest, rest), dot(apart, e), dot(apart, new_eps),
        dot(rest_d, rest_d), dot(rest, rest_d),
    )  # fmt: skip
    left = np.maximum(1 - t1**2 - t2**2, 0) if d >= 4 else 0 * t1
    draws = single(
        3 * t1 if d >= 3 else UNUSED, 3 * t2 if d >= 4 else UNUSED, 9 * left
    )  # fmt: skip
    python(by_frame.turn)(
        C, A, *single(xi), yx, yk, yz, *scalars, *draws, d, qk, rp, eta, ek, rd, rpd
    )
    old, old_d = across(p, e, eps), across(apart, e, eps)
    if d <= 2:
        old, old_d = 0 * old, 0 * old_d
    assert_same(qk, dot(p, eps), "p along eps")
    assert_same(ek, dot(apart, eps), "its displacement along eps")
    assert_same(eta, dot(y, p), "y.p")
    assert_same(rp, dot(old, old), "|rest of p|^2")
    assert_same(rd, dot(old_d, old_d), "|rest of the displacement|^2")
    assert_same(rpd, dot(old, old_d), "product of the two rests")

    # And through the first matrix.
    q2 = np.linspace(0.1, 3.0, LANES)
    f = np.linspace(0.2, 1.0, LANES)
    fresh = across(vectors(d), h)
    turned = -xi[:, None] * e + x[:, None] * eps
    first, second = unit(old), unit(across(old_d, unit(old)))
    if d <= 3:
        second = 0 * second
    z = [dot(fresh, direction) for direction in (turned, first, second)]
    left = np.maximum(dot(fresh, fresh) - sum(v**2 for v in z), 0) if d >= 5 else 0 * x
    z = [v if d >= k else UNUSED for k, v in enumerate(z, 2)]
    pe, de = single(dot(p, e), dot(apart, e))
    pk, pp, dk, dd, pd, change = blank(6)
    python(by_frame.land)(
        C, A, SCALE, *single(q2, x, xi), pe, qk, rp, eta, de, ek, rd, rpd,
        *single(*z, left), d, *single(f), pk, pp, dk, dd, pd, change,
    )  # fmt: skip
    below = C * p + A * dot(y, p)[:, None] * h + (A * SCALE * np.sqrt(q2))[:, None] * fresh
    moved = apart + f[:, None] * (below - p)
    rest, rest_d = across(below, e, eps), across(moved, e, eps)
    if d <= 2:
        rest, rest_d = 0 * rest, 0 * rest_d
    for name, found, expected in (
        ("p along h_0", pe, dot(below, e)),
        ("p along eps", pk, dot(below, eps)),
        ("|rest of p|^2", pp, dot(rest, rest)),
        ("displacement along h_0", de, dot(moved, e)),
        ("displacement along eps", dk, dot(moved, eps)),
        ("|rest of the displacement|^2", dd, dot(rest_d, rest_d)),
        ("product of the two rests", pd, dot(rest, rest_d)),
        ("change of |p|^2", change, dot(below, below) - C * C * dot(p, p)),
    ):
        assert_same(found, expected, name)


# ---------------------------------------------------------------------- hidden layers


@pytest.mark.parametrize("on", [0, 1, 3, 5])
@pytest.mark.parametrize("slope", [0.0, 0.3, -0.7, 1.0])
def test_a_gradient_through_a_hidden_layer_of_five(vectors, slope, on):
    n, radius = 5, 1.7
    u = np.abs(vectors(n)) * np.where(np.arange(n) < on, 1.0, -1.0)
    positive = np.where(u > 0, u, 0.0)
    negative = u - positive
    out, cosine, sine = blank(3)
    squared, plus, minus = single(
        np.full(LANES, radius**2), dot(positive, positive), dot(negative, negative)
    )
    python(hidden.activate)(slope, n, squared, None, plus, minus, out, cosine, sine)
    image = radius * (positive + slope * negative)
    size = np.sqrt(dot(image, image))
    assert_same(out, size, "|phi(u)|")

    # The gradient at the output is F eta / A^2 + k (normals across F).
    eta, k = np.linspace(-1.0, 2.0, LANES), np.linspace(0.2, 1.5, LANES)
    if on == 0 and slope == 0.0:
        expected, direction, fresh = np.zeros(LANES), image, image
    else:
        direction = unit(image)
        fresh = across(vectors(n), direction)
        g = (eta / size)[:, None] * direction + k[:, None] * fresh
        q = np.where(u > 0, g, slope * g)
        expected = dot(q, q)
    up, down = unit(positive), unit(negative) * (1.0 if slope >= 0 else -1.0)
    ahead, behind = np.where(u > 0, fresh, 0.0), np.where(u > 0, 0.0, fresh)
    # Across F within the plane of its two halves, and the rests of the halves.
    w = dot(direction, up) * dot(fresh, down) - dot(direction, down) * dot(fresh, up)
    w = w if 0 < on < n else UNUSED  # there is no such plane if one half is empty
    x_plus, x_minus = across(ahead, up), across(behind, down)
    found = np.full(LANES, LOST)
    python(hidden.back)(
        slope, n, *single(np.full(LANES, on)), out, cosine, sine,
        *single(eta, k**2, w, dot(x_plus, x_plus), dot(x_minus, x_minus)), found,
    )  # fmt: skip
    assert_same(found, expected, "|q|^2")


def test_a_bias_takes_its_part_of_the_product(vectors):
    """u = W x + b: given u, b is kappa u + s_b sqrt(1 - kappa) (fresh), and W x.q is the rest."""
    n, scale, bias = 4, 0.9, 0.6
    size, lift = np.linspace(0.5, 2.0, LANES), np.linspace(0.1, 2.0, LANES)
    kappa, squared = blank(2)
    python(hidden.radius)(scale, bias, *single(size, lift), kappa, squared)
    total = (scale * size) ** 2 + (bias * lift) ** 2
    assert_same(squared, total, "T^2")
    share = (bias * lift) ** 2 / total
    assert_same(kappa, share, "kappa")
    u, q, fresh = vectors(n), vectors(n), vectors(n)
    b = share[:, None] * u + (bias * lift * np.sqrt(1 - share))[:, None] * fresh
    (eta,) = single(dot(u, q))
    draw = dot(fresh, unit(q))
    python(hidden.bias_eta)(eta, kappa, *single(lift), bias, *single(dot(q, q), draw))
    assert_same(eta, dot(u - b, q), "(u - b).q")
