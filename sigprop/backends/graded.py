r"""Singular values of a long product of matrices, small ones as exact as large ones.

Multiplied out, a product J keeps an absolute error of about 1e-16 of its largest singular
value, and whatever is smaller than that is noise: in a deep plain net, nearly everything. So a
product that needs it is carried as :math:`J = Q\, D\, T` with orthonormal columns Q, a diagonal
D known by its logarithms, and rows T of unit size: one more factor A turns
:math:`A Q = Q' R` into the new Q' and :math:`R D T = D' T'`, where nothing of very different
size is ever added. (The scheme is that of Lyapunov exponents and of determinant Monte Carlo;
columns are sorted by size before they are orthogonalised, which keeps T well conditioned.) The
singular values of D T with T well conditioned are found to full relative accuracy by one-sided
Jacobi rotations (Demmel and Veselic 1992; Drmac and Veselic 2008, LAPACK's ``gejsv``).

Values more than `REACH` below the largest in logarithm cannot be held in one matrix of
float64. They are marked NaN: not zero, and not known.
"""

from __future__ import annotations

import numpy as np

__all__ = ["REACH", "TRUSTED", "Graded", "product_logs"]

REACH = 300.0  # nats below the largest value within which a graded matrix is decomposed
TRUSTED = 1e-8  # of the largest value: above it a plain product is good to about 1e-7


def product_logs(product: np.ndarray, exponent: int, rank: int) -> tuple[np.ndarray, bool]:
    """Logarithms of the singular values of ``product * 2**exponent``, descending.

    Parameters
    ----------
    product : ndarray, shape (rows, columns)
    exponent : int
    rank : int
        How many can differ from zero, by the number of units that are on somewhere before.

    Returns
    -------
    (ndarray, bool)
        ``min(rows, columns)`` logarithms, -inf for exact zeros; and whether all others are
        above `TRUSTED` of the largest, so that they are right.
    """
    count = min(product.shape)
    logs = np.full(count, -np.inf)
    if rank == 0:
        return logs, True
    values = np.linalg.svd(product, compute_uv=False)[: min(rank, count)]
    if values[0] == 0.0:
        return logs, True
    with np.errstate(divide="ignore"):
        logs[: len(values)] = np.log(values) + exponent * np.log(2.0)
    return logs, bool(values[-1] > TRUSTED * values[0])


class Graded:
    """``Q diag(exp(logs)) T``, starting as the identity.

    Attributes
    ----------
    basis : ndarray, shape (units, rank)
        Q. The caller multiplies it by the next factor and hands the product to `absorb`.
    logs : ndarray, shape (rank,)
    rows : ndarray, shape (rank, columns)
        T.
    """

    def __init__(self, columns: int) -> None:
        self.basis = np.eye(columns)
        self.logs = np.zeros(columns)
        self.rows = np.eye(columns)

    def absorb(self, product: np.ndarray, exponent: int = 0) -> None:
        """Take ``product * 2**exponent``, the next factor times `basis`, as what Q has become."""
        sizes = np.linalg.norm(product, axis=0)
        with np.errstate(divide="ignore"):
            order = np.argsort(-(np.log(sizes) + self.logs), kind="stable")
        basis, upper = np.linalg.qr(product[:, order])
        logs, rows = self.logs[order], self.rows[order]
        diagonal = np.abs(np.diagonal(upper))
        alive = diagonal > 0
        basis, upper, diagonal = basis[:, alive], upper[alive], diagonal[alive]
        # D'^-1 R D: entry (i, j) is R_ij / |R_ii| times the ratio of two sizes, which is small
        # where j comes far behind i.
        ratio = np.exp(np.minimum(logs[None, :] - logs[: len(alive)][alive][:, None], 700.0))
        self.rows = (upper / diagonal[:, None] * ratio) @ rows
        self.logs = logs[: len(alive)][alive] + np.log(diagonal) + exponent * np.log(2.0)
        self.basis = basis
        scale = np.linalg.norm(self.rows, axis=1)
        self.rows /= scale[:, None]
        self.logs += np.log(scale)

    def singular_logs(self, count: int) -> np.ndarray:
        """``count`` logarithms, descending: NaN beyond `REACH`, -inf beyond the rank."""
        from scipy.linalg import lapack

        logs = np.full(count, -np.inf)
        rank = min(len(self.logs), count)
        if rank == 0:
            return logs
        top = self.logs.max()
        near = self.logs > top - REACH
        # Columns of one matrix in order of size: what one-sided Jacobi likes best.
        graded = (self.rows[near] * np.exp(self.logs[near] - top)[:, None]).T
        values, _, _, scaling, _, status = lapack.dgejsv(graded, joba=0, jobu=3, jobv=3)
        if status != 0:
            raise np.linalg.LinAlgError(f"one-sided Jacobi did not converge (status {status})")
        found = np.log(values * (scaling[0] / scaling[1])) + top
        found = np.where(found > top - REACH, found, np.nan)
        logs[:rank] = np.nan
        logs[: min(len(found), rank)] = found[:rank]
        return logs
