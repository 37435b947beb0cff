"""Activations inside kernels: by integer code, or a compiled function of the user.

The argument ``activation`` is either a code of `sigprop.activations._codes`, so that the
kernel is cached on disk, or a tuple (0, phi, phi') of compiled scalar functions, for which the
kernel is compiled once a process. States are carried in units of ``up``, a power of two:
what is applied is ``phi_up(u) = phi(up u) / up``, whose derivative is phi'(up u). For a
positively homogeneous activation up is 1 and nothing is lost; for the others no state
overflows before phi itself does.
"""

import math

from numba import types
from numba.extending import overload

from sigprop.activations._codes import (
    ERF,
    GELU,
    LEAKY,
    LINEAR,
    RANDOMISED,
    RELU,
    SILU,
    TANH,
    UNEVEN,
)
from sigprop.kernels.compiled import inner

__all__ = ["apply", "back", "code_of", "limits", "slope_of", "uneven", "units", "value_of"]

_SQRT_HALF = math.sqrt(0.5)
_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
# Beyond these units a smooth activation is its limit to double precision.
_LEAST, _MOST = 1e-60, 1e60


@inner()
def units(activation_is_scaled, shift):
    """(up, down) of a state carried in units of 2^shift."""
    if not activation_is_scaled:
        return 1.0, 1.0
    return math.ldexp(1.0, int(min(shift, 1000))), math.ldexp(1.0, int(max(-shift, -1070)))


@inner()
def uneven(drawn, slope):
    """Slopes above and below 0 of a unit: a number is the latter, inf drops it, -inf turns it."""
    if drawn == math.inf:
        return 0.0, 0.0
    if drawn == -math.inf:
        return slope, 1.0
    return 1.0, drawn


@inner()
def limits(code, up, down):
    """(up, down) within which a built-in activation is not its own limit to all digits.

    Beyond, a smooth activation is linear near 0; far out tanh and erf saturate, so that
    only the way down keeps its units, and gelu and silu are a ReLU.
    """
    if code < 0:
        return up, down
    if up < _LEAST:
        return _LEAST, 1.0 / _LEAST
    if up > _MOST:
        return _MOST, 1.0 / _MOST if code == GELU or code == SILU else down
    return up, down


@inner()
def _builtin(code, v):
    """phi(v) of a smooth built-in activation."""
    if code == TANH:
        return math.tanh(v)
    if code == ERF:
        return math.erf(v)
    if code == GELU:
        return v * (0.5 * math.erfc(-v * _SQRT_HALF))
    return v / (1.0 + math.exp(-v))  # SILU


@inner()
def _builtin_slope(code, v):
    """phi'(v) of a smooth built-in activation."""
    if code == TANH:
        t = math.tanh(v)
        return 1.0 - t * t
    if code == ERF:
        return _TWO_OVER_ROOT_PI * math.exp(-v * v)
    if code == GELU:
        return 0.5 * math.erfc(-v * _SQRT_HALF) + v * (_DENSITY * math.exp(-0.5 * v * v))
    s = 1.0 / (1.0 + math.exp(-v))
    return s * (1.0 + v * (1.0 - s))  # SILU


def value_of(activation, v):
    """phi(v) of a smooth activation, built in or the user's."""
    return _builtin(activation, v) if isinstance(activation, int) else activation[1](v)


@overload(value_of)
def _value_compiled(activation, v):
    if isinstance(activation, types.Integer):
        return lambda activation, v: _builtin(activation, v)
    return lambda activation, v: activation[1](v)


def slope_of(activation, v):
    """phi'(v) of a smooth activation, built in or the user's."""
    return _builtin_slope(activation, v) if isinstance(activation, int) else activation[2](v)


@overload(slope_of)
def _slope_compiled(activation, v):
    if isinstance(activation, types.Integer):
        return lambda activation, v: _builtin_slope(activation, v)
    return lambda activation, v: activation[2](v)


def code_of(activation):
    """The code of a built-in activation, -1 for the user's functions."""
    return activation if isinstance(activation, int) else -1


@overload(code_of)
def _code_compiled(activation):
    if isinstance(activation, types.Integer):
        return lambda activation: activation
    return lambda activation: -1


