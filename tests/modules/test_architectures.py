"""Small networks by a line of text: shapes, their initialisation, and what is refused."""

import pytest
import torch
from torch import nn

from sigprop.errors import SpecError, UnknownName
from sigprop.modules.architectures import architecture
from tests.stat import assert_agrees

torch.set_num_threads(1)

SPECS = [
    "mlp:depth=3,width=20,activation=tanh",
    "resmlp:depth=4,width=9,block=res3,alpha=0.5",
    "resmlp:depth=4,width=9,beta=1",
    "resnet:blocks=1,norm=none,alpha=0",
    "resnet:blocks=2,stages=2,widths=4/6,shortcut=projection",
    "vgg:widths=3/5,convolutions=2,norm=batch",
    "convmlp:widths=3/4,depth=2,width=9,activation=leaky_relu,border=zeros",
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_network_is_a_function_of_its_line_and_its_seed(spec):
    """Its line read again makes it again; nothing of torch's own random numbers is used."""
    before = torch.get_rng_state()
    made, again, other = (architecture(spec).build((2, 8, 7), 5, seed=s) for s in (1, 1, 2))
    assert architecture(str(architecture(spec))) == architecture(spec)
    assert torch.equal(before, torch.get_rng_state())
    x = torch.randn(6, 2, 8, 7, generator=torch.Generator().manual_seed(0))
    assert made(x).shape == (6, 5)
    weights, same, apart = (list(m.parameters()) for m in (made, again, other))
    assert all(torch.equal(a, b) for a, b in zip(weights, same))
    assert not torch.equal(weights[0], apart[0])
    loss = nn.functional.cross_entropy(made(x), torch.arange(6) % 5)
    assert all(g is not None for g in torch.autograd.grad(loss, weights))


def variances(module):
    """(fan_in, fan_out, mean square, its standard error) of every weight matrix or kernel."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            w = layer.weight.detach().double()
            taps = w[0, 0].numel()
            square = (w**2).mean().item()
            yield w.shape[1] * taps, w.shape[0] * taps, square, square * (2 / w.numel()) ** 0.5
            assert layer.bias is None or isinstance(layer, nn.Linear) or not layer.bias.any()


@pytest.mark.parametrize(
    ("spec", "inner", "last"),
    [
        ("mlp:depth=4,width=90,gain=1.5", lambda i, o: 1.5**2 * 2 / i, lambda i: 1.5**2 / i),
        ("mlp:width=90,activation=identity,gain=.7", lambda i, o: 0.49 / i, lambda i: 0.49 / i),
        ("resmlp:depth=4,width=90,gain=.7", lambda i, o: 0.49 / i, lambda i: 1 / i),
        ("resmlp:depth=3,width=90,block=res3,gain=.7", lambda i, o: 0.49 / i, lambda i: 1 / i),
        ("vgg:widths=20/30,convolutions=2", lambda i, o: 2 / o, lambda i: 1e-4),
        ("resnet:widths=10/20/30,norm=none", lambda i, o: 2 / o, lambda i: 1 / (3 * i)),
    ],
)
def test_weights_have_the_variance_that_is_stated(spec, inner, last):
    """Fires by chance once in a million; kernels of 90 numbers and more see a factor of 3."""
    first, *middle, end = variances(architecture(spec).build((1, 8, 8), seed=4))
    if spec.startswith("resmlp"):  # the layer to the width
        assert_agrees(first[2], 1 / first[0], first[3], resolution=3)
    else:
        middle = [first, *middle]
    for fan_in, fan_out, square, se in middle:
        assert_agrees(square / inner(fan_in, fan_out), 1, se / square, resolution=3)
    assert_agrees(end[2] / last(end[0]), 1, end[3] / end[2], resolution=3)


def test_a_residual_block_is_its_formula():
    """h + depth^-beta alpha V phi(W h), to rounding in float32."""
    network = architecture("resmlp:depth=3,width=9,block=res3,beta=.7,alpha=.4").build((1, 2, 2))
    x = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    _, entry, *blocks, last = network
    h = entry(x.flatten(1))
    for block in blocks:
        inner, _, outer = block.layers
        h = h + 3**-0.7 * 0.4 * torch.relu(h @ inner.weight.T) @ outer.weight.T
    torch.testing.assert_close(network(x), last(h), rtol=1e-5, atol=1e-6)
    assert sum(name.endswith("alpha") for name, _ in network.named_parameters()) == 3


def test_a_resnet_with_branches_off_is_its_shortcuts():
    """alpha = 0 without normalisation: pixels are dropped, channels of zeros added, no more."""
    network = architecture("resnet:norm=none,alpha=0,widths=4/8/12").build((3, 8, 8))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    h = torch.relu(network[0](x))[:, :, ::4, ::4]
    seen = nn.functional.pad(h, (0, 0, 0, 0, 4, 4)).mean((2, 3))
    torch.testing.assert_close(network(x), network[-1](seen), rtol=1e-5, atol=1e-6)


def test_sizes_are_those_asked_for():
    deep = architecture("resmlp:depth=1000,width=3").build((1, 2, 2))
    assert sum(isinstance(m, nn.Linear) for m in deep.modules()) == 1002
    vgg = architecture("vgg").build((1, 8, 8))
    widths = [m.out_channels for m in vgg.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [16] * 4 + [32] * 4 + [64] * 4
    resnet = architecture("resnet:stages=2,blocks=3,widths=8/16").build((1, 8, 8))
    kernels = [m for m in resnet.modules() if isinstance(m, nn.Conv2d)]
    assert len(kernels) == 1 + 2 * 2 * 3
    assert [m.stride for m in kernels].count((2, 2)) == 1
    type_c = architecture("resnet:stages=2,widths=8/16,shortcut=everywhere").build((1, 8, 8))
    kernels = [m for m in type_c.modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size for m in kernels].count((1, 1)) == 2 * 3
    assert [m.stride for m in kernels].count((2, 2)) == 2


@pytest.mark.parametrize(
    ("activation", "keeping"), [("relu", 2), ("leaky_relu", 2 / 1.0001), ("identity", 1)]
)
def test_convolutions_before_an_mlp_keep_he_and_only_the_mlp_has_the_gain(activation, keeping):
    """Fires by chance once in a million; kernels of 75 numbers and more see a factor of 3."""
    line = f"convmlp:gain=3,depth=5,activation={activation}"
    network = architecture(line).build((3, 32, 32), seed=2)
    *kernels, entry = list(variances(network))[:3]
    for fan_in, _, square, se in kernels:
        assert_agrees(square * fan_in / keeping, 1, se / square, resolution=3)
    fan_in, _, square, se = entry
    assert fan_in == 16 * 5 * 5
    assert_agrees(square * fan_in / keeping, 9, 9 * se / square, resolution=3)


def test_a_convolutional_network_before_an_mlp_is_its_formula():
    """Two convolutions of 5 x 5 without a border, each pooled: 32 x 32 pixels become 5 x 5."""
    network = architecture("convmlp:depth=1,width=8").build((3, 32, 32), 4, seed=3)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    h, (first, second, inner, last) = x, [m for m in network.modules() if hasattr(m, "weight")]
    for layer in (first, second):
        patches = h.unfold(2, 5, 1).unfold(3, 5, 1)
        h = torch.einsum("ncijkl,ockl->noij", patches, layer.weight).relu()
        h = h.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    assert h.shape == (2, 16, 5, 5)
    expected = (h.flatten(1) @ inner.weight.T).relu() @ last.weight.T
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mlp:dept=3", "Did you mean 'depth'"),
        ("mlp:depth", "no option"),
        ("mlp:depth=0", "1 or more"),
        ("mlp:depth=2.5", "depth=10"),
        ("mlp:gain=nan", "finite"),
        ("mlp:activation=rleu", "Did you mean 'relu'"),
        ("resmlp:beta=-1", "0 or more"),
        ("mlp:depth=3,depth=4", "twice"),
        ("resnet:norm=batc", "Did you mean 'batch'"),
        ("resnet:widths=8/x/9", "widths=8/16/32"),
        ("resnet:stages=2", "2 stages and 3 widths"),
        ("resnet:widths=8/4/2", "shortcut=projection"),
        ("vgg:widths=2/2/2/2/2", "too small"),
        ("convmlp:depth=2", "border=zeros"),
    ],
)
def test_what_is_no_network_is_refused_in_one_sentence(spec, says):
    with pytest.raises(SpecError, match=says):
        architecture(spec).build((1, 8, 8))


def test_an_unknown_network_is_answered_by_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'resnet'"):
        architecture("restnet")
