"""GradInit on networks of every kind: what it learns, what it leaves alone, what it costs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import sigprop.modules
from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.batches import BatchPair
from sigprop.modules.gradinit import gradinit
from tests.modules.chains import Chain, half_square, in_float64, point
from tests.modules.kinds_of_networks import (
    KINDS,
    Attention,
    Checkpointed,
    Tied,
    assert_same_state,
    frozen,
    images,
    labels,
    network,
    state,
    vectors,
    words,
)

torch.set_num_threads(1)


def middle_gamma(name):
    """The median norm of a batch at scales of 1, so that both cases occur."""
    model, data, loss_fn = network(name)
    still = gradinit(model, data, loss_fn, steps=12, gamma=1e9, tau=1e-12)
    return float(np.median(still.history["grad_norm"]))


def learned(name, steps=12, **settings):
    model, data, loss_fn = network(name)
    return gradinit(model, data, loss_fn, steps=steps, tau=0.02, **settings)


def scales(result):
    return np.array(list(result.scales.values()))


@pytest.mark.parametrize("name", KINDS)
def test_back_ends_and_second_derivatives_agree(name):
    """In float64: functional and in place to rounding, twice backward and differences to 1e-6."""
    with in_float64():
        gamma = middle_gamma(name)
        first = learned(name, gamma=gamma, backend="inplace")
        assert set(first.history["case"]) == {"c", "o"}
        assert np.abs(scales(first) - 1).max() > 0.05
        differences = learned(name, gamma=gamma, backend="inplace", hvp="fd")
        np.testing.assert_allclose(scales(differences), scales(first), rtol=0, atol=1e-6)
        chosen = learned(name, gamma=gamma)
        np.testing.assert_allclose(scales(chosen), scales(first), rtol=0, atol=1e-13)
        assert differences.settings["hvp_used"] == "fd"
        wanted = "inplace" if name == "checkpointing" else "functional"
        assert chosen.settings["backend_used"] == wanted


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("backend", ["auto", "inplace"])
def test_everything_but_the_scaled_values_is_left_alone(name, backend):
    model, data, loss_fn = network(name)
    model.train()
    next(iter(model.children())).eval()
    model.register_forward_hook(lambda *_: None)
    loss_fn(output_of(model, data()), network(name)[1]()).backward()
    before = state(model)
    result = gradinit(model, data, loss_fn, steps=6, gamma=1.0, backend=backend, apply=False)
    assert_same_state(before, state(model))
    result.apply(model)
    moved = [name for name, scale in result.scales.items() if scale != 1]
    assert_same_state(before, state(model), except_bits=moved)
    for name in moved:
        value = dict(model.named_parameters())[name]
        assert torch.equal(value.detach(), before["bits"][name] * result.scales[name])


def output_of(model, batch):
    if isinstance(batch, dict):
        return model(batch["x"], batch["scale"])
    return model(batch[0])


def test_applying_is_the_default_and_the_result_says_what_was_done():
    model, data, loss_fn = network("frozen layer")
    kept = copy.deepcopy(model)
    result = gradinit(model, data, loss_fn, steps=5)
    for (name, value), old in zip(model.named_parameters(), kept.parameters()):
        assert torch.equal(value, old * result.scales[name])
    assert result.scales["2.weight"] == 1.0 != result.scales["0.weight"]
    assert sigprop.modules.gradinit is gradinit


# ------------------------------------------------------------------ kinds of tensors


def test_a_shared_tensor_is_one_block_and_stays_shared():
    torch.manual_seed(11)
    model = Tied()
    result = gradinit(model, words(), labels_of_words, steps=10, gamma=0.3)
    assert model.head.weight is model.embedding.weight
    assert "head.weight" not in result.scales and result.scales["embedding.weight"] != 1
    assert result.scales["head.bias"] == 1.0  # zero: moved by the step, never scaled
    assert result.scales["unused.weight"] == 1.0 == result.scales["unused.bias"]


def labels_of_words(output, batch):
    return F.cross_entropy(output, batch[1])


def test_frozen_tensors_do_not_count_in_the_norm_and_excluded_ones_do():
    torch.manual_seed(11)
    model = frozen()
    half = vectors()()
    both = [torch.cat([part, part]) for part in half]
    trained = [value for value in model.parameters() if value.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(model(both[0]), both[1]), trained)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
    for exclude in ((), ["4.*"], lambda name, value: name.endswith("bias")):
        result = gradinit(
            copy.deepcopy(model), [half], labels, steps=3, gamma=0.1, overlap=1, exclude=exclude
        )
        assert result.history["grad_norm"][0] == pytest.approx(norm, rel=1e-5)
    assert result.scales["0.bias"] == 1.0 != result.scales["0.weight"]


def test_a_bias_whose_scale_reached_zero_comes_back():
    """y = w (x + b): the fit lies at a negative b, then at a positive one."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
            self.bias = nn.Parameter(torch.tensor([0.05], dtype=torch.float64))

        def forward(self, x):
            return self.weight * (x + self.bias)

    drawn = iter(range(10**6))

    def data():
        return point(1.0, -3.0 if next(drawn) < 24 else 5.0)

    course = []
    model = Shifted()
    gradinit(
        model,
        data,
        half_square,
        gamma=1e9,
        steps=60,
        tau=0.1,
        overlap=1,
        exclude=["weight"],
        log=lambda row: course.append(row["smallest_scale"]),
        betas=(0.0, 0.9),
    )
    assert min(course) == 0.0 and model.bias.item() > 0.05


