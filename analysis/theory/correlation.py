r"""The cosine of two inputs at infinite width, layer by layer and in the limit of depth.

With independent layers and an activation of linear pieces the second moments of two states close:

.. math:: q_{ab}' = s^2 q_{ab} + t \sqrt{q_{aa} q_{bb}}\; \kappa(\rho_{ab}) / \kappa(1), \qquad
          \rho_{ab} = q_{ab} / \sqrt{q_{aa} q_{bb}},

s the skip coefficient, t the growth of the mean square by a branch, and
:math:`\kappa(r) = E\varphi(X)\varphi(Y)` for standard normals of correlation r. Both norms grow by
the same factor, so the cosine obeys a recursion of its own, whatever the norms are. In block
projection (type C) s counts the skip matrix, and the sum is activated: behind m - 1 activations of
the branch, :math:`\rho' = k((s^2 \rho + t\, k^{m-1}(\rho)) / (s^2 + t))`, k the kernel over its
value at 1.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import solve_ivp

from analysis.theory._entrywise import check_entrywise
from sigprop.errors import SpecError, Unsupported
from sigprop.spec import Activation, Ensemble, check_number

__all__ = ["correlation_limit", "correlation_map"]


def kernel(cosine: np.ndarray | float, activation: Activation) -> np.ndarray:
    r"""E phi(X) phi(Y) over E phi(X)^2 for standard normals of correlation ``cosine``.

    Parameters
    ----------
    cosine : float or ndarray
        In [-1, 1].
    activation : Activation
        Linear, relu or leaky_relu of any slope.

    Returns
    -------
    ndarray, shape of ``cosine``

    Raises
    ------
    Unsupported
        For another activation.

    Notes
    -----
    Status: exact. Cho and Saul (2009) for the ReLU.
    """
    slope = activation.negative_slope
    if slope is None:
        raise Unsupported(
            f"the correlation of two inputs is known in closed form for linear, relu and "
            f"leaky_relu, got {activation.kind!r}. Simulate it (--observe separability)."
        )
    r = np.clip(cosine, -1.0, 1.0)
    bend = (np.sqrt((1 - r) * (1 + r)) + r * (math.pi / 2 + np.arcsin(r))) / (2 * math.pi)
    return np.asarray((slope * r + (1 - slope) ** 2 * bend) / ((1 + slope**2) / 2))


def correlation_map(ensemble: Ensemble, cosine: float | None = None) -> np.ndarray:
    """The cosine of two inputs at every layer, at infinite width.

    Parameters
    ----------
    ensemble : Ensemble
        Any block but identity, activation linear, relu or leaky_relu, independent layers, no
        biases.
    cosine : float, optional
        Of the inputs, before the stem if there is one; by default that of the ensemble's pair.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Beside ``cosine_mean`` of a result.

    Raises
    ------
    SpecError
        If no cosine is given and the ensemble has no pair.
    Unsupported
        If the recursion does not close.

    Notes
    -----
    Status: limit, width to infinity; the error is O(1 / width). In res1 and preact it
    assumes sign-symmetric inputs. The norms of the two inputs do not matter. Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Pair, Power
    >>> law = Ensemble(Network(depth=1000, width=10), Power(beta=0.5), Pair(cosine=0.2))
    >>> round(float(correlation_map(law)[-1]), 3)
    0.301
    """
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, "correlation_map", projected=True)
    start = _start(ensemble, cosine)
    if network.form.post:
        start = float(kernel(start, network.phi))  # behind the stem
    why = None
    if network.block not in ("plain", "res1", "res3", "inner", "preact", "projection"):
        why = f"block {network.block!r}"
    elif table.biased:
        why = "biases"
    elif table.centred:
        why = "centred rows"
    elif table.correlated:
        why = "layers that depend on each other"
    elif not math.isfinite(table.law.variance):
        why = f"weights of law {table.law.kind!r}, which has no variance"
    if why is not None:
        raise Unsupported(f"correlation_map cannot follow {why}. Simulate it instead.")
    # By coordinate of the state, whose number may change in blocks plain and projection.
    m = network.branch_matrices
    gains = table.scale**2 * network.fans[0]
    gain = np.prod(gains[:, :m], axis=1) * (table.branch * table.input_scale) ** 2
    bends = m - (network.form.trunk and not network.form.pre)
    half = 0.5 * (1 + float(kernel_slope(network.phi)) ** 2)
    growth = gain * half**bends
    out = np.empty(network.depth + 1)
    out[0] = rho = start
    for layer in range(network.depth):
        image = rho
        for _ in range(bends):
            image = float(kernel(image, network.phi))
        square = table.skip[layer] ** 2 * (gains[layer, -1] if network.form.projected else 1.0)
        total = square + growth[layer]
        rho = (square * rho + growth[layer] * image) / total if total > 0 else math.nan
        if network.form.projected:
            rho = float(kernel(rho, network.phi))
        out[layer + 1] = rho
    return out


def kernel_slope(activation: Activation) -> float:
    """The slope of the negative side; Unsupported if there is none."""
    kernel(0.0, activation)
    slope = activation.negative_slope
    assert slope is not None
    return slope


def correlation_limit(
    cosine: float, time: float = 1.0, activation: Activation | str = "relu"
) -> float:
    r"""The cosine in the limit of depth, branches L^-1/2 and weights 1 / fan_in.

    .. math:: \dot\rho = \tfrac{1}{2}(1 + s^2)\,\bigl(\kappa(\rho) / \kappa(1) - \rho\bigr)

    Parameters
    ----------
    cosine : float
        At time 0, in [-1, 1].
    time : float
        Layer over depth, at least 0.
    activation : Activation or str
        Linear, relu or leaky_relu.

    Returns
    -------
    float

    Raises
    ------
    SpecError, Unsupported
        If a number is out of range, or the activation has no closed kernel.

    Notes
    -----
    Status: limit, width and depth to infinity, in either order; error O(width^-1/2 + depth^-1/2)
    on one network. For res1 and res3 alike. Cost: some hundred steps.

    References
    ----------
    Hayou, Yang (2023), arXiv:2302.00453.

    Examples
    --------
    >>> round(correlation_limit(0.2), 4)
    0.3012
    """
    import sigprop.activations  # noqa: F401  fills the registry

    phi = Activation.named(activation) if isinstance(activation, str) else activation
    start = check_number("cosine", cosine, low=-1.0, high=1.0)
    end = check_number("time", time, low=0.0)
    rate = 0.5 * (1 + kernel_slope(phi) ** 2)
    if end == 0.0:
        return start

    def drift(_: float, rho: np.ndarray) -> np.ndarray:
        return rate * (kernel(rho, phi) - rho)

    found = solve_ivp(drift, (0.0, end), [start], rtol=1e-10, atol=1e-12)
    return float(found.y[0, -1])


def _start(ensemble: Ensemble, cosine: float | None) -> float:
    if cosine is not None:
        return check_number("cosine", cosine, low=-1.0, high=1.0)
    width = ensemble.network.input_size
    frame, given = ensemble.inputs.frame(), ensemble.inputs.array(width)
    rows = given if given is not None else frame
    if rows is None or len(rows) != 2:
        raise SpecError(
            f"correlation_map follows two inputs, got {ensemble.inputs.count}. Give cosine=..., or "
            "an ensemble with inputs Pair(cosine=...)."
        )
    one, other = rows
    return float(one @ other / math.sqrt((one @ one) * (other @ other)))
