"""The driver by itself, on a sampler that costs nothing: same bits whatever happens on the way."""

import concurrent.futures
import concurrent.futures.process
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sigprop
from sigprop import backends, observables, rng
from sigprop.backends import Sampler
from sigprop.errors import (
    Interrupted,
    NonFinite,
    OutputExists,
    ResultError,
    SigpropError,
    SpecError,
    StorageError,
    UnknownName,
    Unsupported,
)
from sigprop.trace import FIELDS

# The public function hides the module of its name.
driver = importlib.import_module("sigprop.simulate")

DEPTH = 6


class Fake(Sampler):
    """Replica r is a function of (key, r); the rest are ways to go wrong on purpose."""

    name = "fake"
    version = 3
    block = 8

    def __init__(self, *, slow=0.0, breaks=None, value=np.nan, field="log_norm", lacks=()):
        self.slow, self.breaks, self.value, self.field = slow, breaks, value, field
        self.lacks = frozenset(lacks)

    def refusal(self, ensemble, fields):
        missing = fields & self.lacks
        return f"no {sorted(missing)}. Use another." if missing else None

    def sample(self, ensemble, fields, layers, key, first, count):
        assert first % self.block == 0 and count <= self.block
        time.sleep(self.slow)
        sizes = {"input": ensemble.inputs.count}
        sizes["pair"] = sizes["input"] * (sizes["input"] - 1) // 2
        depth = ensemble.network.depth
        out = {}
        for name in fields:
            axis = FIELDS[name].axis
            shape = (depth + 1, *([sizes[axis]] if axis else []))
            values = np.empty((count, *shape))
            for i in range(count):
                address = [*map(int, key), first + i, sorted(FIELDS).index(name)]
                values[i] = np.random.default_rng(address).normal(0.3, 2.0, shape)
            if name in ("log_displacement", "log_distance"):
                values[values < -1] = -np.inf
            if name == "activity":
                values[:, 0] = np.nan
            if name == self.field and self.breaks is not None and self.breaks[0] >= first:
                replica, layer = self.breaks
                if replica < first + count:
                    values[replica - first, layer] = self.value
            out[name] = values[:, layers]
        return out


@pytest.fixture
def law():
    return make_law()


def make_law(**network):
    return sigprop.Ensemble(
        sigprop.Network(**{"depth": DEPTH, "width": 4, **network}), sigprop.He()
    )


def run(law=None, **options):
    options = {"sampler": Fake(), "workers": 1, "replicas": 45, **options}
    return sigprop.simulate(make_law() if law is None else law, **options)


