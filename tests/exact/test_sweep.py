"""A sweep: every point has the bits of a run by itself, whatever happens on the way."""

import concurrent.futures
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
from sigprop import journal
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
from sigprop.laws import StudentT
from sigprop.schemes import GivenScheme
from sigprop.sweep import plan
from sigprop.trace import FIELDS

driver = importlib.import_module("sigprop.sweep")

DRAWN: list = []


class Fake(Sampler):
    """Costs nothing; a replica is a function of (key, r) and of the branch coefficient."""

    name = "fake"
    version = 2
    block = 8

    def __init__(self, *, slow=0.0, breaks=None):
        self.slow, self.breaks = slow, breaks

    def refusal(self, ensemble, fields):
        return None

    def sample(self, ensemble, fields, layers, key, first, count):
        assert first % self.block == 0 and count <= self.block
        DRAWN.append((ensemble.digest, first, count))
        time.sleep(self.slow)
        sizes = {"input": ensemble.inputs.count}
        sizes["pair"] = sizes["input"] * (sizes["input"] - 1) // 2
        branch, out = float(ensemble.table.branch[0]), {}
        for name in fields:
            axis = FIELDS[name].axis
            shape = (ensemble.network.depth + 1, *([sizes[axis]] if axis else []))
            values = np.empty((count, *shape))
            for i in range(count):
                address = [*map(int, key), first + i, sorted(FIELDS).index(name)]
                values[i] = branch * np.random.default_rng(address).normal(0.3, 2.0, shape)
            if name == "activity":
                values[:, 0] = np.nan
            if self.breaks == branch:
                values[-1, -1] = np.nan
            out[name] = values[:, layers]
        return out


class Sharing(Fake):
    """Says that it draws for several ensembles at once, and notes how often."""

    name = "sharing"

    def coupled(self, ensembles):
        return True

    def sample_coupled(self, ensembles, fields, layers, key, first, count):
        DRAWN.append(("together", len(ensembles), first, count))
        return super().sample_coupled(ensembles, fields, layers, key, first, count)


def make(branch=1.0, width=4, depth=6, inputs=None, **network):
    shape = sigprop.Network(depth=depth, width=width, **network)
    return sigprop.Ensemble(shape, GivenScheme(branch=branch, variance=0.5), inputs)


AXES = {"branch": [0.5, 1.0, -0.25], "width": [3, 4]}


def run(axes=AXES, law=make, **options):
    options = {"sampler": Fake(), "workers": 1, "replicas": 21, "keep": ("top",), **options}
    return sigprop.sweep(law, axes, **options)


def assert_bits(found, expected):
    """Equal to the last bit, labels and attributes included."""
    xr.testing.assert_identical(found, expected)
    for name in expected.data_vars:
        assert found[name].values.tobytes() == expected[name].values.tobytes(), name


@pytest.fixture(autouse=True)
def nothing_drawn():
    DRAWN.clear()


# -------------------------------------------------------------------------- numbers


def assert_is_the_run(point, alone):
    assert set(point.data_vars) == set(alone.data_vars)
    for name, variable in alone.data_vars.items():
        assert point[name].values.tobytes() == variable.values.tobytes(), name
        assert point[name].attrs == variable.attrs
    assert json.loads(point.ensemble.item()) == json.loads(alone.attrs["ensemble"])


def test_every_point_is_the_run_of_its_ensemble():
    """Of a sampler made for it, over several blocks, the last one partial."""
    found = run(seed=5)
    assert found.log_norm_mean.dims == ("branch", "width", "layer", "input")
    assert found.norm_moment_log.dims == ("branch", "width", "order", "layer", "input")
    assert found.replica_cosine.dims == ("branch", "width", "replica", "kept_layer", "pair")
    assert found["layer"].values.tolist() == [0, 6] and found.sizes["kept_layer"] == 1
    for branch in AXES["branch"]:
        for width in AXES["width"]:
            alone = sigprop.simulate(
                make(branch, width), sampler=Fake(), replicas=21, seed=5, layers=[0, 6], keep=[6]
            )
            assert_is_the_run(found.sel(branch=branch, width=width), alone)


