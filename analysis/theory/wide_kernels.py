r"""Wide networks: products of states at several inputs, and gradients, for any block of Gaussians.

As the width n grows, pre-activations become jointly Gaussian and only their second moments are
left, :math:`G_{ab} = h_a \cdot h_b / n`, the *kernel*. A matrix with entries of variance
:math:`\sigma^2` and fan-in f, with biases of variance :math:`\beta^2`, and an activation do

.. math:: G \mapsto f \sigma^2 G + \beta^2, \qquad
          G_{ab} \mapsto E[\varphi(u)\varphi(v)], \quad (u, v) \sim N(0, G_{\{a, b\}}),

one after the other along a branch; the trunk adds :math:`c^2 G`, or in block projection the kernel
behind its skip matrix, after which the sum is activated. Where rows are centred the means
are taken off: :math:`E[\varphi(u)\varphi(v)] - E\varphi(u)\, E\varphi(v)`. A gradient meets
:math:`f \sigma^2` and :math:`E\varphi'(u)^2` in place of the two, and is not hurt by the mean.

With branches :math:`L^{-1/2}` the kernel obeys an ordinary differential equation as the depth
grows, whatever limit is taken first (Hayou and Yang 2023).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import solve_ivp

from analysis.theory._entrywise import check_entrywise
from sigprop.activations.randomised_leaky_relu import RandomisedLeakyReLU
from sigprop.errors import SpecError, Unsupported
from sigprop.gaussian import product_expectation
from sigprop.spec import Activation, Ensemble, check_count, check_number

__all__ = [
    "check_kernel",
    "commutation_rate",
    "infinite_width_gradient",
    "infinite_width_gram",
    "kernel_ode",
    "start_squares",
]


def infinite_width_gram(ensemble: Ensemble, gram: np.ndarray | None = None) -> np.ndarray:
    r"""Products of the states at K inputs, over the width, as the width grows.

    .. math:: G' = c^2 G + a^2\, T_m \circ .. \circ T_1 (s^2 G)

    with :math:`T_j` what a matrix and the activation beside it do, see above. For block res3,

    .. math:: G' = c^2 G + a^2 \bigl(n \sigma_2^2\, E[\varphi(u)\varphi(v)] + \beta_2^2\bigr),
              \qquad (u, v) \sim N\bigl(0,\; n \sigma_1^2 s^2 G + \beta_1^2\bigr).

    Parameters
    ----------
    ensemble : Ensemble
        Any block but identity, layers independent.
    gram : ndarray, shape (K, K), optional
        :math:`h_0 \cdot h_0' / n`; default that of the ensemble's own inputs, behind the stem.

    Returns
    -------
    ndarray, shape (depth + 1, K, K)

    Raises
    ------
    Unsupported
        For correlated layers, weights without variance, and given inputs in the blocks res1 and
        preact (their coordinates are not Gaussian) unless ``gram`` says that they stand for
        such ones.
    SpecError
        If ``gram`` is no Gram matrix.

    Notes
    -----
    Status: limit, as the width grows at a fixed depth. Assumes inputs with Gaussian
    coordinates in res1 and preact (random directions have them). Cost O(depth K^2), for a
    homogeneous activation; others take a double integral each time, some 10 ms.

    References
    ----------
    Hayou, Yang (2023), *Width and depth limits commute in residual networks*,
    arXiv:2302.00453; for plain nets Poole et al. (2016), arXiv:1606.05340; for centred rows
    Brock, De, Smith (2021), arXiv:2101.08692.

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Pair, Power
    >>> law = Ensemble(Network(depth=1000, width=100), Power(beta=0.5), Pair(cosine=0.2))
    >>> last = infinite_width_gram(law)[-1]
    >>> round(float(last[0, 1] / last[0, 0]), 3)
    0.301
    """
    network, table = ensemble.network, ensemble.table
    check_kernel(ensemble, "infinite_width_gram", gram is not None)
    g = _start(ensemble) if gram is None else _check_gram(gram)
    found = [g]
    for layer in range(network.depth):
        added = table.input_scale[layer] ** 2 * g
        for matrix in range(network.branch_matrices):
            if network.form.pre:
                added = _activated(network.phi, added, table.centred)
            added = _gain(ensemble, layer, matrix) * added + table.bias_scale[layer, matrix] ** 2
            if _active(ensemble, matrix):
                added = _activated(network.phi, added, table.centred)
        if network.form.projected:
            g = _gain(ensemble, layer, -1) * g + table.bias_scale[layer, -1] ** 2
        g = table.skip[layer] ** 2 * g + table.branch[layer] ** 2 * added
        if network.form.projected:
            g = _activated(network.phi, g, table.centred)
        found.append(g)
    return np.stack(found)


def infinite_width_gradient(ensemble: Ensemble, input: int = 0) -> np.ndarray:
    r"""Log of :math:`E|p_l|^2 / |p_L|^2` for an isotropic gradient at the top, as the width grows.

    .. math:: \frac{E|p_l|^2}{E|p_{l+1}|^2}
              = c^2 + a^2 s^2 \prod_j f_j \sigma_j^2 \prod E\varphi'(u_j)^2

    with :math:`u_j` the Gaussian numbers that `infinite_width_gram` activates.

    Parameters
    ----------
    ensemble : Ensemble
        As for `infinite_width_gram`.
    input : int
        At which of the inputs the net is differentiated.

    Returns
    -------
    ndarray, shape (depth + 1,)
        Dimensionless, natural logarithm; its last entry is 0.

    Raises
    ------
    SpecError, Unsupported
        As `infinite_width_gram`; and if there is no such input.

    Notes
    -----
    Status: limit, as the width grows at a fixed depth; for piecewise linear units off the trunk
    exact at every width, as `log_gradient_mean_square` says. Rests on a gradient that does not
    depend on the forward pass, which isotropy at the top provides. Cost O(depth).

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein (2017), arXiv:1611.01232, for plain nets.

    Examples
    --------
    NF-ResNet: the signal gains 1.8, its gradient 6.04.

    >>> from sigprop import Ensemble, Network, NFResNet, Point
    >>> network = Network(depth=20, width=2000, block="preact", inner_layers=3)
    >>> law = Ensemble(network, NFResNet(alpha=0.2), Point())
    >>> round(float(infinite_width_gram(law)[-1, 0, 0]), 3)
    1.8
    >>> round(float(np.exp(infinite_width_gradient(law)[0])), 2)
    6.04
    """
    network, table, phi = ensemble.network, ensemble.table, ensemble.network.phi
    check_kernel(ensemble, "infinite_width_gradient", True)
    if not 0 <= input < ensemble.inputs.count:
        raise SpecError(
            f"input must be within 0 .. {ensemble.inputs.count - 1}, got {input!r}. Count from 0."
        )
    square = start_squares(ensemble)[input].reshape(1, 1)
    states = infinite_width_gram(ensemble, square)[:, 0, 0]
    steps = np.empty(network.depth)
    for layer in range(network.depth):
        q = np.full((1, 1), table.input_scale[layer] ** 2 * states[layer])
        gain = table.input_scale[layer] ** 2
        for matrix in range(network.branch_matrices):
            if network.form.pre:
                gain *= phi.derivative_second_moment(float(q[0, 0]))
                q = _activated(phi, q, table.centred)
            gain *= _gain(ensemble, layer, matrix)
            q = _gain(ensemble, layer, matrix) * q + table.bias_scale[layer, matrix] ** 2
            if _active(ensemble, matrix):
                gain *= phi.derivative_second_moment(float(q[0, 0]))
                q = _activated(phi, q, table.centred)
        carried = 1.0
        if network.form.projected:
            carried = _gain(ensemble, layer, -1)
            whole = carried * states[layer] + table.bias_scale[layer, -1] ** 2
            whole = table.skip[layer] ** 2 * whole + table.branch[layer] ** 2 * q[0, 0]
        steps[layer] = table.skip[layer] ** 2 * carried + table.branch[layer] ** 2 * gain
        if network.form.projected:
            steps[layer] *= phi.derivative_second_moment(float(whole))
    with np.errstate(divide="ignore"):
        return np.concatenate([np.cumsum(np.log(steps)[::-1])[::-1], [0.0]])


def _gain(ensemble: Ensemble, layer: int, matrix: int) -> float:
    """Fan-in times variance of an entry; of a centred row one unit less is free."""
    fan_in = int(ensemble.network.fans[0][layer, matrix])
    free = fan_in - 1 if ensemble.table.centred else fan_in
    return float(free * ensemble.table.scale[layer, matrix] ** 2)


def _active(ensemble: Ensemble, matrix: int) -> bool:
    """Whether an activation follows the matrix."""
    network = ensemble.network
    last = network.branch_matrices - 1
    return not network.form.trunk or (not network.form.pre and matrix < last)


def kernel_ode(
    activation: Activation, gram: np.ndarray, time: float = 1.0, *, tolerance: float = 1e-8
) -> np.ndarray:
    r"""The same products as depth grows, too: a differential equation.

    .. math:: \frac{dG}{dt} = E[\varphi(u)\varphi(v)], \qquad (u, v) \sim N(0, G),

    for branches :math:`L^{-1/2}` and weights of variance 1/n, blocks res1 and res3 alike. It
    does not matter whether width or depth grows first. For ReLU the diagonal is
    :math:`G_0 e^{t/2}`, and the cosine obeys :math:`r' = (f(r) - r)/2` with
    :math:`f(r) = (r \arcsin r + \sqrt{1 - r^2})/\pi + r/2`.

    Parameters
    ----------
    activation : Activation
    gram : ndarray, shape (K, K)
        At t = 0.
    time : float
    tolerance : float
        Of the integration, relative.

    Returns
    -------
    ndarray, shape (K, K)

    Raises
    ------
    SpecError
        If ``gram`` is no Gram matrix or the time negative.
    Unsupported
        If the equation cannot be followed to ``time``.

    Notes
    -----
    Status: limit, as width and depth grow in any order; see `commutation_rate`. Cost: some 50
    evaluations of K (K + 1) / 2 Gaussian averages.

    References
    ----------
    Hayou, Yang (2023), arXiv:2302.00453.

    Examples
    --------
    >>> from sigprop import ReLU
    >>> end = kernel_ode(ReLU(), np.array([[1.0, 0.2], [0.2, 1.0]]))
    >>> round(float(end[0, 0]), 6), round(float(end[0, 1] / end[0, 0]), 4)
    (1.648721, 0.3012)
    """
    start, time = _check_gram(gram), check_number("time", time, low=0.0)
    k = len(start)
    if time == 0.0:
        return start
    solution = solve_ivp(
        lambda t, g: _product(activation, g.reshape(k, k)).ravel(),
        (0.0, time),
        start.ravel(),
        method="DOP853",
        rtol=tolerance,
        atol=tolerance * float(np.diag(start).min()),
    )
    if not solution.success or not np.isfinite(solution.y[:, -1]).all():
        raise Unsupported(
            f"the kernel of activation {activation.kind!r} cannot be followed to time {time:g}: "
            f"{solution.message} It grows faster than any exponential; use a shorter time."
        )
    return solution.y[:, -1].reshape(k, k)


def commutation_rate(width: int, depth: int) -> float:
    r"""How far products of states are from `kernel_ode`, up to a constant.

    :math:`n^{-1/2} + L^{-1/2}`, in root mean square, uniformly in both: so limits of width and
    depth commute.

    Raises
    ------
    SpecError
        If width or depth is not a positive integer.

    Notes
    -----
    Status: bound, up to a constant that depends on the inputs alone. Assumes a Lipschitz
    activation and branches :math:`L^{-1/2}`. For Gaussian weights the depth's share is
    smaller: the mean is off by O(1/L). Cost O(1).

    References
    ----------
    Hayou, Yang (2023), arXiv:2302.00453 (recalled).

    Examples
    --------
    >>> commutation_rate(100, 400)
    0.15000000000000002
    """
    return check_count("width", width) ** -0.5 + check_count("depth", depth) ** -0.5


def _activated(phi: Activation, gram: np.ndarray, centred: bool) -> np.ndarray:
    """Products of the units behind an activation; less those of their means if rows are centred."""
    products = _product(phi, gram)
    if not centred:
        return products
    means = np.array([phi.mean(float(q)) for q in np.diag(gram)])
    return products - np.outer(means, means)


def _product(phi: Activation, gram: np.ndarray) -> np.ndarray:
    """E phi(u) phi(v) for every pair of Gaussian numbers with these second moments."""
    if isinstance(phi, RandomisedLeakyReLU):
        raise Unsupported(
            f"activation {phi.kind!r} draws one slope for a unit and all inputs: their products "
            "have another average. Use 'leaky_relu'."
        )
    deviation = np.sqrt(np.diag(gram))
    scale = np.outer(deviation, deviation)
    cosine = np.divide(gram, scale, out=np.zeros_like(scale), where=scale > 0).clip(-1.0, 1.0)
    slope = phi.negative_slope
    if slope is not None:
        # E relu(u) relu(v) at unit variances, and the part that leaks: linear in the cosine.
        arc = np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine
        return scale * (slope * cosine + (1 - slope) ** 2 * arc / (2 * np.pi))
    found = np.empty_like(gram)
    for i in range(len(gram)):
        found[i, i] = phi.second_moment(float(gram[i, i]))
        for j in range(i):
            found[i, j] = found[j, i] = product_expectation(
                phi,
                phi,
                correlation=float(cosine[i, j]),
                variances=(float(gram[i, i]), float(gram[j, j])),
                kinks=(phi.kinks, phi.kinks),
            ).value
    return found


def start_squares(ensemble: Ensemble) -> np.ndarray:
    """The diagonal of the kernel of h_0, shape (K,), without a double integral."""
    return np.array(
        [float(_stemmed(ensemble, g.reshape(1, 1))[0, 0]) for g in np.diag(_entering(ensemble))]
    )


def _start(ensemble: Ensemble) -> np.ndarray:
    """The kernel of h_0."""
    return _stemmed(ensemble, _entering(ensemble))


def _entering(ensemble: Ensemble) -> np.ndarray:
    """The kernel of the network's inputs."""
    coefficients = ensemble.inputs.frame()
    if coefficients is None:
        size = ensemble.network.input_size
        vectors = np.asarray(ensemble.inputs.array(size), float)
        return vectors @ vectors.T / size
    return np.asarray(coefficients) @ np.asarray(coefficients).T


