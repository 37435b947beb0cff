"""Sampler torch: identities, moments, depth, the plan of a block, and what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

import sigprop
from analysis import theory
from sigprop import activations, rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import Torch, applicable, choose, samplers
from sigprop.backends.torch_gpu import plan as plans
from sigprop.errors import DeviceMemory, ResultError, SpecError, Unsupported
from sigprop.inputs import Equiangular, Given, Pair, Point
from sigprop.laws import StudentT
from sigprop.schemes import GivenScheme, He
from sigprop.spec import Activation, Ensemble, Network
from tests.activated import activated
from tests.agreement import networks
from tests.ensembles import BLOCKS, uneven
from tests.stat import assert_agrees

torch = pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)

from sigprop.backends.torch_gpu import device as devices  # noqa: E402
from sigprop.backends.torch_gpu.draws import Draws, seed  # noqa: E402
from sigprop.backends.torch_gpu.products import Conditional, Dense  # noqa: E402
from sigprop.backends.torch_gpu.walk import Walk  # noqa: E402

METHODS = ("dense", "conditional")
THREE = Given([[1.0, 0.2, -0.7, 0.4], [-0.3, 1.1, 0.5, 0.9], [0.6, 1.5, -0.2, 1.1]])


class Small(devices.Processor):
    """A processor that holds ``room`` bytes of draws, and says that it has ``said``."""

    def __init__(self, room: float, said: float = 2.0**40) -> None:
        self.room, self.said = room, said

    def budget(self):
        return self.said

    def empty(self, shape, dtype):
        if math.prod(shape) * dtype.itemsize > self.room:
            raise torch.OutOfMemoryError("out of memory, as was arranged")
        return super().empty(shape, dtype)


def drawn(ensemble, method, layers=None, *, fields=None, block=64, segment=0, count=None):
    """The trace of a first block."""
    fields = applicable(ensemble) if fields is None else fields
    sampler = Torch("cpu", method=method, block=block)
    sampler.segment = segment
    layers = np.arange(ensemble.network.depth + 1) if layers is None else np.array(layers)
    key = rng.key(0, ensemble.digest, "torch", sampler.version)
    return sampler.sample(ensemble, fields, layers, key, 0, count or block)


# ------------------------------------------------------------------- identities


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("activation", [LeakyReLU(slope=-0.4), RandomisedLeakyReLU()])
@pytest.mark.parametrize("method, within", [("dense", 1e-6), ("conditional", 1e-10)])
@pytest.mark.parametrize("inputs", [Point(), THREE], ids=["one", "three"])
def test_gradient_times_state_is_constant_in_depth(block, activation, method, within, inputs):
    """Euler: p_l . h_l does not depend on l, to the rounding of single precision products.

    The second method forms Gram matrices in double precision and loses digits to the angle between
    inputs that nearly depend on each other.
    """
    trace = drawn(uneven(block, activation, inputs=inputs), method)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:]) / np.maximum(size, size[:, -1:])
    assert np.nanmax(gap) < within
    assert np.isfinite(invariant).mean() > 0.5


@pytest.mark.parametrize("block", ["identity", "projection"])
@pytest.mark.parametrize("method, within", [("dense", 1e-6), ("conditional", 1e-10)])
def test_it_is_constant_where_the_sum_is_activated_too(block, method, within):
    trace = drawn(activated(block, LeakyReLU(slope=-0.4), branch_matrices=3), method)
    size = np.exp(trace["log_norm"] + trace["log_gradient"])
    invariant = trace["alignment"] * size
    gap = np.abs(invariant - invariant[:, -1:]) / np.maximum(size, size[:, -1:])
    assert gap.max() < within


@pytest.mark.parametrize("method", METHODS)
def test_outputs_of_dependent_inputs_depend_in_the_same_way(method):
    """A linear network of x, 2 x and x + y: norms double, and the rank stays 2."""
    given = np.array([[1.0, 0.2, -0.7, 0.4], [2.0, 0.4, -1.4, 0.8], [0.7, 1.3, -0.2, 1.3]])
    trace = drawn(uneven("res3", "linear", inputs=Given(given)), method)
    np.testing.assert_allclose(trace["log_norm"][..., 0], trace["log_norm"][..., 1], atol=1e-6)
    np.testing.assert_allclose(trace["cosine"][..., 0], 1.0, rtol=1e-6)
    assert trace["effective_rank"].max() < 2 + 1e-9


# ---------------------------------------------------------------------- moments


@pytest.mark.parametrize(
    "sampler, law",
    [("torch dense", "uniform"), ("torch dense", "rademacher"), ("torch conditional", "gaussian")],
)
def test_second_and_fourth_powers_have_their_exact_means(sampler, law):
    """Of norm, gradient and displacements at the far end; the error is that of theory.

    A scale of weights that is wrong by 9% would be seen.
    """
    count, ensemble = 80_000, uneven("res3", "relu", law=law)
    trace = networks(sampler, ensemble, count)
    for field, mean, variance, layer in (
        ("log_norm", theory.log_mean_square, theory.relative_variance, -1),
        ("log_gradient", theory.log_gradient_mean_square, theory.gradient_relative_variance, 0),
        (
            "log_displacement",
            theory.log_displacement_mean_square,
            theory.displacement_relative_variance,
            -1,
        ),
    ):
        ratio = np.exp(2 * trace[field][:, layer, 0] - mean(ensemble)[layer])
        se = math.sqrt(variance(ensemble)[layer] / count)
        assert_agrees(ratio.mean(), 1.0, se, resolution=0.36)
        # Two layers away the fourth power is tame enough to tell its own error.
        square = np.exp(4 * trace[field][:, 1, 0] - 2 * mean(ensemble)[2])
        square /= 1 + variance(ensemble)[2]
        se = square.std() / math.sqrt(count)
        assert_agrees(square.mean(), 1.0, se, resolution=0.6)


@pytest.mark.parametrize("law", ["gaussian", "uniform", "rademacher"])
def test_weights_have_the_law_they_are_named_after(law):
    """Kolmogorov-Smirnov against the distribution function; a shift of 0.02 would be seen."""
    ensemble = uneven("res3", "relu", law=law)
    draws = Draws(ensemble, np.array([1, 2], np.uint32), 2, 0, 2, devices.Processor())
    one = draws.entries(1, 0, torch.empty(2, 250, 200)).numpy()
    other = draws.entries(1, 1, torch.empty(2, 250, 200)).numpy()
    if law == "rademacher":
        assert set(np.unique(one)) == {-1.0, 1.0}
        p = stats.binomtest(int((one > 0).sum()), one.size).pvalue
    else:
        known = (
            stats.norm() if law == "gaussian" else stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
        )
        p = stats.kstest(one.ravel(), known.cdf).pvalue
    assert p > 1e-6
    for a, b in ((one, other), (one[:1], one[1:])):  # streams and networks are independent
        se = 1 / math.sqrt(a.size)
        assert_agrees((a * b).mean(), 0.0, se, resolution=10 / math.sqrt(50_000))


# ----------------------------------------------------------------------- depth


@pytest.mark.parametrize("method", METHODS)
def test_no_depth_overflows_and_every_unit_of_two_is_exact(method):
    """On the same draws, growth by 2^14 a layer is that of none and 14 log 2 a layer."""
    depth, key = 300, np.array([1, 2], np.uint32)
    sampler = Torch("cpu", method=method, block=4)
    traces = []
    for branch in (1.0, 2.0**14):
        scheme = GivenScheme(
            skip=(0.0,) * depth,
            branch=(branch,) * depth,
            variance=((0.15,),) * depth,
            law="uniform" if method == "dense" else "gaussian",
        )
        law = Ensemble(Network(depth=depth, width=12, block="plain"), scheme, Pair())
        layers = np.array([0, 150, depth])
        traces.append(sampler.sample(law, applicable(law), layers, key, 0, 4))
    tame, wild = traces
    step = 14 * math.log(2.0) * layers[:, None]
    for name, moved in (("log_norm", step), ("log_gradient", step[::-1])):
        np.testing.assert_allclose(wild[name] - moved, tame[name], rtol=0, atol=1e-8)
    assert wild["log_norm"].max() > 2000


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("segment", [1, 3])
def test_segments_that_are_walked_again_change_no_bit(method, segment):
    smooth = uneven("inner", "gelu", bias_variance=0.3, inputs=Pair(cosine=0.3))
    dying = uneven("inner", "relu", hidden=(1, 2), inputs=Pair(cosine=0.3))
    for ensemble in (smooth, dying):
        whole, apart = (drawn(ensemble, method, segment=s, block=8) for s in (0, segment))
        for name in whole:
            np.testing.assert_array_equal(whole[name], apart[name], err_msg=name)
    assert whole["dead"].max() > 1


def test_a_deep_network_keeps_states_at_about_the_root_of_its_depth():
    law = Ensemble(Network(depth=10_000, width=500), He(law="uniform"), Point())
    flat = plans.plan(law, frozenset({"log_norm"}), 11, "dense")
    back = plans.plan(law, frozenset({"log_norm", "log_gradient"}), 11, "dense")
    assert flat.segment == 10_000 and 50 < back.segment < 500
    assert back.need - flat.need < 2**22
    shallow = Ensemble(Network(depth=50, width=500), He(law="uniform"), Point())
    assert plans.plan(shallow, frozenset({"log_gradient"}), 11, "dense").segment == 50


# ---------------------------------------------------------------- random numbers


def test_no_two_streams_of_a_run_have_one_seed():
    """The processor's generator reads 32 bits, in which a hash of 2e5 streams collides 4 times."""
    key = np.array([5, 7], np.uint32)
    lower = {seed(key, 64, address) % 2**32 for address in range(200_000)}
    assert len(lower) == 200_000
    assert (
        len({seed(key, 32, a) for a in range(1000)} | {seed(key, 64, a) for a in range(1000)})
        == 2000
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_replica_does_not_depend_on_how_many_of_its_block_are_drawn(method):
    """To rounding: a product of more networks may sum in another order."""
    ensemble = uneven("res3", "relu", inputs=Pair())
    whole, part = (drawn(ensemble, method, count=n) for n in (64, 5))
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name][:5], rtol=0, atol=1e-5, err_msg=name)


