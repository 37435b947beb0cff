r"""The singular spectrum of Jacobians too large to be written out, from products with vectors.

Golub and Kahan's bidiagonalisation of J, begun at a random direction v, gives after k steps a
k x k bidiagonal matrix B whose singular values :math:`\theta_i` and first right singular
components :math:`u_i` are a Gauss quadrature,

.. math:: v^T f(J^T J)\, v \approx \sum_i u_i^2\, f(\theta_i^2),

exact for polynomials f up to degree 2k - 1. Over independent isotropic directions its mean is
the average of f over the spectrum (stochastic Lanczos quadrature; Ubaru, Chen, Saad 2017). For
f the identity it is Hutchinson's estimate of the mean square, without any error of quadrature.

What is told has the error between networks and directions; it is *not* exact in law as a
sampler's numbers are, so this is a function of its own. The density is resolved to about 1/k of
its support; the largest value converges fast and from below, the smallest from above.

A step sends all directions forward and back through every layer. The weights are drawn again
from their addresses each time, so memory is that of one layer and of 2k bundles of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.spec import Ensemble, check_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["bidiagonal", "lanczos_spectrum"]

LARGEST_BYTES = 4 * 2**30


def lanczos_spectrum(
    ensemble: Ensemble,
    *,
    replicas: int = 4,
    probes: int = 8,
    steps: int = 30,
    seed: int = 0,
    bins: int = 80,
) -> xr.Dataset:
    """Estimate the singular spectrum of dh_L / dx at the first input, without J.

    Parameters
    ----------
    ensemble : Ensemble
    replicas : int
        Networks; they are those of sampler ``jacobian`` with the same seed.
    probes : int
        Random directions a network, sent through together.
    steps : int
        k, at most the size of the input.
    seed : int
    bins : int
        Of the density, over the range that was found.

    Returns
    -------
    Dataset
        ``singular_density`` over ``singular_bin`` (of ln sigma), ``log_singular_mean``,
        ``log_singular_variance``, ``singular_mean_square`` and, per network averaged,
        ``log_singular_largest`` (from below) and ``log_singular_smallest`` (from above), each
        with ``_se``. A direction that a network loses adds to ``singular_zero_fraction``.

    Raises
    ------
    SpecError, Unsupported
        If a number is out of range, the network has no Jacobian that is known here, or its
        vectors would not fit into memory; before any work.
    NonFinite
        If the Jacobian stretches a vector beyond float64.
    """
    from sigprop import rng
    from sigprop.backends import reference
    from sigprop.backends.correlated import one_blas_thread
    from sigprop.backends.jacobian import Jacobian, draws_of, walk_of

    network = ensemble.network
    for name, value in (("replicas", replicas), ("probes", probes), ("bins", bins)):
        check_count(name, value, why="It counts something.")
    check_count("steps", steps, least=2, why="Two steps are the least that tell a spread.")
    if steps > network.input_size:
        raise SpecError(
            f"steps = {steps} is more than the {network.input_size} singular values that there "
            f"are: the quadrature would be exact before. Use at most {network.input_size}, or "
            "observe the spectrum itself."
        )
    if ensemble.table.batch_norm or network.convolutional:
        raise Unsupported(
            "lanczos_spectrum is of fully connected networks without batch normalisation. Use "
            "observable 'spectrum'."
        )
    widest = int(max(f.max() for f in network.fans))
    need = 8 * (2 * (steps + 2) * probes * widest + 4 * widest**2)
    if need > LARGEST_BYTES:
        fits = max(1, int(steps * (LARGEST_BYTES - 32 * widest**2) / need))
        raise SpecError(
            f"steps = {steps} and probes = {probes} keep {need / 2**30:.1f} GiB of vectors at "
            f"width {widest}, and {LARGEST_BYTES / 2**30:.0f} GiB are allowed. About {fits} steps "
            "would fit."
        )
    key = rng.key(seed, ensemble.digest, Jacobian.name, Jacobian.version)
    nodes, weights, squares, means, spreads, ends = [], [], [], [], [], []
    with one_blas_thread():
        for replica in range(replicas):
            draws = draws_of(ensemble, key, replica)
            walk = walk_of(ensemble, draws, reference.forward(ensemble, draws))
            generator = np.random.Generator(np.random.Philox(key=[int(key[0]), replica]))
            start = generator.standard_normal((network.input_size, probes))
            theta, share = bidiagonal(walk, start, steps)
            nodes.append(theta)
            weights.append(share)
    theta, share = np.array(nodes), np.array(weights)  # (replicas, probes, steps)
    # A value below rounding of the largest is a direction that is lost.
    lost = theta <= 1e-13 * theta.max(axis=-1, keepdims=True)
    logs = np.where(lost, 0.0, np.log(np.where(lost, 1.0, theta)))
    alive = np.where(lost, 0.0, share)
    kept = alive.sum(axis=-1)
    means = (alive * logs).sum(-1) / kept
    spreads = (alive * logs**2).sum(-1) / kept - means**2
    squares = (share * theta**2).sum(-1)
    low, high = logs[~lost].min(), logs[~lost].max()
    pad = 1e-9 + 0.02 * (high - low)
    edges = np.linspace(low - pad, high + pad, bins + 1)
    density = np.stack([
        np.histogram(x[~gone], edges, weights=w[~gone])[0]
        for x, w, gone in zip(
            logs.reshape(-1, steps), share.reshape(-1, steps), lost.reshape(-1, steps), strict=True
        )
    ]).reshape(replicas, probes, bins) / (edges[1] - edges[0])  # fmt: skip
    found: dict[str, Any] = {}

    def put(name: str, values: np.ndarray, what: str, dims: tuple[str, ...] = ()) -> None:
        # Directions of one network share it: the error is that between networks, if there are
        # several, and else that between directions.
        by_network = values.mean(axis=1) if values.ndim > 1 and replicas > 1 else values[0]
        if replicas > 1 and values.ndim == 1:
            by_network = values
        count = len(by_network) if np.ndim(by_network) else 1
        error = by_network.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.nan
        mean = np.mean(by_network, axis=0)
        found[name] = (dims, mean, {"long_name": what, "units": "1"})
        about = {"long_name": f"standard error of {what}", "units": "1"}
        found[f"{name}_se"] = (dims, error + np.zeros_like(mean), about)

    put("log_singular_mean", means, "mean of log singular")
    put("log_singular_variance", spreads, "variance of log singular")
    put("singular_mean_square", squares, "mean square of singular (Hutchinson)")
    put("singular_zero_fraction", 1 - kept, "fraction of singular values that is lost")
    put("singular_density", density, "density of log singular", ("singular_bin",))
    for name, pick in (("largest", np.nanmax), ("smallest", np.nanmin)):
        ends = pick(np.where(lost, np.nan, logs), axis=(1, 2))
        put(f"log_singular_{name}", ends, f"log of the {name} singular value found")
    import json

    import xarray as xr

    about = {
        "method": f"stochastic Lanczos quadrature, {probes} directions, {steps} steps",
        "ensemble": json.dumps(ensemble.to_dict(), sort_keys=True),
        "seed": seed,
        "replicas": replicas,
    }
    return xr.Dataset(found, {"singular_bin": (edges[1:] + edges[:-1]) / 2}, about)


def bidiagonal(walk: Any, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature nodes (singular values) and weights of J from each column of ``start``.

    Parameters
    ----------
    walk : object
        With ``forward(v)`` = J v and ``backward(u)`` = J^T u for arrays of columns.
    start : ndarray, shape (size of the input, probes)
    steps : int

    Returns
    -------
    (ndarray, ndarray), each of shape (probes, steps)
        Weights of one direction add up to 1.
    """
    probes = start.shape[1]
    v = start / np.linalg.norm(start, axis=0)
    rights: list[np.ndarray] = [v]
    lefts: list[np.ndarray] = []
    alpha, beta = np.zeros((probes, steps)), np.zeros((probes, steps))
    u = walk.forward(v)
    if not np.isfinite(u).all():
        raise NonFinite(
            "J v is not finite: the Jacobian stretches beyond float64, and this method carries no "
            "units. Use observable 'spectrum', or look at fewer layers."
        )
    for k in range(steps):
        u = _orthogonal(u, lefts)
        alpha[:, k] = np.linalg.norm(u, axis=0)
        u = _unit(u, alpha[:, k])
        lefts.append(u)
        if k + 1 == steps:
            break
        w = _orthogonal(walk.backward(u) - alpha[:, k] * rights[-1], rights)
        beta[:, k] = np.linalg.norm(w, axis=0)
        v = _unit(w, beta[:, k])
        rights.append(v)
        u = walk.forward(v) - beta[:, k] * u
    nodes, weights = np.empty((2, probes, steps))
    for p in range(probes):
        b = np.diag(alpha[p]) + np.diag(beta[p, :-1], 1)
        _, nodes[p], right = np.linalg.svd(b)
        weights[p] = right[:, 0] ** 2
    return nodes, weights


def _orthogonal(x: np.ndarray, earlier: list[np.ndarray]) -> np.ndarray:
    """x, column by column, off the earlier vectors: twice, which is enough."""
    for _ in range(2):
        for q in earlier:
            x = x - q * (q * x).sum(axis=0)
    return x


def _unit(x: np.ndarray, size: np.ndarray) -> np.ndarray:
    return x / np.where(size > 0, size, 1.0)