def test_half_weights_are_learned_in_float32_and_scaled_in_place():
    model, data, loss_fn = network("frozen layer")
    wide = gradinit(copy.deepcopy(model), data, loss_fn, steps=8, gamma=0.5)
    for dtype in (torch.bfloat16, torch.float16):
        half, data, _ = network("frozen layer")
        half.to(dtype)
        before = state(half)

        drawn = [
            (x.to(dtype), y) for x, y in (draw() for draw in [network("frozen layer")[1]] * 24)
        ]
        for backend in ("functional", "inplace"):
            result = gradinit(
                half, drawn, loss_fn, steps=8, gamma=0.5, backend=backend, apply=False
            )
            assert_same_state(before, state(half))
            assert np.abs(scales(result) - scales(wide)).max() < 0.02
        result.apply(half)
        assert {value.dtype for value in half.parameters()} == {dtype}


# ------------------------------------------------------------------ kernels and recomputation


@pytest.mark.parametrize("backend", ["auto", "inplace"])
def test_checkpointing_changes_nothing(backend):
    """To 1e-5 of the network without it; a functional call alone is off by 0.05."""
    results = []
    for recompute in (False, True):
        torch.manual_seed(11)
        model = Checkpointed(recompute)
        results.append(
            gradinit(model, vectors(), labels, steps=30, gamma=0.4, tau=0.02, backend=backend)
        )
    np.testing.assert_allclose(scales(results[1]), scales(results[0]), rtol=0, atol=1e-5)
    if backend == "auto":
        assert results[1].settings["backend_used"] == "inplace"
        assert "functional back-end was not used" in results[1].warnings[0]


def test_a_functional_back_end_that_is_wrong_is_refused():
    torch.manual_seed(11)
    model = Checkpointed(True)
    before = state(model)
    with pytest.raises(Unsupported, match="Use backend='inplace'"):
        gradinit(model, vectors(), labels, steps=3, backend="functional")
    assert_same_state(before, state(model))


def test_a_checkpoint_that_no_gradient_can_be_asked_of_is_told_in_its_own_words():
    torch.manual_seed(11)
    model = Checkpointed(True, reentrant=True)
    before = state(model)
    with pytest.raises(RuntimeError, match="checkpoint"):
        gradinit(model, vectors(), labels, steps=3)
    assert_same_state(before, state(model))


@pytest.mark.parametrize("kernel, way", [("FLASH_ATTENTION", "plain"), ("MATH", "double")])
def test_both_kernels_of_attention_give_one_answer(kernel, way):
    with in_float64():
        torch.manual_seed(11)
        model = Attention()
        with sdpa_kernel(getattr(SDPBackend, kernel)):
            result = gradinit(model, words(), labels, steps=12, gamma=0.7, tau=0.02, apply=False)
            differences = gradinit(model, words(), labels, steps=12, gamma=0.7, tau=0.02, hvp="fd")
    assert result.settings["hvp_used"] == way and "c" in result.history["case"]
    np.testing.assert_allclose(scales(result), scales(differences), rtol=0, atol=1e-6)