def test_the_global_generator_and_the_threads_of_torch_are_left_alone():
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    drawn(uneven("res3", "relu"), "dense")
    assert torch.get_num_threads() == 2 and torch.equal(torch.get_rng_state(), before)
    torch.set_num_threads(threads)


def test_the_result_does_not_depend_on_workers():
    law = Ensemble(Network(depth=3, width=40), He(law="uniform"), Pair())
    run = {"sampler": Torch("cpu", block=8), "replicas": 30, "seed": 3}
    one, two = (sigprop.simulate(law, workers=workers, **run) for workers in (1, 2))
    assert one.identical(two)


# --------------------------------------------------------------- the plan of a run


def test_a_block_is_a_power_of_two_that_fits_and_no_more_than_is_asked_for():
    plan = plans.Plan(need=1000, numbers=10, segment=1)
    assert plans.block_of(plan, 999.0, 10**9, 500) == 0
    assert plans.block_of(plan, 1e5, 10**9, 500) == 64
    assert plans.block_of(plan, 1e9, 10**9, 500) == 512
    assert plans.block_of(plan, 1e9, 10**9, 10**6) == plans.MOST
    assert plans.block_of(plan, 1e9, 95, 500) == 8


def test_one_network_that_does_not_fit_is_refused_before_any_work():
    law = Ensemble(Network(depth=3, width=2000), He(law="uniform"), Point())
    with pytest.raises(SpecError, match=r"one network takes .* GiB on device 'cpu' by estimate"):
        sigprop.simulate(law, sampler=Torch(Small(room=0.0, said=2.0**20)))


