r"""Residual blocks with a skip matrix (type C): two inputs, exactly in one block and in the limit.

.. math:: x' = \varphi(\alpha W_2 \varphi(W_1 x) + \beta S x),
          \qquad \operatorname{Var}: \sigma_1^2, \sigma_2^2, \sigma_s^2

with :math:`\varphi` the ReLU. Norms, tangents and their fourth powers have closed recursions at
every width and stand in `second_moment` and `fourth_moment`. Here is what becomes of the product
of two states. With :math:`k_1(c) = (\sqrt{1 - c^2} + c (\pi - \arccos c)) / \pi`, given
:math:`W_1` the pre-activations are Gaussian, so

.. math:: E\langle x', \tilde x' \rangle = \tfrac{N'}{2}\,
          E_{W_1}\bigl[\sqrt{V \tilde V}\, k_1(C / \sqrt{V \tilde V})\bigr], \qquad
          V = \alpha^2 \sigma_2^2 |\varphi(W_1 x)|^2 + \beta^2 \sigma_s^2 |x|^2,

C alike with products of the two. The published lower bound writes :math:`k_1(r)/2 = r/4 + c(r)`
and takes a constant for :math:`c(r) \in [1/(2\pi), 1/4]`. The constant that it names, 0.24, is
that of nearly parallel inputs: for others the bound does not hold, so `product_bound` takes the one
that does, :math:`1/(2\pi)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sigprop.errors import SpecError
from sigprop.spec import check_count, check_number

__all__ = [
    "PROVABLE_CONSTANT",
    "RECALLED_CONSTANT",
    "ProjectionBlock",
    "arc_kernel",
    "collapse_rate",
    "product_bound",
    "product_estimate",
    "recalled_deep_bound",
]

PROVABLE_CONSTANT = 1 / (2 * math.pi)
RECALLED_CONSTANT = 0.24


@dataclass(frozen=True, kw_only=True)
class ProjectionBlock:
    r"""One block: its widths, coefficients and variances.

    Parameters
    ----------
    width, inner_width, next_width : int
        N of x, :math:`N_m` of the branch, N' of x'.
    alpha, beta : float
        Branch and skip coefficients.
    variances : tuple of float, optional
        :math:`\sigma_1^2, \sigma_2^2, \sigma_s^2`; default those of `sigprop.schemes.Normal`:
        :math:`2/N_m, 2/N', 2/N'`.
    """

    width: int
    inner_width: int
    next_width: int
    alpha: float
    beta: float
    variances: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("width", "inner_width", "next_width"):
            check_count(name, getattr(self, name))
        for name in ("alpha", "beta"):
            check_number(name, getattr(self, name))
        given = self.variances
        if given is None:
            given = (2 / self.inner_width, 2 / self.next_width, 2 / self.next_width)
        if len(given) != 3:
            raise SpecError(
                f"variances must be three, of W_1, W_2 and the skip matrix, got {len(given)}."
            )
        checked = tuple(check_number("each of variances", v, low=0.0) for v in given)
        object.__setattr__(self, "variances", checked)

    @property
    def shares(self) -> tuple[float, float]:
        r"""(A, B): what branch and skip add to a pre-activation's mean square, per |x|^2.

        :math:`A = \alpha^2 \sigma_2^2 \sigma_1^2 N_m / 2` and :math:`B = \beta^2 \sigma_s^2`.
        """
        assert self.variances is not None
        one, two, skip = self.variances
        branch = self.alpha**2 * two * one * self.inner_width / 2
        return branch, self.beta**2 * skip

    @property
    def gain(self) -> float:
        r""":math:`\rho = (N'/2)(A + B)`: E|x'|^2 / |x|^2, and that of every tangent."""
        return self.next_width / 2 * sum(self.shares)


def arc_kernel(cosine: np.ndarray | float) -> np.ndarray:
    r""":math:`k_1(c)`: the cosine behind a wide ReLU layer of two inputs at a cosine c.

    Parameters
    ----------
    cosine : float or ndarray
        In [-1, 1]; beyond by rounding is taken back.

    Returns
    -------
    ndarray, of the shape of ``cosine``

    Raises
    ------
    SpecError
        If it is no cosine.

    Notes
    -----
    Status: exact as an average over Gaussians. Cost O(1) a value.

    References
    ----------
    Cho, Saul (2009), *Kernel methods for deep learning*.

    Examples
    --------
    >>> float(arc_kernel(1.0)), round(float(arc_kernel(0.0)) * math.pi, 12)
    (1.0, 1.0)
    """
    c = np.asarray(cosine, float)
    if not bool((np.abs(c) <= 1 + 1e-9).all()):
        raise SpecError(f"a cosine lies in [-1, 1], got {float(np.max(np.abs(c)))!r}.")
    c = np.clip(c, -1.0, 1.0)
    return np.asarray((np.sqrt((1 - c) * (1 + c)) + c * (np.pi - np.arccos(c))) / np.pi)