def assert_bits(found, expected):
    """Equal to the last bit, labels and attributes included."""
    xr.testing.assert_identical(found, expected)
    for name in expected.variables:
        a, b = found[name].values, expected[name].values
        assert a.dtype.kind == b.dtype.kind, name
        if a.dtype.kind != "U":
            assert a.tobytes() == b.tobytes(), name


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every block."""
    monkeypatch.setattr(driver, "CHECKPOINT_SECONDS", 0.0)


# ------------------------------------------------------------------------- numbers


def test_the_result_is_that_of_all_replicas_together(law):
    """Against NumPy on the one array of all replicas, which the driver never holds."""
    found = run(law, orders=(0.5, 2.0), quantiles=(0.5,), seed=5)
    fields = backends.applicable(law) - {"alignment"}
    key = rng.key(5, law.digest, "fake", 3)
    whole = [
        Fake().sample(law, fields, np.arange(7), key, r, min(8, 45 - r)) for r in range(0, 45, 8)
    ]
    trace = {f: np.concatenate([part[f] for part in whole]) for f in fields}
    x = trace["log_norm"]
    np.testing.assert_allclose(found.log_norm_mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.log_norm_mean_se, x.std(0, ddof=1) / 45**0.5, rtol=1e-12)
    np.testing.assert_allclose(
        found.norm_moment_log, np.log([np.exp(s * x).mean(0) for s in (0.5, 2.0)]), rtol=1e-12
    )
    middle = np.quantile(x, 0.5, axis=0, method="inverted_cdf")
    error = np.abs(found.log_norm_quantile[0] - middle)
    assert (error <= found.log_norm_quantile_error[0] * 1.001).all()
    d = trace["log_displacement"]
    np.testing.assert_allclose(found.displacement_zero_fraction, np.isneginf(d).mean(0))
    alive = np.where(np.isfinite(d), d, np.nan)
    np.testing.assert_allclose(found.log_displacement_mean, np.nanmean(alive, 0), rtol=1e-12)
    np.testing.assert_allclose(found.cosine_mean, trace["cosine"].mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        found.effective_rank_mean, trace["effective_rank"].mean(0), rtol=1e-12
    )
    np.testing.assert_allclose(found.activity_mean, trace["activity"].mean(0), rtol=1e-12)
    assert np.isnan(found.activity_mean[0]).all()


def test_seed_and_law_and_nothing_else_name_the_numbers(law):
    reference = run(law)
    assert_bits(run(law), reference)
    assert not run(law, seed=1).log_norm_mean.equals(reference.log_norm_mean)
    other = sigprop.Ensemble(law.network, sigprop.LeCun())
    assert not run(other).log_norm_mean.equals(reference.log_norm_mean)
    coupled = run(law, coupled=True)
    assert not coupled.log_norm_mean.equals(reference.log_norm_mean)
    assert run(other, coupled=True).log_norm_mean.equals(coupled.log_norm_mean)


# ------------------------------------------------------------------- same bits


class Late(concurrent.futures.Executor):
    """Runs a task only when its result is asked for, the last one first, and counts them."""

    def __init__(self, workers):
        self._max_workers, self.waiting, self.most = workers, [], 0

    def submit(self, work, *arguments):
        future = concurrent.futures.Future()
        self.waiting.append((future, work, arguments))
        self.most = max(self.most, len(self.waiting))
        executor = self

        def result(timeout=None):
            for other, other_work, other_arguments in reversed(executor.waiting):
                other.set_result(other_work(*other_arguments))
            executor.waiting.clear()
            return concurrent.futures.Future.result(future, timeout)

        future.result = result
        return future


@pytest.mark.parametrize("workers", [2, 8])
def test_workers_do_not_matter(law, workers):
    assert_bits(run(law, workers=workers, keep=(2,)), run(law, keep=(2,)))


def test_processes_do_not_matter(law):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert_bits(run(law, executor=pool, keep=(2,)), run(law, keep=(2,)))
        assert pool.submit(int, 7).result() == 7  # a user's executor is left running


def test_blocks_that_end_out_of_order_do_not_matter(law):
    assert_bits(run(law, executor=Late(3)), run(law))


def test_few_blocks_wait_however_long_the_run(law):
    late = Late(2)
    run(law, observe="norm", replicas=8 * 100, executor=late)
    assert 2 <= late.most <= 8


def test_what_cannot_travel_to_processes_is_refused(law):
    class Local(Fake):
        pass

    with (
        concurrent.futures.ProcessPoolExecutor(1) as pool,
        pytest.raises(SpecError, match="pickled"),
    ):
        run(law, executor=pool, sampler=Local())


# --------------------------------------------------------------- resume and extend


@pytest.mark.parametrize(
    ("short", "long"), [(20, 45), (16, 17), (3, 45), (40, 45), (7, 8), (16, 48)]
)
def test_a_longer_run_extends_a_shorter_one_exactly(law, tmp_path, short, long):
    """Also where the shorter one ends within a block, or is shorter than the pilot."""
    out = tmp_path / "a.nc"
    run(law, replicas=short, out=out, keep=(0, 3))
    extended = run(law, replicas=long, out=out, resume=True, keep=(0, 3), workers=2)
    assert_bits(extended, run(law, replicas=long, keep=(0, 3)))
    assert_bits(sigprop.load(out), extended)
    assert os.listdir(tmp_path) == ["a.nc"]


def test_extending_draws_only_what_is_missing(law, tmp_path):
    drawn = []

    class Counting(Fake):
        def sample(self, ensemble, fields, layers, key, first, count):
            drawn.append((first, count))
            return super().sample(ensemble, fields, layers, key, first, count)

    run(law, replicas=20, out=tmp_path / "a.nc", sampler=Counting())
    drawn.clear()
    run(law, replicas=30, out=tmp_path / "a.nc", sampler=Counting(), resume=True)
    assert drawn == [(0, 8), (16, 8), (24, 6)]  # the pilot, the partial block, the rest


def test_a_finished_run_is_returned_as_it_is(law, tmp_path):
    out = tmp_path / "a.nc"
    first = run(law, out=out)
    before = out.stat().st_mtime_ns
    broken = Fake(breaks=(0, 0))
    assert_bits(run(law, out=out, resume=True, sampler=broken), first)
    assert out.stat().st_mtime_ns == before


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import test_driver as t
t.driver.CHECKPOINT_SECONDS = 0.0
t.run(sampler=t.Fake(slow=0.05), replicas=8 * 60 + 3, out={out!r}, keep=(1,), workers=2)
"""


