"""Laws of every member of every registry, a new one included on arrival."""

import dataclasses
import inspect
import json
import math
import re

import numpy as np
import pytest

import sigprop.activations
import sigprop.inputs
import sigprop.laws
import sigprop.processes
import sigprop.schemes  # noqa: F401  the five fill their registries
from sigprop.errors import SigpropError, SpecError, UnknownName, Unsupported
from sigprop.registry import Registry
from sigprop.spec import (
    Activation,
    Ensemble,
    Inputs,
    Network,
    Process,
    Scheme,
    WeightLaw,
    blocks,
)

FAMILIES = (Activation, WeightLaw, Process, Scheme, Inputs)
MEMBERS = [(base, kind) for base in FAMILIES for kind in base.family]


SPECIAL = {
    "vectors": ((1.0, 2.0), (-0.5, 3.0)),
    "matrix": ((1.0, 0.5, 0.1), (0.5, 2.0, -0.3), (0.1, -0.3, 1.5)),
    "rank": 3,
}


# What a network must be for a scheme that does not take every shape.
SHAPES = {("looks_linear", "plain"): {"input_width": 2}}


def network_of(scheme, **more):
    """A small network of the scheme's own block."""
    block = scheme.default_block
    return Network(depth=2, width=4, block=block, **SHAPES.get((scheme.kind, block), {}), **more)


