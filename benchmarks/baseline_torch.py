"""The job as one writes it in plain torch: what sigprop's speed is measured against.

A module holds two linear layers a residual block, as in the code that accompanies Marion,
Fermanian, Biau and Vert, *Scaling ResNets in the large-depth regime* (arXiv:2206.06929): one
network is built, one input goes forward with every hidden state kept, the loss of one scalar
output against a target goes backward by autograd, and norms are taken. Nothing is done to make
it slow, and nothing that a reader of torch's tutorial would not do to make it fast.

    python -m benchmarks.baseline_torch --networks 5 --depth 1000 --width 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ResidualNetwork", "measure", "norms", "seconds_per_network"]

FEATURES = 64  # of the data, as in the paper


class ResidualNetwork(nn.Module):
    """h_0 = A x, h' = h + branch V relu(W h), F(x) = B h_L; entries N(0, 1 / fan_in), no biases."""

    def __init__(self, depth: int, width: int, branch: float) -> None:
        super().__init__()
        self.branch = branch
        self.first = nn.Linear(FEATURES, width, bias=False)
        self.inner = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.outer = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.last = nn.Linear(width, 1, bias=False)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        h = self.first(x)
        hidden = [h]
        for inner, outer in zip(self.inner, self.outer):
            h = h + self.branch * outer(torch.relu(inner(h)))
            hidden.append(h)
        return self.last(h), hidden


def norms(depth: int, width: int, branch: float) -> tuple[np.ndarray, np.ndarray]:
    """Build one network and pass one sample both ways.

    Returns
    -------
    (ndarray, ndarray), each of shape (depth + 1,)
        |h_l| / |h_0| and |p_l| / |p_L|.
    """
    network = ResidualNetwork(depth, width, branch)
    x, y = torch.rand(1, FEATURES), torch.rand(1, 1)
    output, hidden = network(x)
    for h in hidden:
        h.retain_grad()
    nn.functional.mse_loss(output, y).backward()
    states = torch.stack([h.detach().norm() for h in hidden])
    gradients = torch.stack([h.grad.norm() for h in hidden if h.grad is not None])
    return (states / states[0]).numpy(), (gradients / gradients[-1]).numpy()


def measure(
    networks: int, depth: int, width: int, beta: float = 0.5, seed: int = 0
) -> dict[str, np.ndarray]:
    """Logs of the norms of many networks, with branch = depth ** -beta.

    Returns
    -------
    dict
        ``log_norm`` and ``log_gradient``, float64, shape (networks, depth + 1).
    """
    torch.manual_seed(seed)
    pairs = [norms(depth, width, depth**-beta) for _ in range(networks)]
    states, gradients = (np.log(np.stack(side).astype(float)) for side in zip(*pairs))
    return {"log_norm": states, "log_gradient": gradients}


def seconds_per_network(networks: int = 5, depth: int = 1000, width: int = 100) -> float:
    """Median time of one network, building it included, after one that warms up.

    torch uses as many threads as it is set to (`torch.set_num_threads`).
    """
    torch.manual_seed(0)
    norms(depth, width, depth**-0.5)
    times = []
    for _ in range(networks):
        start = time.perf_counter()
        norms(depth, width, depth**-0.5)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--width", type=int, default=100)
    given = parser.parse_args(arguments)
    seconds = seconds_per_network(given.networks, given.depth, given.width)
    print(
        f"plain torch {torch.__version__}, {torch.get_num_threads()} threads: "
        f"{seconds:.3f} s a network of depth {given.depth} and width {given.width}"
    )


if __name__ == "__main__":
    main()
