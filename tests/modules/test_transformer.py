"""The Transformer beside torch's own layers, its weights, and the sequences that it is for."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn

from sigprop.errors import SpecError
from sigprop.modules import Recipe, Seeds, anatomy, architecture, gradinit, train_network
from sigprop.modules.symbols import reversal
from tests.stat import ALPHA, assert_agrees

torch.set_num_threads(1)


def torchs_own(layer, width, heads, inner, order):
    """A layer of torch with the same weights, in float64."""
    made = nn.TransformerEncoderLayer(
        width, heads, inner, dropout=0.0, batch_first=True, norm_first=order == "pre"
    ).double()
    attention = layer.attention
    parts = (attention.query, attention.key, attention.value)
    state = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
    }
    same = {"self_attn.out_proj": attention.out, "linear1": layer.matrices[0],
            "linear2": layer.matrices[2], "norm1": layer.norm1, "norm2": layer.norm2}  # fmt: skip
    for name, module in same.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    made.load_state_dict(state)
    return made


@pytest.mark.parametrize("order", ["post", "pre"])
@pytest.mark.parametrize("output", ["image", "place"])
def test_the_network_is_that_of_torch(order, output):
    """Layer by layer, with biases and gains that are not 0 and 1."""
    line = f"transformer:depth=3,width=12,heads=3,inner=20,order={order},output={output}"
    network = architecture(line).build((2, 3, 2), 5, seed=4).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    x = torch.randn(4, 2, 3, 2, generator=generator, dtype=torch.float64)
    tokens = x.flatten(2).transpose(1, 2)
    h = tokens @ network.embedding.weight.T + network.positions
    for layer in network.layers:
        h = torchs_own(layer, 12, 3, 20, order)(h)
    if order == "pre":
        h = nn.functional.layer_norm(h, (12,), network.norm.weight, network.norm.bias)
    if output == "image":
        h = h.mean(1, keepdim=True)
    expected = (h @ network.classifier.weight.T + network.classifier.bias).transpose(1, 2)
    expected = expected[..., 0] if output == "image" else expected
    assert expected.shape == ((4, 5) if output == "image" else (4, 5, 6))
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-13)


def test_weights_have_the_variance_that_is_stated():
    """Fires by chance once in a million; 128 numbers and more each see a factor of 2."""
    network = architecture("transformer:depth=2,width=32,inner=96").build((4, 5, 5), 6, seed=2)
    for name, tensor in network.named_parameters():
        values = tensor.detach().double()
        if name.endswith("bias"):
            assert not values.any()
        elif "norm" in name:
            assert (values == 1).all()
        else:
            stated = {"positions": 1.0, "embedding.weight": 1 / 4, "classifier.weight": 1 / 32}
            fans = sum(values.shape)
            ratio = float((values**2).mean()) / stated.get(name, 2 / fans)
            assert_agrees(ratio, 1, math.sqrt(2 / values.numel()), resolution=1.3)


def test_a_network_is_a_function_of_its_line_and_its_seed():
    before = torch.get_rng_state()
    made = architecture("transformer:depth=1,width=8,heads=2,order=pre,output=place")
    assert architecture(str(made)) == made
    one, same, other = (made.build((2, 2, 3), seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    for name in one:
        assert torch.equal(one[name], same[name])
        drawn = not name.endswith("bias") and "norm" not in name
        assert torch.equal(one[name], other[name]) == (not drawn)


def test_branches_of_attention_and_matrices_are_found():
    network = architecture("transformer:depth=2,width=8,heads=2").build((1, 2, 2))
    found = anatomy(network, torch.zeros(3, 1, 2, 2))
    branches = [sum_.name for sum_ in found.sums]
    assert branches == [f"layers.{i}.{part}" for i in (0, 1) for part in ("attention", "matrices")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("width=30", "multiple of heads"),
        ("order=past", "Did you mean 'post'"),
        ("output=places", "Did you mean 'place'"),
        ("inner=0", "1 or more"),
    ],
)
def test_what_is_no_transformer_is_refused(line, says):
    with pytest.raises(SpecError, match=says):
        architecture(f"transformer:{line}")


# ------------------------------------------------------------------------ sequences


def test_every_place_is_labelled_by_its_mirror_and_tells_nothing_of_it():
    """A symbol and the label of its place: chi-square of 35 degrees, fires twice in a million;
    sees 10% of the labels told by the symbol."""
    task = reversal(length=7, vocabulary=6, train=3000, validation=20, test=50, seed=4)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [3000, 20, 50]
    assert task.shape == (6, 1, 7) and task.classes == 6
    images, labels = task.train.take(slice(None))
    assert torch.equal(images > 0, task.train.pixels == 1)
    assert float((images**2).mean()) == pytest.approx(1)
    symbols = images.argmax(1).squeeze(1)
    assert torch.equal(symbols.flip(1), labels)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (symbols[:, 0].numpy(), labels[:, 0].numpy()), 1)
    chi = float(((pairs - 3000 / 36) ** 2 / (3000 / 36)).sum())
    assert ALPHA < chi2.sf(chi, 35) < 1 - ALPHA
    again = reversal(length=7, vocabulary=6, train=3000, validation=20, test=50, seed=4)
    assert again.digest == task.digest and torch.equal(again.test.labels, task.test.labels)
    other = reversal(length=7, vocabulary=6, train=3000, validation=20, test=50, seed=5)
    assert other.digest != task.digest


@pytest.mark.parametrize("name", ["length", "vocabulary", "train", "test", "seed"])
def test_a_task_out_of_range_is_refused(name):
    with pytest.raises(SpecError, match=name):
        reversal(**{name: -1})


def test_losses_and_accuracies_of_sequences_are_per_place():
    """A network that looks nowhere else stays at chance: ln 5 and a fifth of all places."""
    task = reversal(length=4, vocabulary=5, train=64, test=400)
    network = architecture("transformer:depth=1,width=8,heads=1,output=place").build(
        task.shape, task.classes
    )
    nn.init.zeros_(network.classifier.weight)
    recipe = Recipe(optimizer="adam", lr=1e-9, epochs=1, batch=64)
    course = train_network(network, task, recipe, Seeds.of(0))
    assert course.train_loss[0] == pytest.approx(math.log(5), abs=1e-6)
    assert course.test_loss[0] == pytest.approx(math.log(5), abs=1e-6)
    right = network(task.test.images).argmax(1) == task.test.labels
    assert course.test_accuracy[0] == right.double().mean()


def test_gradinit_binds_the_norm_of_a_transformer():
    """Its attention is differentiated twice; the norm falls to a third and less."""
    task = reversal(length=4, vocabulary=5, train=400, test=1)
    network = architecture("transformer:depth=2,width=16,heads=2,inner=32,output=place").build(
        task.shape, task.classes, seed=1
    )
    batches = task.train.batches(16, seed=0, epochs=None)
    loss = lambda output, batch: nn.functional.cross_entropy(output, batch[1])  # noqa: E731
    found = gradinit(network, batches, loss, optimizer="adam", gamma=10.0, steps=60)
    assert found.before["grad_norm"] > 60 and found.after["grad_norm"] < 20
    assert found.scales["positions"] != 1