def test_the_plan_covers_what_is_allocated():
    """The largest array of draws of a block, as the plan foresees it."""
    asked = []

    class Watched(Small):
        def empty(self, shape, dtype):
            asked.append(math.prod(shape) * dtype.itemsize)
            return super().empty(shape, dtype)

    law = Ensemble(Network(depth=2, width=30), He(law="uniform"), Equiangular(count=3))
    for method, law_of in (("dense", "uniform"), ("conditional", "gaussian")):
        law = Ensemble(Network(depth=2, width=30), He(law=law_of), Equiangular(count=3))
        asked.clear()
        sampler = Torch(Watched(room=2.0**40), method=method)
        sampler = sampler.planned(law, applicable(law), 3, 16)
        key = rng.key(0, law.digest, "torch", 1)
        sampler.sample(law, applicable(law), np.arange(3), key, 0, 16)
        plan = plans.plan(law, applicable(law), 3, method)
        assert sampler.block == 16 and max(asked) <= 4 * plan.numbers * 16 < 16 * plan.need


LAW = Ensemble(Network(depth=3, width=24), He(law="uniform"), Pair())
MATRIX = 4 * 24 * 24  # bytes of one


def test_a_run_that_meets_less_memory_starts_again_with_half_the_block(tmp_path):
    out = tmp_path / "a.nc"
    result = sigprop.simulate(
        LAW, sampler=Torch(Small(room=9 * MATRIX)), replicas=50, out=out, workers=2
    )
    options = json.loads(result.attrs["sampler_options"])
    assert (result.attrs["block"], options["block"], options["halved"]) == (8, 8, 3)
    same = sigprop.simulate(LAW, sampler=Torch("cpu", block=8, halved=3), replicas=50)
    assert result.drop_attrs().identical(same.drop_attrs())