def test_a_run_killed_and_resumed_ends_in_the_same_bits(law, tmp_path):
    """SIGKILL in the middle; the checkpoint is all that is left."""
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    script = SCRIPT.format(here=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        limit = time.monotonic() + 60
        while not part.exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert part.exists() and not out.exists()
    with pytest.raises(ResultError, match="has not ended"):
        sigprop.load(part)
    calls = []
    whole = run(
        law, replicas=483, out=out, keep=(1,), resume=True, progress=lambda *a: calls.append(a)
    )
    assert calls[0][0] >= 8 and calls[-1] == (483, 483)
    assert_bits(whole, run(law, replicas=483, keep=(1,)))
    assert_bits(sigprop.load(out), whole)
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("finished", [0, 20])
def test_an_interrupt_keeps_a_checkpoint_and_says_how_to_go_on(law, tmp_path, finished):
    out = tmp_path / "a.nc"
    if finished:
        run(law, replicas=finished, out=out)
    before = out.read_bytes() if finished else None

    def stop(done, total):
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"32 of 45 replicas.*--resume") as caught:
        run(law, out=out, resume=bool(finished), progress=stop)
    assert isinstance(caught.value, KeyboardInterrupt) and caught.value.exit_status == 130
    assert (out.read_bytes() if finished else None) == before
    assert_bits(run(law, out=out, resume=True), run(law))
    assert os.listdir(tmp_path) == ["a.nc"]


def test_an_interrupt_writes_a_checkpoint_though_none_was_due(law, tmp_path):
    def stop(done, total):
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="16 of 45"):
        run(law, out=tmp_path / "a.nc", progress=stop)
    with pytest.raises(Interrupted, match="Nothing was kept, since no output"):
        run(law, progress=stop)


@pytest.mark.usefixtures("often")
def test_a_disk_that_fills_on_the_way_keeps_the_last_checkpoint(law, tmp_path, monkeypatch):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    calls = []

    def fill(fd):
        calls.append(fd)
        if len(calls) > 4:  # file and directory of two checkpoints
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(StorageError, match=r"No space left.*keeps 16 of 45.*--resume"):
        run(law, out=out)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == [part.name]
    assert_bits(run(law, out=out, resume=True), run(law))


class Dying(concurrent.futures.ThreadPoolExecutor):
    """A pool of which a worker dies after two blocks."""

    submitted = 0

    def submit(self, work, *arguments):
        self.submitted += 1
        if self.submitted > 2:
            raise concurrent.futures.process.BrokenProcessPool("a child process ended abruptly")
        return super().submit(work, *arguments)


