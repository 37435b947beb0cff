"""Small networks of every kind that a data-driven method must work with, with data and a loss.

All are smooth where finite differences are compared, and in float64 within `in_float64`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def vectors(seed=4, classes=3, features=6):
    """A function that draws half-batches of 8 vectors with labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=generator)

    def draw():
        y = torch.randint(0, classes, (8,), generator=generator)
        return centres[y] + torch.randn(8, features, generator=generator), y

    return draw


def images(seed=4):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        y = torch.randint(0, 3, (8,), generator=generator)
        return y[:, None, None, None] + torch.randn(8, 2, 5, 5, generator=generator), y

    return draw


def words(seed=4):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        x = torch.randint(0, 7, (8, 5), generator=generator)
        return x, x.sum(1) % 3

    return draw


def labels(output, batch):
    return F.cross_entropy(output, batch[1])


class Recurrent(nn.Module):
    """Embedding, LSTM, linear head."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


class Attention(nn.Module):
    """One head on words, through scaled_dot_product_attention, and a LayerNorm."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.mix = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        h = self.embedding(x)
        q, k, v = (part[:, None] for part in self.mix(h).chunk(3, dim=-1))
        h = h + F.scaled_dot_product_attention(q, k, v)[:, 0]
        return self.head(self.norm(h).mean(1))


class Tied(nn.Module):
    """The output layer is the embedding; a bias of zero and a matrix that nobody uses."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.body = nn.Linear(6, 6)
        self.unused = nn.Linear(3, 2)
        self.head = nn.Linear(6, 7)
        self.head.weight = self.embedding.weight
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(torch.tanh(self.body(self.embedding(x))).mean(1))


class Structured(nn.Module):
    """Reads named arguments and returns a dict and a tuple."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x, scale):
        return {"parts": (self.left(x) * scale, torch.tanh(self.right(x)))}


class Checkpointed(nn.Module):
    """Three layers of tanh, whose activations may be computed again in the backward pass."""

    def __init__(self, recompute, reentrant=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.head = nn.Linear(6, 3)
        self.recompute, self.reentrant = recompute, reentrant

    def forward(self, x):
        x = self.block(self.layers[0], x)
        for layer in self.layers[1:]:
            x = (
                checkpoint(self.block, layer, x, use_reentrant=self.reentrant)
                if self.recompute
                else self.block(layer, x)
            )
        return self.head(x)

    @staticmethod
    def block(layer, x):
        return torch.tanh(2 * layer(x))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def frozen():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    for value in model[2].parameters():
        value.requires_grad_(False)
    return model


def structured_data():
    draw = vectors()

    def dicts():
        x, y = draw()
        return {"x": x, "scale": torch.full((8, 1), 1.5), "label": y, "kind": "train"}

    return dicts


def structured_loss(output, batch):
    assert batch["kind"] == "train"
    return sum(F.cross_entropy(part, batch["label"]) for part in output["parts"])


# Name -> (network, data, loss).
KINDS = {
    "convolutions, BatchNorm, GroupNorm, dropout": (convolutional, images, labels),
    "embedding, LSTM": (Recurrent, words, labels),
    "attention, LayerNorm": (Attention, words, labels),
    "tied, zero and unused tensors": (Tied, words, labels),
    "frozen layer": (frozen, vectors, labels),
    "dicts and tuples": (Structured, structured_data, structured_loss),
    "checkpointing": (lambda: Checkpointed(True), vectors, labels),
}


def network(name):
    """The network of this name with fixed weights, its data from the start, and its loss."""
    make, data, loss_fn = KINDS[name]
    torch.manual_seed(11)
    return make(), data(), loss_fn


def state(model):
    """All of a network that must not change: objects, bits, modes, gradients, hooks, randomness."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        "bits": {name: value.detach().clone() for name, value in tensors},
        "places": {name: (id(value), value.data_ptr(), value.dtype) for name, value in tensors},
        "modes": [module.training for module in model.modules()],
        "gradients": [(id(value.grad), value.grad) for value in model.parameters()],
        "hooks": [list(module._forward_hooks) for module in model.modules()],
        "random": torch.random.get_rng_state(),
    }


def assert_same_state(before, after, except_bits=()):
    for part in ("places", "modes", "hooks"):
        assert before[part] == after[part], part
    assert [place for place, _ in before["gradients"]] == [p for p, _ in after["gradients"]]
    assert torch.equal(before["random"], after["random"])
    for name, bits in before["bits"].items():
        if name not in except_bits:
            assert torch.equal(bits, after["bits"][name]), name