def test_where_not_even_one_network_fits_the_run_ends_in_one_sentence():
    with pytest.raises(DeviceMemory, match="ran out of memory with 1 network"):
        sigprop.simulate(LAW, sampler=Torch(Small(room=MATRIX / 2)), replicas=4)


def test_a_longer_run_takes_the_recorded_block_and_extends_the_shorter_exactly(tmp_path):
    out = tmp_path / "a.nc"
    first = sigprop.simulate(LAW, sampler="torch", device="cpu", replicas=20, out=out)
    assert first.attrs["block"] == 32
    run = {"replicas": 100, "out": out, "resume": True}
    longer = sigprop.simulate(LAW, sampler="torch", device="auto", **run)
    assert longer.attrs["block"] == 32
    fresh = sigprop.simulate(LAW, sampler=Torch("cpu", block=32), replicas=100)
    assert longer.identical(fresh)
    again = sigprop.simulate(LAW, sampler="torch", **run)
    assert again.identical(longer)


def test_a_run_that_goes_on_is_not_halved(tmp_path):
    out = tmp_path / "a.nc"
    sigprop.simulate(LAW, sampler=Torch(Small(2.0**40), block=32), replicas=64, out=out)
    small = Torch(Small(9 * MATRIX), block=32)
    with pytest.raises(
        DeviceMemory, match="goes on from 2 blocks of 32 networks, and another size"
    ):
        sigprop.simulate(LAW, sampler=small, replicas=100, out=out, resume=True)
    with pytest.raises(ResultError, match="block is 32 there and 8 here"):
        sigprop.simulate(LAW, sampler=Torch("cpu", block=8), replicas=70, out=out, resume=True)


def test_a_result_says_how_to_make_it_again():
    from sigprop.simulate import arguments

    first = sigprop.simulate(LAW, sampler="torch", replicas=20, device="cpu")
    again = sigprop.simulate(LAW, **{**arguments(first), "replicas": 20})
    assert first.identical(again) and first.attrs["sampler"] == "torch"
    assert json.loads(first.attrs["software"])["torch"] == torch.__version__


