"""Files in the format of CIFAR-10 with images that can be learned, written by the tests."""

import pickle

import numpy as np


def written(folder, training, test, seed=3):
    """Five batches of ``training`` / 5 images and one of ``test``; returns what --data takes."""
    raw, random = folder / "cifar-10-batches-py", np.random.default_rng(seed)
    raw.mkdir(parents=True)
    looks = random.integers(0, 120, (10, 3072))
    names = {f"data_batch_{i}": training // 5 for i in range(1, 6)} | {"test_batch": test}
    for name, n in names.items():
        labels = random.integers(0, 10, n)
        images = (looks[labels] + random.integers(0, 130, (n, 3072))).astype(np.uint8)
        content = {b"data": images, b"labels": labels.tolist()}
        (raw / name).write_bytes(pickle.dumps(content, protocol=2))
    return f"cifar10:{folder}"
