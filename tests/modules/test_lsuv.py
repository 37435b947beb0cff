"""LSUV: one rescaling a layer makes the outputs of variance 1, whatever the weights were."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.lsuv import lsuv
from tests.modules.states import bits, picture

torch.set_num_threads(1)


def plain(activation=nn.ReLU, gain=1.0, seed=0, depth=10):
    torch.manual_seed(seed)
    sizes = [20, *range(30, 30 + depth - 1), 7]
    layers = [nn.Linear(a, b).double() for a, b in itertools.pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            layer.weight.mul_(gain)
            layer.bias.normal_()
    return nn.Sequential(*[part for layer in layers for part in (layer, activation())][:-1])


def images(n=40, seed=1):
    return torch.randn(n, 20, generator=torch.Generator().manual_seed(seed)).double() + 0.3


def spreads(model, x, kinds=(nn.Linear, nn.Conv2d)):
    """Standard deviation and mean of the output of every layer, by hooks of our own."""
    found, handles = [], []
    for module in model.modules():
        if isinstance(module, kinds):
            keep = lambda m, i, o: found.append((float(o.std(correction=0)), float(o.mean())))  # noqa: E731
            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return np.array(found)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_one_rescaling_makes_every_output_of_deviation_one(activation):
    model, x = plain(activation), images()
    result = lsuv(model, x, tolerance=1e-12)
    np.testing.assert_allclose(spreads(model, x)[:, 0], 1, rtol=0, atol=1e-14)
    assert result.history["rescalings"].tolist() == [0, 1] * 10
    assert result.warnings == ()
    assert all(not model[2 * i].bias.any() for i in range(10))


def test_the_incoming_weights_play_no_part():
    first, second = plain(gain=1.0, seed=0), plain(gain=30.0, seed=5)
    for model in (first, second):
        lsuv(model, images())
    assert [bits(a) for a in first.parameters()] == [bits(b) for b in second.parameters()]
    lsuv(second, images(), seed=1)
    assert bits(first[0].weight) != bits(second[0].weight)


def test_weights_are_orthonormal_up_to_their_scale():
    model = plain()
    lsuv(model, images())
    w = model[2].weight.detach()  # 31 x 30: columns
    gram = w.T @ w
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(30).double(), rtol=0, atol=1e-12)


def test_a_layer_within_the_tolerance_is_left_alone_and_the_variance_is_what_is_compared():
    """An orthonormal square layer keeps N(0, 1) inputs, whose sd on this batch is 0.93."""
    x = 0.93 * torch.randn(500, 20, generator=torch.Generator().manual_seed(2)).double()
    for on, rescaled in (("sd", False), ("variance", True)):
        model = nn.Sequential(nn.Linear(20, 20)).double()
        found = lsuv(model, x, on=on)
        assert 0.9 < found.history["sd"][0] < 0.948  # so sd within 0.1 of 1, variance not
        assert (found.history["rescalings"].max() == 1) == rescaled


def test_centring_takes_the_mean_away_at_the_first_rescaling():
    model, x = plain(), images()
    result = lsuv(model, x, tolerance=1e-12, centre=True)
    np.testing.assert_allclose(spreads(model, x), [[1, 0]] * 10, rtol=0, atol=1e-14)
    assert result.history["rescalings"].max() == 1


def test_a_layer_of_the_right_deviation_is_still_centred():
    """One orthonormal row keeps deviation 1, and makes its sum of a mean of 1."""
    x = 1 + torch.randn(5000, 20, generator=torch.Generator().manual_seed(2)).double()
    model = nn.Sequential(nn.Linear(20, 1)).double()
    first = lsuv(model, x, apply=False).history
    assert abs(first["sd"][0] - 1) < 0.05 and abs(first["mean"][0]) > 0.1
    lsuv(model, x, centre=True)
    np.testing.assert_allclose(spreads(model, x), [[1, 0]], rtol=0, atol=1e-14)


def test_a_layer_that_no_rescaling_settles_is_told():
    """Beside a bias that may not be set the deviation is not homogeneous in the weight."""
    model = nn.Sequential(nn.Linear(20, 8)).double()
    with torch.no_grad():
        model[0].bias.copy_(torch.arange(8.0))
    model[0].bias.requires_grad_(False)
    result = lsuv(model, images(), rescalings=1)
    sd = spreads(model, images())[0, 0]
    assert sd > 1.5
    assert f"0 ended at sd {sd:.4g} after 1 rescalings." in result.warnings


class Tangled(nn.Module):
    """Layers written down in another order than they act, one used twice, two sharing a weight."""

    def __init__(self):
        super().__init__()
        self.last, self.twin = nn.Linear(6, 4), nn.Linear(6, 6)
        self.first, self.frozen = nn.Linear(5, 6), nn.Linear(6, 6).requires_grad_(False)
        self.again = nn.Linear(6, 6)
        self.twin.weight = self.again.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x, shift):
        h = torch.relu(self.frozen(torch.relu(self.first(x))))
        h = torch.relu(self.again(h)) + shift
        return {"logits": self.last(self.again(torch.relu(self.twin(h))))}


def test_order_of_execution_reuse_shared_frozen_and_unused_layers():
    torch.manual_seed(0)
    model = Tangled().double()
    frozen, unused = bits(model.frozen.weight), bits(model.unused.weight)
    x = (torch.randn(30, 5).double(), torch.tensor(0.5).double())
    result = lsuv(model, x, tolerance=1e-12)
    once = [
        name
        for name, done in zip(result.history["layer"], result.history["rescalings"])
        if done == 0
    ]
    assert once == ["first", "again", "last"]  # twin acts after the owner of its weight
    assert bits(model.frozen.weight) == frozen
    words = " ".join(result.warnings)
    assert "Frozen and left as they are: frozen." in words
    assert "set where it acts first: again." in words
    assert "Seen by no forward pass and left as they are: unused.weight." in words
    assert bits(model.unused.weight) == unused
    # A dict names the arguments; the outcome is the same.
    other = Tangled().double()
    other.load_state_dict(model.state_dict())
    lsuv(other, {"shift": x[1], "x": x[0]}, tolerance=1e-12)
    assert bits(other.last.weight) == bits(model.last.weight)


def test_convolutions_batch_normalisation_and_what_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, groups=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(),
        nn.ConvTranspose2d(5, 4, 3, stride=2), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(484, 3),
    )  # fmt: skip
    x = torch.randn(6, 2, 7, 7)
    before = picture(model)
    result = lsuv(model, x, tolerance=1e-5, apply=False)
    assert picture(model) == before
    result.apply(model)
    applied = picture(model)
    lsuv(model, x, tolerance=1e-5)
    assert picture(model) == applied
    model.eval()
    model[1].train()
    found = spreads(model, x, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))[:, 0]
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_half_weights_are_rounded_once():
    model = plain(depth=3).bfloat16()
    result = lsuv(model, images().bfloat16(), tolerance=1e-5)
    assert model[0].weight.dtype == torch.bfloat16
    # 2^-9 is the largest relative error of one rounding; those of many weights average out.
    np.testing.assert_allclose(spreads(model.double(), images())[:, 0], 1, atol=4 * 2**-9)
    assert result.weights["0.weight"].dtype == torch.bfloat16


BAD = {
    "dead": (SpecError, "layer '1' is dead: all 32 of its outputs"),
    "single": (SpecError, "layer '0' is dead"),
    "infinite": (NonFinite, "outputs of layer '0' are not finite"),
    "none": (SpecError, "Sequential has no linear or convolutional layer"),
    "frozen": (SpecError, "Sequential has no trainable parameter: LSUV"),
    "lazy": (SpecError, "'0.weight' is not made yet"),
    "normalised": (Unsupported, "layer '0' computes its weight from other tensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_error_and_the_model_is_as_it_was(case):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4))
    if case == "dead":
        model = nn.Sequential(nn.Threshold(10, 0.0), *model[1:])
    elif case == "single":
        model, x = nn.Sequential(nn.Linear(3, 1)), x[:1]
    elif case == "infinite":
        x[3, 1] = torch.inf
    elif case == "none":
        model = nn.Sequential(nn.LayerNorm(3))
    elif case == "frozen":
        model.requires_grad_(False)
    elif case == "lazy":
        model = nn.Sequential(nn.LazyLinear(3))
    elif case == "normalised":
        nn.utils.parametrizations.weight_norm(model[0])
    before = None if case == "lazy" else picture(model)
    error, words = BAD[case]
    with pytest.raises(error, match=words):
        lsuv(model, x)
    assert case == "lazy" or picture(model) == before


def test_settings_out_of_range_are_refused():
    model, x = plain(depth=2), images()
    with pytest.raises(SpecError, match="'variance' or 'sd', got 'std'"):
        lsuv(model, x, on="std")
    with pytest.raises(SpecError, match="tolerance"):
        lsuv(model, x, tolerance=-0.1)
    with pytest.raises(SpecError, match="rescalings must be an integer of at least 1, got 0"):
        lsuv(model, x, rescalings=0)