def test_a_sweep_over_torch_records_every_plan():
    swept = sigprop.sweep(
        {"scheme": "he", "law": "uniform", "block": "res3", "depth": 3},
        {"width": [20, 30]},
        sampler="torch", device="cpu", replicas=6,
    )  # fmt: skip
    assert swept.attrs["block"] == "8" and '"method": "dense"' in swept.attrs["sampler_options"]
    assert np.isfinite(swept.log_norm_mean).all()


def test_a_sweep_that_meets_less_memory_keeps_its_finished_points(tmp_path):
    with pytest.raises(
        DeviceMemory, match=r"ran out of memory .* keeps 1 of 2 points\. Run the same"
    ):
        sigprop.sweep(
            {"scheme": "he", "law": "uniform", "block": "res3", "depth": 3},
            {"width": [20, 60]},
            sampler=Torch(Small(room=8 * 4 * 20 * 20)),
            replicas=6, out=tmp_path / "a.nc", workers=1,
        )  # fmt: skip


# -------------------------------------------------------------------- precision


def test_a_lower_precision_is_measured_against_single_on_the_same_draws():
    """bf16 keeps 8 bits: a norm of one layer of width 200 moves by about 2^-9 / sqrt(2 200)."""
    law = Ensemble(Network(depth=1, width=200, block="plain"), He(law="uniform"), Point())
    run = {"sampler": "torch", "device": "cpu", "replicas": 16, "keep": [1]}
    low = sigprop.simulate(law, ["norm", "gradient"], precision="bf16", **run)
    full = sigprop.simulate(law, ["norm", "gradient"], **run)
    error = json.loads(low.attrs["precision_error"])
    gap = np.abs(low.replica_log_norm - full.replica_log_norm).max()
    assert error["log_norm"] == pytest.approx(float(gap), rel=1e-6)
    assert 1e-6 < error["log_norm"] < 2.0**-7
    assert "precision_error" not in full.attrs and low.attrs["sampler_options"].count("bf16") == 1


# --------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "ensemble, said",
    [
        (
            uneven("res3", "relu", law=StudentT(dof=5.0)),
            "draws weights of law gaussian, uniform, rad",
        ),
        (uneven("res3", "relu", process="tied", hidden=(4,)), "a process along depth ties layers"),
        (uneven("res3", "relu", law="orthogonal"), "draws weights of law gaussian, uniform, rad"),
        (
            Ensemble(Network(depth=2, width=3, image=4), He(), Point()),
            "its network is convolutional",
        ),
    ],
)
def test_what_it_cannot_do_it_refuses_and_says_who_can(ensemble, said):
    refused = Torch("cpu").refusal(ensemble, frozenset({"log_norm"}))
    assert said in refused and "Use --sampler" in refused
    other = refused.rsplit("--sampler ", 1)[1].rstrip(".")
    assert samplers[other]().refusal(ensemble, frozenset({"log_norm"})) is None


def softsign(u):
    return u / (1 + abs(u))


def test_a_function_of_ones_own_is_refused():
    if "softsign" not in Activation.family:
        activations.function("softsign", softsign)
    mine = Activation.named("softsign")
    with pytest.raises(Unsupported, match="is a Python function of one number, which cannot be ca"):
        sigprop.simulate(uneven("res3", mine), sampler="torch")


@pytest.mark.parametrize(
    "run, error, said",
    [
        ({"sampler": "torch", "device": "tpu"}, SpecError, "device must be one of auto, cpu, cuda"),
        ({"sampler": "torch", "precision": "half"}, SpecError, "precision must be one of float32"),
        (
            {"sampler": "dense", "device": "cpu"},
            SpecError,
            "only sampler 'torch' works on a device",
        ),
        ({"precision": "bf16"}, SpecError, "only sampler 'torch' works on a device"),
        ({"sampler": "torch", "precision": "bf16"}, Unsupported, "no matrix is formed"),
        ({"sampler": "torch", "observe": "spectrum"}, Unsupported, "Use --sampler jacobian"),
        ({"sampler": "torch", "observe": "balance"}, Unsupported, "Use --sampler dense"),
    ],
)
def test_bad_requests_are_told_in_one_sentence(run, error, said):
    with pytest.raises(error, match=said):
        sigprop.simulate(uneven("res3", "relu"), replicas=2, **run)