def test_a_dead_worker_is_an_interrupted_run(law, tmp_path):
    with Dying(1) as pool, pytest.raises(Interrupted, match="worker died"):
        run(law, out=tmp_path / "a.nc", executor=pool)


# ----------------------------------------------------------------- what stands there


def test_an_output_that_exists_is_not_touched(law, tmp_path):
    out = tmp_path / "a.nc"
    out.write_text("precious")
    drawn = Fake(breaks=(0, 0))
    with pytest.raises(OutputExists, match=r"--resume.*--force"):
        run(law, out=out, sampler=drawn)
    assert out.read_text() == "precious"
    with pytest.raises(ResultError, match="truncated, damaged"):
        run(law, out=out, resume=True)
    assert out.read_text() == "precious"
    assert_bits(run(law, out=out, force=True), run(law))


@pytest.mark.usefixtures("often")
def test_an_unfinished_run_is_not_thrown_away(law, tmp_path):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    with pytest.raises(NonFinite):
        run(law, out=out, sampler=Fake(breaks=(40, 2)))
    before = part.read_bytes()
    with pytest.raises(OutputExists, match="stopped on its way"):
        run(law, out=out)
    assert part.read_bytes() == before
    with pytest.raises(ResultError, match="seed is 0 there and 1 here"):
        run(law, out=out, resume=True, seed=1)
    assert part.read_bytes() == before
    assert_bits(run(law, out=out, force=True, seed=1), run(law, seed=1))
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"observe": "norm"}, "it observes"),
        ({"layers": (0, 3)}, "its layers are 0, 1, 2, 3, 4, 5, 6, not 0, 1, 3"),
        ({"orders": (1.0,)}, "it observes"),
        ({"quantiles": (0.5,)}, "it observes"),
        ({"keep": (1, 2)}, "its keep are 1, not 1, 2"),
        ({"coupled": True}, "coupled is 0 there and 1 here"),
        ({"replicas": 44}, "45 replicas already"),
        ({"law": make_law(width=5)}, "its ensemble is"),
    ],
)
def test_another_run_is_not_resumed(tmp_path, change, says):
    out = tmp_path / "a.nc"
    run(out=out, keep=(1,))
    before = out.read_bytes()
    with pytest.raises(ResultError, match=says):
        run(**{"keep": (1,), "out": out, "resume": True, **change})
    assert out.read_bytes() == before


def test_another_sampler_or_version_is_not_resumed(law, tmp_path):
    class Newer(Fake):
        version = 4

    class Other(Fake):
        name = "other"

    run(law, out=tmp_path / "a.nc")
    with pytest.raises(ResultError, match="sampler version is 3 there and 4 here"):
        run(law, out=tmp_path / "a.nc", resume=True, sampler=Newer())
    with pytest.raises(ResultError, match="sampler is fake there and other here"):
        run(law, out=tmp_path / "a.nc", resume=True, sampler=Other())


def test_stands_says_whether_a_file_is_the_run(law, tmp_path):
    out = tmp_path / "a.nc"
    asked = {"replicas": 20, "sampler": Fake()}
    assert not driver.stands(out, law, **asked)
    run(law, replicas=20, out=out)
    assert driver.stands(out, law, **asked)
    assert not driver.stands(out, law, **{**asked, "replicas": 21})
    assert not driver.stands(out, law, **{**asked, "seed": 1})
    out.write_text("something else")
    assert not driver.stands(out, law, **asked)


def test_a_result_says_how_to_make_it_again(tmp_path):
    law = make_law(depth=500)
    first = run(
        law, seed=2**64 - 1, observe=("norm", "gradient"), orders=(0.5,), keep=(7,), coupled=True
    )
    again = driver.arguments(first)
    assert again["sampler"] == "fake"
    rebuilt = sigprop.Ensemble.from_dict(json.loads(first.attrs["ensemble"]))
    assert_bits(run(rebuilt, **{**again, "sampler": Fake()}), first)


