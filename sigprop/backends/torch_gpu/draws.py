"""Random numbers of a block, found by address: which layer, which purpose, which matrix.

Every stream is a `torch.Generator` of its own, seeded by a keyed permutation of its address. The
generator of the processor reads 32 bits of a seed only; a permutation gives no two streams of one
run the same ones, where a hash would before long. Always a whole block is drawn, and its first
replicas are kept, so that a replica depends on its block's number and size alone.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch

from sigprop.activations.uneven import DROPPED, TURNED, Uneven
from sigprop.backends.torch_gpu.device import Device
from sigprop.spec import Ensemble

__all__ = ["PURPOSES", "Draws", "seed"]

PURPOSES = ("weights", "bias", "units", "chance", "forward", "backward", "input", "top")


def seed(key: np.ndarray, block: int, address: int) -> int:
    """The seed of one stream, 0 .. 2^63 - 1; of its lower 32 bits none occurs twice in a run.

    Parameters
    ----------
    key : uint32[2]
        From `sigprop.rng.key`.
    block : int
        Replicas in a block.
    address : int
        Number of the stream.
    """
    high, low = divmod(address, 2**32)
    text = f"{int(key[0])} {int(key[1])} {block} {high}".encode()
    left, right = divmod(low, 2**16)
    for turn in range(4):  # of Feistel: a permutation, whatever the hash
        word = f"{turn} {right}".encode()
        mixed = hashlib.blake2b(word, key=text, digest_size=2).digest()
        left, right = right, left ^ int.from_bytes(mixed, "little")
    upper = hashlib.blake2b(str(address).encode(), key=text, digest_size=4).digest()
    return (int.from_bytes(upper, "little") >> 1) << 32 | left << 16 | right


class Draws:
    """What is random in the first ``count`` networks of block ``index`` of ``block`` replicas."""

    def __init__(
        self,
        ensemble: Ensemble,
        key: np.ndarray,
        block: int,
        index: int,
        count: int,
        device: Device,
    ) -> None:
        self.ensemble, self.key, self.device = ensemble, key, device
        self.block, self.index, self.count = block, index, count
        self.places = ensemble.network.matrices + 2

    def generator(self, layer: int, purpose: str, j: int = 0) -> torch.Generator:
        """The stream of matrix (or activation) ``j`` of a layer; 0 .. depth, the last a stem's."""
        at = self.index * (self.ensemble.network.depth + 1) + layer
        at = (at * len(PURPOSES) + PURPOSES.index(purpose)) * self.places + j
        generator = torch.Generator(device=self.device.kind)
        return generator.manual_seed(seed(self.key, self.block, at))

    def normals(
        self, layer: int, purpose: str, j: int, rows: int, columns: int, dtype: torch.dtype
    ) -> torch.Tensor:
        """Standard normals, shape (count, rows, columns)."""
        out = self.device.empty((self.block, rows, columns), torch.float32)
        return out.normal_(generator=self.generator(layer, purpose, j))[: self.count].to(dtype)

    def uniforms(self, layer: int, purpose: str, j: int, rows: int) -> torch.Tensor:
        """Uniform on [0, 1), shape (count, rows, 1), float64."""
        out = self.device.empty((self.block, rows, 1), torch.float64)
        return out.uniform_(generator=self.generator(layer, purpose, j))[: self.count]

    def entries(self, layer: int, j: int, out: torch.Tensor) -> torch.Tensor:
        """Fill ``out``, shape (block, rows, columns), with weights of unit scale.

        Returns
        -------
        Tensor, shape (count, rows, columns)
        """
        generator = self.generator(layer, "weights", j)
        kind = self.ensemble.table.law.kind
        if kind == "gaussian":
            out.normal_(generator=generator)
        elif kind == "uniform":
            out.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)
        else:
            assert kind == "rademacher"
            out.random_(0, 2, generator=generator).mul_(2).sub_(1)
        return out[: self.count]

    def slopes(self, layer: int, which: int, rows: int) -> torch.Tensor | None:
        """What every unit of an activation does (see `sigprop.activations.uneven`), or None."""
        phi = self.ensemble.network.phi
        if phi.negative_slope is not None or not phi.homogeneous:
            return None
        low, high = (phi.low, phi.high)  # type: ignore[attr-defined]
        drawn = low + (high - low) * self.uniforms(layer, "units", which, rows)
        if not isinstance(phi, Uneven):
            return drawn
        chance = self.uniforms(layer, "chance", which, rows)
        drawn = torch.where(chance < phi.turned, TURNED, drawn)
        return torch.where(chance >= phi.keep, DROPPED, drawn)

    def inputs(self) -> torch.Tensor:
        """Shape (count, input size, K), float64."""
        network, inputs = self.ensemble.network, self.ensemble.inputs
        size, frame = network.input_size, inputs.frame()
        if frame is None:
            given = inputs.array(size)
            assert given is not None
            whole = torch.as_tensor(given.T.copy(), dtype=torch.float64, device=self.device.kind)
            return whole.expand(self.count, -1, -1).clone()
        normals = self.normals(0, "input", 0, size, len(frame), torch.float64)
        orthonormal, upper = torch.linalg.qr(normals)
        # With a positive diagonal the frame is uniformly distributed.
        orthonormal *= torch.sign(torch.diagonal(upper, dim1=1, dim2=2))[:, None]
        turn = torch.as_tensor(frame.T.copy(), dtype=torch.float64, device=self.device.kind)
        return math.sqrt(size) * (orthonormal @ turn)

    def top(self) -> torch.Tensor:
        """The gradient at the top, shape (count, width, 1), float64."""
        width = int(self.ensemble.network.state_widths[-1])
        return self.normals(0, "top", 0, width, 1, torch.float64)
