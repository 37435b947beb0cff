r"""How rough the weights of a network are along its depth: a Hurst index over a range of lags.

Let v_1 .. v_L be one entry of the matrices of L layers. The mean square of the sum of m
neighbours,

.. math:: S(m) = E (v_{k+1} + .. + v_{k+m})^2 ,

is :math:`m^{2H}` times the variance of an entry for fractional Gaussian noise of index H: m for
independent layers, :math:`m^2` for tied ones and, up to the bandwidth, for smooth ones. The index
over a range of lags is half the slope of log S against log m. Training changes it by scale: noise
with a trend is rough over few layers and smooth over many, so one number needs its range told.
"""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from sigprop.errors import SpecError

__all__ = ["hurst_index", "structure_function"]


def structure_function(weights: np.ndarray, lags: list[int] | None = None) -> xr.DataArray:
    """Mean square of the sum of ``lag`` neighbouring layers, over places and entries.

    Parameters
    ----------
    weights : ndarray, shape (networks, depth, entries)
        Entry by entry along depth; any shape behind the depth is flattened.
    lags : list of int, optional
        From 1 to depth; default: the powers of 2 to a quarter of the depth.

    Returns
    -------
    DataArray, dims (network, lag)
        In squares of the weights' unit.

    Raises
    ------
    SpecError
        If there is no network, fewer than 8 layers, a weight that is not finite, or a lag that
        does not fit.

    Notes
    -----
    Unbiased for stationary weights of mean 0. Cost O(networks depth entries) for each lag.
    """
    paths = np.asarray(weights, float)
    if paths.ndim < 3 or not len(paths) or paths.shape[1] < 8:
        raise SpecError(
            f"weights must have the shape (networks, depth, entries) with 8 layers or more, got "
            f"{paths.shape}: fewer say nothing of how weights go on. Give the weights of deeper "
            "networks."
        )
    if not np.isfinite(paths).all():
        raise SpecError(
            "weights hold a number that is not finite, so they have no mean square. Leave out the "
            "networks that diverged."
        )
    networks, depth = paths.shape[:2]
    if lags is None:
        lags = [2**i for i in range(int(math.log2(depth // 4)) + 1)]
    if not lags or min(lags) < 1 or max(lags) > depth:
        raise SpecError(f"lags must lie between 1 and the depth {depth}, got {lags}.")
    paths = paths.reshape(networks, depth, -1)
    sums = np.concatenate([np.zeros_like(paths[:, :1]), np.cumsum(paths, axis=1)], axis=1)
    squares = [np.square(sums[:, m:] - sums[:, :-m]).mean(axis=(1, 2)) for m in lags]
    return xr.DataArray(
        np.stack(squares, axis=1),
        dims=("network", "lag"),
        coords={"lag": lags},
        attrs={"units": "1", "long_name": "mean square of the sum of neighbouring layers"},
    )


def hurst_index(structure: xr.DataArray, shortest: int, longest: int) -> xr.DataArray:
    """Half the slope of log S against log m, by least squares over a range of lags.

    Parameters
    ----------
    structure : DataArray, dims (.., lag)
        Of `structure_function`.
    shortest, longest : int
        The range of lags, both ends in it; two lags or more must lie there.

    Returns
    -------
    DataArray, dims (..)
        One index a network. Entries of a trained network are not independent, so an error is
        told between networks and never within one.

    Raises
    ------
    SpecError
        If fewer than two lags lie in the range.

    Examples
    --------
    >>> tied = np.ones((1, 64, 1))
    >>> hurst_index(structure_function(tied), 1, 16).round(12).values.tolist()
    [1.0]
    """
    chosen = structure.sel(lag=slice(shortest, longest))
    if chosen.sizes["lag"] < 2:
        raise SpecError(
            f"lags {shortest} to {longest} hold {chosen.sizes['lag']} of "
            f"{structure.lag.values.tolist()}: a slope needs two. Widen the range."
        )
    x = np.log(chosen.lag) - np.log(chosen.lag).mean()
    slope = (x * np.log(chosen)).sum("lag") / (x**2).sum("lag")
    found: xr.DataArray = slope / 2
    return found.assign_attrs(units="1", long_name="Hurst index")