@pytest.mark.parametrize(
    ("base", "axes"),
    [
        ({"scheme": "power", "inputs": "point"}, {"beta": [0.25, 0.75], "width": [5, 6]}),
        ({"scheme": "power", "beta": 0.5}, {"activation": ["relu", "tanh"], "width": [5]}),
        ({"scheme": "power", "beta": 0.5}, {"law": ["gaussian", "uniform"], "width": [5]}),
    ],
    ids=["chain", "conditional", "dense"],
)
def test_every_point_is_the_run_of_its_ensemble_with_real_samplers(base, axes):
    found = sigprop.sweep({**base, "depth": 9}, axes, replicas=150, seed=2)
    for place in np.ndindex(*(len(values) for values in axes.values())):
        point = found.isel(dict(zip(axes, place, strict=True)))
        law = sigprop.Ensemble.from_dict(json.loads(point.ensemble.item()))
        assert_is_the_run(point, sigprop.simulate(law, replicas=150, seed=2, layers=[0, 9]))


def test_points_of_one_law_are_run_once():
    """The exponent means nothing to He: all its points are one, and stand where they should."""
    axes = {"scheme": ["he", "power"], "beta": [0.5, 1.0, 1.5]}
    found = run(axes, {"depth": 3, "width": 4}, observe="norm", replicas=8)
    assert len({digest for digest, *_ in DRAWN}) == 4
    he = found.log_norm_mean.sel(scheme="he")
    assert (he == he.isel(beta=0)).all()
    power = found.log_norm_mean.sel(scheme="power", layer=3, input=0)
    assert len(np.unique(power)) == 3


def test_a_variable_that_does_not_apply_somewhere_is_missing_there():
    """One matrix off the trunk has no activation inside, so no activity to measure."""
    found = run({"block": ["res1", "res3"]}, lambda block: make(block=block, activation="linear"))
    missing = found.sel(block="res1").activity_mean
    assert (
        np.isnan(missing).all()
        == np.isnan(
            sigprop.simulate(make(block="res1"), sampler=Fake(), replicas=2).get(
                "activity_mean", []
            )
        ).all()
    )
    plain = run({"block": ["plain", "res3"]}, lambda block: make(block=block))
    assert np.isnan(plain.sel(block="plain").log_displacement_mean).all()
    assert not plain.sel(block="plain").displacement_moment_reliable.any()
    assert np.isfinite(plain.sel(block="res3").log_displacement_mean).all()
    assert np.isfinite(plain.log_gradient_mean).all()


def test_orders_are_those_that_all_laws_have():
    laws = {"gaussian": "gaussian", "heavy": StudentT(dof=1.5)}

    def law(law):
        return sigprop.Ensemble(sigprop.Network(depth=2, width=3), sigprop.He(law=law))

    assert run({"law": laws}, law, observe="norm").order.values.tolist() == [1.0]
    with pytest.raises(SpecError, match=r"at law=heavy: orders asks for E r\^2, which is infinite"):
        run({"law": laws}, law, observe="norm", orders=(2.0,))


def test_labels_are_numbers_words_or_what_a_mapping_says():
    found = run({"width": [3, 4], "branch": {"small": 0.1, "large": 2}}, observe="norm")
    assert found.width.dtype == np.int64 and found.branch.values.tolist() == ["small", "large"]
    assert_is_the_run(
        run({"branch": {"small": 0.1}}, observe="norm").sel(branch="small"),
        sigprop.simulate(make(0.1), "norm", sampler=Fake(), replicas=21, layers=[0, 6], keep=[6]),
    )


# ------------------------------------------------------------------------ same bits


