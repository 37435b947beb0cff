"""What must hold replica by replica, not only in law: identities, and where numbers come from.

For a positively homogeneous activation without biases a network is a positively homogeneous
function of its state, so by Euler p_l . h_l is the same number at every layer: in every
single network, at any width, whatever its coefficients. And a network is a function of key and
replica alone: not of what else is asked for, nor of the memory it is given.
"""

from __future__ import annotations

import numpy as np
import pytest

from sigprop import rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import applicable, numba_cpu
from sigprop.inputs import Given, Pair, Point
from sigprop.schemes import GivenScheme, NFResNet, Power
from sigprop.spec import Ensemble, Network
from tests.ensembles import BLOCKS, uneven
from tests.stat import assert_agrees

CHAIN, CONDITIONAL, DENSE = "chain", "conditional", "dense"
SAMPLERS = {s.name: s() for s in (numba_cpu.Chain, numba_cpu.Conditional, numba_cpu.Dense)}
LEAKY = LeakyReLU(slope=-0.4)
RANDOMISED = RandomisedLeakyReLU(low=-0.3, high=0.8)


def three(width):
    """Three given inputs, the third nearly in the plane of the others."""
    vectors = np.random.default_rng(7).normal(size=(3, width))
    vectors[2] = vectors[0] - 0.5 * vectors[1] + 1e-3 * vectors[2]
    return Given(vectors)


