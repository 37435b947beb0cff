r"""Power laws fitted to numbers with errors: the exponent, how sure, and whether it fits at all.

A power law is a line on logarithmic axes, so the fit is weighted linear least squares in
closed form. Where errors are known, :math:`\chi^2` says whether the points lie on the law
within them; a fit that fails has an exponent that means nothing, however small its error.

What looks like a power law at accessible depths often is one with a correction,
:math:`y = C x^e (1 + a x^{-\omega} + \dots)`; a correction of known :math:`\omega` is fitted along
by `correction`, and `local_exponents` shows whether there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, t

from sigprop.errors import SpecError
from sigprop.spec import check_number

__all__ = ["PowerLaw", "fit_power_law", "local_exponents"]


@dataclass(frozen=True)
class PowerLaw:
    r"""The law :math:`\log y = \text{log\_factor} + \text{exponent} \log x` and its errors.

    Attributes
    ----------
    exponent, exponent_se : float
    log_factor, log_factor_se : float
        Natural logarithm of the value at x = 1.
    correction, correction_se : float
        The coefficient a of the correction; nan without one.
    omega : float
        Its exponent; nan without one.
    chi_square : float
        Sum of squared residuals over their errors; nan if no errors were given.
    degrees : int
        Points less parameters.
    p : float
        Chance of a chi square as large if the law holds; nan if no errors were given.
    scatter : float
        Root mean square residual, in nats.
    """

    exponent: float
    exponent_se: float
    log_factor: float
    log_factor_se: float
    correction: float
    correction_se: float
    omega: float
    chi_square: float
    degrees: int
    p: float
    scatter: float

    def log_value(self, x: ArrayLike) -> np.ndarray:
        """Natural logarithm of the fitted law at x, with the shape of x."""
        x = np.asarray(x, float)
        line = self.log_factor + self.exponent * np.log(x)
        return line if math.isnan(self.omega) else line + self.correction * x**-self.omega

    def fits(self, level: float = 0.01) -> bool:
        """Whether the points lie on the law within their errors; False if these are unknown."""
        return self.p >= level

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the exponent; by Student's law if the errors are estimated."""
        tail = (1 - check_number("confidence", confidence, low=0, high=1, open_high=True)) / 2
        estimated = math.isnan(self.p)
        width = float(t.isf(tail, self.degrees if estimated else math.inf)) * self.exponent_se
        return self.exponent - width, self.exponent + width


def fit_power_law(
    x: ArrayLike,
    log_y: ArrayLike,
    log_se: ArrayLike | None = None,
    *,
    correction: float | None = None,
) -> PowerLaw:
    r"""Fit :math:`\log y = c + e \log x\ (+\ a x^{-\omega})` by weighted least squares.

    Parameters
    ----------
    x : array_like, shape (n,)
        Positive: depths, widths.
    log_y : array_like, shape (n,)
        Natural logarithms of what is fitted, in nats; those of a result serve as they are.
    log_se : array_like, shape (n,) or scalar, optional
        Standard errors of ``log_y``, independent from point to point. Without them all points
        weigh the same and the errors are estimated from the scatter, which presupposes that
        the law holds.
    correction : float, optional
        The exponent :math:`\omega > 0` of a correction.

    Returns
    -------
    PowerLaw

    Raises
    ------
    SpecError
        If there are fewer different x than parameters (one more without errors), or numbers
        that are not finite, or errors that are not positive.

    Notes
    -----
    Status: exact for independent normal errors of the stated size. The errors are not
    widened where the law does not fit: look at `PowerLaw.p` first. Cost O(n).

    Examples
    --------
    >>> import numpy as np
    >>> depth = np.array([100.0, 1000.0, 10000.0])
    >>> law = fit_power_law(depth, np.log(3 * depth**-0.5), 0.01)
    >>> round(law.exponent, 9), round(float(np.exp(law.log_factor)), 9), round(law.p, 3)
    (-0.5, 3.0, 1.0)
    """
    x, log_y = np.asarray(x, float), np.asarray(log_y, float)
    if x.ndim != 1 or x.shape != log_y.shape:
        raise SpecError(
            f"a power law is fitted to two sequences of one length, got shapes {x.shape} and "
            f"{log_y.shape}. Give one log_y for each x."
        )
    se = np.ones(len(x)) if log_se is None else np.broadcast_to(np.asarray(log_se, float), x.shape)
    for name, bad in (
        ("x", ~(np.isfinite(x) & (x > 0))),
        ("log_y", ~np.isfinite(log_y)),
        ("log_se", ~(np.isfinite(se) & (se > 0))),
    ):
        if bad.any():
            value = {"x": x, "log_y": log_y, "log_se": se}[name][bad][0]
            what = "finite" if name == "log_y" else "finite and positive"
            raise SpecError(
                f"{name} must be {what}, got {value} at position {np.flatnonzero(bad)[0]}. Leave "
                "that point out, and say so."
            )
    columns = [np.ones(len(x)), np.log(x)]
    if correction is not None:
        omega = check_number("correction", correction, low=0, open_low=True)
        columns.append(x**-omega)
    needed = len(columns) + (log_se is None)
    if len(np.unique(x)) < needed:
        raise SpecError(
            f"a law of {len(columns)} parameters needs {needed} different x"
            f"{' if no errors are given' * (log_se is None)}, got {len(np.unique(x))}. Add depths."
        )
    return _fitted(np.stack(columns, axis=1), log_y, se, correction, known=log_se is not None)


