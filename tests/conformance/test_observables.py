"""Every registered observable is a homomorphism, and labels what it returns."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigprop.observables import observables
from sigprop.trace import FIELDS

INPUTS = 3
SIZES = {"input": INPUTS, "pair": INPUTS * (INPUTS - 1) // 2, "singular": 6}


def traces(fields, replicas, layers, seed, *, spread=30.0, zeros=0.1):
    """Log values spread over +-``spread``, a share of them exact zeros."""
    generator = np.random.default_rng(seed)
    trace = {}
    for name in sorted(fields):
        axis = FIELDS[name].axis
        shape = (replicas, layers, *([SIZES[axis]] if axis else []))
        if name.startswith("log_"):
            values = generator.normal(0, spread, shape)
            values[generator.random(shape) < zeros] = -np.inf
        elif name.endswith("cosine"):
            values = generator.uniform(-1, 1, shape)
        else:
            values = generator.uniform(0, 100, shape)
        if name in ("activity", "branch_energy", "skip_energy", "diversity"):
            values[:, 0] = np.nan
        elif name == "log_singular":
            values[generator.random(shape) < 0.1] = np.nan  # too small to be known
            values[:, -1, -2:] = np.inf  # none there: the state is narrower than the input
        trace[name] = values
    return trace


def cut(trace, rows):
    return {name: values[rows] for name, values in trace.items()}


def assert_same(merged, whole):
    assert merged.keys() == whole.keys()
    for name, (dims, values, _) in whole.items():
        assert merged[name][0] == dims
        np.testing.assert_allclose(merged[name][1], values, rtol=1e-11, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("kind", list(observables))
@pytest.mark.parametrize("fitted", [False, True])
@settings(max_examples=25, deadline=None)
@given(
    replicas=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 30.0]),
    zeros=st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_observables_are_homomorphisms(kind, fitted, replicas, cuts, spread, zeros, seed):
    """However replicas are cut into blocks, empty ones included, the estimates are the same."""
    observable = observables[kind]()
    trace = traces(observable.fields, replicas, 3, seed, spread=spread, zeros=zeros)
    if fitted:
        observable = observable.configure(cut(trace, slice(32)))
    bounds = sorted({0, replicas, *(min(c, replicas) for c in cuts)})
    blocks = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    blocks.insert(len(blocks) // 2, slice(0, 0))
    states = [observable.observe(cut(trace, rows)) for rows in blocks]
    merged = states[0]
    for state in states[1:]:
        merged = observable.merge(merged, state)
    assert_same(observable.finalize(merged), observable.finalize(observable.observe(trace)))


@pytest.mark.parametrize("kind", list(observables))
def test_merging_is_associative(kind):
    observable = observables[kind]()
    trace = traces(observable.fields, 90, 4, 1)
    a, b, c = (observable.observe(cut(trace, slice(i, i + 30))) for i in (0, 30, 60))
    left = observable.merge(observable.merge(a, b), c)
    right = observable.merge(a, observable.merge(b, c))
    assert_same(observable.finalize(left), observable.finalize(right))


@pytest.mark.parametrize("kind", list(observables))
def test_a_state_is_arrays_and_merging_leaves_its_arguments(kind):
    observable = observables[kind]()
    trace = traces(observable.fields, 10, 3, 2)
    state = observable.observe(trace)
    before = {name: values.copy() for name, values in state.items()}
    observable.merge(state, observable.observe(trace))
    for name, values in state.items():
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("kind", list(observables))
def test_every_estimate_is_labelled_and_has_an_error(kind):
    """No number without ``long_name``, ``units`` and an error; the shape is that of its dims."""
    options = {"orders": (0.5, 1.0, 2.0), "quantiles": (0.25, 0.5)}
    taken = {f.name for f in dataclasses.fields(observables[kind])}
    observable = observables[kind](**{k: v for k, v in options.items() if k in taken})
    found = observable.finalize(observable.observe(traces(observable.fields, 40, 5, 3)))
    sizes = {"layer": 5, "order": 3, "quantile": 2, "singular_bin": 321, **SIZES}
    for name, (dims, values, attrs) in found.items():
        assert values.shape == tuple(sizes[d] for d in dims), name
        assert attrs["long_name"] and attrs["units"] in ("1", "nat", "nat^2"), name
        if not name.endswith(("_se", "_ess", "_error", "_reliable")):
            assert f"{name}_se" in found, name
            assert found[f"{name}_se"][0] == dims


@pytest.mark.parametrize("kind", list(observables))
def test_an_observable_tells_itself_as_data(kind):
    """Its dict rebuilds it, and differs for different options; fitting changes neither."""
    observable = observables[kind](orders=(0.5,))
    data = observable.to_dict()
    assert data["kind"] == kind
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    assert observables[kind](**values).to_dict() == data
    assert observables[kind](orders=(0.7,)).to_dict() != data
    fitted = observable.configure(traces(observable.fields, 32, 3, 0))
    assert fitted.to_dict() == data


@pytest.mark.parametrize("kind", list(observables))
def test_an_observable_narrows_to_the_fields_that_apply(kind):
    observable = observables[kind]()
    for name in observable.fields:
        part = observable.restricted(frozenset({name}))
        if part is None:  # it needs its fields together, as a weight needs what it weighs
            assert observable.restricted(observable.fields) == observable
            continue
        assert part.fields == {name}
        trace = traces(part.fields, 5, 3, 0)
        assert part.finalize(part.observe(trace)).keys() <= set(
            observable.finalize(observable.observe(traces(observable.fields, 5, 3, 0)))
        )
    assert observable.restricted(frozenset()) is None


def test_names_of_variables_are_those_of_the_schema():
    """The names that figures, theory and reports rely on."""
    found = {}
    for kind in observables:
        observable = observables[kind]()
        found |= observable.finalize(observable.observe(traces(observable.fields, 10, 3, 0)))
    expected = set()
    logs = ("norm", "displacement", "gradient", "gradient_displacement", "distance", "alpha_norm")
    for p in (*logs, "looks_linear_distance", "first_step"):
        for statistic in ("mean", "variance", "skewness", "kurtosis", "quantile"):
            expected |= {f"log_{p}_{statistic}", f"log_{p}_{statistic}_se"}
        expected |= {f"log_{p}_quantile_error", f"{p}_zero_fraction", f"{p}_zero_fraction_se"}
        expected |= {f"{p}_moment_{x}" for x in ("log", "log_se", "ess", "reliable")}
    for p in ("cosine", "effective_rank"):
        expected |= {f"{p}_mean", f"{p}_mean_se", f"{p}_variance", f"{p}_variance_se"}
    expected |= {"cosine_quantile", "cosine_quantile_se", "cosine_quantile_error"}
    for p in ("looks_linear_cosine", "looks_linear_effective_rank"):
        expected |= {f"{p}_mean", f"{p}_mean_se", f"{p}_variance", f"{p}_variance_se"}
    expected |= {f"looks_linear_cosine_quantile{x}" for x in ("", "_se", "_error")}
    for p in ("branch_energy", "skip_energy", "diversity"):
        expected |= {f"{p}_mean", f"{p}_mean_se", f"{p}_variance", f"{p}_variance_se"}
    for p in ("activity", "dead_layers"):
        expected |= {f"{p}_mean", f"{p}_mean_se"}
    for p in ("mean", "variance", "largest", "smallest", "condition", "quantile"):
        expected |= {f"log_singular_{p}", f"log_singular_{p}_se"}
    for p in ("zero", "unresolved", "below", "above"):
        expected |= {f"singular_{p}_fraction", f"singular_{p}_fraction_se"}
    for p in ("isometry_max_log", "isometry_rms_log", "singular_density"):
        expected |= {p, f"{p}_se"}
    expected |= {f"singular_moment_{x}" for x in ("log", "log_se", "ess", "reliable")}
    assert set(found) == expected


def test_statistics_of_the_logarithm_are_those_of_the_positive_replicas():
    """-inf is an exact zero: left out of the logarithm, counted in moments and in quantiles."""
    norm = observables["norm"](orders=(1.0,), quantiles=(0.1, 0.75))
    x = np.array([-np.inf, 0.0, np.log(2.0), np.log(4.0)])[:, None, None]
    norm = norm.configure({"log_norm": x})
    found = {k: v[1].squeeze() for k, v in norm.finalize(norm.observe({"log_norm": x})).items()}
    assert found["log_norm_mean"] == pytest.approx(np.log(2.0), rel=1e-14)
    assert found["norm_moment_log"] == pytest.approx(np.log(7 / 4), rel=1e-14)
    assert found["norm_moment_ess"] == pytest.approx(49 / 21, rel=1e-14)
    assert found["norm_zero_fraction"] == 0.25
    assert found["log_norm_quantile"][0] == -np.inf
    assert (
        abs(found["log_norm_quantile"][1] - np.log(2))
        <= 1.001 * found["log_norm_quantile_error"][1]
    )


def test_a_column_of_identical_values_is_exact():
    """Fixup at initialisation: nothing moves, and no warning is raised on the way."""
    x = np.full((50, 2, 1), 0.1)
    x[:, 1] = -np.inf
    norm = observables["norm"]()
    norm = norm.configure({"log_norm": x[:32]})
    a, b = (norm.observe({"log_norm": x[rows]}) for rows in (slice(17), slice(17, 50)))
    found = {k: v[1][..., 0] for k, v in norm.finalize(norm.merge(a, b)).items()}
    assert found["log_norm_mean"][0] == 0.1
    for name in ("log_norm_mean_se", "log_norm_variance", "log_norm_variance_se"):
        assert found[name][0] == 0.0
    assert np.isnan(found["log_norm_skewness"][0]) and np.isnan(found["log_norm_kurtosis"][0])
    assert (found["log_norm_quantile"][:, 0] == 0.1).all()
    assert (found["log_norm_quantile_error"][:, 0] == 0.0).all()
    np.testing.assert_allclose(found["norm_moment_log"][:, 0], [0.1, 0.2], rtol=1e-15)
    assert (found["norm_moment_log_se"][:, 0] == 0.0).all()
    assert (found["norm_moment_ess"][:, 0] == 50.0).all()
    assert np.isnan(found["log_norm_mean"][1]) and found["norm_zero_fraction"][1] == 1.0
    assert (found["norm_moment_log"][:, 1] == -np.inf).all()
    assert (found["norm_moment_ess"][:, 1] == 0.0).all()
    reliable = found["norm_moment_reliable"]
    assert reliable[:, 0].all() and not reliable[:, 1].any()


def test_activity_before_the_first_layer_is_undefined():
    activity = observables["activity"]()
    trace = traces(activity.fields, 20, 3, 0)
    found = activity.finalize(activity.observe(trace))
    assert np.isnan(found["activity_mean"][1][0]).all()
    np.testing.assert_allclose(
        found["activity_mean"][1][1:], trace["activity"][:, 1:].mean(0), rtol=1e-13
    )