# ---------------------------------------------------------------------- non-finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("field", ["log_norm", "log_displacement", "cosine", "dead", "activity"])
def test_numbers_that_stop_being_finite_stop_the_run(law, field, value):
    sampler = Fake(breaks=(21, 4), value=value, field=field)
    with pytest.raises(NonFinite, match=rf"^{field} is {value} in replica 21 at layer 4") as caught:
        run(law, sampler=sampler, layers=(0, 2, 4), workers=8)
    assert caught.value.exit_status == 4


def test_an_infinite_negative_cosine_is_no_exact_zero(law):
    with pytest.raises(NonFinite, match="cosine is -inf in replica 21 at layer 4"):
        run(law, sampler=Fake(breaks=(21, 4), value=-np.inf, field="cosine"))


def test_activity_is_undefined_before_the_first_layer_only(law):
    run(law, observe="activity")
    with pytest.raises(NonFinite, match="activity is nan in replica 3 at layer 1"):
        run(law, observe="activity", sampler=Fake(breaks=(3, 1), field="activity"), layers=(1, 2))


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"replicas": 0}, SpecError, "replicas must be an integer of at least 1, got 0"),
        ({"replicas": 2.5}, SpecError, "replicas"),
        ({"replicas": True}, SpecError, "replicas"),
        ({"seed": -1}, SpecError, "seed"),
        ({"seed": 2**64}, SpecError, "seed must be an integer below"),
        ({"workers": 0}, SpecError, "workers"),
        ({"executor": 3}, SpecError, "executor must be"),
        ({"layers": (0, 7)}, SpecError, "layers names layer 7"),
        ({"layers": (-1,)}, SpecError, "layers"),
        ({"layers": ()}, SpecError, "layers is empty"),
        ({"layers": 3}, SpecError, "layers must be a sequence"),
        ({"keep": (0.5,)}, SpecError, "keep"),
        ({"keep": (7,)}, SpecError, "keep names layer 7"),
        ({"orders": (0.0,)}, SpecError, "orders"),
        ({"orders": (4.1,)}, SpecError, "orders"),
        ({"orders": (float("nan"),)}, SpecError, "orders"),
        ({"orders": 1.0}, SpecError, "orders must be a sequence"),
        ({"quantiles": (0.0,)}, SpecError, "quantiles"),
        ({"quantiles": (1.0,)}, SpecError, "quantiles"),
        ({"observe": "nrom"}, UnknownName, "Did you mean 'norm'"),
        ({"observe": ()}, SpecError, "observe is empty"),
        ({"observe": (3,)}, SpecError, "observe takes names"),
        ({"sampler": 3}, SpecError, "sampler must be a name"),
        ({"sampler": Fake(lacks=["dead"])}, Unsupported, "no .'dead'"),
        ({"force": True, "resume": True}, SpecError, "one of the two"),
        ({"resume": True}, SpecError, "path of the result"),
        ({"out": "/dev/null/a.nc"}, StorageError, "no directory"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, error, says):
    sampler = options.pop("sampler", Fake(breaks=(0, 0)))
    with pytest.raises(error, match=says) as caught:
        run(sampler=sampler, **options)
    assert isinstance(caught.value, SigpropError) and caught.value.exit_status == 2


def test_what_is_no_ensemble_is_refused():
    with pytest.raises(SpecError, match="ensemble must be an Ensemble"):
        sigprop.simulate("fixup")


def test_too_little_space_is_refused_before_any_work(law, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="Nothing was simulated"):
        run(law, out=tmp_path / "a.nc", sampler=Fake(breaks=(0, 0)))
    assert not os.listdir(tmp_path)


def test_an_observable_that_does_not_apply_is_refused_if_asked_for():
    plain = make_law(block="plain")
    found = run(plain)
    assert "log_displacement_mean" not in found and "log_gradient_mean" in found
    assert "log_gradient_displacement_mean" not in found
    with pytest.raises(Unsupported, match="displacement"):
        run(plain, observe="displacement")