def wide(block, activation, inputs, *, depth=40, width=37, **options):
    """Deeper and wider than `uneven`, as uneven; norms stay between e^-20 and e^20 or so."""
    generator = np.random.default_rng([BLOCKS.index(block), depth])
    matrices = Network(depth=1, width=2, block=block).matrices
    widths = generator.integers(width // 2, 2 * width, depth + 1)
    if block == "plain":
        network = Network(depth=depth, block=block, activation=activation, widths=tuple(widths))
    else:
        hidden = generator.integers(1, 2 * width, (depth, matrices - 1)).tolist()
        inner = {"inner_width": tuple(map(tuple, hidden))} if matrices > 1 else {}
        network = Network(depth=depth, width=width, block=block, activation=activation, **inner)
    scheme = GivenScheme(
        skip=tuple(generator.choice([-1, 1], depth) * generator.uniform(0.7, 1.1, depth)),
        branch=tuple(generator.normal(size=depth)),
        variance=generator.uniform(0.2, 2.0, (depth, network.matrices)),
        variance_over_fan_in=True,
        **options,
    )
    if inputs == 3:
        return Ensemble(network, scheme, three(int(network.state_widths[0])))
    return Ensemble(network, scheme, Point() if inputs == 1 else Pair(cosine=-0.4))


def small(block, activation, inputs, **options):
    first = 4
    given = {1: Point(), 2: Pair(cosine=0.3), 3: three(first)}[inputs]
    return uneven(block, activation, inputs=given, **options)


def draw(name, ensemble, fields=None, *, first=0, count=None, layers=None, seed=3):
    sampler = SAMPLERS[name]
    possible = applicable(ensemble)
    if fields is None:
        fields = frozenset(f for f in possible if sampler.refusal(ensemble, {f}) is None)
    assert sampler.refusal(ensemble, frozenset(fields)) is None
    depth = ensemble.network.depth
    layers = np.arange(depth + 1) if layers is None else np.asarray(layers, np.int64)
    key = rng.key(seed, ensemble.digest, name, sampler.version)
    count = sampler.block if count is None else count
    return sampler.sample(ensemble, frozenset(fields), layers, key, first, count)


def assert_bits(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].tobytes() == expected[name].tobytes(), name


# --------------------------------------------------------------------------- Euler


def assert_euler(trace, tolerance):
    """p_l . h_l is constant to ``tolerance`` of the largest |p_k| |h_k| on the way."""
    log_size = trace["log_norm"] + trace["log_gradient"]
    highest = log_size.max(axis=1, keepdims=True)
    size = np.exp(log_size - np.where(np.isfinite(highest), highest, 0.0))
    zero = size == 0  # a dead network: no direction, and the product is 0
    assert (np.isnan(trace["alignment"]) <= zero).all()
    product = np.where(zero, 0.0, trace["alignment"]) * size
    error = np.abs(product - product[:, -1:])
    assert error.max() < tolerance, (
        f"p.h changes by {error.max():.2g} of |p||h| at layer {error.max(axis=(0, 2)).argmax()}"
    )
    assert np.abs(product).max() > 0, "nothing was tested: every product is 0"


FIELDS = frozenset({"log_norm", "log_gradient", "alignment"})


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", [CONDITIONAL, DENSE])
@pytest.mark.parametrize("phi", ["relu", LEAKY, RANDOMISED, "linear"], ids=str)
def test_gradient_times_state_is_constant(name, block, phi, inputs):
    assert_euler(draw(name, small(block, phi, inputs), FIELDS, count=16), 1e-12)
    assert_euler(draw(name, wide(block, phi, inputs), FIELDS, count=3), 1e-12)


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("name", [CONDITIONAL, DENSE])
def test_gradient_times_state_is_constant_under_centred_matrices(name, inputs):
    """Scaled weight standardisation, where the branch reads the state in other units."""
    network = Network(depth=12, width=9, block="preact", inner_layers=3, inner_width=5)
    given = {1: Point(), 2: Pair(cosine=0.3), 3: three(9)}[inputs]
    assert_euler(draw(name, Ensemble(network, NFResNet(), given), FIELDS, count=8), 1e-12)


@pytest.mark.parametrize("law", ["uniform", "rademacher"])
def test_gradient_times_state_is_constant_whatever_the_weights(law):
    for inputs in (1, 3):
        assert_euler(draw(DENSE, wide("inner", LEAKY, inputs, law=law), FIELDS, count=2), 1e-12)


@pytest.mark.parametrize("phi", ["relu", LEAKY, "linear"], ids=str)
@pytest.mark.parametrize("block", ["plain", "res3", "inner"])
def test_gradient_times_state_is_constant_in_the_chain(block, phi):
    """It carries the product by its scalars alone; in single precision."""
    for ensemble in (small(block, phi, 1), wide(block, phi, 1)):
        assert_euler(draw(CHAIN, ensemble, FIELDS), 1e-5)
        if block != "plain":  # other coordinates, those of the displacement
            assert_euler(draw(CHAIN, ensemble, FIELDS | {"log_displacement"}), 1e-5)


@pytest.mark.parametrize("name", [CONDITIONAL, DENSE])
def test_biases_break_the_constancy(name):
    """The test above can fail: with biases the function is not homogeneous."""
    trace = draw(name, small("res3", "relu", 1, bias_variance=0.3), FIELDS)
    with pytest.raises(AssertionError, match="changes"):
        assert_euler(trace, 1e-3)


# ----------------------------------------------------- key and replica, nothing else

EVERYWHERE = [
    (CHAIN, "res3", "relu", 1),
    (CHAIN, "inner", LEAKY, 1),
    (CHAIN, "plain", "relu", 1),
    (CONDITIONAL, "res3", "relu", 1),
    (CONDITIONAL, "preact", RANDOMISED, 1),
    (CONDITIONAL, "plain", "tanh", 1),
    (CONDITIONAL, "res3", "relu", 2),
    (CONDITIONAL, "preact", RANDOMISED, 2),
    (CONDITIONAL, "inner", "erf", 2),
    (CONDITIONAL, "res1", LEAKY, 3),
    (CONDITIONAL, "plain", "gelu", 3),
    (DENSE, "res3", "relu", 1),
    (DENSE, "preact", RANDOMISED, 2),
    (DENSE, "plain", "tanh", 3),
]
everywhere = pytest.mark.parametrize("name, block, phi, inputs", EVERYWHERE)


@everywhere
def test_a_replica_is_the_same_alone_and_in_company(name, block, phi, inputs):
    ensemble = small(block, phi, inputs, bias_variance=0.2)
    block_size = SAMPLERS[name].block
    whole = draw(name, ensemble, first=block_size)
    for count in (1, 5, block_size - 1):
        part = draw(name, ensemble, first=block_size, count=count)
        assert_bits(part, {f: x[:count] for f, x in whole.items()})
    for r in (1, block_size // 2, block_size - 1):  # and from wherever one starts
        alone = draw(name, ensemble, first=block_size + r, count=1)
        assert_bits(alone, {f: x[r : r + 1] for f, x in whole.items()})


@everywhere
def test_replicas_keys_and_samplers_differ(name, block, phi, inputs):
    ensemble = small(block, phi, inputs)
    here = draw(name, ensemble, {"log_norm"}, layers=[4])["log_norm"]
    there = draw(name, ensemble, {"log_norm"}, layers=[4], first=10 * len(here))["log_norm"]
    other = draw(name, ensemble, {"log_norm"}, layers=[4], seed=4)["log_norm"]
    alive = np.isfinite(here)
    values = np.concatenate([x[np.isfinite(x)] for x in (here, there, other)])
    assert alive.any() and len(np.unique(values)) == values.size


@everywhere
def test_a_forward_run_is_the_forward_part_of_a_full_run(name, block, phi, inputs):
    ensemble = wide(block, phi, inputs, bias_variance=0.1)
    whole = draw(name, ensemble, count=4)
    forward = {f for f in whole if "gradient" not in f and f != "alignment"}
    assert_bits(draw(name, ensemble, forward, count=4), {f: whole[f] for f in forward})


@everywhere
def test_recorded_layers_do_not_matter(name, block, phi, inputs):
    ensemble = wide(block, phi, inputs, bias_variance=0.1)
    whole = draw(name, ensemble, count=4)
    layers = [0, 1, 17, 39]
    some = draw(name, ensemble, count=4, layers=layers)
    assert_bits(some, {f: x[:, layers] for f, x in whole.items()})


@everywhere
def test_memory_does_not_matter(name, block, phi, inputs, monkeypatch):
    """States stored at every layer or so, or none but the first: the same bits."""
    ensemble = wide(block, phi, inputs, depth=61, bias_variance=0.1)
    segments = []
    measure = numba_cpu._segment
    monkeypatch.setattr(
        numba_cpu, "_segment", lambda *a: segments.append(measure(*a)) or segments[-1]
    )
    whole = draw(name, ensemble, count=4)
    monkeypatch.setattr(numba_cpu, "_TAPE_BYTES", 1)
    assert_bits(draw(name, ensemble, count=4), whole)
    assert segments[0] >= 61 > segments[1], segments


@pytest.mark.parametrize(
    "name, inputs", [(CONDITIONAL, 1), (CONDITIONAL, 2), (CONDITIONAL, 3), (DENSE, 2)]
)
def test_memory_does_not_matter_where_units_change(name, inputs, monkeypatch):
    """A state that grows a million times and shrinks again is stored with its unit."""
    depth = 80
    skip = np.where(np.arange(depth) % 40 < 20, 2.5, 0.4)
    scheme = GivenScheme(skip=skip, variance=1.5, variance_over_fan_in=True, bias_variance=0.5)
    network = Network(depth=depth, width=6, activation="tanh")
    ensemble = Ensemble(network, scheme, {1: Point(), 2: Pair(), 3: three(6)}[inputs])
    whole = draw(name, ensemble, count=2)
    assert np.ptp(whole["log_norm"]) > np.log(2.0**22), "no unit changed"
    monkeypatch.setattr(numba_cpu, "_TAPE_BYTES", 1)
    assert_bits(draw(name, ensemble, count=2), whole)


# --------------------------------------------------------------------------- depth


def growing(kind, depth, width, inputs):
    """Without a branch scale (beta = 0), or with scales that make the norm shrink."""
    if kind == "explodes":
        return Ensemble(Network(depth=depth, width=width), Power(beta=0.0), inputs)
    if kind == "decays":
        scheme = GivenScheme(skip=0.1, branch=0.05, variance=1.0, variance_over_fan_in=True)
        return Ensemble(Network(depth=depth, width=width), scheme, inputs)
    variance = {"plain explodes": 20.0, "plain decays": 0.01}[kind]
    scheme = GivenScheme(variance=variance, variance_over_fan_in=True)
    phi = LeakyReLU(slope=0.2)  # a narrow net of ReLUs would die
    network = Network(depth=depth, width=width, block="plain", activation=phi)
    return Ensemble(network, scheme, inputs)


@pytest.mark.parametrize(
    "name, depth, width, inputs",
    [
        (CHAIN, 100_000, 100, Point()),
        (CONDITIONAL, 20_000, 8, Point()),
        (CONDITIONAL, 20_000, 8, Pair()),
        (CONDITIONAL, 10_000, 8, three(8)),
        (DENSE, 20_000, 8, Pair()),
    ],
)
@pytest.mark.parametrize("kind", ["explodes", "decays", "plain explodes", "plain decays"])
def test_no_depth_overflows(name, depth, width, inputs, kind):
    """And a layer far down has the law of a first one: norms grow by independent factors.

    Seen: a tenth of the mean growth, where the norm ends beyond e^1000 or below e^-1000.
    """
    deep = draw(
        name, growing(kind, depth, width, inputs), {"log_norm", "log_gradient"}, count=1,
        layers=[0, depth],
    )  # fmt: skip
    norm, gradient = deep["log_norm"][0, -1, 0], deep["log_gradient"][0, 0, 0]
    assert np.isfinite(deep["log_norm"]).all() and np.isfinite(deep["log_gradient"]).all()
    assert abs(norm) > 1000 and abs(gradient) > 1000

    few, block = 20, SAMPLERS[name].block
    shallow = growing(kind, few, width, inputs)
    growth = [
        draw(name, shallow, {"log_norm"}, first=first, layers=[few])["log_norm"][:, 0, 0]
        for first in range(0, 2560, block)
    ]
    growth = np.concatenate(growth) / few
    se = growth.std() * np.sqrt(1 / len(growth) + few / depth)
    assert_agrees(norm / depth / growth.mean(), 1.0, se / abs(growth.mean()), resolution=0.2)


@pytest.mark.parametrize("name", [CONDITIONAL, DENSE])
def test_tanh_far_down_is_linear(name):
    """Where the state is small beyond e^-700 the network must go on as a linear one does."""
    fields, given = {"log_norm", "log_gradient"}, three(5)
    scheme = GivenScheme(variance=0.01, variance_over_fan_in=True)
    key, layers = np.array([1, 2], np.uint32), np.array([0, 100, 600])
    for inputs in (Given(given.vectors[:1]), Given(given.vectors[:2]), given):
        tiny = Given(1e-9 * np.array(inputs.vectors))
        found = []
        for phi in ("tanh", "linear"):
            network = Network(depth=600, width=5, block="plain", activation=phi)
            law = Ensemble(network, scheme, tiny)
            found.append(SAMPLERS[name].sample(law, fields, layers, key, 0, 3))
        # So deep, several inputs are parallel to the last digits, and the basis of their span,
        # which `conditional` needs, is known to fewer: its rounding differs, not its law.
        close = 1e-6 if name == CONDITIONAL and len(inputs.vectors) > 1 else 1e-11
        for field in fields:
            np.testing.assert_allclose(found[0][field], found[1][field], rtol=close, atol=close)
        assert (found[0]["log_norm"][:, -1] < -1000).all()


# --------------------------------------------------------------------- homogeneity


def scaled(ensemble, factor):
    vectors = np.array(ensemble.inputs.vectors)
    return Ensemble(ensemble.network, ensemble.scheme, Given(factor * vectors))


def with_given(block, phi, inputs):
    shape = uneven(block, phi)
    vectors = np.random.default_rng(11).normal(size=(inputs, 4))
    return Ensemble(shape.network, shape.scheme, Given(vectors))


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e-100, 1e100])
@pytest.mark.parametrize(
    "name, block, phi, inputs",
    [case for case in EVERYWHERE if case[2] not in ("tanh", "erf", "gelu")],
)
def test_units_do_not_matter(name, block, phi, inputs, factor):
    """Homogeneous: inputs in other units give the same ratios, and the same units are on.

    To rounding.
    """
    ensemble = with_given(block, phi, inputs)
    fields = applicable(ensemble)
    if name == CHAIN:
        fields = frozenset(f for f in fields if SAMPLERS[name].refusal(ensemble, {f}) is None)
    sampler = SAMPLERS[name]
    key = rng.key(5, "one label, since the digests differ", name, sampler.version)
    layers = np.arange(5)
    one, other = (
        sampler.sample(law, fields, layers, key, 0, sampler.block)
        for law in (ensemble, scaled(ensemble, factor))
    )
    for field in fields:
        np.testing.assert_allclose(other[field], one[field], rtol=1e-11, atol=1e-11, err_msg=field)
    assert_bits({"activity": other["activity"]}, {"activity": one["activity"]})
