"""Sets of images: read from files that the test writes, split once, drawn by seeds of their own."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest
import torch

from sigprop.errors import DataError, SpecError, UnknownName
from sigprop.modules.data import load_data

torch.set_num_threads(1)


def idx(array):
    """The bytes of an IDX file of unsigned bytes."""
    return struct.pack(f">I{array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder as torchvision leaves it: 40 images for training, 12 for the test, 5 x 7 pixels."""
    random = np.random.default_rng(5)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in (("train", 40), ("t10k", 12)):
        images = random.integers(0, 256, (n, 5, 7), np.uint8)
        labels = random.integers(0, 10, n).astype(np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    return raw


class PythonTwo(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, as the published batches have them."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def batch(path, n, *, kind=PythonTwo, **changed):
    random = np.random.default_rng([n, len(path.name)])
    data = random.integers(0, 256, (n, 3072), np.uint8)
    content = {b"batch_label": b"one", b"data": data, b"labels": [int(i) % 10 for i in data[:, 0]]}
    file = io.BytesIO()
    kind(file, 2).dump(content | {k.encode(): v for k, v in changed.items()})
    # The published ones are older than the module's new name.
    path.write_bytes(file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core."))
    return content


@pytest.fixture
def cifar10(tmp_path):
    """Five batches of 6 images and one of 4, in the format of the published ones."""
    raw = tmp_path / "cifar-10-batches-py"
    raw.mkdir()
    for i in range(5):
        batch(raw / f"data_batch_{i + 1}", 6)
    batch(raw / "test_batch", 4)
    return raw


def parts(data):
    return data.train, data.validation, data.test


# ----------------------------------------------------------------------- digits


def test_digits_are_split_once_and_standardised_by_what_is_trained_on():
    """Every digit is in exactly one part; in another place for another seed."""
    from sklearn.datasets import load_digits

    digits = load_data("digits")
    assert [len(part) for part in parts(digits)] == [1437, 180, 180]
    pooled = torch.cat([part.pixels for part in parts(digits)]).reshape(-1, 64).numpy()
    # Some digits are there twice, so rows are compared as a sorted list.
    assert sorted(pooled.tolist()) == sorted(load_digits().data.astype(int).tolist())
    # Means of 91968 float32: rounding stays below 1e-5.
    assert abs(digits.train.images.mean()) < 1e-5
    assert abs(digits.train.images.std(correction=0) - 1) < 1e-5
    assert abs(digits.test.images.mean()) > 1e-4
    again, other = load_data("digits"), load_data("digits", seed=1)
    assert again.digest == digits.digest != other.digest
    assert not torch.equal(other.train.labels, digits.train.labels)


def test_without_validation_all_other_digits_are_the_test():
    digits = load_data("digits", validation=0)
    assert [len(part) for part in parts(digits)] == [1437, 0, 360]
    assert torch.equal(digits.train.pixels, load_data("digits").train.pixels)


def test_fewer_digits_are_the_first_of_the_same_order():
    few, all_ = load_data("digits", train=100), load_data("digits")
    assert torch.equal(few.train.pixels, all_.train.pixels[:100])
    assert torch.equal(few.test.pixels, all_.test.pixels)
    assert abs(few.train.images.mean()) < 1e-5


# ---------------------------------------------------------------------- batches


def test_batches_are_full_and_an_epoch_shows_no_image_twice():
    part = load_data("digits").train
    batches = part.batches(64, seed=3, epochs=2)
    seen = list(batches)
    assert len(batches) == len(seen) == 2 * 22
    assert {tuple(x.shape) for x, _ in seen} == {(64, 1, 8, 8)}
    first, second = batches.order(0), batches.order(1)
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(1437))
    assert not torch.equal(first, second)
    x, y = seen[22]
    assert torch.equal(x, part.images[second[:64]]) and torch.equal(y, part.labels[second[:64]])


def test_batches_come_again_and_leave_the_random_numbers_of_torch_alone():
    part = load_data("digits").train
    before = torch.get_rng_state()
    batches = part.batches(100, seed=3)
    one, two = ([y.tolist() for _, y in batches] for _ in range(2))
    assert one == two
    assert one != [y.tolist() for _, y in part.batches(100, seed=4)]
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(SpecError, match="200 cannot be filled from 180"):
        load_data("digits").test.batches(200, seed=0)


# ------------------------------------------------------------------------ files


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_what_the_files_hold(mnist, packed):
    images = np.frombuffer((mnist / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
    test = (mnist / "t10k-images-idx3-ubyte").read_bytes()[16:]
    if packed:
        for path in list(mnist.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    data = load_data(f"mnist:{mnist.parents[1]}")
    assert [len(part) for part in parts(data)] == [36, 4, 12] and data.shape == (1, 5, 7)
    rows = torch.cat([data.train.pixels, data.validation.pixels]).reshape(-1, 35).tolist()
    assert sorted(rows) == sorted(images.reshape(-1, 35).tolist())
    shown = np.frombuffer(test, np.uint8).reshape(-1, 35).tolist()
    assert sorted(data.test.pixels.reshape(-1, 35).tolist()) == sorted(shown)
    assert data.test.pixels.reshape(-1, 35).tolist() != shown  # in random order
    assert load_data(f"mnist:{mnist}").digest == data.digest  # the folder of the files serves too


def test_images_keep_their_labels_when_they_are_split(mnist):
    raw = (mnist / "train-images-idx3-ubyte").read_bytes()[16:]
    images = np.frombuffer(raw, np.uint8).reshape(40, 35)
    labels = (mnist / "train-labels-idx1-ubyte").read_bytes()[8:]
    of = {row.tobytes(): label for row, label in zip(images, labels)}
    data = load_data(f"mnist:{mnist}")
    raw = (mnist / "t10k-images-idx3-ubyte").read_bytes()[16:]
    marks = (mnist / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    of |= {raw[35 * i : 35 * i + 35]: label for i, label in enumerate(marks)}
    for part in parts(data):
        for image, label in zip(part.pixels.numpy(), part.labels.tolist()):
            assert of[image.tobytes()] == label


@pytest.mark.parametrize("kind", [PythonTwo, pickle.Pickler])
def test_cifar10_is_what_the_batches_hold(cifar10, kind):
    content = batch(cifar10 / "test_batch", 4, kind=kind)
    data = load_data(f"cifar10:{cifar10.parent}", validation=10)
    assert [len(part) for part in parts(data)] == [20, 10, 4] and data.shape == (3, 32, 32)
    of = {row.tobytes(): label for row, label in zip(content[b"data"], content[b"labels"])}
    found = {i.tobytes(): j for i, j in zip(data.test.pixels.numpy(), data.test.labels.tolist())}
    assert found == of and len(of) == 4
    few = load_data(f"cifar10:{cifar10.parent}", train=12, test=3)
    assert [len(part) for part in parts(few)] == [12, 3, 3]
    assert torch.equal(few.test.pixels, data.test.pixels[:3])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def cut_head(path):
    path.write_bytes(path.read_bytes()[:6])


def pack_and_damage(path):
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[len(packed) // 2] ^= 8
    path.with_name(path.name + ".gz").write_bytes(packed)
    path.unlink()


def pack_and_cut(path):
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def mislabel(path):
    path.write_bytes(path.read_bytes()[:-1] + bytes([10]))


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("train-images-idx3-ubyte", lambda path: path.unlink(), "is absent"),
        ("t10k-labels-idx1-ubyte", lambda path: path.unlink(), "is absent"),
        ("train-images-idx3-ubyte", truncate, "truncated"),
        ("t10k-images-idx3-ubyte", cut_head, "magic number 2051"),
        ("t10k-labels-idx1-ubyte", truncate, "truncated"),
        ("train-images-idx3-ubyte", pack_and_damage, "cannot be unpacked"),
        ("train-images-idx3-ubyte", pack_and_cut, "cannot be unpacked"),
        ("train-labels-idx1-ubyte", mislabel, "labels from 0 to 10"),
        ("train-labels-idx1-ubyte", lambda p: p.write_bytes(idx(np.zeros(9, np.uint8))), "9 label"),
    ],
)
def test_a_damaged_file_of_mnist_is_named(mnist, file, damage, says):
    damage(mnist / file)
    with pytest.raises(DataError, match=says) as found:
        load_data(f"mnist:{mnist.parents[1]}")
    assert file in str(found.value) and "Put the published" in str(found.value)


class Call:
    """A pickle that would run a program."""

    def __reduce__(self):
        import os

        return os.system, ("touch called",)


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("data_batch_1", lambda path: path.unlink(), "is absent"),
        ("test_batch", lambda path: path.unlink(), "is absent"),
        ("data_batch_3", truncate, "truncated"),
        ("data_batch_2", lambda path: path.write_bytes(b""), "truncated"),
        ("data_batch_4", lambda path: batch(path, 6, labels=[3] * 5), "labels of shape"),
        ("data_batch_4", lambda path: batch(path, 6, labels=[11] * 6), "labels from 11 to 11"),
        ("data_batch_4", lambda path: batch(path, 6, data=np.zeros((6, 9))), "shape \\(6, 9\\)"),
        ("data_batch_5", lambda path: batch(path, 6, kind=pickle.Pickler, x=Call()), "asks for"),
        ("data_batch_5", lambda path: batch(path, 10_000), "MD5"),
    ],
)
def test_a_damaged_batch_of_cifar10_is_named_and_nothing_in_it_is_run(
    cifar10, monkeypatch, file, damage, says
):
    monkeypatch.chdir(cifar10)
    damage(cifar10 / file)
    with pytest.raises(DataError, match=says) as found:
        load_data(f"cifar10:{cifar10.parent}")
    assert file in str(found.value) and "Put the published" in str(found.value)
    assert not (cifar10 / "called").exists()


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("digit", UnknownName, "Did you mean 'digits'"),
        ("mnist", SpecError, "mnist:FOLDER"),
        ("digits:here", SpecError, "digits come with"),
        ("mnist:/nowhere", DataError, "/nowhere does not exist"),
        ("cifar10:/nowhere", DataError, "data_batch_1 is absent"),
    ],
)
def test_what_is_no_set_of_images_is_refused_in_one_sentence(spec, error, says):
    with pytest.raises(error, match=says):
        load_data(spec)


@pytest.mark.parametrize(
    "options", [{"validation": 360}, {"validation": -1}, {"train": 0}, {"test": 0}, {"test": 181}]
)
def test_a_part_without_images_is_refused(options):
    with pytest.raises(SpecError):
        load_data("digits", **options)