@inner("reassoc", "contract")
def apply(activation, slope, up, down, slopes, slope_at, scale, z, z_at, n, out, out_at):
    """``out = phi_up(scale z)`` over n units; arrays are flat, ``_at`` says where they start.

    Parameters
    ----------
    slope : float
        Negative slope of leaky_relu.
    up, down : float
        Units of the state, see `units`.
    slopes : float64[:]
        Negative slopes of randomised_leaky_relu, not read otherwise.
    scale : float, not negative
    z, out : float64[:]

    Returns
    -------
    (float, int)
        The square sum of ``out`` and the number of units with scale z > 0.
    """
    code = code_of(activation)
    z = z[z_at : z_at + n]
    out = out[out_at : out_at + n]
    total = 0.0
    active = 0.0
    if code == RELU:
        for i in range(n):
            u = max(scale * z[i], 0.0)
            active += 1.0 if u > 0.0 else 0.0
            out[i] = u
            total += u * u
    elif code == RANDOMISED:
        slopes = slopes[slope_at : slope_at + n]
        for i in range(n):
            u = scale * z[i]
            active += 1.0 if u > 0.0 else 0.0
            u = u if u > 0.0 else slopes[i] * u
            out[i] = u
            total += u * u
    elif code == UNEVEN:
        slopes = slopes[slope_at : slope_at + n]
        for i in range(n):
            u = scale * z[i]
            above, below = uneven(slopes[i], slope)
            m = above if u > 0.0 else below
            turned, lost = slopes[i] == -math.inf, slopes[i] == math.inf
            active += 1.0 if (u > 0.0) != turned and not lost else 0.0
            u = m * u
            out[i] = u
            total += u * u
    elif code == LINEAR or code == LEAKY:
        s = 1.0 if code == LINEAR else slope
        for i in range(n):
            u = scale * z[i]
            active += 1.0 if u > 0.0 else 0.0
            u = u if u > 0.0 else s * u
            out[i] = u
            total += u * u
    else:
        factor, inverse = limits(code, up, down)
        for i in range(n):
            u = scale * z[i]
            active += 1.0 if u > 0.0 else 0.0
            v = inverse * value_of(activation, factor * u)
            out[i] = v
            total += v * v
    return total, active


@inner("reassoc", "contract")
def back(
    activation, slope, up, slopes, slope_at, scale, z, z_at, n, a, x, x_at, b, y, y_at, out, out_at
):  # fmt: skip
    """``out = phi'(up scale z) (a x + b y)`` over n units: the chain rule at an activation.

    Returns the square sum of ``out`` and the sum of ``z out``. ``out`` may be x or y itself.
    """
    code = code_of(activation)
    z = z[z_at : z_at + n]
    x = x[x_at : x_at + n]
    y = y[y_at : y_at + n]
    out = out[out_at : out_at + n]
    total = 0.0
    product = 0.0
    if code == RELU:
        for i in range(n):
            g = a * x[i] + b * y[i]
            g = g if scale * z[i] > 0.0 else 0.0
            out[i] = g
            total += g * g
            product += g * z[i]
    elif code == RANDOMISED:
        slopes = slopes[slope_at : slope_at + n]
        for i in range(n):
            g = a * x[i] + b * y[i]
            g = g if scale * z[i] > 0.0 else slopes[i] * g
            out[i] = g
            total += g * g
            product += g * z[i]
    elif code == UNEVEN:
        slopes = slopes[slope_at : slope_at + n]
        for i in range(n):
            g = a * x[i] + b * y[i]
            above, below = uneven(slopes[i], slope)
            g = g * above if scale * z[i] > 0.0 else g * below
            out[i] = g
            total += g * g
            product += g * z[i]
    elif code == LINEAR or code == LEAKY:
        s = 1.0 if code == LINEAR else slope
        for i in range(n):
            g = a * x[i] + b * y[i]
            g = g if scale * z[i] > 0.0 else s * g
            out[i] = g
            total += g * g
            product += g * z[i]
    else:
        factor, _ = limits(code, up, 1.0)
        for i in range(n):
            g = slope_of(activation, factor * (scale * z[i])) * (a * x[i] + b * y[i])
            out[i] = g
            total += g * g
            product += g * z[i]
    return total, product