def product_estimate(
    block: ProjectionBlock,
    one: np.ndarray,
    other: np.ndarray,
    *,
    networks: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    r""":math:`E\langle x', \tilde x'\rangle` of one block, with an error.

    Only :math:`W_1` is drawn: the average over the other two matrices is done in closed form
    (Rao and Blackwell), so that the error is a part of that of a simulation.

    Parameters
    ----------
    block : ProjectionBlock
    one, other : ndarray, shape (width,)
        :math:`x, \tilde x`.
    networks : int
        Draws of :math:`W_1`.
    seed : int

    Returns
    -------
    (mean, standard error) : tuple of float

    Raises
    ------
    SpecError
        If the inputs do not fit the block.

    Notes
    -----
    Status: exact at every width, up to the error that is told. Assumes Gaussian
    :math:`W_2` and S, and Gaussian :math:`W_1`; not for convolutions, whose pixels share weights.
    Cost: 2 inner_width normals a network, since :math:`W_1` acts by its products with two vectors.

    References
    ----------
    Gadhikar, Burkholz (2022), arXiv:2210.02411, theorem 2.5, from which it is recalled.

    Examples
    --------
    >>> wide = ProjectionBlock(width=2, inner_width=4000, next_width=6, alpha=0.8, beta=0.6)
    >>> mean, error = product_estimate(wide, np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    >>> round(mean, 2), round(float(arc_kernel(0.64 * arc_kernel(0.0))), 2)
    (0.43, 0.43)
    """
    size, cross = _given_first_matrix(block, one, other, networks, seed)
    cosine = np.divide(cross, size, out=np.zeros_like(cross), where=size > 0)
    return _averaged(block.next_width / 2 * size * arc_kernel(cosine))


def _given_first_matrix(
    block: ProjectionBlock, one: np.ndarray, other: np.ndarray, networks: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(sqrt(V V~), C) of draws of W_1, which acts by its products with two vectors."""
    x, y = np.asarray(one, float), np.asarray(other, float)
    if x.shape != (block.width,) or y.shape != x.shape or not x.any() or not y.any():
        raise SpecError(
            f"the two inputs must be vectors of {block.width} numbers, not zero, got shapes "
            f"{x.shape} and {y.shape}: they are states of the block."
        )
    check_count("networks", networks, least=2)
    assert block.variances is not None
    first, second, skip = block.variances
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    c = max(-1.0, min(1.0, xy / math.sqrt(xx * yy)))
    generator = np.random.Generator(np.random.Philox(key=seed))
    rows = max(1, 2_000_000 // block.inner_width)
    sizes, crosses = [], []
    for start in range(0, networks, rows):
        shape = (min(rows, networks - start), block.inner_width)
        g, h = generator.standard_normal(shape), generator.standard_normal(shape)
        u = math.sqrt(first * xx) * np.maximum(g, 0)
        v = math.sqrt(first * yy) * np.maximum(c * g + math.sqrt((1 - c) * (1 + c)) * h, 0)
        a, b = block.alpha**2 * second, block.beta**2 * skip
        uu, vv, uv = (np.einsum("ij,ij->i", *pair) for pair in ((u, u), (v, v), (u, v)))
        sizes.append(np.sqrt((a * uu + b * xx) * (a * vv + b * yy)))
        crosses.append(a * uv + b * xy)
    return np.concatenate(sizes), np.concatenate(crosses)


def _averaged(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def product_bound(
    block: ProjectionBlock,
    one: np.ndarray,
    other: np.ndarray,
    *,
    constant: float = PROVABLE_CONSTANT,
    networks: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    r"""A lower bound of :math:`E\langle x', \tilde x'\rangle` of one block, with an error.

    .. math:: \tfrac{N'}{4} \bigl(\tfrac{A}{2} + B\bigr) \langle x, \tilde x\rangle
              + \tfrac{c}{2} N' A\, |x| |\tilde x| + c N' E_{W_1} \sqrt{V \tilde V}

    with c ``constant``, :math:`A, B` of `ProjectionBlock.shares`: what is left of the exact
    average when :math:`c(r)` is replaced by c, twice.

    Parameters
    ----------
    block, one, other, networks, seed
        As in `product_estimate`; with the same seed the same draws.
    constant : float
        :math:`1/(2\pi)` (default) is proved. The published 0.24 is true of cosines above 0.954
        only: with it this is no bound.

    Returns
    -------
    (value, standard error) : tuple of float

    Raises
    ------
    SpecError
        If the inputs do not fit the block, or the constant is out of range.

    Notes
    -----
    Status: bound, with the default constant. Cost as `product_estimate`.

    References
    ----------
    Gadhikar, Burkholz (2022), arXiv:2210.02411, theorem 2.5 (recalled).

    Examples
    --------
    Orthogonal inputs of unit norm: 0.407 is above the bound, and below the published one.

    >>> block = ProjectionBlock(width=2, inner_width=5, next_width=7, alpha=0.8, beta=0.6)
    >>> inputs = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    >>> [round(product_bound(block, *inputs, constant=c)[0], 2) for c in (PROVABLE_CONSTANT, 0.24)]
    [0.39, 0.59]
    >>> round(product_estimate(block, *inputs)[0], 2)
    0.41
    """
    c = check_number("constant", constant, low=0.0, high=0.25)
    size, _ = _given_first_matrix(block, one, other, networks, seed)
    x, y = np.asarray(one, float), np.asarray(other, float)
    branch, skip = block.shares
    n = block.next_width
    sure = n / 4 * (branch / 2 + skip) * float(x @ y)
    sure += c / 2 * n * branch * float(np.linalg.norm(x) * np.linalg.norm(y))
    mean, error = _averaged(c * n * size)
    return sure + mean, error


def recalled_deep_bound(
    depth: int, product: float, beta: float, *, constant: float = PROVABLE_CONSTANT
) -> float:
    r"""The published bound of :math:`E\langle x^L, \tilde x^L\rangle`, unit norms, wide layers.

    .. math:: \gamma_1^L \langle x, \tilde x\rangle
              + \frac{\gamma_2}{1 - \gamma_1} (1 - \gamma_1^L), \qquad
              \gamma_1 = \tfrac{1 + \beta^2}{4}, \quad \gamma_2 = c\,(\alpha^2 + 2)

    with :math:`\alpha^2 + \beta^2 = 1`. Its limit is 4c: 2/pi with the constant that is proved,
    0.96 with the published one, where the truth tends to 1 (`correlation_map`).

    Parameters
    ----------
    depth : int
    product : float
        At the first state.
    beta : float
        Skip coefficient, in [0, 1].
    constant : float
        See `product_bound`.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        If a number is out of range.

    Notes
    -----
    Status: conjecture: recalled from the paper, and derived here for wide layers. For predictions
    use `correlation_map`. Cost O(1).

    References
    ----------
    Gadhikar, Burkholz (2022), arXiv:2210.02411, insight 2.6 (recalled).

    Examples
    --------
    >>> round(recalled_deep_bound(1000, 0.2, 0.6) - 2 / math.pi, 9)
    0.0
    """
    length = check_count("depth", depth, least=0)
    square = check_number("beta", beta, low=0.0, high=1.0) ** 2
    c = check_number("constant", constant, low=0.0, high=0.25)
    start = check_number("product", product, low=-1.0, high=1.0)
    keep = (1 + square) / 4
    return keep**length * start + c * (3 - square) / (1 - keep) * (1 - keep**length)


def collapse_rate(layer: np.ndarray | float, alpha: float) -> np.ndarray:
    r"""How near to 1 the cosine is deep in a wide net of these blocks.

    .. math:: 1 - c_l \sim \frac{9\pi^2/2}{(1 + \alpha^2)^2\, l^2}, \qquad \alpha^2 + \beta^2 = 1

    Also of identity trunks (arch I, P): with r activations in a branch, whose gain is
    :math:`\kappa` beside a skip of 1, put :math:`r \kappa / (1 + \kappa)` for
    :math:`1 + \alpha^2`.

    Parameters
    ----------
    layer : float or ndarray
    alpha : float
        In [0, 1]; 0, where the branch is off, still collapses: the net is then plain.

    Returns
    -------
    ndarray

    Raises
    ------
    SpecError
        If alpha is out of range.

    Notes
    -----
    Status: limit, of width and then of depth; the error is O(log l / l) of it. Cost O(1).

    References
    ----------
    From the expansion :math:`k_1(1 - \epsilon) = 1 - \epsilon + (2\sqrt2/3\pi)\,
    \epsilon^{3/2} + \ldots`.

    Examples
    --------
    >>> [round(float(collapse_rate(1.0, a)), 2) for a in (0.0, 1.0)]
    [44.41, 11.1]
    """
    a = check_number("alpha", alpha, low=0.0, high=1.0)
    return np.asarray(4.5 * np.pi**2 / ((1 + a**2) * np.asarray(layer, float)) ** 2)