def test_infinite_moments_are_refused_if_asked_for(law):
    from sigprop.laws import StudentT

    for dof, left in ((0.8, []), (1.5, [1.0]), (3.0, [1.0, 2.0])):
        heavy = sigprop.Ensemble(law.network, sigprop.He(law=StudentT(dof=dof)))
        found = run(heavy, replicas=240, observe="norm")
        assert found.coords["order"].values.tolist() == left if left else "order" not in found
        with pytest.raises(SpecError, match=f"order below {dof:g} only"):
            run(heavy, orders=(1.0, dof))
    # E r^4 is infinite: no sample makes the error of E r^2 trustworthy.
    assert not found.norm_moment_reliable.sel(order=2.0).any()


def test_an_observable_named_twice_with_different_options_is_refused(law):
    norm = observables.observables["norm"]
    with pytest.raises(SpecError, match="twice"):
        run(law, observe=(norm(orders=(1.0,)), norm(orders=(2.0,))))
    with pytest.raises(SpecError, match="different orders"):
        run(law, observe=(norm(orders=(1.0,)), "gradient"))
    assert_bits(run(law, observe=("norm", "norm")), run(law, observe="norm"))


# --------------------------------------------------------------------------- labels


@pytest.mark.parametrize(("depth", "count"), [(1, 2), (200, 201), (201, 101), (1000, 101)])
def test_layers_recorded_by_default(depth, count):
    found = run(make_law(depth=depth), observe="norm", replicas=2)
    layers = found["layer"].values
    assert layers.size == count and layers[0] == 0 and layers[-1] == depth
    assert (np.diff(layers) > 0).all() and np.ptp(np.diff(layers)) <= 1


def test_kept_values_are_those_of_the_replicas(law):
    found = run(law, keep=(5, 3), layers=(0, 6), observe=("norm", "separability"))
    assert found["layer"].values.tolist() == [0, 3, 5, 6]
    assert found["kept_layer"].values.tolist() == [3, 5]
    assert found.replica_log_norm.dims == ("replica", "kept_layer", "input")
    assert found.replica_effective_rank.dims == ("replica", "kept_layer")
    assert found.sizes["replica"] == 45
    np.testing.assert_allclose(
        found.replica_log_norm.mean("replica"), found.log_norm_mean.sel(layer=[3, 5]), rtol=1e-12
    )


def test_a_result_says_what_it_is(law):
    found = run(law, seed=3)
    attrs = found.attrs
    assert attrs["schema"] == "sigprop-result" and attrs["schema_version"] == 1
    assert attrs["digest"] == law.digest and attrs["label"] == law.digest
    assert json.loads(attrs["ensemble"]) == law.to_dict()
    assert (attrs["seed"], attrs["replicas"], attrs["sampler"]) == (3, 45, "fake")
    assert (attrs["sampler_version"], attrs["block"], attrs["coupled"]) == (3, 8, 0)
    asked_for = ("spectrum", "moment", "alpha_norm", "balance", "diversity", "first_step")
    usual = [kind for kind in observables.observables if kind not in asked_for]
    assert [o["kind"] for o in json.loads(attrs["observe"])] == usual
    assert {"python", "sigprop", "numpy"} <= set(json.loads(attrs["software"]))
    for name, variable in found.variables.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name
    assert found["pair"].values.tolist() == ["0-1"]


def test_progress_is_told_as_it_is_made(law):
    calls = []
    run(law, progress=lambda *a: calls.append(a))
    assert calls == [(n, 45) for n in (0, 8, 16, 24, 32, 40, 45)]


def test_importing_the_driver_loads_nothing_heavy():
    code = (
        "import sys, sigprop.simulate, sigprop.result;"
        "heavy = {'xarray', 'numba', 'h5py', 'scipy', 'matplotlib', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