class Late(concurrent.futures.Executor):
    """Runs a task only when some result is asked for, the last one first."""

    def __init__(self, workers):
        self._max_workers, self.waiting, self.most = workers, [], 0

    def submit(self, work, *arguments):
        future = concurrent.futures.Future()
        self.waiting.append((future, work, arguments))
        self.most = max(self.most, len(self.waiting))
        executor = self

        def result(timeout=None):
            for other, other_work, other_arguments in reversed(executor.waiting):
                if not other.cancelled():
                    other.set_result(other_work(*other_arguments))
            executor.waiting.clear()
            return concurrent.futures.Future.result(future, timeout)

        future.result = result
        return future


@pytest.mark.parametrize("sampler", [Fake(), Sharing()], ids=["alone", "coupled"])
@pytest.mark.parametrize("workers", [2, 7])
def test_workers_do_not_matter(workers, sampler):
    assert_bits(run(workers=workers, sampler=sampler), run(sampler=sampler))


def test_processes_do_not_matter():
    context = multiprocessing.get_context("spawn")
    base = {"scheme": "power", "depth": 7, "width": 5}
    axes = {"beta": [0.0, 0.5, 1.0]}
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        found = sigprop.sweep(base, axes, replicas=150, executor=pool)
        assert pool.submit(int, 7).result() == 7
    assert_bits(found, sigprop.sweep(base, axes, replicas=150))


@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_that_end_out_of_order_do_not_matter(workers):
    late = Late(workers)
    assert_bits(run(executor=late, replicas=8 * 30), run(replicas=8 * 30))
    assert late.most <= 4 * workers + 1


def test_a_long_run_behind_a_full_window_goes_on():
    """All others wait while the first run begins; its own blocks must still be submitted."""
    axes = {"branch": list(np.arange(1, 13) / 8)}
    assert_bits(run(axes, workers=1, replicas=8 * 9), run(axes, executor=Late(2), replicas=8 * 9))


# ------------------------------------------------------------------- coupled points


def test_a_sampler_that_can_share_is_asked_once_for_all_points_that_differ_in_scaling():
    found = run(sampler=Sharing())
    together = [entry for entry in DRAWN if entry[0] == "together"]
    assert {entry[1] for entry in together} == {3}  # the branches; not the widths
    assert sorted({entry[2:] for entry in together}) >= [(0, 8), (8, 8), (16, 5)]
    assert found.attrs["coupled"] == 1 and "not independent" in found.attrs["coupled_with"]
    for branch in AXES["branch"]:
        alone = sigprop.simulate(
            make(branch, 3), sampler=Sharing(), replicas=21, layers=[0, 6], keep=[6], coupled=True
        )
        assert_is_the_run(found.sel(branch=branch, width=3), alone)
    # One draw: the logarithms differ by the factor that the fake puts there, replica by replica.
    kept = found.replica_log_norm.sel(width=4)
    np.testing.assert_allclose(kept.sel(branch=1.0), 2 * kept.sel(branch=0.5), rtol=1e-14)


def test_points_are_independent_unless_they_share_work_or_are_asked_to():
    apart = run(sampler=Sharing(), coupled=False)
    assert apart.attrs["coupled"] == 0 and "coupled_with" not in apart.attrs
    assert not [entry for entry in DRAWN if entry[0] == "together"]
    assert run().attrs["coupled"] == 0
    forced = run(coupled=True)
    assert forced.attrs["coupled"] == 1
    kept = forced.replica_log_norm.sel(width=4)
    np.testing.assert_allclose(kept.sel(branch=1.0), 2 * kept.sel(branch=0.5), rtol=1e-14)
    assert not np.allclose(
        apart.replica_log_norm.sel(width=4, branch=1.0),
        2 * apart.replica_log_norm.sel(width=4, branch=0.5),
    )


def test_large_groups_are_drawn_in_parts_of_one_draw(monkeypatch):
    axes = {"branch": list(np.arange(1, 8) / 4)}
    whole = run(axes, sampler=Sharing())
    monkeypatch.setattr(driver, "TOGETHER", 3)
    DRAWN.clear()
    assert_bits(run(axes, sampler=Sharing()), whole)
    assert {entry[1] for entry in DRAWN if entry[0] == "together"} == {3}


