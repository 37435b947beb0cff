"""Addressed randomness: a draw is found by where it is used, not by when it is made.

Every random number of the package is a word of Philox4x32-10 (Salmon, Moraes, Dror, Shaw,
*Parallel random numbers: as easy as 1, 2, 3*, 2011). The 64-bit key is a hash of (seed,
stream label, sampler, version of the sampler); the 128-bit counter is the address
(position, layer, replica, purpose). So no number depends on chunks, workers or order, two
samplers never share words by accident, and two runs share them only by asking for the same
label.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["key"]


def key(seed: int, label: str, sampler: str, version: int) -> np.ndarray:
    """Return the Philox key of a run.

    Parameters
    ----------
    seed : int
        0 .. 2**64 - 1.
    label : str
        Stream label, by default the digest of the ensemble.
    sampler : str
        Name of the sampler.
    version : int
        Raised whenever the sampler's use of its words changes.

    Returns
    -------
    ndarray, uint32, shape (2,)
    """
    text = f"sigprop\n{seed}\n{label}\n{sampler}\n{version}".encode()
    return np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<u4").astype(np.uint32)