def _fitted(
    design: np.ndarray, y: np.ndarray, se: np.ndarray, correction: float | None, *, known: bool
) -> PowerLaw:
    weighted = design / se[:, None]
    left, singular, right = np.linalg.svd(weighted, full_matrices=False)
    parameters = right.T @ ((left.T @ (y / se)) / singular)
    covariance = (right.T / singular**2) @ right
    residual = y - design @ parameters
    chi_square = float(np.sum((residual / se) ** 2))
    degrees = len(y) - design.shape[1]
    if not known:
        covariance = covariance * chi_square / degrees
    error = np.sqrt(np.diag(covariance))
    last = design.shape[1] == 3
    p = math.nan
    if known:
        p = float(chi2.sf(chi_square, degrees)) if degrees else 1.0
    return PowerLaw(
        exponent=float(parameters[1]),
        exponent_se=float(error[1]),
        log_factor=float(parameters[0]),
        log_factor_se=float(error[0]),
        correction=float(parameters[2]) if last else math.nan,
        correction_se=float(error[2]) if last else math.nan,
        omega=math.nan if correction is None else float(correction),
        chi_square=chi_square if known else math.nan,
        degrees=degrees,
        p=p,
        scatter=float(np.sqrt(np.mean(residual**2))),
    )


def local_exponents(
    x: ArrayLike, log_y: ArrayLike, log_se: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes between neighbours, which drift where the law is not yet a power.

    Parameters
    ----------
    x, log_y, log_se : array_like, shape (n,)
        As in `fit_power_law`; x increasing.

    Returns
    -------
    middle, exponent, se : ndarray, shape (n - 1,)
        Geometric means of neighbouring x, slopes, and their standard errors (nan if
        ``log_se`` is not given). Neighbouring slopes share a point: their errors are correlated.

    Notes
    -----
    Status: exact. Cost O(n).

    Examples
    --------
    >>> middle, exponent, _ = local_exponents([1, 4, 16], [0.0, 1.0, 2.0])
    >>> middle.round(9).tolist(), (exponent * np.log(4)).tolist()
    ([2.0, 8.0], [1.0, 1.0])
    """
    logs, log_y = np.log(np.asarray(x, float)), np.asarray(log_y, float)
    steps = np.diff(logs)
    if not (steps > 0).all():
        raise SpecError("x must increase from point to point, so that each has a next one.")
    se = np.nan if log_se is None else np.asarray(log_se, float)
    se = np.broadcast_to(se, logs.shape)
    error = np.hypot(se[1:], se[:-1]) / steps
    return np.exp((logs[1:] + logs[:-1]) / 2), np.diff(log_y) / steps, error
