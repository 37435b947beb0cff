"""One moment of the norm against depth, by an estimator that sees it: a tilt, or splitting.

The sample mean of |h_L|^r in a deep narrow network misses the rare giants that carry it. A tilt
draws them on purpose (`sigprop.backends.tilted`), a population breeds them
(`sigprop.backends.population`). This is `sigprop.simulate` with the choice made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sigprop.errors import SpecError
from sigprop.registry import did_you_mean
from sigprop.spec import Ensemble, check_number

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["estimate_moment"]

_METHODS = ("tilt", "population", "plain")


def estimate_moment(
    ensemble: Ensemble,
    order: float,
    *,
    method: str = "tilt",
    tilt: float | None = None,
    population: int = 1000,
    **run: Any,
) -> xr.Dataset:
    """Estimate E |h_l|^order / |h_0|^order at every recorded layer.

    Parameters
    ----------
    ensemble : Ensemble
        One input.
    order : float
        Order of the moment, 0 < order <= 4.
    method : str
        ``tilt`` (default): exact for Gaussian weights, without any error where layers are
        independent factors and tilt = order; ``population``: any law and block; ``plain``: the
        sample mean, which fails in deep networks and says so.
    tilt : float, optional
        Default: the order, at most 2 beside a trunk.
    population : int
        Networks of one population.
    **run
        Arguments of `sigprop.simulate` beside: replicas (populations), seed, layers, workers, out,
        resume, ...

    Returns
    -------
    Dataset
        ``norm_moment_log`` with ``_se``, ``norm_moment_ess`` (effective replicas) and
        ``norm_moment_reliable`` (whether these are 100 or more, or three quarters of
        30 or more that were drawn).

    Raises
    ------
    SpecError, Unsupported
        As `sigprop.simulate`; the message says what follows the ensemble instead.

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network, Point
    >>> deep = Ensemble(Network(depth=1000, width=100, block="plain"), He(), Point())
    >>> found = estimate_moment(deep, 2.0, replicas=10, layers=[1000])
    >>> abs(float(found.norm_moment_log[0, 0, 0])) < 1e-10  # He keeps the mean square
    True
    """
    from sigprop.simulate import simulate

    if method not in _METHODS:
        raise SpecError(
            f"method must be one of {', '.join(_METHODS)}, got {method!r}: it says how networks "
            f"are drawn.{did_you_mean(str(method), _METHODS)}"
        )
    order = check_number("order", order, low=0.0, open_low=True)
    if method == "plain":
        return simulate(ensemble, "norm", orders=[order], **run)
    if method == "population":
        return simulate(ensemble, orders=[order], population=population, **run)
    if tilt is None:
        tilt = min(order, 2.0) if ensemble.network.form.trunk else order
    return simulate(ensemble, orders=[order], tilt=tilt, **run)
