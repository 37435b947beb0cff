"""Real images to train on: digits that come with scikit-learn, MNIST and CIFAR-10 from disk.

A set is split once, by a fixed seed, in three: what is trained on, what choices are made on
(a learning rate), and what is told of at the end. Pixels are standardised globally, by one
mean and one deviation, those of the part that is trained on. Batches are drawn by seeds of
their own, so nothing here touches the random numbers of anyone else.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sigprop.errors import SpecError, UnknownName, Unsupported
from sigprop.modules.image_files import Arrays, read_cifar10, read_mnist
from sigprop.registry import did_you_mean

__all__ = ["Batches", "ImageSet", "Part", "load_data"]

DIGITS_FOR_TRAINING = 1437
_FILES = {"mnist": read_mnist, "cifar10": read_cifar10}
_KNOWN = ("digits", *_FILES)


@dataclass(frozen=True, eq=False)
class Part:
    """Images with their labels, standardised when they are taken.

    Attributes
    ----------
    pixels : Tensor, uint8, shape (n, channels, height, width)
    labels : Tensor, int64, shape (n,)
        Of sequences (n, length), one a place.
    mean, deviation : float
        Of all pixels that are trained on; `take` subtracts and divides.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    mean: float
    deviation: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> torch.Tensor:
        """All of them, standardised: float32, shape (n, channels, height, width)."""
        return self._standardised(self.pixels)

    def take(self, places: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The (images, labels) at ``places``, standardised."""
        return self._standardised(self.pixels[places]), self.labels[places]

    def batches(self, size: int, *, seed: int, epochs: int | None = 1) -> Batches:
        """Batches of ``size`` in a random order, see `Batches`."""
        return Batches(self, size, seed=seed, epochs=epochs)

    def first(self, count: int) -> Part:
        """The first ``count`` of them: they lie in random order already."""
        if not 0 < count <= len(self):
            raise SpecError(
                f"{count} images were asked for and there are {len(self)}. "
                f"Ask for 1 to {len(self)}."
            )
        return dataclasses.replace(self, pixels=self.pixels[:count], labels=self.labels[:count])

    def _standardised(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels.to(torch.float32) - self.mean) / self.deviation


class Batches:
    """An iterable of (images, labels), every batch full, which can be gone through again.

    Every epoch has an order of its own, a function of the seed and of the number of the epoch;
    the images that do not fill a batch are left out of it, others each time. Going through it
    again gives the same batches again.

    Parameters
    ----------
    part : Part
    size : int
        Images in a batch.
    seed : int
        Of the orders.
    epochs : int or None
        How often all images are gone through; None: without end.

    Raises
    ------
    SpecError
        If there are fewer images than fill one batch.
    """

    def __init__(self, part: Part, size: int, *, seed: int, epochs: int | None = 1) -> None:
        if not 1 <= size <= len(part):
            raise SpecError(
                f"a batch of {size} cannot be filled from {len(part)} images, and batches of "
                f"unequal size would weigh images unequally. Ask for a size of 1 to {len(part)}."
            )
        self.part, self.size, self.seed, self.epochs = part, size, seed, epochs

    def __len__(self) -> int:
        if self.epochs is None:
            raise TypeError("batches without end have no length")
        return self.epochs * (len(self.part) // self.size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        epoch = 0
        while self.epochs is None or epoch < self.epochs:
            for places in self.order(epoch).split(self.size):
                if len(places) == self.size:
                    yield self.part.take(places)
            epoch += 1

    def order(self, epoch: int) -> torch.Tensor:
        """The order of epoch ``epoch``: int64, shape (n,)."""
        words = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))
        return torch.randperm(len(self.part), generator=generator)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A set of images in classes, split in three.

    Attributes
    ----------
    name : str
        ``digits``, ``mnist`` or ``cifar10``; of `sigprop.modules.symbols` the task.
    train, validation, test : Part
    classes : int
    digest : str
        Of pixels, labels and split: what a result is of, whatever the folder is called.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int
    digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one image."""
        _, *shape = self.train.pixels.shape
        channels, height, width = shape
        return channels, height, width


def load_data(
    spec: str,
    *,
    validation: int | None = None,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> ImageSet:
    """Read a set of images and split it.

    Parameters
    ----------
    spec : str
        ``digits`` (scikit-learn's 1797 images of 8 x 8), ``mnist:FOLDER`` or
        ``cifar10:FOLDER``, where FOLDER is what torchvision calls the root. Nothing is
        downloaded.
    validation : int, optional
        Images kept apart for choices. Of digits, 1437 are trained on and the other 360 are
        divided: by default 180 for validation and 180 for the test, with 0 all 360 for the
        test. Of MNIST and CIFAR-10 they are taken from those for training, by default a
        tenth; the test is the published one.
    train, test : int, optional
        Train on, or test with, this many only, the first of the random order.
    seed : int
        Of the split.

    Returns
    -------
    ImageSet

    Raises
    ------
    SpecError, UnknownName, DataError, Unsupported
        If no set is meant by this, or its files are absent or damaged, before any work.

    Examples
    --------
    >>> digits = load_data("digits")
    >>> len(digits.train), len(digits.validation), len(digits.test), digits.shape
    (1437, 180, 180, (1, 8, 8))
    """
    name, _, folder = spec.partition(":")
    if name not in _KNOWN:
        raise UnknownName(
            f"{name!r} is no set of images.{did_you_mean(name, _KNOWN)} "
            "Write digits, mnist:FOLDER or cifar10:FOLDER."
        )
    if (name == "digits") == bool(folder):
        raise SpecError(
            f"data {spec!r} {'has a folder' if folder else 'has no folder'}: digits come with "
            "scikit-learn, MNIST and CIFAR-10 are read from disk. Write digits, mnist:FOLDER or "
            "cifar10:FOLDER."
        )
    for what, count in (("validation", validation), ("train", train), ("test", test)):
        if count is not None and count < (what != "validation"):
            raise SpecError(f"{what} must be a number of images, got {count}. Leave it out.")
    if name == "digits":
        parts = _digits(180 if validation is None else validation, seed)
    else:
        parts = _from_disk(name, Path(folder).expanduser(), validation, seed)
    for what, place, count in (("train", 0, train), ("test", 2, test)):
        images, labels = parts[place]
        if count is not None and count > len(labels):
            raise SpecError(
                f"{what} asks for {count} images, and {len(labels)} are left for it. Ask for "
                "fewer, or for a smaller validation."
            )
        parts[place] = images[:count], labels[:count]
    standard = _standard(parts[0][0])
    kept, validated, tested = (
        Part(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.copy()), *standard)
        for pixels, labels in parts
    )
    return ImageSet(name, kept, validated, tested, classes=10, digest=_digest(parts))


def _digits(validation: int, seed: int) -> list[Arrays]:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise Unsupported(
            "data 'digits' come with scikit-learn, which is not installed. Install it with: "
            "pip install 'sigprop[torch]'"
        ) from None
    found = load_digits()
    images, labels = found.images.astype(np.uint8)[:, None], found.target.astype(np.int64)
    rest = len(labels) - DIGITS_FOR_TRAINING
    if validation >= rest:
        raise SpecError(
            f"validation must leave digits for the test: {rest} are not trained on, and "
            f"{validation} were asked for. Ask for 0 to {rest - 1}."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    ends = [DIGITS_FOR_TRAINING, DIGITS_FOR_TRAINING + validation]
    return [(images[places], labels[places]) for places in np.split(order, ends)]


def _from_disk(name: str, folder: Path, validation: int | None, seed: int) -> list[Arrays]:
    (images, labels), test = _FILES[name](folder)
    kept = len(labels) // 10 if validation is None else validation
    if kept >= len(labels):
        raise SpecError(
            f"validation takes {kept} of the {len(labels)} images for training, and leaves none. "
            f"Ask for 0 to {len(labels) - 1}."
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.split(order, [len(labels) - kept])
    # MNIST's first half of the test is the easier one, and a part may be cut short.
    shuffled = np.random.default_rng(seed).permutation(len(test[1]))
    drawn = tuple(array[shuffled] for array in test)
    return [*((images[places], labels[places]) for places in parts), (drawn[0], drawn[1])]


def _standard(images: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of all pixels; the sums are whole numbers, so no order matters."""
    counts = np.bincount(images.ravel(), minlength=256)
    values, n = np.arange(256), images.size
    mean = float(counts @ values) / n
    variance = float(counts @ (values - mean) ** 2) / n
    if variance == 0:
        raise SpecError(
            "all pixels that would be trained on are equal, so there is nothing to learn from "
            "them. Name the folder of another set."
        )
    return mean, float(np.sqrt(variance))


def _digest(parts: list[Arrays]) -> str:
    found = hashlib.sha256()
    for pixels, labels in parts:
        found.update(f"{pixels.shape}".encode())
        found.update(pixels.tobytes())
        found.update(labels.tobytes())
    return found.hexdigest()
