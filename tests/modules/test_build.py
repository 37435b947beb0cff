"""A module that is built from an ensemble is a network of that ensemble."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sigprop
from sigprop import rng
from sigprop.activations import LeakyReLU, RandomisedLeakyReLU
from sigprop.backends import reference
from sigprop.errors import SpecError, Unsupported
from sigprop.inputs import Batch, Given, Pair, Point
from sigprop.modules import anatomy, build
from sigprop.schemes import Balanced, Fixup, GivenScheme, NFResNet, Power, SkipInit
from sigprop.spec import Ensemble, Network
from tests.activated import CASES as ACTIVATED
from tests.ensembles import BLOCKS, uneven
from tests.exact.test_batch_sampler import CASES as IMAGES
from tests.stat import assert_same_law

torch.set_num_threads(1)


def _tenths(block: str) -> Ensemble:
    hidden = {} if block == "res1" else {"inner_width": 9}
    scheme = GivenScheme(skip=0.8, branch=0.7, variance=0.4, law="rademacher")
    return Ensemble(Network(depth=2, width=3, block=block, **hidden), scheme, Given([TENTHS]))


TENTHS = [0.1, 0.2, 0.3]

CASES = {
    **{block: uneven(block, "tanh", bias_variance=0.4, inputs=Pair()) for block in BLOCKS},
    "leaky": uneven("inner", LeakyReLU(slope=-0.6), inner_layers=3),
    "randomised": uneven("res3", RandomisedLeakyReLU()),
    "gelu": uneven("preact", "gelu"),
    "erf": uneven("plain", "erf"),
    "silu": uneven("res1", "silu"),
    "signs": uneven("res3", law="rademacher", hidden=(4,), bias_variance=0.5),
    # 0.1 + 0.2 - 0.3 is 0 in law, and 5e-17 on a processor
    "signs that cancel": _tenths("res3"),
    "signs that cancel, on the trunk": _tenths("res1"),
    "heavy tails": uneven("res3", law=sigprop.Stable(stability=1.3)),
    "dropped": Ensemble(
        Network(depth=4, width=6, dropout=0.4, block="preact"), SkipInit(initial=0.7)
    ),
    "balanced": Ensemble(Network(depth=4, width=5, block="res1"), Balanced(alpha=0.6)),
    "centred": Ensemble(Network(depth=4, width=5, block="preact"), NFResNet(alpha=0.7), Point()),
    "normalised": Ensemble(
        Network(depth=3, width=4, block="preact"), sigprop.BatchNorm(), Batch(count=5)
    ),
    "along depth": Ensemble(
        Network(depth=5, width=4), Power(beta=0.3, process=sigprop.Rbf(bandwidth=0.4))
    ),
    **{f"activated: {name}": case for name, case in ACTIVATED.items()},
    **{f"images: {name}": case for name, case in IMAGES.items()},
}


def _both(ensemble: Ensemble, seed: int = 2, replica: int = 1):
    """The module, and what the reference has drawn for the same network."""
    key = rng.key(seed, ensemble.digest, "reference", reference.Reference.version)
    draws = reference.draw(ensemble, [reference.generator_of(key, replica)])
    return build(ensemble, seed=seed, replica=replica, dtype=torch.float64), draws


def assert_close(found: torch.Tensor, wanted: np.ndarray, name: str) -> None:
    """Row by row, within 1e-12 of the length of the row."""
    found = found.detach().flatten(1).numpy()
    error = np.linalg.norm(found - wanted, axis=1)
    size = np.linalg.norm(wanted, axis=1)
    assert (error <= 1e-12 * size).all(), (name, error / np.where(size > 0, size, 1))


@pytest.mark.parametrize("case", list(CASES))
def test_forward_and_backward_are_those_of_the_reference(case):
    """Every state and every gradient, of all inputs, to 1e-12."""
    ensemble = CASES[case]
    model, draws = _both(ensemble)
    signal = reference.forward(ensemble, draws)
    gradients, exponents = reference.backward(
        ensemble, draws, signal.derivatives, normalised=signal.normalised
    )

    assert_close(model.inputs, draws.inputs[0], "inputs")
    states = [model.enter(model.inputs).detach().requires_grad_()]
    h = states[0]
    for layer in model.layers:
        h = layer(h)
        h.retain_grad()
        states.append(h)
    top = torch.tensor(draws.top[0]).expand(len(h), -1).reshape(h.shape)
    (h * top).sum().backward()

    for at, state in enumerate(states):
        wanted = np.ldexp(signal.states[at][0], signal.exponents[at][0][:, None])
        assert_close(state, wanted, f"state {at}")
        wanted = np.ldexp(gradients[at][0], exponents[at][0][:, None])
        assert_close(state.grad, wanted, f"gradient {at}")
    assert torch.equal(model(model.inputs), states[-1])


@pytest.mark.parametrize("case", ["res3", "activated: projection", "dropped", "images: res3"])
def test_a_built_network_is_a_replica_of_the_sampler(case):
    """Seed and replica name the network of a run of the sampler reference."""
    ensemble = CASES[case]
    kept = sigprop.simulate(
        ensemble, replicas=6, seed=9, sampler="reference", keep=[ensemble.network.depth]
    )  # fmt: skip
    for replica in (0, 4):
        model = build(ensemble, seed=9, replica=replica, dtype=torch.float64)
        start = model.enter(model.inputs).flatten(1).norm(dim=1)
        ratio = (model(model.inputs).flatten(1).norm(dim=1) / start).log()
        wanted = kept.replica_log_norm[replica].values.reshape(-1)
        np.testing.assert_allclose(ratio.detach().numpy(), wanted, rtol=1e-11, atol=1e-11)


def test_built_networks_have_the_law_of_the_dense_sampler():
    """Norms and gradients of 900 modules against 6000 networks of the kernels (KS, ALPHA each)."""
    ensemble = uneven("res3", inputs=Point())
    norms, gradients = [], []
    for replica in range(900):
        model = build(ensemble, replica=replica, dtype=torch.float64)
        x = model.inputs.clone().requires_grad_()
        y = model(x)
        top = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(replica))
        (y * top).sum().backward()
        norms.append(float((y.norm() / x.norm()).detach().log()))
        gradients.append(float((x.grad.norm() / top.norm()).log()))
    kept = sigprop.simulate(
        ensemble, replicas=6000, seed=1, sampler="dense", keep=[0, 4]
    )  # fmt: skip
    for name, sample, at in (("log_norm", norms, 1), ("log_gradient", gradients, 0)):
        other = kept[f"replica_{name}"].values[:, at].reshape(-1)
        assert_same_law(np.array(sample), other, resolution=0.2, name=name)


# -------------------------------------------------------------------------- as a module


def test_branch_coefficients_are_parameters_where_the_scheme_trains_them():
    shape = {"depth": 2, "width": 4}
    trained = build(Ensemble(Network(**shape), SkipInit(initial=0.2)))
    assert [n for n, _ in trained.named_parameters() if n.endswith("gain")] == [
        "layers.0.gain",
        "layers.1.gain",
    ]
    fixed = build(Ensemble(Network(**shape), Power(beta=0.5)))
    assert not [n for n, _ in fixed.named_parameters() if n.endswith("gain")]
    assert fixed.layers[0].gain == pytest.approx(2**-0.5)


def test_what_is_drawn_once_is_a_buffer_and_comes_back_with_the_state():
    ensemble = CASES["dropped"]
    model, other = build(ensemble, seed=1), build(ensemble, seed=2)
    assert any(name.endswith("below") for name, _ in model.named_buffers())
    assert "inputs" not in model.state_dict()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(model.inputs), model(model.inputs))


def test_a_built_network_has_the_anatomy_of_its_block():
    for case, kind in (("res3", "identity"), ("activated: projection", "C")):
        ensemble = CASES[case]
        model = build(ensemble)
        sums = anatomy(model, model.inputs).sums
        assert [s.name for s in sums] == [f"layers.{i}" for i in range(ensemble.network.depth)]
        branch = ensemble.network.branch_matrices
        assert all(len(s.layers) == branch for s in sums)
        assert sums[0].type == kind or ensemble.network.form.post


def test_a_built_network_trains():
    model = build(Ensemble(Network(depth=3, width=6, block="inner"), Fixup()), seed=4)
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    before = float(model(x).square().mean().detach())
    for _ in range(20):
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()
    assert float(model(x).square().mean().detach()) < 0.9 * before


def test_float32_is_float64_rounded():
    ensemble = CASES["images: projection"]
    fine, coarse = build(ensemble, dtype=torch.float64), build(ensemble)
    for (name, a), b in zip(fine.state_dict().items(), coarse.state_dict().values()):
        assert torch.equal(a.float(), b), name


def test_the_callers_random_numbers_are_left_alone():
    state = torch.get_rng_state()
    build(CASES["images: res3"])
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_a_module_is_refused_in_a_sentence():
    with pytest.raises(SpecError, match=r"build needs a sigprop.Ensemble, got Network"):
        build(Network(depth=1))
    with pytest.raises(SpecError, match=r"dtype must be torch.float32 or torch.float64"):
        build(CASES["res3"], dtype=torch.float16)
    with pytest.raises(SpecError, match="seed must be an integer"):
        build(CASES["res3"], seed=-1)
    own = sigprop.activations.function("halved_for_build", lambda u: u / 2)
    with pytest.raises(Unsupported, match="'halved_for_build' is a Python function"):
        build(Ensemble(Network(depth=1, width=4, activation=own), Power(beta=0.5)))
    around = Network(depth=1, width=4, image=1, kernel=5, padding="circular")
    with pytest.raises(Unsupported, match="more than once"):
        build(Ensemble(around, Power(beta=0.5)))
