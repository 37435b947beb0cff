r"""Networks of several depths driven by one path: how fast a deep network meets its limit.

As depth grows, a residual network becomes an equation in continuous time. To see at which rate,
networks of different depths must be compared draw by draw, and not in law alone. So one path is
drawn on a fine grid, and a network of any smaller depth L reads its weights off it:

============ ========================================================= =================
process      unit weights of layer k at depth L, F the fine depth      branch
============ ========================================================= =================
independent  increments of a Brownian path over (k-1, k] F/L steps,    like L^-1/2
             divided by sqrt(F/L)
fgn          increments of a fractional Brownian path,                 like L^-hurst
             divided by (F/L)^hurst
rbf, matern, the value of the path at k F/L                            like 1/L
tied
============ ========================================================= =================

Each has the law that the network of depth L has by itself, exactly. With the branch named
the limit is :math:`dH = d^{-1/2}\, dB\, \varphi(H)` in Itô's sense, a Young equation, and
:math:`dH = d^{-1/2}\, V(t)\, \varphi(H)\, dt`. Matrices before the last one stand inside an
activation, where only a path with values has a limit: ``inner_process`` must be smooth or tied
in blocks with more than one matrix.

The networks themselves are those of `sigprop.backends.reference`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sigprop import rng
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.backends.reference import Draws, draw, forward
from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.label import software
from sigprop.processes import FractionalGaussianNoise, Matern, Rbf, Tied
from sigprop.spec import Ensemble, Process, check_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["coupled_weights", "increments_exponent", "strong_error"]

SCHEMA = "sigprop-coupling"
_STREAM, _VERSION = "coupling", 1
_GROUP_BYTES = 64 * 2**20  # of one path of all weights, for the replicas that run abreast
_LARGEST_NETWORK_BYTES = 2**31


def strong_error(
    ensemble: Ensemble,
    depths: Sequence[int],
    *,
    replicas: int = 100,
    seed: int = 0,
) -> xr.Dataset:
    r"""Distance between networks of several depths and a fine one driven by the same path.

    .. math:: e_L = \max_{k \le L} |H_{k/L} - h_k| \,/\, |h_0|,
              \qquad e^{\text{last}}_L = |H_1 - h_L| \,/\, |h_0|

    with h the network of depth L and H the fine one, ``ensemble`` itself.

    Parameters
    ----------
    ensemble : Ensemble
        Its depth F is the fine one. A residual block; Gaussian weights without biases, of a
        process in the table of `sigprop.coupling`; skip 1 and a branch that falls with depth as
        the limit needs it: scheme ``Power(beta=1/2)`` for independent layers,
        ``Power(beta=1, process=Rbf(bandwidth=0.2))``, and so on.
    depths : sequence of int
        At least two, each a divisor of F below F.
    replicas : int
        Number of independent paths, at least 2.
    seed : int
        0 .. 2**64 - 1. Replica r depends on the seed, the ensemble and r alone: more
        replicas extend fewer, and other depths meet the same paths.

    Returns
    -------
    Dataset
        Over ``depth`` and ``input``, relative to :math:`|h_0|`: ``error_mean`` and
        ``error_root_mean_square`` over replicas, each with ``_se``; ``last_error_..`` the same
        of the last state; ``replica_error`` and ``replica_last_error`` with a dimension
        ``replica`` before these. The errors of one replica at several depths share a path,
        hence are dependent; `analysis.theory.measured_order` accounts for it.

    Raises
    ------
    SpecError
        If a depth does not divide the fine one, or the branch does not scale as a limit
        needs it.
    Unsupported
        For weights, processes and blocks without a coupling.
    NonFinite
        If a network overflows: a branch or an activation that explodes.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Point, Power
    >>> law = Ensemble(Network(depth=64, width=3, block="res1"), Power(beta=0.5), Point())
    >>> errors = strong_error(law, [4, 16], replicas=50).error_mean[:, 0]
    >>> bool(errors[0] > errors[1])
    True
    """
    replicas = check_count("replicas", replicas, least=2, why="One path shows no error bar.")
    seed = check_count("seed", seed, least=0)
    if seed >= 2**64:
        raise SpecError(f"seed must be below 2**64, got {seed}: it is one word of 64 bits.")
    fine_depth = ensemble.network.depth
    wanted = _check_depths(depths, fine_depth)
    _check_weights(ensemble)
    coarse = [_at_depth(ensemble, depth) for depth in wanted]
    for member in coarse:
        _check_scaling(ensemble, member)

    key = rng.key(seed, ensemble.digest, _STREAM, _VERSION)
    errors = []
    group = max(1, min(replicas, _GROUP_BYTES // _path_bytes(ensemble)))
    for start in range(0, replicas, group):
        block = range(start, min(start + group, replicas))
        errors.append(_errors(ensemble, coarse, [_generator(key, r) for r in block]))
    return _dataset(ensemble, wanted, np.concatenate(errors, axis=1), seed)


# ------------------------------------------------------------------------- coupling


def increments_exponent(process: Process) -> float | None:
    """Exponent H by which increments over n steps are divided, or None for values of a path.

    The sum of n neighbouring unit weights has standard deviation :math:`n^H`.

    Raises
    ------
    Unsupported
        If the process has no limit on [0, 1] that every depth could read.
    """
    if process.independent:
        return 0.5
    if isinstance(process, FractionalGaussianNoise) and process.hurst >= 0.5:
        return process.hurst
    if isinstance(process, (Rbf, Matern, Tied)):
        return None
    raise Unsupported(
        f"process {process.kind!r} has no coupling of depths: it is neither the increments of a "
        "self-similar path nor the values of a path over t = layer / depth, so networks of two "
        "depths cannot read the same one and meet. Use independent, fgn with a Hurst index of at "
        "least 1/2, rbf, matern or tied."
    )


def coupled_weights(path: np.ndarray, process: Process, depth: int) -> np.ndarray:
    """Unit weights of a network of ``depth`` layers on a path drawn for more.

    Parameters
    ----------
    path : ndarray, shape (.., fine depth)
        Of ``process``, as `Process.paths` returns it.
    process : Process
    depth : int
        A divisor of the fine depth.

    Returns
    -------
    ndarray, shape (.., depth)
        In law a path of ``process`` on ``depth`` layers, exactly.
    """
    steps = path.shape[-1] // depth
    exponent = increments_exponent(process)
    if exponent is None:
        return path[..., steps - 1 :: steps]
    return path.reshape(*path.shape[:-1], depth, steps).sum(axis=-1) * float(steps) ** -exponent


def _errors(
    ensemble: Ensemble, coarse: Sequence[Ensemble], generators: Sequence[np.random.Generator]
) -> np.ndarray:
    """Relative errors of one network a generator, shape (2, R, depths, K): largest, last."""
    inputs = draw(_at_depth(ensemble, 1), generators).inputs
    paths = _paths(ensemble, generators)
    fine = _states(ensemble, paths, inputs)
    size = np.linalg.norm(inputs, axis=-1)
    errors: list[tuple[np.ndarray, np.ndarray]] = []
    for member in coarse:
        apart = fine[:: ensemble.network.depth // member.network.depth]
        apart = apart - _states(member, paths, inputs)
        distance = np.linalg.norm(apart, axis=-1) / size
        errors.append((distance.max(axis=0), distance[-1]))
    found = np.stack(errors, axis=2)
    if not np.isfinite(found).all():
        raise NonFinite(
            "a network overflowed before its last layer, so its distance from another one is not "
            "a number. Use a smaller branch, or an activation that does not grow so fast."
        )
    return found


def _paths(ensemble: Ensemble, generators: Sequence[np.random.Generator]) -> list[np.ndarray]:
    """Unit weights on the fine grid, matrix by matrix, shape (R, rows, columns, depth)."""
    network = ensemble.network
    fan_in, fan_out = (fans[0].tolist() for fans in network.fans)
    found = []
    for rows, columns, process in zip(fan_out, fan_in, ensemble.table.processes):
        size = (rows * columns, process.draws(network.depth))
        path = [process.paths(g.standard_normal(size), network.depth) for g in generators]
        found.append(np.stack(path).reshape(len(generators), rows, columns, network.depth))
    return found


def _states(ensemble: Ensemble, paths: list[np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """States of all layers, shape (depth + 1, R, K, width), of the network on these paths."""
    table, depth = ensemble.table, ensemble.network.depth
    weights: list[list[np.ndarray]] = [[] for _ in range(depth)]
    for j, (path, process) in enumerate(zip(paths, table.processes)):
        unit = np.moveaxis(coupled_weights(path, process, depth), -1, 0)
        scaled = np.ascontiguousarray(unit) * table.scale[:, j, None, None, None]
        for layer in range(depth):
            weights[layer].append(scaled[layer])
    zero = [[np.zeros(()) for _ in table.processes]] * depth
    none: list[list[np.ndarray]] = [[]] * depth
    draws = Draws(inputs, weights, zero, none, inputs[:, :1])
    with np.errstate(over="ignore", invalid="ignore"):  # `_errors` looks for it
        signal = forward(ensemble, draws, differentiate=False)
        pairs = zip(signal.states, signal.exponents)
        return np.stack([np.ldexp(h, exponent[..., None]) for h, exponent in pairs])


def _generator(key: np.ndarray, replica: int) -> np.random.Generator:
    words = np.array([int(key[0]) | int(key[1]) << 32, 0], np.uint64)
    counter = np.array([0, 0, 0, replica], np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=counter))


def _at_depth(ensemble: Ensemble, depth: int) -> Ensemble:
    network = dataclasses.replace(ensemble.network, depth=depth)
    return dataclasses.replace(ensemble, network=network)


# --------------------------------------------------------------------------- checks


def _check_depths(depths: Sequence[int], fine_depth: int) -> list[int]:
    wanted = [check_count("each of depths", depth) for depth in depths]
    if len(wanted) < 2 or len(set(wanted)) < len(wanted):
        raise SpecError(
            f"depths must name at least two different depths, got {list(depths)}: a rate is a "
            "matter of several."
        )
    for depth in wanted:
        if fine_depth % depth or depth == fine_depth:
            raise SpecError(
                f"depth {depth} does not fit the fine depth {fine_depth}, the depth of the "
                "ensemble: every layer must end on the fine grid, so each depth must divide it "
                "and be smaller. Use powers of 2."
            )
    return wanted


def _check_weights(ensemble: Ensemble) -> None:
    network, table = ensemble.network, ensemble.table
    if network.convolutional or table.batch_norm:
        what = "a convolutional network" if network.convolutional else "batch normalisation"
        raise Unsupported(
            f"networks of several depths are not coupled for {what}: their limit of large depth "
            "is not known here. Leave it out."
        )
    if not network.form.trunk:
        raise Unsupported(
            f"block {network.block!r} has no trunk, so its layers do not become a path as depth "
            "grows. Use block 'res1', or 'res3' with a smooth inner_process."
        )
    if table.law.kind != "gaussian" or table.centred or table.biased:
        what = "centred rows" if table.centred else "biases"
        what = f"law {table.law.kind!r}" if table.law.kind != "gaussian" else what
        raise Unsupported(
            f"{what}: no path is known that networks of all depths could read. Use law "
            "'gaussian' without biases and centring."
        )
    if isinstance(network.phi, RandomisedLeakyReLU):
        raise Unsupported(
            f"activation {network.phi.kind!r} draws its slopes anew in every layer, so networks of "
            "two depths share no path. Use 'leaky_relu'."
        )
    if isinstance(network.inner_width, tuple):
        raise Unsupported(
            "inner_width is given layer by layer, so matrices of two depths differ in shape. Use "
            "one inner_width."
        )
    for process in table.processes[:-1]:
        if increments_exponent(process) is not None:
            raise Unsupported(
                f"a matrix inside an activation has process {process.kind!r}, whose layers do not "
                "become a path as depth grows: there is a limit in law, but none to compare draw "
                "by draw. Use block 'res1', or a smooth inner_process such as Rbf."
            )
    increments_exponent(table.processes[-1])
    size = _path_bytes(ensemble)
    if size > _LARGEST_NETWORK_BYTES:
        raise SpecError(
            f"the paths of one network take {size / 2**30:.1f} GiB, but all its weights are kept "
            "to be read at every depth. Use a smaller width or fine depth."
        )


def _check_scaling(fine: Ensemble, coarse: Ensemble) -> None:
    """Raise SpecError unless both depths discretise one equation."""
    exponent = increments_exponent(fine.table.processes[-1])
    exponent = 1.0 if exponent is None else exponent
    speeds = []
    for ensemble in (fine, coarse):
        table, depth = ensemble.table, ensemble.network.depth
        speed = table.branch * np.prod(table.scale, axis=1) * float(depth) ** exponent
        speeds.append(speed)
        same = np.allclose(speed, speed[0], rtol=1e-9, atol=0.0)
        same &= np.allclose(table.scale, fine.table.scale[0], rtol=1e-9, atol=0.0)
        same &= np.allclose(table.input_scale, fine.table.input_scale[0], rtol=1e-9, atol=0.0)
        if not same or not np.array_equal(table.skip, np.ones(depth)) or speed[0] == 0:
            raise SpecError(
                f"the layers of scheme {fine.scheme.kind!r} at depth {depth} are not steps of one "
                "equation: that takes skip 1 and the same branch, scales and variances, not 0, in "
                "all of them. Use scheme 'power'."
            )
    if not math.isclose(speeds[0][0], speeds[1][0], rel_tol=1e-9):
        raise SpecError(
            f"from depth {coarse.network.depth} to {fine.network.depth} the branch of scheme "
            f"{fine.scheme.kind!r} changes by {fine.table.branch[0] / coarse.table.branch[0]:.4g}, "
            f"but a limit exists for depth^-{exponent:g} alone when the process of the weights is "
            f"{fine.table.processes[-1].kind!r}. Use Power(beta={exponent:g}, ..)."
        )


def _path_bytes(ensemble: Ensemble) -> int:
    fan_in, fan_out = ensemble.network.fans
    weights, states = int(np.sum(fan_in * fan_out)), int(np.sum(fan_in)) * ensemble.inputs.count
    return 8 * (weights + states)


# --------------------------------------------------------------------------- result


_MEASURED = {
    "error": "largest distance from the fine network",
    "last_error": "distance from the fine network at the last layer",
}


def _dataset(ensemble: Ensemble, depths: list[int], errors: np.ndarray, seed: int) -> xr.Dataset:
    import xarray as xr

    network = ensemble.network
    variables: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}
    for (name, what), values in zip(_MEASURED.items(), errors):
        for suffix, (array, statistic) in _estimates(values).items():
            attrs = {"long_name": f"{what}, {statistic}", "units": "|h_0|"}
            variables[f"{name}_{suffix}"] = (("depth", "input"), array, attrs)
        attrs = {"long_name": f"{what}, every replica", "units": "|h_0|"}
        variables[f"replica_{name}"] = (("replica", "depth", "input"), values, attrs)
    return xr.Dataset(
        variables,
        {
            "depth": ("depth", np.array(depths), {"long_name": "depth", "units": "1"}),
            "input": ("input", np.arange(ensemble.inputs.count), {"long_name": "input"}),
        },
        {
            "schema": SCHEMA,
            "schema_version": 1,
            "title": (
                f"{ensemble.scheme.kind} {network.block} {network.phi.kind}, width "
                f"{network.width}, on common paths with depth {network.depth}"
            ),
            "ensemble": json.dumps(ensemble.to_dict(), sort_keys=True),
            "digest": ensemble.digest,
            "fine_depth": network.depth,
            "seed": seed,
            "replicas": errors.shape[1],
            "sampler": _STREAM,
            "sampler_version": _VERSION,
            "software": software(),
        },
    )


def _estimates(values: np.ndarray) -> dict[str, tuple[np.ndarray, str]]:
    """Statistics of ``values`` over the first axis, the replicas, with their errors."""
    root_count = math.sqrt(len(values))
    square = values**2
    root = np.sqrt(square.mean(axis=0))
    # A network that never moves is at distance 0 from itself, without an error.
    spread = square.std(axis=0, ddof=1) / root_count
    root_se = np.divide(spread, 2 * root, out=np.zeros_like(root), where=root > 0)
    return {
        "mean": (values.mean(axis=0), "mean over replicas"),
        "mean_se": (values.std(axis=0, ddof=1) / root_count, "standard error of the mean"),
        "root_mean_square": (root, "root mean square over replicas"),
        "root_mean_square_se": (root_se, "standard error of the root mean square"),
    }
