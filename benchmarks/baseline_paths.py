"""The heat map of (beta, H) as one writes it plainly: what its speed is measured against.

Every entry of every matrix gets its own path of fractional Gaussian noise, by circulant
embedding, one path at a time; then one sample at a time goes through the network forward and
backward, for every beta and every input, as in the code that accompanies Marion, Fermanian,
Biau and Vert, *Scaling ResNets in the large-depth regime* (arXiv:2206.06929).
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from benchmarks.baseline_torch import FEATURES, ResidualNetwork

__all__ = ["cell_seconds", "fractional_noise"]


def fractional_noise(depth: int, hurst: float, generator: np.random.Generator) -> np.ndarray:
    """One path of unit variance, shape (depth,)."""
    k = np.arange(depth + 1)
    rho = 0.5 * (abs(k - 1.0) ** (2 * hurst) - 2 * k ** (2 * hurst) + (k + 1.0) ** (2 * hurst))
    eigenvalues = np.fft.fft(np.concatenate([rho, rho[-2:0:-1]])).real.clip(0)
    size = 2 * depth
    noise = np.zeros(size, complex)
    for j in range(depth + 1):
        if j in (0, depth):
            noise[j] = np.sqrt(eigenvalues[j]) * generator.standard_normal()
        else:
            real, imaginary = generator.standard_normal(2)
            noise[j] = np.sqrt(eigenvalues[j] / 2) * complex(real, imaginary)
            noise[size - j] = noise[j].conjugate()
    return (np.fft.fft(noise) / np.sqrt(size)).real[:depth]


def cell_seconds(depth: int, width: int, *, betas: int, inputs: int, rounds: int = 3) -> float:
    """Seconds of one network for all betas and inputs, from a slice of its paths and passes."""
    generator = np.random.default_rng(0)
    torch.manual_seed(0)
    paths, passes = [], []
    network = ResidualNetwork(depth, width, depth**-0.5)
    for once in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(10):
            fractional_noise(depth, 0.7, generator)
        paths.append((time.perf_counter() - start) / 10)
        network.branch = depth ** -(0.1 * once)
        start = time.perf_counter()
        output, hidden = network(torch.rand(1, FEATURES))
        for h in hidden:
            h.retain_grad()
        nn.functional.mse_loss(output, torch.rand(1, 1)).backward()
        passes.append(time.perf_counter() - start)
    path, single = float(np.median(paths[1:])), float(np.median(passes[1:]))
    return 2 * width**2 * path + betas * inputs * single