def test_a_batch_of_many_columns_is_that_of_one(monkeypatch):
    """Traces are summed side by side; how many at a time is a matter of speed alone."""
    whole = run(sampler=Sharing())
    monkeypatch.setattr("sigprop.work.BATCH_COLUMNS", 1)
    assert_bits(run(sampler=Sharing()), whole)


def test_coupled_runs_are_those_of_the_same_label():
    laws = [make(branch) for branch in (0.5, 2.0)]
    options = {"replicas": 21, "seed": 3, "layers": [2, 6], "keep": [6]}
    found = sigprop.simulate_coupled(laws, ["norm", "gradient"], sampler=Sharing(), **options)
    assert [entry[1:] for entry in DRAWN if entry[0] == "together"][-3:] == [
        (2, 0, 8), (2, 8, 8), (2, 16, 5)
    ]  # fmt: skip
    for law, one in zip(laws, found, strict=True):
        alone = sigprop.simulate(
            law, ["norm", "gradient"], sampler=Sharing(), coupled=True, **options
        )
        assert "not independent" in one.attrs.pop("coupled_with")
        xr.testing.assert_identical(one, alone)
    with pytest.raises(SpecError, match="cannot be coupled: the number of inputs"):
        sigprop.simulate_coupled([laws[0], make(inputs=sigprop.Point())], "norm", sampler=Fake())
    with pytest.raises(SpecError, match="ensembles is empty"):
        sigprop.simulate_coupled([])


def test_the_dense_sampler_gives_coupled_points_what_it_gives_each():
    """To rounding: many columns are one matrix product."""
    axes = {"beta": [0.2, 0.6]}
    base = {"scheme": "power", "process": "fgn", "hurst": 0.8, "depth": 6, "width": 5}
    found = sigprop.sweep(base, axes, "norm", replicas=20, keep=("top",))
    assert found.attrs["coupled"] == 1 and found.attrs["sampler"] == "dense"
    for beta in axes["beta"]:
        law = sigprop.Ensemble.from_dict(json.loads(found.ensemble.sel(beta=beta).item()))
        alone = sigprop.simulate(law, "norm", replicas=20, layers=[0, 6], keep=[6], coupled=True)
        np.testing.assert_allclose(
            found.replica_log_norm.sel(beta=beta), alone.replica_log_norm, rtol=1e-9, atol=1e-9
        )


# ------------------------------------------------------------------- layers and depth