def _stemmed(ensemble: Ensemble, gram: np.ndarray) -> np.ndarray:
    """A kernel behind the stem, where there is one."""
    network, stem = ensemble.network, ensemble.table.stem
    if stem is None:
        return gram
    gram = network.input_size * stem.scale**2 * gram + stem.bias_scale**2
    return _activated(network.phi, gram, ensemble.table.centred)


def _check_gram(gram: np.ndarray) -> np.ndarray:
    g = np.array(gram, float)
    square = g.ndim == 2 and g.shape[0] == g.shape[1] and len(g) > 0
    if not square or not np.isfinite(g).all() or not np.allclose(g, g.T, rtol=1e-12, atol=0.0):
        raise SpecError(
            f"gram must be a symmetric matrix of products between inputs, got shape {g.shape}. "
            "Give inputs @ inputs.T / width."
        )
    if np.any(np.diag(g) <= 0) or np.linalg.eigvalsh(g).min() < -1e-12 * np.diag(g).max():
        raise SpecError(
            "gram has an eigenvalue or a diagonal entry that is not positive, so no vectors have "
            "these products. Give inputs @ inputs.T / width, no input zero."
        )
    return g


def check_kernel(ensemble: Ensemble, name: str, given: bool) -> None:
    """Raise Unsupported unless the pre-activations of the ensemble become Gaussian."""
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, name, projected=True)
    if table.correlated or not math.isfinite(table.law.variance):
        raise Unsupported(
            f"{name} needs independent layers and weights of finite variance: otherwise states at "
            "several layers or of several units depend on each other. For processes along depth "
            "use mean_field."
        )
    if network.form.pre and ensemble.inputs.frame() is None and not given:
        raise Unsupported(
            f"{name}: block {network.block!r} activates the coordinates of the input itself, and "
            "those given are not Gaussian. Use random inputs (Point, Pair), block 'res3', or say "
            "gram=."
        )
