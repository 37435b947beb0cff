"""Images and labels out of files on disk: the formats in which MNIST and CIFAR-10 are given.

The layout is the one that torchvision leaves behind. Nothing is downloaded and nothing in a
file is executed: the pickles of CIFAR-10 may hold arrays, lists and words, and no other
object. A file that is absent, too short, too long or changed is a `DataError` that names it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sigprop.errors import DataError

__all__ = ["read_cifar10", "read_mnist"]

Arrays = tuple[np.ndarray, np.ndarray]  # images uint8 (n, channels, height, width), labels int64

_MNIST = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_IMAGES, _LABELS = 2051, 2049  # the magic numbers of the two kinds of IDX file

# MD5 of the published batches, which have 10000 images each.
_CIFAR10 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_PUBLISHED = 10_000


def read_mnist(folder: Path) -> tuple[Arrays, Arrays]:
    """Read the four IDX files of MNIST, plain or gzipped.

    Parameters
    ----------
    folder : Path
        Holds ``MNIST/raw/`` as torchvision leaves it, or the files themselves.

    Returns
    -------
    (training, test)
        Each (images, labels): uint8, shape (n, 1, height, width), and int64, shape (n,).

    Raises
    ------
    DataError
        If a file is absent or is not what its name and its header say.
    """
    raw = _folder(folder, ("MNIST/raw", "raw", "."), "MNIST", "train-images-idx3-ubyte")
    return _idx_pair(raw, *_MNIST["training"]), _idx_pair(raw, *_MNIST["test"])


def read_cifar10(folder: Path) -> tuple[Arrays, Arrays]:
    """Read the Python batches of CIFAR-10.

    Parameters
    ----------
    folder : Path
        Holds ``cifar-10-batches-py/`` as torchvision leaves it, or the batches themselves.

    Returns
    -------
    (training, test)
        Each (images, labels): uint8, shape (n, 3, 32, 32), and int64, shape (n,). Training
        takes the batches ``data_batch_1`` to ``data_batch_5``, which must all be there.

    Raises
    ------
    DataError
        If a file is absent or is not what its name says; a whole batch of 10000 images must
        have the published MD5.
    """
    raw = _folder(folder, ("cifar-10-batches-py", "."), "CIFAR-10", "data_batch_1")
    *training, test = (_cifar_batch(raw / name) for name in _CIFAR10)
    images, labels = (np.concatenate(parts) for parts in zip(*training, strict=True))
    return (images, labels), test


def _folder(folder: Path, places: tuple[str, ...], name: str, first: str) -> Path:
    """The first of ``places`` in ``folder`` that holds the first file."""
    for place in places:
        if any((folder / place / f"{first}{end}").is_file() for end in ("", ".gz")):
            return folder / place
    what = "does not exist" if not folder.exists() else "does not hold it"
    raise DataError(
        f"{name} is read from disk and {folder} {what}: {folder / places[0] / first} is absent. "
        "Nothing is downloaded. Put the published files there, in the layout that torchvision "
        f"leaves, or name the folder above {places[0]}."
    )


# ------------------------------------------------------------------------- MNIST


def _idx_pair(raw: Path, images: str, labels: str) -> Arrays:
    pictures, marks = _idx(raw / images, _IMAGES, 3), _idx(raw / labels, _LABELS, 1)
    if len(pictures) != len(marks):
        raise DataError(
            f"{raw / images} holds {len(pictures)} images and {labels} holds {len(marks)} labels, "
            "so they do not belong together. Put the published files there again."
        )
    return pictures[:, None], _labels(raw / labels, marks)


def _idx(path: Path, magic: int, axes: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes: a magic number, the sizes, the bytes."""
    content, path = _unpacked(path)
    head = 4 * (1 + axes)
    numbers = np.frombuffer(content[:head], ">u4") if len(content) >= head else np.array([0])
    if numbers[0] != magic:
        raise DataError(
            f"{path} is no IDX file of {'images' if axes == 3 else 'labels'}: it does not begin "
            f"with the magic number {magic}. It is truncated or another file. Put the published "
            "one there again."
        )
    shape = tuple(int(n) for n in numbers[1:])
    expected = head + int(np.prod(shape, dtype=object))
    if len(content) != expected or 0 in shape:
        raise DataError(
            f"{path} has {len(content)} bytes where its header, of size "
            f"{' x '.join(map(str, shape))}, says {expected}: it is truncated or damaged. Put the "
            "published file there again."
        )
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _unpacked(path: Path) -> tuple[bytes, Path]:
    """The content of ``path``, or of the file beside it that ends in .gz."""
    packed = path.with_name(f"{path.name}.gz")
    if path.is_file() or not packed.is_file():
        return _content(path), path
    try:
        return gzip.decompress(_content(packed)), packed
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{packed} cannot be unpacked: {error}. It is truncated or damaged. Put the published "
            "file there again."
        ) from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path} is absent, and the set is read whole. Nothing is downloaded. Put the "
            "published file there."
        ) from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}. Put the published file there, "
            "where you may read it."
        ) from error


def _labels(path: Path, labels: np.ndarray) -> np.ndarray:
    if labels.size and not 0 <= labels.min() <= labels.max() <= 9:
        raise DataError(
            f"{path} holds labels from {labels.min()} to {labels.max()}, and there are ten "
            "classes, 0 to 9. It is damaged or another set. Put the published file there again."
        )
    return labels.astype(np.int64)


# ---------------------------------------------------------------------- CIFAR-10


class _Arrays(pickle.Unpickler):
    """Unpickles arrays, lists, words and numbers: no other name is looked up, none is called."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin,
        }
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array()
        try:
            return allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, no part of data") from None


def _latin(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}, no part of data")
    return text.encode("latin1")


def _empty_array() -> Callable[..., object]:
    from numpy._core import multiarray

    return multiarray._reconstruct


def _cifar_batch(path: Path) -> Arrays:
    content = _content(path)
    try:
        found = _Arrays(io.BytesIO(content), encoding="bytes").load()
        data, labels = np.asarray(found[b"data"]), np.asarray(found[b"labels"])
    # What a damaged pickle raises is whatever its bytes happen to mean.
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a batch of CIFAR-10: {error}. It is truncated, damaged or "
            "another file. Put the published one there again."
        ) from error
    fits = data.ndim == 2 and data.shape[1] == 3072 and data.dtype == np.uint8 and len(data) > 0
    if not fits or labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds data of shape {data.shape} ({data.dtype}) and labels of shape "
            f"{labels.shape}; a batch of CIFAR-10 has n rows of 3072 unsigned bytes and n whole "
            "labels. Put the published file there again."
        )
    published = _CIFAR10[path.name]
    found_md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if len(data) == _PUBLISHED and found_md5 != published:
        raise DataError(
            f"{path} has the MD5 {found_md5} and the published file has {published}, so its images "
            "were changed or damaged. Put the published file there again."
        )
    return data.reshape(-1, 3, 32, 32), _labels(path, labels)