def test_layers_follow_the_depth():
    def law(depth):
        return make(depth=depth)

    found = run({"depth": [2, 6]}, law, layers=(0, "50%", "top"), keep=("50%",))
    assert "layer" not in found.coords and found.t.dims == ("layer",)
    assert found.t.values.tolist() == [0.0, 0.5, 1.0] and found.kept_t.values.tolist() == [0.5]
    for depth in (2, 6):
        alone = sigprop.simulate(
            law(depth), sampler=Fake(), replicas=21,
            layers=[0, depth // 2, depth], keep=[depth // 2],
        )  # fmt: skip
        assert_is_the_run(found.sel(depth=depth), alone)
    with pytest.raises(SpecError, match="layers names layer 1, but the depth differs"):
        run({"depth": [2, 6]}, law, layers=(1, "top"))
    with pytest.raises(SpecError, match=r"at depth=1: two of the layers .* are one and the same"):
        run({"depth": [1, 6]}, law, layers=(0, "10%", "top"))


def test_layers_of_one_depth_are_numbers():
    found = run(layers=(0, 2, "50%", "top"), keep=())
    assert found["layer"].values.tolist() == [0, 2, 3, 6] and "kept_layer" not in found.dims


# ---------------------------------------------------------------- killed and resumed


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import test_sweep as t
t.run(sampler=t.{sampler}(slow=0.03), out={out!r}, workers=2, axes={axes!r})
"""
LONG = {"width": [3, 4, 5, 6], "branch": [0.5, 1.0, -0.25, 2.0]}


@pytest.mark.parametrize("sampler", ["Fake", "Sharing"])
def test_a_sweep_killed_and_resumed_ends_in_the_same_bits(tmp_path, sampler):
    """SIGKILL in the middle; the journal is all that is left."""
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    script = SCRIPT.format(
        here=str(Path(__file__).parent), out=str(out), axes=LONG, sampler=sampler
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if part.exists() and sum(1 for _ in journal.read(part)) >= 1:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert os.listdir(tmp_path) == [part.name]
    kept = sum(1 for _ in journal.read(part))
    assert 1 <= kept < 16
    with pytest.raises(ResultError, match="checkpoint of a sweep that has not ended"):
        sigprop.load(part)
    drawer = {"Fake": Fake, "Sharing": Sharing}[sampler]()
    calls = []
    whole = run(LONG, sampler=drawer, out=out, resume=True, progress=lambda *a: calls.append(a))
    each = 21 if sampler == "Fake" else 84
    assert calls[0] == (kept * each, 336) and calls[-1] == (336, 336)
    assert_bits(whole, run(LONG, sampler=drawer))
    assert_bits(sigprop.load(out), whole)
    assert os.listdir(tmp_path) == [out.name]


def stopped(out, after=60, **options):
    def stop(done, total):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"keeps \d of 6 points.*--resume") as caught:
        run(out=out, progress=stop, **options)
    assert caught.value.exit_status == 130


@pytest.mark.parametrize("lost", [1, 40, 2000])
def test_a_record_that_was_cut_short_is_done_again(tmp_path, lost):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    stopped(out)
    size = part.stat().st_size
    os.truncate(part, size - lost)
    assert_bits(run(out=out, resume=True), run())


def test_a_record_that_was_damaged_is_done_again(tmp_path):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    stopped(out)
    data = bytearray(part.read_bytes())
    data[-100] ^= 1
    part.write_bytes(data)
    assert_bits(run(out=out, resume=True), run())


def test_a_record_whose_length_was_damaged_is_done_again(tmp_path):
    """What the length promises is not asked of the memory: 2^62 bytes are not there."""
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    stopped(out)
    records = list(journal.read(part))
    data = bytearray(part.read_bytes())
    head = len(data) - len(records[-1]) - 24  # the length, and a checksum of 16 bytes
    assert int.from_bytes(data[head : head + 8], "little") == len(records[-1])
    data[head + 7] |= 0x40
    part.write_bytes(data)
    assert list(journal.read(part)) == records[:-1]
    assert_bits(run(out=out, resume=True), run())


def test_resuming_runs_only_what_is_missing(tmp_path):
    out = tmp_path / "a.nc"
    stopped(out)
    kept = sum(1 for _ in journal.read(tmp_path / "a.nc.part"))
    DRAWN.clear()
    run(out=out, resume=True)
    assert len({digest for digest, *_ in DRAWN}) == 6 - kept
    DRAWN.clear()
    before = out.stat().st_mtime_ns
    assert_bits(run(out=out, resume=True), run())
    assert out.stat().st_mtime_ns == before


def test_an_interrupt_without_an_output_says_so():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="Nothing was kept, since no output"):
        run(progress=stop)


def test_a_disk_that_fills_on_the_way_keeps_what_is_finished(tmp_path, monkeypatch):
    out = tmp_path / "a.nc"
    added = []

    def add(self, record):
        if len(added) == 2:
            raise StorageError("No space left on device.")
        added.append(record)
        plain(self, record)

    plain = journal.Journal.add
    monkeypatch.setattr(journal.Journal, "add", add)
    with pytest.raises(StorageError, match=r"No space left.*keeps 2 of 6 points"):
        run(out=out)
    monkeypatch.undo()
    assert_bits(run(out=out, resume=True), run())


def test_numbers_that_stop_being_finite_name_the_point_and_keep_the_others(tmp_path):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    with pytest.raises(NonFinite, match=r"^at branch=1, width=3: .* in replica 7 at layer 6") as e:
        run(out=out, sampler=Fake(breaks=1.0))
    assert e.value.exit_status == 4
    assert sum(1 for _ in journal.read(part)) == 2
    with pytest.raises(NonFinite, match=r"^at branch=0.5, width=3 .. branch=-0.25, width=3: "):
        broken = Sharing(breaks=1.0)
        run(sampler=broken)


# -------------------------------------------------------------- what stands there


def test_an_output_that_exists_is_not_touched(tmp_path):
    out = tmp_path / "a.nc"
    out.write_text("precious")
    with pytest.raises(OutputExists, match="--force"):
        run(out=out)
    with pytest.raises(ResultError, match="truncated, damaged"):
        run(out=out, resume=True)
    assert out.read_text() == "precious" and not DRAWN
    assert_bits(run(out=out, force=True), run())
    assert os.listdir(tmp_path) == [out.name]


def test_a_sweep_that_was_stopped_is_not_thrown_away(tmp_path):
    out, part = tmp_path / "a.nc", tmp_path / "a.nc.part"
    stopped(out)
    before = part.read_bytes()
    with pytest.raises(OutputExists, match="stopped on its way"):
        run(out=out)
    for change, says in (
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"replicas": 22}, "replicas is 21 there and 22 here"),
        ({"observe": "norm"}, "observe is"),
        ({"layers": ("top",)}, "layers is 0,top there and top here"),
        ({"keep": ()}, "keep is top there"),
        ({"axes": {**AXES, "width": [3, 5]}}, "its points or their laws are others"),
        ({"law": lambda branch, width: make(branch, width, depth=7)}, "points or their laws"),
        ({"coupled": True}, "coupled is 0 there and 1 here"),
        ({"sampler": Sharing()}, "sampler is fake there and sharing here"),
    ):
        with pytest.raises(ResultError, match=says):
            run(out=out, resume=True, **change)
    assert part.read_bytes() == before
    assert_bits(run(out=out, force=True), run())


def test_one_result_is_not_taken_for_a_sweep_nor_a_sweep_for_one(tmp_path):
    one, many = tmp_path / "one.nc", tmp_path / "many.nc"
    sigprop.simulate(make(), sampler=Fake(), replicas=9, out=one)
    run(out=many)
    with pytest.raises(ResultError, match="is a sweep, a grid of many results"):
        sigprop.simulate(make(), sampler=Fake(), replicas=9, out=many, resume=True)
    with pytest.raises(ResultError, match="not 'sigprop-sweep'"):
        run(out=one, resume=True)
    simulate = importlib.import_module("sigprop.simulate")
    assert not simulate.stands(many, make(), sampler=Fake())
    planned = plan(make, AXES, sampler=Fake(), replicas=21, keep=("top",))
    assert driver.holds(many, planned) and not driver.holds(one, planned)
    assert not driver.holds(many, plan(make, AXES, sampler=Fake(), replicas=22, keep=("top",)))


def test_a_sweep_is_read_back_by_us_and_by_xarray(tmp_path):
    out = tmp_path / "a.nc"
    found = run({"depth": [2, 6], "block": ["plain", "res3"]}, make, out=out)
    assert_bits(sigprop.load(out), found)
    with xr.open_dataset(out, engine="h5netcdf") as opened:
        assert set(opened.coords) == set(found.coords) and set(opened) == set(found)
        np.testing.assert_array_equal(opened.log_norm_mean, found.log_norm_mean)
        assert opened.ensemble.values.tolist() == found.ensemble.values.tolist()
    for name, variable in found.variables.items():
        assert variable.attrs["long_name"] and variable.attrs["units"], name


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"axes": {}}, SpecError, "without an axis"),
        ({"axes": {"branch": []}}, SpecError, "axis 'branch' has no value"),
        ({"axes": {"branch": [1.0, 2.0, 1.0]}}, SpecError, "has 1.0 twice"),
        ({"axes": {"branch": "1,2"}}, SpecError, "must be a sequence of values"),
        ({"axes": {"branch": [np.nan]}}, SpecError, "not finite"),
        ({"axes": {"branch": [object()]}}, SpecError, "numbers or words"),
        ({"axes": {"layer": [1, 2]}}, SpecError, "cannot be the name of an axis"),
        ({"axes": {"width": [3, 0]}}, SpecError, "at width=0: width must be"),
        ({"axes": {"block": ["res3", "res4"]}}, UnknownName, "at block=res4: .*Did you mean"),
        ({"law": 3}, SpecError, "make must be a callable"),
        ({"law": lambda **_: 3}, SpecError, "at branch=0.5, width=3: make must return"),
        ({"law": {"width": 3}}, SpecError, "width is given once for all and as an axis"),
        ({"law": {"scheme": "he", "depth": 3}}, UnknownName, "width=3: --branch is no option"),
        ({"law": {}}, SpecError, "at branch=0.5, width=3: no scheme was given"),
        ({"sampler": "chain"}, Unsupported, "at branch=0.5, width=3: sampler 'chain' cannot"),
        ({"layers": ("tip",)}, SpecError, "'tip', which is no layer"),
        ({"layers": ("101%",)}, SpecError, "'101%', which is no layer"),
        ({"layers": (7,)}, SpecError, "at branch=0.5, width=3: layers names layer 7"),
        ({"layers": 3}, SpecError, "layers must be a sequence"),
        ({"coupled": "yes"}, SpecError, "coupled must be"),
        ({"replicas": 0}, SpecError, "replicas"),
        ({"workers": 0}, SpecError, "workers"),
        ({"executor": 3}, SpecError, "executor must be"),
        ({"force": True, "resume": True}, SpecError, "one of the two"),
        ({"resume": True}, SpecError, "path of the result"),
        ({"out": "/dev/null/a.nc"}, StorageError, "no directory"),
    ],
)
def test_bad_input_is_refused_before_any_work(options, error, says):
    with pytest.raises(error, match=says) as caught:
        run(**options)
    assert isinstance(caught.value, SigpropError) and caught.value.exit_status == 2
    assert not DRAWN


def test_inputs_of_another_number_need_another_sweep():
    def law(inputs):
        return make(inputs=sigprop.Point() if inputs == "point" else sigprop.Pair())

    with pytest.raises(SpecError, match="at inputs=point: there are 1 inputs, and 2 at inputs="):
        run({"inputs": ["pair", "point"]}, law, observe="norm")
    assert not DRAWN


def test_a_large_grid_must_be_confirmed(monkeypatch):
    axes = {"branch": np.linspace(0.1, 1, 1000), "width": range(1, 1001)}
    start = time.monotonic()
    with pytest.raises(SpecError, match=r"1000000 points \(1000 branch x 1000 width\).*--yes") as e:
        run(axes, sampler=Fake(slow=0.01))
    assert "days of one processor" in str(e.value) and time.monotonic() - start < 2
    monkeypatch.setattr(driver, "MANY", 5)
    with pytest.raises(SpecError, match="6 points"):
        run()
    assert run(yes=True).sizes["branch"] == 3


def test_too_little_space_is_refused_before_any_work(tmp_path, monkeypatch):
    usage = type("usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="Nothing was simulated"):
        run(out=tmp_path / "a.nc")
    assert not os.listdir(tmp_path) and not DRAWN


def test_an_option_of_some_members_is_left_out_at_the_others():
    axes = {"scheme": ["he", "power"]}
    found = run(axes, {"depth": 3, "width": 4, "beta": 0.5}, observe="norm")
    kinds = [json.loads(law)["scheme"]["kind"] for law in found.ensemble.values]
    assert kinds == ["he", "power"]
    with pytest.raises(UnknownName, match=r"at scheme=he: --bta is no option.*'--beta'"):
        run(axes, {"depth": 3, "width": 4, "bta": 0.5}, observe="norm")