class Once(torch.autograd.Function):
    """Cubes; its backward pass has no derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class Cubes(nn.Module):
    def __init__(self, once):
        super().__init__()
        self.a, self.b, self.once = nn.Linear(6, 6), nn.Linear(6, 3), once

    def forward(self, x):
        h = self.a(x)
        return self.b(Once.apply(h) if self.once else h**3)


def test_a_kernel_without_second_derivative_is_differenced():
    with in_float64():
        results = []
        for once in (False, True):
            torch.manual_seed(11)
            results.append(gradinit(Cubes(once), vectors(), labels, steps=12, gamma=0.8))
        assert [r.settings["hvp_used"] for r in results] == ["double", "fd"]
        np.testing.assert_allclose(scales(results[0]), scales(results[1]), rtol=0, atol=1e-6)
        model = Cubes(True)
        before = state(model)
        with pytest.raises(Unsupported, match="hvp='auto' or hvp='fd'"):
            gradinit(model, vectors(), labels, steps=12, gamma=1e-3, hvp="double")
        assert_same_state(before, state(model))


# ------------------------------------------------------------------ errors leave the model


@pytest.mark.parametrize("backend", ["auto", "functional", "inplace"])
def test_an_exception_in_the_loss_leaves_the_network_as_it_was(backend):
    model, data, loss_fn = network("convolutions, BatchNorm, GroupNorm, dropout")
    before, calls = state(model), iter(range(1000))

    def failing(output, batch):
        if next(calls) == 9:
            raise KeyError("the loss has no label")
        return loss_fn(output, batch)

    with pytest.raises(KeyError, match="no label"):
        gradinit(model, data, failing, backend=backend)
    assert_same_state(before, state(model))


def test_a_norm_that_is_not_finite_is_told_with_its_iteration():
    model, calls = Chain((1.3, 0.7)), iter(range(100))

    def data():
        return point(0.5 if next(calls) < 7 else float("inf"), 2.0)

    before = state(model)
    with pytest.raises(NonFinite, match=r"iteration 3: the loss is .*float64"):
        gradinit(model, data, half_square, gamma=1e9, overlap=1)
    assert_same_state(before, state(model))
    huge = Chain((1e200, 1e200))
    with pytest.raises(NonFinite, match="iteration 0"):
        gradinit(huge, [point(1.0, 2.0)], half_square)


# ------------------------------------------------------------------ what is built, drawn and chosen


def counted(monkeypatch):
    """Count gradients by whether they keep a graph, and those of gradients."""
    kept = {"plain": 0, "graph": 0}
    original = torch.autograd.grad

    def grad(*arguments, create_graph=False, **named):
        kept["graph" if create_graph else "plain"] += 1
        return original(*arguments, create_graph=create_graph, **named)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    return kept


@pytest.mark.parametrize(
    "settings, graphs, plain",
    [
        # Beside the iterations: two gradients of the self-test, two of the numbers told.
        ({"gamma": 1e9}, 0, 2 * 10 + 4),
        # The first two iterations compute their gradient twice; then the graph is kept. The first
        # product is checked by another.
        ({"gamma": 1e-9}, 10, 2 + 10 + 1 + 4),
        ({"gamma": 1e-9, "hvp": "fd"}, 0, 3 * 10 + 4),
    ],
)
def test_a_graph_is_built_only_where_it_is_needed(monkeypatch, settings, graphs, plain):
    model, data, loss_fn = network("frozen layer")
    kept = counted(monkeypatch)
    gradinit(model, data, loss_fn, steps=10, backend="functional", **settings)
    assert kept == {"graph": graphs, "plain": plain}


@pytest.mark.parametrize("overlap, drawn", [(0, 4), (0.5, 3), (1, 2)])
def test_an_iteration_draws_as_many_half_batches_as_it_looks_at(overlap, drawn):
    model, data, loss_fn = network("frozen layer")
    count = []
    gradinit(
        model,
        lambda: count.append(0) or data(),
        loss_fn,
        steps=1,
        gamma=1e9,
        overlap=overlap,
    )
    assert len(count) == 2 * drawn  # once for the iteration, once for what is told


def test_pairs_are_used_as_they_are():
    model, data, loss_fn = network("frozen layer")

    def pair():
        first, second = data(), data()
        return BatchPair(first, tuple(part[:5] for part in second))

    seen = []

    def watched(output, batch):
        seen.append(len(batch[1]))
        return loss_fn(output, batch)

    gradinit(model, pair, watched, steps=2, gamma=1e9, backend="inplace")
    assert seen[:4] == [8, 5, 8, 5]


def test_the_best_feasible_scales_are_those_of_an_iterate_below_gamma():
    results = [
        gradinit(Chain((1.5, 1.5)), [point(1.0, 4.0)], half_square, overlap=1, final=final, **s)
        for final in ("last", "best_feasible")
        for s in ({"gamma": 0.5, "tau": 0.02, "steps": 301},)
    ]
    last, best = ([r.scales["theta_0"], r.after["grad_norm"]] for r in results)
    assert best[1] <= 0.5 and best[0] != last[0]


def test_the_best_feasible_scales_have_the_lowest_smoothed_loss_of_case_o():
    """A mean of memory 0.9, corrected for its start from 0; the scales are those it was seen at."""
    course = []
    targets = np.random.default_rng(0).normal(4.0, 0.5, 1000)  # so that no two losses are alike
    drawn = iter(targets)
    result = gradinit(
        Chain((1.5, 1.5)),
        lambda: point(1.0, next(drawn)),
        half_square,
        overlap=1,
        gamma=2.0,
        tau=0.02,
        steps=301,
        final="best_feasible",
        log=course.append,
    )
    seen_at = [1.0, *(row["smallest_scale"] for row in course[:-1])]
    smooth, found = 0.0, []
    for scale, row in zip(seen_at, course):
        if row["case"] == "o":
            smooth = 0.9 * smooth + 0.1 * row["loss1"]
            found.append((smooth / (1 - 0.9 ** (len(found) + 1)), scale))
    assert 50 < len(found) < 301
    where = [scale for _, scale in found]
    assert where[0] != min(found)[1] != where[-1]
    assert result.scales["theta_0"] == min(found)[1]


@pytest.mark.parametrize("backend", ["inplace", "functional"])
def test_a_network_that_counts_its_calls_forgets_them(backend):
    """Its answer depends on a buffer that every call moves: at scales of 1 the loss is the same."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x) * self.calls

    torch.manual_seed(11)
    model, batch = Counting(), vectors()()
    with torch.no_grad():
        expected = F.cross_entropy(model.layer(batch[0]), batch[1]).item()
    settings = {"steps": 5, "tau": 1e-12, "gamma": 1e9, "overlap": 1, "backend": backend}
    result = gradinit(model, [batch], labels, **settings)
    # The batch is joined with itself: sums round otherwise.
    assert result.history["loss0"] == pytest.approx(np.full(5, expected), rel=1e-6)
    assert model.calls == 0


def test_ceiling_and_split_moments():
    settings = {"gamma": 1e9, "steps": 60, "tau": 0.05, "overlap": 1}
    data = [point(1.0, 4.0)]
    assert gradinit(Chain((0.5, 0.7)), data, half_square, max_scale=1.5, **settings).scales == {
        "theta_0": 1.5,
        "theta_1": 1.5,
    }
    shared, split = (
        gradinit(
            Chain((1.5, 1.4)),
            data,
            half_square,
            gamma=0.5,
            tau=0.02,
            steps=100,
            clip=None,
            overlap=1,
            moments=moments,
        )
        for moments in ("shared", "split")
    )
    assert set(shared.history["case"]) == {"c", "o"}
    assert abs(shared.scales["theta_0"] - split.scales["theta_0"]) > 1e-4


def test_a_gain_is_told_apart_and_a_loss_without_reduction_refused():
    model, data, loss_fn = network("convolutions, BatchNorm, GroupNorm, dropout")
    result = gradinit(model, [data() for _ in range(5)], loss_fn, steps=4)
    assert result.kinds["1.weight"] == "gain" and len(result.history["iteration"]) == 4
    with pytest.raises(SpecError, match="one number"):
        gradinit(model, images(), lambda output, batch: output, steps=4)
