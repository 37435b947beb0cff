"""A small trainer: one network, one set of images, one recipe, and what came of it epoch by epoch.

It knows nothing of initialisations. Three seeds, for weights, for the order of images and for
what is drawn while training, are apart, so that one can be moved and the others kept. A run
whose loss stops being finite is stopped and told as diverged, at the accuracy of chance.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sigprop.errors import SpecError
from sigprop.modules.data import ImageSet, Part
from sigprop.registry import did_you_mean

__all__ = ["Course", "Recipe", "Seeds", "train_network"]

_OPTIMIZERS = ("sgd", "adam")
_SCHEDULES = ("constant", "cosine", "step")
_AT_ONCE = 512  # images that are judged together


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained: cross-entropy, full batches, no other regularisation.

    Parameters
    ----------
    optimizer : {"sgd", "adam"}
    lr : float
        Learning rate at the start.
    momentum : float
        Of sgd. Adam has (0.9, 0.999).
    weight_decay : float
        On tensors of two dimensions or more, not on biases and gains; of adam decoupled.
    clip : float, optional
        Largest norm of the gradient of all tensors together; longer ones are shortened.
    schedule : {"constant", "cosine", "step"}
        Cosine falls to 0 at the end; step multiplies by 0.1 after every ``step`` epochs.
    step : int
    warmup : int
        Steps over which the rate rises evenly to its value, from a ``warmup``-th of it; 0: none.
    epochs, batch : int
    crop : int
        Images are moved by up to so many pixels, drawn anew for each; 0: not at all.
    flip : bool
        Every other image, by chance, is mirrored from left to right.

    Raises
    ------
    SpecError
        If a value is out of its range.
    """

    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    schedule: str = "constant"
    step: int = 5
    warmup: int = 0
    epochs: int = 10
    batch: int = 64
    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for name, known in (("optimizer", _OPTIMIZERS), ("schedule", _SCHEDULES)):
            value = getattr(self, name)
            if value not in known:
                raise SpecError(
                    f"{name} cannot be {value!r}.{did_you_mean(value, known)} "
                    f"Known: {', '.join(known)}."
                )
        for name, least in (("epochs", 1), ("batch", 1), ("step", 1), ("warmup", 0), ("crop", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise SpecError(f"{name} must be a whole number from {least} on, got {value!r}.")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SpecError(f"{name} must be a finite number above 0, got {value!r}.")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf:
            raise SpecError(
                "momentum must lie in [0, 1) and weight_decay be 0 or more, got "
                f"{self.momentum!r} and {self.weight_decay!r}."
            )
        if self.momentum and self.optimizer == "adam":
            raise SpecError("momentum is an option of sgd; adam has its own. Leave it out.")

    def rate(self, done: int, steps_an_epoch: int) -> float:
        """The learning rate after ``done`` steps."""
        lr = self.lr * min(1.0, (done + 1) / max(1, self.warmup))
        if self.schedule == "cosine":
            return lr * (1 + math.cos(math.pi * done / (self.epochs * steps_an_epoch))) / 2
        if self.schedule == "step":
            return lr * 0.1 ** (done // steps_an_epoch // self.step)
        return lr


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Where the random numbers of a run come from, each purpose apart.

    Attributes
    ----------
    init : int
        Of the weights.
    order : int
        Of the images in an epoch.
    augmentation : int
        Of what is drawn while training: shifts and mirrors of images, dropout.
    preparation : int
        Of the batches on which a network is prepared before it is trained.
    """

    init: int
    order: int
    augmentation: int
    preparation: int

    @classmethod
    def of(cls, seed: int) -> Seeds:
        """Four seeds out of one."""
        if seed < 0:
            raise SpecError(f"a seed must be 0 or more, got {seed}.")
        words = np.random.SeedSequence(seed).generate_state(4, np.uint64) >> np.uint64(2)
        return cls(**{f.name: int(w) for f, w in zip(dataclasses.fields(cls), words, strict=True)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What came of one run: an entry an epoch, float64, shape (epochs,).

    Attributes
    ----------
    train_loss
        Mean over the steps of the epoch, each before it was taken; nat.
    validation_loss, validation_accuracy, test_loss, test_accuracy
        After the epoch; NaN where that part is empty.
    diverged_step : int
        Steps taken when a loss was first not finite, -1 if none was. From the epoch in
        which it was, losses are NaN and accuracies those of chance, 1 / classes.
    seconds : float
    """

    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    diverged_step: int
    seconds: float


def train_network(
    network: nn.Module,
    data: ImageSet,
    recipe: Recipe,
    seeds: Seeds,
    *,
    on_epoch: Callable[[int], None] | None = None,
) -> Course:
    """Train ``network`` in place, on the device where it is.

    Parameters
    ----------
    network : nn.Module
        From images (n, channels, height, width) to one number a class, (n, classes), or one a
        class and label, (n, classes, labels). Its modes are as before afterwards, and no gradient
        is left in it.
    data : ImageSet
        Only ``train`` is trained on; the two other parts are judged after every epoch.
    recipe : Recipe
    seeds : Seeds
        Of order and augmentation. The random numbers of torch itself are left alone.
    on_epoch : callable, optional
        Called with the number of epochs done.

    Returns
    -------
    Course

    Raises
    ------
    SpecError
        Before any work: nothing to train, a batch that cannot be filled.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        raise SpecError(
            "the network has no parameter that can be trained, so training would change nothing. "
            "Set requires_grad of some."
        )
    batches = data.train.batches(recipe.batch, seed=seeds.order, epochs=recipe.epochs)
    steps = len(batches) // recipe.epochs
    optimizer = _optimizer(recipe, trained)
    found = np.full((5, recipe.epochs), np.nan)
    started, epoch, diverged = time.perf_counter(), 0, -1
    with _undisturbed(network, trained, seeds.augmentation) as generator:
        losses: list[float] = []
        for done, (images, labels) in enumerate(batches):
            epoch = done // steps
            if recipe.crop or recipe.flip:
                images = _moved(images, recipe, generator)
            network.train()
            loss = _step(network, optimizer, trained, recipe, done, steps, images, labels)
            if not math.isfinite(loss):
                diverged = done
                break
            losses.append(loss)
            if (done + 1) % steps:
                continue
            judged = [*_judged(network, data.validation), *_judged(network, data.test)]
            if not all(math.isfinite(x) for x in judged[::2] if x is not None):
                diverged = done + 1
                break
            numbers = (float(np.mean(losses)), *judged)
            found[:, epoch], losses = [math.nan if x is None else x for x in numbers], []
            if on_epoch is not None:
                on_epoch(epoch + 1)
    if diverged >= 0:
        for place, part in ((2, data.validation), (4, data.test)):
            if len(part):
                found[place, epoch:] = 1 / data.classes
    return Course(
        train_loss=found[0],
        validation_loss=found[1],
        validation_accuracy=found[2],
        test_loss=found[3],
        test_accuracy=found[4],
        diverged_step=diverged,
        seconds=time.perf_counter() - started,
    )


@contextmanager
def _undisturbed(
    network: nn.Module, trained: list[nn.Parameter], seed: int
) -> Iterator[torch.Generator]:
    """Modes and torch's random numbers as before afterwards; yields a generator of our own."""
    modes = {module: module.training for module in network.modules()}
    devices = sorted({p.device.index or 0 for p in trained if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)  # dropout knows no other
            yield torch.Generator().manual_seed(seed)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trained:
            parameter.grad = None


def _optimizer(recipe: Recipe, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One call for all tensors: a thousand layers are thousands of small ones.
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=recipe.lr, foreach=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, foreach=True)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    trained: list[nn.Parameter],
    recipe: Recipe,
    done: int,
    steps: int,
    images: Tensor,
    labels: Tensor,
) -> float:
    """One step; returns the loss before it, and takes no step if that is not finite."""
    device = trained[0].device
    output = network(images.to(device))
    loss = nn.functional.cross_entropy(output, labels.to(device))
    value = loss.item()
    if not math.isfinite(value):
        return value
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip is not None:
        nn.utils.clip_grad_norm_(trained, recipe.clip, foreach=True)
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(done, steps)
    optimizer.step()
    return value


def _moved(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shifted and mirrored, every image by draws of its own; what comes in is the mean pixel."""
    n, channels, height, width = images.shape
    if recipe.crop:
        by, reach = recipe.crop, 2 * recipe.crop + 1
        padded = nn.functional.pad(images, (by, by, by, by))
        down, right = torch.randint(0, reach, (2, n, 1), generator=generator)
        rows, columns = down + torch.arange(height), right + torch.arange(width)
        images = padded[
            torch.arange(n)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]
    if recipe.flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


@torch.no_grad()
def _judged(network: nn.Module, part: Part) -> tuple[float | None, float | None]:
    """(mean loss, accuracy) of a whole part in evaluation mode; None, None if it is empty."""
    if not len(part):
        return None, None
    network.eval()
    device = next(network.parameters()).device
    loss, right = 0.0, 0
    for start in range(0, len(part), _AT_ONCE):
        images, labels = (x.to(device) for x in part.take(slice(start, start + _AT_ONCE)))
        output = network(images)
        loss += nn.functional.cross_entropy(output, labels, reduction="sum").item()
        right += int((output.argmax(1) == labels).sum())
    labels_in_all = part.labels.numel()  # of sequences, one a place
    return loss / labels_in_all, right / labels_in_all
