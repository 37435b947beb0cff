"""Deep MLPs of a wrong gain on digits, which GradInit must repair: bounds of every row."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from sigprop.modules import architecture, gradinit, load_data

LR = {"sgd": 0.1, "adam": 1e-3}
GAMMA = {"sgd": 1.0, "adam": 100.0}
CHANCE = math.log(10)
# Geometric mean of the scales of weights.
MEAN = {1.5: (0.5, 0.75), 0.7: (1.15, 1.55)}


def norm_and_stepped(model, batch, optimizer):
    """Gradient norm on a batch, and its loss after one step along it, by plain autograd."""
    parameters = list(model.parameters())
    loss = F.cross_entropy(model(batch[0]), batch[1])
    gradients = torch.autograd.grad(loss, parameters)
    flat = torch.cat([g.flatten() for g in gradients]).double()
    norm = flat.norm() if optimizer == "sgd" else flat.abs().sum()
    kept = [value.detach().clone() for value in parameters]
    with torch.no_grad():
        for value, g in zip(parameters, gradients):
            value -= LR[optimizer] * (g / norm if optimizer == "sgd" else g.sign())
        stepped = F.cross_entropy(model(batch[0]), batch[1]).item()
        for value, old in zip(parameters, kept):
            value.copy_(old)
    return norm.item(), stepped


def repaired(optimizer, gain, seed):
    """20 hidden layers of 64, 390 iterations: (norm, stepped loss) before, after, and mean m."""
    digits = load_data("digits")
    model = architecture(f"mlp:depth=20,width=64,gain={gain}").build(digits.shape, seed=seed)
    unseen = zip(digits.test.take(slice(None)), digits.validation.take(slice(76)))
    held = [torch.cat(parts) for parts in unseen]
    assert len(held[1]) == 256
    before = norm_and_stepped(model, held, optimizer)
    result = gradinit(
        model,
        digits.train.batches(64, seed=seed, epochs=None),
        lambda output, batch: F.cross_entropy(output, batch[1]),
        optimizer=optimizer,
        gamma=GAMMA[optimizer],
    )
    after = norm_and_stepped(model, held, optimizer)
    weights = [s for name, s in result.scales.items() if name.endswith("weight")]
    mean = float(np.exp(np.mean(np.log(weights))))
    assert len(weights) == 21
    return before, after, mean


def assert_repaired(optimizer, gain, seed):
    """One run keeps the bounds: norm, scales, and a loss after one step below chance."""
    before, after, mean = repaired(optimizer, gain, seed)
    low, high = MEAN[gain]
    assert after[0] <= 1.5 * GAMMA[optimizer]
    assert low <= mean <= high
    assert after[1] < CHANCE
    if gain == 1.5:
        assert before[1] > 100 * after[1]
