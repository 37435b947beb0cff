"""Activations of torch tensors, by the codes by which kernels know them.

A derivative is kept in the smallest form that gives it back: a mask where slopes are fixed, the
numbers themselves elsewhere.
"""

from __future__ import annotations

import math

import torch

from sigprop.activations import _codes
from sigprop.activations.uneven import DROPPED, TURNED, Uneven
from sigprop.spec import Activation

__all__ = ["active", "apply", "through"]

Passed = torch.Tensor  # bool: where u > 0; of another type: phi'(u)


def apply(
    phi: Activation, u: torch.Tensor, up: torch.Tensor, slopes: torch.Tensor | None
) -> tuple[torch.Tensor, Passed]:
    """phi of ``u up``, over ``up``, and what `through` needs of it.

    Parameters
    ----------
    u : Tensor, shape (networks, units, inputs)
    up : Tensor, float64, shape (networks, 1, 1)
        The unit of the state, a power of two.
    slopes : Tensor, shape (networks, units, 1), optional
        From `Draws.slopes`.
    """
    if slopes is not None:
        slope = _uneven(phi, u, slopes).to(u.dtype)
        return slope * u, slope
    s = phi.negative_slope
    if s is not None:
        above = u > 0
        if s == 1.0:
            return u, above
        return (torch.relu(u) if s == 0.0 else torch.where(above, u, s * u)), above
    whole = u.double() * up
    value, slope = _SMOOTH[phi.code](whole)
    return (value / up).to(u.dtype), slope.to(u.dtype)


def through(phi: Activation, q: torch.Tensor, passed: Passed) -> torch.Tensor:
    """The gradient below an activation from that above it."""
    s = phi.negative_slope
    if s is None or s == 0.0:
        return q * passed
    return q if s == 1.0 else torch.where(passed, q, s * q)


def active(phi: Activation, u: torch.Tensor, slopes: torch.Tensor | None) -> torch.Tensor:
    """Which units pass their argument on as it is."""
    above = u > 0
    if slopes is None or not isinstance(phi, Uneven):
        return above
    return torch.where(slopes == TURNED, ~above, above) & (slopes != DROPPED)


def _uneven(phi: Activation, u: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """phi' of every unit, given what was drawn for it."""
    if not isinstance(phi, Uneven):
        return torch.where(u > 0, 1.0, s)
    turned, one = s == TURNED, torch.ones_like(s)
    above = torch.where(turned, phi.low * one, one)
    below = torch.where(turned, one, torch.where(torch.isfinite(s), s, 0.0))
    kept = torch.where(s == DROPPED, 0.0, one / phi.keep)
    return kept * torch.where(u > 0, above, below)


def _tanh(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    decay = torch.exp(-2 * u.abs())  # 1 - tanh^2 would lose all digits for large u
    return torch.tanh(u), 4 * decay / (1 + decay) ** 2


def _erf(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.erf(u), 2 / math.sqrt(math.pi) * torch.exp(-u * u)


def _gelu(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    below = torch.special.ndtr(u)
    return u * below, below + u * torch.exp(-u * u / 2) / math.sqrt(2 * math.pi)


def _silu(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gate = torch.sigmoid(u)
    return u * gate, gate * (1 + u * torch.sigmoid(-u))


_SMOOTH = {_codes.TANH: _tanh, _codes.ERF: _erf, _codes.GELU: _gelu, _codes.SILU: _silu}
