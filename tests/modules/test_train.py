"""The trainer: its steps are those of the formulas, its seeds are apart, it tells divergence."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from sigprop.errors import SpecError
from sigprop.modules.architectures import architecture
from sigprop.modules.data import load_data
from sigprop.modules.train import Recipe, Seeds, train_network

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", train=230)


def course(data, recipe, seeds=None, network="mlp:depth=2,width=12", init=1):
    made = architecture(network).build(data.shape, seed=init)
    return made, train_network(made, data, recipe, seeds or Seeds.of(3))


def by_hand(data, recipe, seeds, steps):
    """The weights after some steps, from the formulas and in float64."""
    network = architecture("mlp:depth=2,width=12").build(data.shape, seed=1).double()
    parameters = list(network.parameters())
    memory = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    batches = iter(data.train.batches(recipe.batch, seed=seeds.order, epochs=9))
    an_epoch = len(data.train) // recipe.batch
    for t in range(steps):
        x, y = next(batches)
        loss = nn.functional.cross_entropy(network(x.double()), y)
        gradients = torch.autograd.grad(loss, parameters)
        size = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        if recipe.clip is not None and size > recipe.clip:
            gradients = [g * recipe.clip / (size + 1e-6) for g in gradients]
        lr = recipe.lr * min(1, (t + 1) / recipe.warmup if recipe.warmup else 1)
        if recipe.schedule == "cosine":
            lr *= (1 + math.cos(math.pi * t / (an_epoch * recipe.epochs))) / 2
        if recipe.schedule == "step":
            lr *= 0.1 ** (t // an_epoch // recipe.step)
        with torch.no_grad():
            for p, g, (first, second) in zip(parameters, gradients, memory):
                decay = recipe.weight_decay if p.ndim > 1 else 0.0
                if recipe.optimizer == "adam":
                    first.mul_(0.9).add_(0.1 * g)
                    second.mul_(0.999).add_(0.001 * g**2)
                    root = (second / (1 - 0.999 ** (t + 1))).sqrt()
                    step = first / (1 - 0.9 ** (t + 1)) / (root + 1e-8) + decay * p
                else:
                    step = first.mul_(recipe.momentum).add_(g + decay * p)
                p -= lr * step
    return parameters


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(lr=0.05, momentum=0.7, weight_decay=0.1, clip=0.8, schedule="cosine"),
        Recipe(lr=0.05, momentum=0.7, clip=100.0, schedule="step", step=1),
        Recipe(optimizer="adam", lr=3e-3, weight_decay=0.2),
        Recipe(optimizer="adam", lr=9e-3, warmup=4),
    ],
    ids=lambda recipe: f"{recipe.optimizer}-{recipe.schedule}-{recipe.warmup}",
)
def test_steps_are_those_of_the_formulas(digits, recipe):
    """Six steps over two epochs, float32 against float64: rounding is 1e-4 of a step at most."""
    recipe, seeds = dataclasses.replace(recipe, epochs=2, batch=70), Seeds.of(3)
    network, _ = course(digits, recipe, seeds)
    before = architecture("mlp:depth=2,width=12").build(digits.shape, seed=1)
    for p, q, start in zip(
        network.parameters(), by_hand(digits, recipe, seeds, 6), before.parameters()
    ):
        moved = (q - start).abs().max()
        assert moved > 1e-4
        assert (p - q).abs().max() < 1e-3 * moved


def test_what_is_told_is_what_the_network_does(digits):
    """Judged in evaluation mode over the whole part, however it is cut."""
    network, told = course(digits, Recipe(lr=0.3, epochs=8, batch=50))
    for part, loss, accuracy in (
        (digits.validation, told.validation_loss, told.validation_accuracy),
        (digits.test, told.test_loss, told.test_accuracy),
    ):
        output = network(part.images)
        assert accuracy[-1] == float((output.argmax(1) == part.labels).double().mean())
        again = nn.functional.cross_entropy(output, part.labels).item()
        assert loss[-1] == pytest.approx(again, rel=1e-5)
    assert told.diverged_step == -1
    assert told.train_loss[-1] < told.train_loss[0]
    assert told.test_accuracy[-1] > 0.5  # chance is 0.1


def test_seeds_are_apart(digits):
    """Another order moves a plain run; another augmentation moves only one that draws."""
    seeds = Seeds.of(3)
    assert len({seeds.init, seeds.order, seeds.augmentation, seeds.preparation}) == 4
    drawn = "augmentation"
    for recipe, field, moves in (
        (Recipe(epochs=1), "order", True),
        (Recipe(epochs=1), drawn, False),
        (Recipe(epochs=1, flip=True), drawn, True),
        (Recipe(epochs=1, crop=1), drawn, True),
    ):
        (_, one), (_, same), (_, other) = (
            course(digits, recipe, s)
            for s in (seeds, seeds, dataclasses.replace(seeds, **{field: 7}))
        )
        assert one.train_loss.tolist() == same.train_loss.tolist()
        assert (one.train_loss != other.train_loss).all() == moves, (recipe, field)


def test_images_are_moved_one_by_one_and_mirrored():
    """A ramp tells by how far every image was moved, and which way round it lies."""
    from sigprop.modules.train import _moved

    ramp = (10.0 * torch.arange(1, 10)[:, None] + torch.arange(1, 10)).expand(400, 2, 9, 9)
    moved = _moved(ramp, Recipe(crop=2, flip=True), torch.Generator().manual_seed(0))
    seen = set()
    for image in moved:
        assert torch.equal(image[0], image[1])  # channels move together
        mirrored = bool(image[0, 4, 3] > image[0, 4, 4])
        straight = image[0].flip(-1) if mirrored else image[0]
        down, right = divmod(int(straight[4, 4]) - 55, 10)
        seen.add((mirrored, down, right if right < 5 else right - 10))
        assert (straight[2:-2, 2:-2] > 0).all()
    assert {m for m, _, _ in seen} == {True, False}
    assert len(seen) == 2 * 25  # 400 images miss one of 50 kinds with probability 2%: seed fixed


def test_dropout_is_drawn_by_the_seed_and_modes_and_numbers_are_left_as_they_were(digits):
    def network():
        made = architecture("mlp:depth=2,width=12").build(digits.shape, seed=1)
        return nn.Sequential(*made[:-1], nn.Dropout(0.5), nn.BatchNorm1d(12), made[-1])

    one, other = network(), network()
    one[-2].eval()
    modes = [m.training for m in one.modules()]
    before, recipe = torch.get_rng_state(), Recipe(epochs=1)
    told = train_network(one, digits, recipe, Seeds.of(3))
    assert torch.equal(before, torch.get_rng_state())
    assert [m.training for m in one.modules()] == modes
    assert all(p.grad is None for p in one.parameters())
    torch.manual_seed(99)
    again = train_network(other, digits, recipe, Seeds.of(3))
    assert told.train_loss.tolist() == again.train_loss.tolist()


def test_a_run_that_diverges_says_when_and_stands_at_chance(digits):
    _, told = course(digits, Recipe(lr=1e30, epochs=3, batch=50))
    assert told.diverged_step == 1  # the first loss is finite, that after one step is not
    assert (told.test_accuracy == 0.1).all() and (told.validation_accuracy == 0.1).all()
    assert np.isnan(told.train_loss).all() and np.isnan(told.test_loss).all()


def test_what_was_reached_before_a_divergence_is_kept(digits):
    """The loss overflows at the first step of the second epoch."""

    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.steps = architecture("mlp:depth=1").build((1, 8, 8)), 0

        def forward(self, x):
            self.steps += self.training
            return self.inner(x) * (math.nan if self.steps > 4 else 1.0)

    told = train_network(Fails(), digits, Recipe(epochs=3, batch=50), Seeds.of(3))
    assert told.diverged_step == 4
    assert np.isfinite(told.train_loss).tolist() == [True, False, False]
    assert told.test_accuracy[0] != 0.1 and (told.test_accuracy[1:] == 0.1).all()


def test_a_part_that_is_frozen_stays_and_a_network_without_parameters_is_refused(digits):
    network = architecture("mlp:depth=2,width=12").build(digits.shape, seed=1)
    network[1].requires_grad_(False)
    kept, trained = network[1].weight.clone(), network[3].weight.clone()
    train_network(network, digits, Recipe(epochs=1), Seeds.of(3))
    assert torch.equal(network[1].weight, kept) and not torch.equal(network[3].weight, trained)
    with pytest.raises(SpecError, match="no parameter that can be trained"):
        train_network(network.requires_grad_(False), digits, Recipe(), Seeds.of(3))


def test_a_thousand_residual_blocks_take_a_step():
    """One step at depth 1000, width 30 and batch 128; numbers stay finite."""
    few = load_data("digits", train=128, validation=0)
    network = architecture("resmlp:depth=1000,width=30,beta=.5").build(few.shape, seed=1)
    told = train_network(
        network, few, Recipe(optimizer="adam", lr=1e-3, batch=128, epochs=1), Seeds.of(1)
    )
    assert told.diverged_step == -1 and np.isfinite(told.test_loss).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"epochs": 0}, "epochs"),
        ({"batch": 2.5}, "batch"),
        ({"lr": math.inf}, "lr"),
        ({"lr": -0.1}, "lr"),
        ({"clip": 0.0}, "clip"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.9, "optimizer": "adam"}, "option of sgd"),
        ({"weight_decay": math.nan}, "weight_decay"),
    ],
)
def test_a_recipe_out_of_range_is_refused(options, says):
    with pytest.raises(SpecError, match=says):
        Recipe(**options)