def test_tf32_is_refused_on_the_processor():
    law = uneven("res3", "relu", law="uniform")
    with pytest.raises(
        SpecError, match="'tf32' is not one of device 'cpu', which has float32, bf16"
    ):
        sigprop.simulate(law, sampler="torch", device="cpu", precision="tf32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_error_of_status_2():
    with pytest.raises(
        Unsupported, match=r"'cuda' was asked for, and torch .* finds no GPU"
    ) as found:
        sigprop.simulate(uneven("res3", "relu"), sampler="torch", device="cuda")
    assert found.value.exit_status == 2


def test_without_torch_there_is_one_sentence_with_the_install_command(monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else there(name)
    )
    with pytest.raises(
        Unsupported, match=r"sampler 'torch' needs torch, which is not installed.*pip"
    ):
        sigprop.simulate(uneven("res3", "relu"), sampler="torch")
    wide = Ensemble(Network(depth=1, width=2048), He(law="uniform"), Equiangular(count=64))
    assert choose("auto", wide, frozenset({"log_norm"})).name == "dense"


# ------------------------------------------------------------------------- auto


@pytest.mark.parametrize(
    "width, count, law, taken",
    [
        (2048, 64, "uniform", "torch"),
        (2048, 64, "gaussian", "conditional"),
        (2048, 64, StudentT(dof=5.0), "dense"),
        (512, 64, "uniform", "dense"),
    ],
)
def test_auto_takes_it_where_it_is_faster(width, count, law, taken):
    ensemble = Ensemble(Network(depth=1, width=width), He(law=law), Equiangular(count=count))
    assert choose("auto", ensemble, frozenset({"log_norm"})).name == taken


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_leaves_few_inputs_to_the_compiled_sampler_where_there_is_no_gpu():
    ensemble = Ensemble(Network(depth=1, width=2048), He(law="uniform"), Pair())
    assert choose("auto", ensemble, frozenset({"log_norm"})).name == "dense"


@pytest.mark.parametrize("method", METHODS)
def test_dense_and_conditional_products_have_one_law(method):
    """W x and W^T q of one matrix: E (q . W x)^2 = |q|^2 |x|^2 and q . W x = x . W^T q."""
    law = uneven("res3", "relu", width=5)
    draws = Draws(law, np.array([3, 4], np.uint32), 4096, 0, 4096, devices.Processor())
    products = Dense(draws, torch.float64, None) if method == "dense" else Conditional(draws)
    x = torch.tensor([[1.0, 0.5], [-2.0, 1.0], [0.3, 0.0]], dtype=torch.float64).expand(4096, 3, 2)
    q = torch.tensor([[0.7, 1.0], [1.1, -0.4]], dtype=torch.float64).expand(4096, 2, 2)
    y, seen = products.times(1, 0, 2, x, 0.8, None)
    back = products.back(1, 0, q, 0.8, seen)
    forth, down = q.mT @ y, back.mT @ x
    torch.testing.assert_close(forth, down, rtol=1e-10, atol=1e-10)
    square = (forth[:, 0, 0] / 0.8).square() / (
        q[0, :, 0].square().sum() * x[0, :, 0].square().sum()
    )
    se = math.sqrt(2 / 4096)  # of the square of a normal number
    assert_agrees(float(square.mean()), 1.0, se, resolution=0.25)


def test_recorded_fields_are_those_asked_for():
    law = uneven("res3", "relu")
    draws = Draws(law, np.array([3, 4], np.uint32), 4, 0, 4, devices.Processor())
    products = Dense(draws, torch.float32, None)
    fields = frozenset({"log_norm", "alignment"})
    trace = Walk(draws, products, fields, np.array([1, 4]), 4).trace()
    assert {name: values.shape for name, values in trace.items()} == dict.fromkeys(
        fields, (4, 2, 1)
    )
