"""The residual network whose matrices are paths along depth: its formula, its law, refusals."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis.regularity import hurst_index, structure_function
from sigprop.errors import SpecError
from sigprop.modules.architectures import architecture
from tests.stat import assert_agrees

torch.set_num_threads(1)

SHAPE = (2, 3, 2)


@pytest.mark.parametrize("block", ["res1", "res3"])
def test_the_network_is_its_formula_and_so_are_its_gradients(block):
    spec = f"stacked:depth=4,width=5,block={block},beta=.7,hurst=.8"
    network = architecture(spec).build(SHAPE, 3, seed=2).double()
    nn.init.normal_(network.bias, generator=torch.Generator().manual_seed(3))
    x = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h = x.flatten(1) @ network.first.T
    for layer in range(4):
        read = h if block == "res1" else h @ network.inner[layer].T
        step = torch.relu(read) @ network.outer[layer].T + network.bias[layer]
        h = h + 4**-0.7 * step
    expected = h @ network.last.T
    torch.testing.assert_close(network(x), expected, rtol=1e-13, atol=1e-14)
    parameters = list(network.parameters())
    assert len(parameters) == (4 if block == "res1" else 5)
    for own, written in zip(
        torch.autograd.grad(network(x).square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
    ):
        torch.testing.assert_close(own, written, rtol=1e-11, atol=1e-13)


def test_a_network_is_a_function_of_its_line_and_its_seed():
    before = torch.get_rng_state()
    made = architecture("stacked:depth=9,width=4,block=res3,hurst=.3")
    assert architecture(str(made)) == made
    one, same, other = (made.build(SHAPE, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name in one:
        assert torch.equal(one[name], same[name])
        assert name == "bias" or not torch.equal(one[name], other[name])
    assert not torch.equal(one["inner"], one["outer"])
    assert not one["bias"].any()


def test_weights_have_their_variance_and_follow_their_process():
    """Fires by chance four times in a million; sees 0.1 in the index, a third in a variance."""
    networks = [
        architecture("stacked:depth=64,width=12,block=res3,hurst=.8").build(SHAPE, seed=s)
        for s in range(30)
    ]
    for name in ("inner", "outer"):
        weights = np.stack([getattr(n, name).detach().numpy() for n in networks])
        structure = structure_function(weights)
        index = hurst_index(structure, 1, 16)
        assert_agrees(index.mean(), 0.8, index.std(ddof=1) / 30**0.5, resolution=0.1)
        variance = 12 * structure.sel(lag=1)
        assert_agrees(variance.mean(), 1, variance.std(ddof=1) / 30**0.5, resolution=0.33)
    smooth = architecture("stacked:depth=64,width=5,bandwidth=.1").build(SHAPE)
    assert hurst_index(structure_function(smooth.outer.detach().numpy()[None]), 1, 4) > 0.98
    first = torch.stack([n.first.detach() for n in networks]).double()
    error = (2 / first.numel()) ** 0.5
    assert_agrees(first.square().mean() * 12, 1, error, resolution=0.33)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("stacked:hurst=1", "tied"),
        ("stacked:hurst=.3,bandwidth=.1", "one of the two"),
        ("stacked:hurts=.3", "Did you mean 'hurst'"),
        ("stacked:bandwidth=0", "bandwidth"),
    ],
)
def test_what_is_no_network_is_refused(spec, says):
    with pytest.raises(SpecError, match=says):
        architecture(spec)
