"""The harness sees the classical mistake of a chain, which leaves every marginal right.

Given the norm of a state alone, its gradient is uniform across it. Given the displacement
too it is not: later layers may then no longer be rotated about the state, since that would
move the input. A chain that does so has the right norms, gradients and displacements one by
one, and the right joint law of norm and gradient, but displacements and gradients that depend
too little on each other.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.agreement import networks, recorded
from tests.ensembles import gentle
from tests.stat import assert_same_joint_law, assert_same_law, columns

COUNT = 150_000
FIELDS = ("log_norm", "log_displacement", "log_gradient")
SEEN = {"resolution": 0.04, "scores": 0.06}


def mistaken_chain(ensemble, count, seed):
    """Forward with the displacement, backward as if only the norm were known."""
    rng = np.random.default_rng(seed)
    normal = lambda: rng.standard_normal(count)  # noqa: E731
    table, d = ensemble.table, ensemble.network.width
    start = np.sqrt(d)
    x, across = np.full(count, start), np.zeros(count)
    states, kept = [(x, across)], []
    for c, a, (s_1, s_2), n in zip(
        table.skip, table.branch, table.scale, ensemble.network.fans[1][:, 0]
    ):
        r = np.hypot(x, across)
        m = rng.binomial(n, 0.5, count)
        size = s_1 * r * np.sqrt(rng.chisquare(np.maximum(m, 1)) * (m > 0))
        sigma = s_2 * size
        y_x, y_k = sigma * normal(), sigma * normal()
        y_z = sigma * np.sqrt(rng.chisquare(d - 2, count))
        along = (x * y_x + across * y_k) / r
        rest = np.sqrt(np.maximum(y_x**2 + y_k**2 + y_z**2 - along**2, 0))
        kept.append((r, along, rest, m, size))
        x, across = c * x + a * y_x, np.hypot(c * across + a * y_k, a * y_z)
        states.append((x, across))

    p, m_2 = normal(), rng.chisquare(d - 1, count)
    top = p**2 + m_2
    gradients = [top]
    for k in reversed(range(len(kept))):
        c, a, (s_1, s_2) = table.skip[k], table.branch[k], table.scale[k]
        r, along, rest, m, size = kept[k]
        r_next = np.hypot(*states[k + 1])
        cos, sin = (c * r + a * along) / r_next, a * rest / r_next
        z = normal()
        tau = np.sqrt(m_2) * z / np.sqrt(z**2 + rng.chisquare(d - 2, count))
        p_h, p_e = p * cos - tau * sin, p * sin + tau * cos
        eta = along * p_h + rest * p_e
        left = m_2 - tau**2 + p_e**2
        alive = m > 0
        square = np.where(alive, eta**2 / np.where(alive, size, 1) ** 2, 0)
        square += s_2**2 * (p**2 + m_2) * rng.chisquare(np.maximum(m - 1, 1)) * (m > 1)
        step = a * s_1 * np.sqrt(square)
        p = c * p_h + a * eta / r * alive
        m_2 = (c * np.sqrt(left) + step * normal()) ** 2 + step**2 * rng.chisquare(d - 2, count)
        gradients.append(p**2 + m_2)
    log = lambda x: np.log(np.stack(x, axis=1))[:, at, None]  # noqa: E731
    at = recorded(ensemble)
    with np.errstate(divide="ignore"):
        return {
            "log_norm": log([np.hypot(*s) / start for s in states]),
            "log_displacement": log([np.hypot(s[0] - start, s[1]) / start for s in states]),
            "log_gradient": log([np.sqrt(g / top) for g in gradients[::-1]]),
        }


@pytest.fixture(scope="module")
def conditional():
    trace = networks("conditional", gentle(), COUNT)
    return {name: trace[name] for name in FIELDS}


def test_the_mistake_is_seen_in_the_joint_law_and_nowhere_else(conditional):
    wrong = mistaken_chain(gentle(), COUNT, seed=5)
    ours, theirs = columns(conditional), columns(wrong)
    for name in ours:  # every marginal is right
        assert_same_law(ours[name], theirs[name], resolution=0.02, name=name)
    pair = {name: conditional[name] for name in ("log_norm", "log_gradient")}
    assert_same_joint_law(pair, wrong, **SEEN)
    with pytest.raises(AssertionError, match=r"correlation .* of log_gradient.* and log_displ"):
        assert_same_joint_law(conditional, wrong, **SEEN)


def test_the_chain_does_not_make_it(conditional):
    chain = networks("chain", gentle(), COUNT, seed=1)
    assert_same_joint_law(conditional, {name: chain[name] for name in FIELDS}, **SEEN)