def example(base, kind):
    """A member with its defaults; a field without one gets 0.5, or what it is for."""
    member = base.family[kind]
    values = {
        field.name: SPECIAL.get(field.name, 0.5)
        for field in dataclasses.fields(member)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return member(**values)


def identify(value):
    return value if isinstance(value, str) else value.__name__


every_member = pytest.mark.parametrize(("base", "kind"), MEMBERS, ids=identify)
every_scheme = pytest.mark.parametrize("kind", list(Scheme.family))
every_law = pytest.mark.parametrize("kind", list(WeightLaw.family))
every_process = pytest.mark.parametrize("kind", list(Process.family))
every_activation = pytest.mark.parametrize("kind", list(Activation.family))


def test_the_families_are_the_ones_promised():
    assert {"linear", "relu", "leaky_relu", "randomised_leaky_relu", "tanh", "erf", "gelu",
            "silu"} <= set(Activation.family)  # fmt: skip
    assert set(WeightLaw.family) >= {"gaussian", "uniform", "rademacher", "student_t", "stable"}
    assert set(Process.family) >= {"independent", "fgn", "rbf", "matern", "cauchy", "hermite",
            "tied", "covariance", "legacy_fgn", "legacy_rbf"}  # fmt: skip
    assert {"he", "glorot", "lecun", "power", "stable", "fixup", "skipinit", "rezero",
            "layerscale", "nf", "given", "normal", "orthogonal", "looks_linear",
            "risotto"} <= set(Scheme.family)  # fmt: skip
    assert set(Inputs.family) >= {"point", "pair", "equiangular", "given"}
    assert set(blocks) >= {"plain", "res1", "res3", "inner", "preact"}


@every_member
def test_a_member_is_frozen_and_takes_a_place_in_a_set(base, kind):
    member = example(base, kind)
    assert isinstance(member, base) and member.kind == kind
    names = [field.name for field in dataclasses.fields(member)] or ["anything"]
    for name in names:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(member, name, 1.0)
    assert {member, example(base, kind)} == {member}


@every_member
def test_a_member_survives_writing_and_reading(base, kind):
    member = example(base, kind)
    text = json.dumps(member.to_dict(), allow_nan=False)
    assert base.from_dict(json.loads(text)) == member


@every_member
def test_a_member_is_documented_in_a_sentence(base, kind):
    member = base.family[kind]
    first = inspect.getdoc(member).splitlines()[0]
    assert first.endswith(".") and len(first) > 10
    assert not first.startswith(f"{member.__name__}(")  # the signature that dataclass writes


@pytest.mark.parametrize("base", FAMILIES, ids=identify)
def test_a_misspelt_name_is_answered_by_the_nearest(base):
    for kind in base.family:
        with pytest.raises(UnknownName, match=re.escape(f"Did you mean {kind!r}?")):
            base.family[kind + "x"]


@pytest.mark.parametrize("base", FAMILIES, ids=identify)
def test_a_name_is_taken_once(base):
    kind = next(iter(base.family))
    with pytest.raises(ValueError, match="already"):
        base.family.register(kind)(object())
    assert isinstance(base.family, Registry)


# ---------------------------------------------------------------- activations


@every_activation
def test_codes_and_parameters_of_activations_are_what_kernels_expect(kind):
    phi = example(Activation, kind)
    assert isinstance(phi.code, int) and len(phi.parameters) == 2
    others = [k for k in Activation.family if Activation.family[k].code == phi.code]
    from sigprop.activations._codes import USER

    assert others == [kind] or phi.code == USER


@every_activation
def test_moments_of_activations_are_consistent(kind):
    phi = example(Activation, kind)
    for variance in (0.3, 1.0, 4.0):
        mean, second = phi.mean(variance), phi.second_moment(variance)
        assert math.isfinite(mean) and second >= mean**2
        if getattr(phi, "differentiable", True):
            assert phi.derivative_second_moment(variance) > 0
        if phi.homogeneous:
            np.testing.assert_allclose(second, variance * phi.second_moment(), rtol=1e-9)
    np.testing.assert_allclose(phi.second_moment(1.0), phi.second_moment(), rtol=0)


# ----------------------------------------------------------------------- laws


@every_law
def test_laws_state_their_moments_and_sample_shapes(kind):
    law = example(WeightLaw, kind)
    assert law.variance in (1.0, math.inf)
    assert (law.moment_limit > 2) == math.isfinite(law.variance)
    assert math.isnan(law.kurtosis) == math.isinf(law.variance)
    assert law.moments_text and not law.moments_text.endswith(".")
    drawn = law.sample(np.random.default_rng(0), (3, 5))
    assert drawn.shape == (3, 5) and drawn.dtype == np.float64
    assert isinstance(law.independent, bool)
    codes = [WeightLaw.family[k].code for k in WeightLaw.family]
    assert codes.count(law.code) == 1


# ------------------------------------------------------------------ processes


@every_process
def test_a_process_draws_paths_of_the_covariance_that_it_states(kind):
    """A Gaussian path is a matrix times normals: M^T M is its covariance, to rounding."""
    process = example(Process, kind)
    seen = 0
    for depth in (1, 2, 3, 6, 7, 33):
        try:
            process.check(depth)
        except SpecError:  # a given matrix has one depth
            continue
        seen += 1
        count = process.draws(depth)
        covariance = process.covariance(depth)
        assert isinstance(count, int) and count >= 1
        assert covariance.shape == (depth, depth) and covariance.dtype == np.float64
        assert (covariance == covariance.T).all()
        rho = process.autocovariance(depth)
        if rho is not None:
            lags = np.abs(np.subtract.outer(np.arange(depth), np.arange(depth)))
            np.testing.assert_array_equal(covariance, rho[lags])
        if process.gaussian:
            matrix = process.paths(np.eye(count), depth)
            np.testing.assert_allclose(matrix.T @ matrix, covariance, rtol=0, atol=1e-12)
    assert seen


@every_process
def test_paths_are_a_function_of_their_own_normals(kind):
    """Bit for bit, whatever stands in the other rows, and the normals are left as they were."""
    process, depth = example(Process, kind), 3
    normals = np.random.default_rng(0).standard_normal((9, process.draws(depth)))
    before = normals.copy()
    paths = process.paths(normals, depth)
    assert paths.shape == (9, depth) and paths.dtype == np.float64
    assert paths.base is None or not np.shares_memory(paths, normals)
    np.testing.assert_array_equal(normals, before)
    for rows in (slice(1), slice(2, 7), slice(8, 9)):
        np.testing.assert_array_equal(process.paths(normals[rows], depth), paths[rows])
    assert process.paths(normals[:0], depth).shape == (0, depth)


@every_process
def test_a_process_says_its_formula_and_its_source(kind):
    process = Process.family[kind]
    assert len(process.formula) > 10 and process.formula.endswith(".")
    assert len(process.source) > 7
    assert process.independent == (kind == "independent")


@every_process
def test_a_process_reaches_the_table_and_the_digest(kind):
    process, network = example(Process, kind), Network(depth=3, width=4)
    plain = Ensemble(network, Scheme.named("he"))
    last = Ensemble(network, Scheme.family["he"](process=process, inner_process="independent"))
    first = Ensemble(network, Scheme.family["he"](inner_process=process))
    both = Ensemble(network, Scheme.family["he"](process=process))
    independent = Process.named("independent")
    assert last.table.processes == (independent, process)
    assert first.table.processes == (process, independent)
    assert both.table.processes == (process, process)
    for ensemble in (last, first, both):
        assert ensemble.table.correlated == (kind != "independent")
        again = Ensemble.from_dict(json.loads(json.dumps(ensemble.to_dict())))
        assert again == ensemble and again.digest == ensemble.digest
    different = {plain.digest, last.digest, first.digest, both.digest}
    assert len(different) == (1 if kind == "independent" else 4)


@every_process
def test_only_gaussian_weights_have_a_process(kind):
    scheme = Scheme.family["he"](law="uniform", process=example(Process, kind))
    if kind == "independent":
        assert not Ensemble(Network(depth=3, width=4), scheme).table.correlated
        return
    with pytest.raises(Unsupported, match=f"'{kind}'.*'uniform'.*Use law 'gaussian'"):
        Ensemble(Network(depth=3, width=4), scheme)


# -------------------------------------------------------------------- schemes


@every_scheme
def test_a_scheme_says_its_formula_and_its_source(kind):
    scheme = Scheme.family[kind]
    assert len(scheme.formula) > 10 and scheme.formula.endswith(".")
    assert scheme.source == "the user" or re.search(r"\((19|20)\d\d\)", scheme.source)
    assert set(scheme.blocks) <= set(blocks) and scheme.blocks
    assert scheme.default_block in scheme.blocks


@pytest.mark.parametrize("block", list(blocks))
@every_scheme
def test_a_scheme_lowers_to_a_table_or_says_why_not(kind, block):
    scheme = example(Scheme, kind)
    network = Network(depth=5, width=4, block=block, **SHAPES.get((kind, block), {}))
    if block not in scheme.blocks:
        with pytest.raises(Unsupported, match=f"'{kind}' is not defined for block '{block}'"):
            scheme.layers(network)
        return
    table = scheme.layers(network)
    for column in (table.skip, table.branch, table.input_scale):
        assert column.shape == (5,) and column.dtype == np.float64
        assert np.isfinite(column).all()
    for matrix in (table.scale, table.bias_scale):
        assert matrix.shape == (5, network.matrices) and matrix.dtype == np.float64
        assert np.isfinite(matrix).all() and (matrix >= 0).all()
    assert isinstance(table.law, WeightLaw) and isinstance(table.centred, bool)
    found = kind == "fractional"  # a scheme that finds the skip which keeps a moment
    if kind in ("normal", "balanced"):  # set their skip themselves
        np.testing.assert_allclose(table.skip**2 + table.branch**2, 1.0, rtol=1e-15)
    else:
        assert (table.skip == 0).all() if block == "plain" else found or (table.skip == 1).all()
    assert table.structure.shape == (5, network.matrices)
    assert (table.stem is None) == (block not in ("identity", "projection"))


@every_scheme
def test_options_of_every_scheme_reach_the_table(kind):
    member = Scheme.family[kind]
    plain = {f.name: 0.5 for f in dataclasses.fields(member) if f.default is dataclasses.MISSING}
    scheme = member(**plain, law="uniform", bias_variance=4.0)
    table = scheme.layers(network_of(scheme))
    assert table.law == WeightLaw.family["uniform"]()
    np.testing.assert_array_equal(table.bias_scale, 2.0)


@pytest.mark.parametrize("activation", list(Activation.family))
@every_scheme
def test_every_scheme_meets_every_activation(kind, activation):
    """A finite table, or an error that a user can read: never a NaN."""
    scheme = example(Scheme, kind)
    network = network_of(scheme, activation=example(Activation, activation))
    try:
        table = scheme.layers(network)
    except SigpropError as error:
        assert activation in str(error)
    else:
        assert np.isfinite(table.scale).all()


@every_scheme
def test_an_ensemble_survives_writing_and_reading_and_keeps_its_digest(kind):
    scheme = example(Scheme, kind)
    network = network_of(scheme)
    ensemble = Ensemble(network, scheme)
    again = Ensemble.from_dict(json.loads(json.dumps(ensemble.to_dict())))
    assert again == ensemble and again.digest == ensemble.digest
    for other in set(Scheme.family) - {kind}:
        example_of_other = example(Scheme, other)
        if scheme.default_block in example_of_other.blocks and other != "looks_linear":
            assert Ensemble(network, example_of_other).digest != ensemble.digest
