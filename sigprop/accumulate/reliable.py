"""When the mean of a heavy-tailed number is to be believed: by how many replicas carry it.

The error bar of n replicas that are much alike is itself uncertain by about 1 / sqrt(2n): 13% at
30, which Student's t allows for. Where a few large ones carry the sum, both mean and error bar
come from those few, and both are too small when the mean is most wrong. So a mean is believed

- if 100 effective replicas or more carry it, or
- if three quarters of 30 replicas or more carry it.

Of runs of 30 replicas, from log-normal numbers of any spread, about 6% at most are believed and
have the truth outside of their 95% interval (`tests/exact/test_reliable.py`). A share nearer to 1
would pick the runs that chance made even. No rule sees a tail that no replica has met.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ENOUGH", "LEAST", "SHARE", "reliable"]

ENOUGH = 100
LEAST, SHARE = 30, 0.75


def reliable(size: np.ndarray, replicas: int) -> np.ndarray:
    """Whether a mean is to be believed of which ``size`` effective replicas carry the sum.

    Parameters
    ----------
    size : ndarray
        Effective sample sizes, as of `powers.effective_size`.
    replicas : int
        Number of replicas that were drawn.

    Returns
    -------
    ndarray of bool, of the shape of ``size``
    """
    # Of zeros and ones exactly three quarters may carry it: rounding must not decide.
    enough = (1 - 1e-9) * min(ENOUGH, SHARE * replicas)
    return size >= (enough if replicas >= LEAST else np.inf)
