r"""Matrices in pairs, which make a ReLU network act as a linear one.

Let the units of a layer be pairs: the first half of them the positive parts, the second half
the negative parts of one vector, :math:`h = [\varphi(z); \varphi(-z)]` with the ReLU
:math:`\varphi`. Then :math:`z = h_+ - h_-` is known from h, and :math:`|h| = |z|`. The matrix

.. math:: LL(U) = \begin{pmatrix} U & -U \\ -U & U \end{pmatrix}

sends h to :math:`[U z; -U z]`, whose activation is the pair of :math:`U z`: seen in the
*looks-linear coordinates* z the layer is the matrix U, and with U orthogonal an isometry.

A residual block whose branch is looks-linear, or transparent, becomes one if the other
matrix is what is missing (RISOTTO; Gadhikar and Burkholz 2022, arXiv:2210.02411):

========== =================================================================================
projection :math:`\beta S = LL(M) - \alpha LL(U_m \cdots U_1)`
identity   :math:`\alpha W_m = LL(M) - \beta 1`, all earlier matrices routing a pair to a pair
========== =================================================================================

In both the activation's argument is :math:`LL(M) h`. The second matrix is *not* looks-linear:
the trunk beside it is the identity, which does not exchange the halves of a pair as LL does.

Everything acts on the last two axes; other axes count networks.
"""

from __future__ import annotations

import numpy as np

__all__ = ["coordinates", "looks_linear", "mirrored", "routed", "skip_matrix", "top_matrix"]


def looks_linear(u: np.ndarray) -> np.ndarray:
    """LL(U), twice the rows and columns of U.

    >>> looks_linear(np.array([[3.0]])).tolist()
    [[3.0, -3.0], [-3.0, 3.0]]
    """
    return np.block([[u, -u], [-u, u]])


def mirrored(u: np.ndarray) -> np.ndarray:
    """[U; -U], twice the rows: what reads a vector and writes the pair of U times it.

    >>> mirrored(np.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0], [-1.0, -2.0]]
    """
    return np.concatenate([u, -u], axis=-2)


def routed(rows: int, columns: int) -> np.ndarray:
    """The identity from the i-th pair to the i-th pair, for as many pairs as both have.

    >>> routed(4, 2).astype(int).tolist()
    [[1, 0], [0, 0], [0, 1], [0, 0]]
    """
    matrix = np.zeros((rows, columns))
    for half in (0, 1):
        pair = np.arange(min(rows, columns) // 2)
        matrix[half * (rows // 2) + pair, half * (columns // 2) + pair] = 1.0
    return matrix


def skip_matrix(m: np.ndarray, halves: list[np.ndarray], skip: float, branch: float) -> np.ndarray:
    r"""The S for which a looks-linear branch and it make LL(M) together.

    Parameters
    ----------
    m : ndarray, shape (..., n', n)
    halves : list of ndarray
        :math:`U_1 .. U_m`, the first that is applied first.
    skip, branch : float
        :math:`\beta`, not 0, and :math:`\alpha` (times the input scale).

    Returns
    -------
    ndarray, shape (..., 2 n', 2 n)
        LL((M - branch U_m .. U_1) / skip).
    """
    product = halves[0]
    for u in halves[1:]:
        product = u @ product
    return looks_linear((m - branch * product) / skip)


def top_matrix(m: np.ndarray, rows: int, columns: int, skip: float, branch: float) -> np.ndarray:
    r"""The last matrix of a branch that with the trunk makes LL(M), behind routed ones.

    Parameters
    ----------
    m : ndarray, shape (..., k, k)
        k pairs are mixed; the trunk must carry the others unchanged (skip 1) for an isometry.
    rows, columns : int
        Of the matrix: twice the pairs of the state, and of the last hidden layer.
    skip, branch : float
        :math:`\beta`, and :math:`\alpha`, not 0 (times the input scale).

    Returns
    -------
    ndarray, shape (..., rows, columns)

    >>> top_matrix(np.array([[0.5]]), 2, 2, skip=1.0, branch=1.0).tolist()
    [[-0.5, -0.5], [-0.5, -0.5]]
    """
    k = m.shape[-1]
    matrix = np.zeros((*m.shape[:-2], rows, columns))
    core = (looks_linear(m) - skip * np.eye(2 * k)) / branch
    for i in (0, 1):
        for j in (0, 1):
            block = core[..., i * k : (i + 1) * k, j * k : (j + 1) * k]
            to, of = i * (rows // 2), j * (columns // 2)
            matrix[..., to : to + k, of : of + k] = block
    return matrix


def coordinates(h: np.ndarray) -> np.ndarray:
    """z = h_+ - h_-, along the last axis.

    >>> coordinates(np.array([0.0, 2.0, 3.0, 0.0])).tolist()
    [-3.0, 2.0]
    """
    half = h.shape[-1] // 2
    return h[..., :half] - h[..., half:]
