"""Schemes of +/- pairs, by which a ReLU network acts as a linear one: looks-linear and RISOTTO.

The mathematics is that of `sigprop.looks_linear`. Kernels are delta kernels: the matrix stands at
the centre, every other tap is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sigprop import looks_linear as pairs
from sigprop.errors import SpecError, Unsupported
from sigprop.modules.anatomy import Anatomy, ResidualSum
from sigprop.modules.init.entries import _what, centre, haar
from sigprop.modules.init.plan import Plan, Source
from sigprop.modules.init.report import InitReport, Setting
from sigprop.modules.refusals import where
from sigprop.modules.roles import WeightLayer
from sigprop.spec import check_number

__all__ = ["looks_linear_", "risotto_"]

_FIRST, _HIDDEN, _LAST = "[U; -U]", "LL(U)", "[U, -U]"


def looks_linear_(
    model: nn.Module,
    *inputs: Any,
    lossy: bool = False,
    batch_norm: bool = False,
    generator: torch.Generator | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """Looks-linear: first weight [U; -U], hidden ones [[U, -U], [-U, U]], the last [U, -U].

    Of plain ReLU networks. Every U is orthogonal, so that the difference of the two halves of the
    units goes through the network as through a linear one, without loss.

    Parameters
    ----------
    lossy : bool
        Whether layers may be narrower than what they carry, or pool or stride over pixels
        (default False): then not an isometry but a projection. The last layer may always.
    batch_norm : bool
        Whether normalisations are kept all the same (default False), which divide the norm out.

    Other parameters, result and errors as for `sigprop.modules.init.he_`.

    Notes
    -----
    Source: Balduzzi et al. (2017), arXiv:1702.08591.
    """
    plan = Plan(
        "looks_linear", model, inputs, found=anatomy, nonlinearity=None, generator=generator,
        sums=False,
    )  # fmt: skip
    _check(plan, lossy=lossy, batch_norm=batch_norm)
    _plain(plan, lossy)
    return plan.carry_out({"lossy": lossy, "batch_norm": batch_norm})


def risotto_(
    model: nn.Module,
    *inputs: Any,
    alpha: float = 1.0,
    lossy: bool = False,
    batch_norm: bool = False,
    generator: torch.Generator | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    r"""RISOTTO: every block of type B or C is LL(M), M orthogonal, in spite of branch and ReLUs.

    Type C: branch weights LL(U_j), projection LL(M - alpha U_m .. U_1). Type B: all branch weights
    but the last hand the pairs on, and the last is (LL(M) - 1) / alpha. The layers before the first
    block are looks-linear, the read-out is [U, -U]. A branch scalar becomes alpha; where there is
    none, alpha multiplies the last weight of the branch.

    Parameters
    ----------
    alpha : float
        Branch coefficient, default 1; not 0 in a block of type B.
    lossy : bool
        Whether the state may become narrower than what it carries, or lose pixels by strides and
        pooling (default False): then not an isometry but a projection.
    batch_norm : bool
        Whether normalisations are kept all the same (default False). They scale branch and
        shortcut each by itself, so that M is no longer orthogonal.

    Other parameters, result and errors as for `sigprop.modules.init.he_`; Unsupported also where
    a block is not activated after its sum, a branch is no chain of layers and ReLUs, a kernel has
    groups or no centre, or a number of channels is odd.

    Notes
    -----
    Source: Gadhikar and Burkholz (2022), arXiv:2210.02411; the last weight of type B is the one for
    which the block is an isometry, see `sigprop.Risotto`.
    """
    alpha = check_number("alpha", alpha, why="It is the coefficient of the branch.")
    plan = Plan(
        "risotto", model, inputs, found=anatomy, nonlinearity=None, generator=generator, sums=True
    )
    for s in plan.anatomy.sums:
        plan.need(s)
        _check_block(plan, s, alpha)
    _check(plan, lossy=lossy, batch_norm=batch_norm)
    for s in plan.anatomy.sums:
        _check_narrowing(plan, s, lossy)
    _plain(plan, lossy)
    for s in plan.anatomy.sums:
        factor = alpha
        if s.multipliers:
            plan.recall(s.multipliers[-1])
            plan.constant(s.multipliers[-1], alpha, "branch scalar", "multiplies a branch")
            factor = 1.0
        if s.projected:
            _projection(plan, s, alpha, factor)
        else:
            _identity(plan, s, alpha, factor)
    options = {"alpha": alpha, "lossy": lossy, "batch_norm": batch_norm}
    return plan.carry_out(options)


# ------------------------------------------------------------------------- what is refused


def _check(plan: Plan, *, lossy: bool, batch_norm: bool) -> None:
    """Raise unless units can be pairs throughout, and nothing is lost unless it may be."""
    if set(plan.anatomy.activations) != {"relu"}:
        read = ", ".join(plan.anatomy.activations) or "none"
        raise Unsupported(
            f"scheme {plan.scheme!r} needs the activation relu, got {read}: a pair phi(z), phi(-z) "
            "must have the length and the difference z. Use another scheme, such as orthogonal_."
        )
    if plan.anatomy.norms and not batch_norm:
        raise SpecError(
            f"scheme {plan.scheme!r} is an isometry, and "
            f"{where(plan.model, plan.anatomy.norms[0].name)} normalises: it scales "
            "branch and shortcut each by itself, and the isometry is lost. "
            "Take the normalisation out, or say batch_norm = True if you mean it."
        )
    if plan.anatomy.norms:
        plan.note("Normalisations are kept: singular values are not 1, see sigprop.Risotto.")
    seen: set[str] = set()
    for layer in plan.anatomy.layers:
        _check_layer(plan, layer)
        if layer.weight in seen:
            raise Unsupported(
                f"scheme {plan.scheme!r} makes every weight of a matrix of its own, and "
                f"{layer.weight!r} is shared: {where(plan.model, layer.name)} is used more than "
                "once. Untie it."
            )
        seen.add(str(layer.weight))
    lost = [n.op for n in plan.anatomy.graph.nodes if "pool" in n.op or n.op == "mean"]
    strides = [x for x in plan.anatomy.layers if any(step > 1 for step in x.stride)]
    if strides and not lossy:
        raise SpecError(
            f"scheme {plan.scheme!r} is an isometry, and {where(plan.model, strides[0].name)} has "
            f"a stride of {max(strides[0].stride)}: a delta kernel reads the central pixel alone, "
            "and the others are dropped, so that singular values become 0. Use stride 1, or say "
            "lossy = True if you mean it."
        )
    last = plan.anatomy.layers[-1]
    if "max_pool2d" in lost or "boolean_dispatch" in lost or any("max" in op for op in lost):
        if not lossy:
            raise SpecError(
                f"scheme {plan.scheme!r} is an isometry, and {type(plan.model).__name__} has max "
                "pooling, which takes the halves of a pair from different pixels. Take it out, or "
                "say lossy = True if you mean it."
            )
        plan.note("Max pooling takes the halves of a pair from different pixels: no isometry.")
    if strides:
        plan.note("Strides drop pixels: their singular values are 0.")
    if lost and last.feeds is None:
        plan.note("Pooling ahead of the read-out keeps a mean of the pixels and no more.")


def _check_layer(plan: Plan, layer: WeightLayer) -> None:
    """Raise unless a weight can be a matrix of pairs."""
    if layer.kind not in ("linear", "conv") or layer.groups > 1:
        what = "a convolution of groups" if layer.groups > 1 else f"of kind {layer.kind!r}"
        raise Unsupported(
            f"scheme {plan.scheme!r} is not defined for {where(plan.model, layer.name)}, which is "
            f"{what}: it takes linear layers and convolutions of one group. Use another scheme."
        )
    if layer.weight is None or not plan.parameters[layer.weight].requires_grad:
        raise Unsupported(
            f"scheme {plan.scheme!r} sets the weight of {where(plan.model, layer.name)}, which is "
            "frozen or computed of other parameters. Thaw it, or take the parametrisation off."
        )
    if any(side % 2 == 0 for side in layer.kernel) or not layer.centred:
        raise Unsupported(
            f"scheme {plan.scheme!r} puts its matrix at the centre of a kernel, and "
            f"{where(plan.model, layer.name)} has a kernel of {layer.kernel} without a centre on "
            "the pixel. Use odd kernels with padding kernel // 2."
        )


def _ends(plan: Plan, layer: WeightLayer) -> tuple[int, int]:
    """(columns, rows) of a weight, channels only."""
    assert layer.weight is not None
    shape = plan.parameters[layer.weight].shape
    return shape[1], shape[0]


def _halves(plan: Plan, layer: WeightLayer, *, rows: bool = True, columns: bool = True) -> None:
    """Raise where units that must be pairs are odd in number."""
    wide = _ends(plan, layer)
    for needed, units, side in zip((columns, rows), wide, ("reads", "writes")):
        if needed and units % 2:
            raise SpecError(
                f"scheme {plan.scheme!r} needs an even number of units, and "
                f"{where(plan.model, layer.name)} {side} {units}: units come in pairs, one for "
                f"each sign. Use {units - 1 or 2} or {units + 1}."
            )


def _check_block(plan: Plan, s: ResidualSum, alpha: float) -> None:
    if s.activation != "relu":
        follows = s.activation or s.norm or "no activation"
        raise Unsupported(
            f"scheme 'risotto' is of blocks whose sum is activated by a ReLU (types B and C), and "
            f"the sum {s.name!r} is followed by {follows}. Use fixup_, skipinit_ or scaled_."
        )
    chained = s.plain and not s.nested and s.begins is None
    if not chained or set(s.activations) - {"relu"} or len(s.activations) != len(s.layers) - 1:
        raise Unsupported(
            f"scheme 'risotto' needs branches that are layers with a ReLU between two, and "
            f"{s.name!r} has {len(s.layers)} layers and activations {list(s.activations)}. Use "
            "skipinit_."
        )
    if len(s.shortcut_layers) > 1:
        raise Unsupported(
            f"scheme 'risotto' needs a shortcut of one matrix or none, and that of {s.name!r} has "
            f"{len(s.shortcut_layers)}. Use skipinit_."
        )
    if not s.projected and s.shortcut:
        raise Unsupported(
            f"scheme 'risotto' needs a shortcut that is the identity or one matrix, and that of "
            f"{s.name!r} goes through {', '.join(s.shortcut)}. Use skipinit_."
        )
    if not s.projected and alpha == 0.0:
        raise SpecError(
            f"scheme 'risotto' with alpha = 0 needs a projection in every block, and {s.name!r} "
            "has none: its last matrix is divided by alpha. Use another alpha."
        )


def _check_narrowing(plan: Plan, s: ResidualSum, lossy: bool) -> None:
    columns, rows = _ends(plan, s.layers[0])[0], _ends(plan, s.layers[-1])[1]
    if rows < columns and not lossy:
        raise SpecError(
            f"scheme 'risotto' loses directions where the state narrows, from {columns} to {rows} "
            f"units at {s.name!r}: singular values become 0. Use at least {columns} there, or say "
            "lossy = True."
        )


# ---------------------------------------------------------------------------- what is set


def _plain(plan: Plan, lossy: bool) -> None:
    """The layers outside of residual sums: the first, those between, the read-out."""
    inside = {x.weight for s in plan.anatomy.sums for x in (*s.layers, *s.shortcut_layers)}
    before = plan.usual()
    first = before[0]
    for layer in before:
        if layer.weight in inside:
            continue
        columns, rows = _ends(plan, layer)
        if layer.reads is None and layer is not first:
            raise Unsupported(
                f"scheme {plan.scheme!r} needs layers that read a ReLU, and "
                f"{where(plan.model, layer.name)} reads what is not activated. Use another scheme."
            )
        if layer is first and layer.feeds == "relu":
            _halves(plan, layer, columns=False)
            if rows < 2 * columns and not lossy:
                raise SpecError(
                    f"scheme {plan.scheme!r} needs a first layer of at least {2 * columns} units, "
                    f"and {where(plan.model, layer.name)} has {rows}: {columns} inputs need "
                    f"{columns} pairs, or what does not fit is lost. Widen it, or say lossy = True."
                )
            _set(plan, layer, _FIRST, (rows // 2, columns))
        elif layer.feeds == "relu":
            _halves(plan, layer)
            if rows < columns and not lossy:
                raise SpecError(
                    f"scheme {plan.scheme!r} loses directions where the state narrows, from "
                    f"{columns} to {rows} units at {where(plan.model, layer.name)}. Use at least "
                    f"{columns} there, or say lossy = True."
                )
            _set(plan, layer, _HIDDEN, (rows // 2, columns // 2))
        elif layer is first:
            _set(plan, layer, "Q", (rows, columns))
        else:
            if columns % 2 or _flattened(plan, layer):
                raise Unsupported(
                    f"scheme {plan.scheme!r} reads pairs at the end, and "
                    f"{where(plan.model, layer.name)} reads {columns} units that are not the two "
                    "halves of them, such as pixels in a row. Pool over pixels first."
                )
            _set(plan, layer, _LAST, (rows, columns // 2))


def _flattened(plan: Plan, layer: WeightLayer) -> bool:
    """Whether a linear layer reads pixels of channels as so many units."""
    convolutions = [x for x in plan.anatomy.layers if x.kind == "conv"]
    if layer.kind != "linear" or not convolutions:
        return False
    return _ends(plan, layer)[0] != _ends(plan, convolutions[-1])[1]


def _set(plan: Plan, layer: WeightLayer, rule: str, half: tuple[int, int]) -> None:
    """One weight made of an orthogonal matrix of its own."""
    assert layer.weight is not None

    def draw(shape: torch.Size, source: Source) -> torch.Tensor:
        u = haar(*half, source)
        return centre(_assembled(u, rule), shape)

    plan.write(_setting(plan, layer, rule, 1 / max(half), _what(layer)), draw)


def _setting(plan: Plan, layer: WeightLayer, rule: str, variance: float, why: str) -> Setting:
    """The line of a weight; ``variance`` is that of an entry of the matrix, not of the taps."""
    assert layer.weight is not None
    delta = math.prod(layer.kernel) > 1
    named = f"central tap {rule}" if delta else rule
    std = math.sqrt(variance / math.prod(layer.kernel)) if not math.isnan(variance) else None
    return Setting(tensor=layer.weight, role="weight", rule=named, std=std, why=why)


def _assembled(u: torch.Tensor, rule: str) -> torch.Tensor:
    if rule == _FIRST:
        return torch.cat([u, -u])
    if rule == _LAST:
        return torch.cat([u, -u], dim=1)
    if rule == "Q":
        return u
    return torch.cat([torch.cat([u, -u], dim=1), torch.cat([-u, u], dim=1)])


class _Shared:
    """Matrices of one block, drawn when the first of them is asked for."""

    def __init__(self, shapes: Sequence[tuple[int, int]]) -> None:
        self.shapes = shapes
        self.drawn: list[torch.Tensor] = []

    def of(self, source: Source) -> list[torch.Tensor]:
        if not self.drawn:
            self.drawn = [haar(rows, columns, source) for rows, columns in self.shapes]
        return self.drawn


def _projection(plan: Plan, s: ResidualSum, alpha: float, factor: float) -> None:
    """Type C: looks-linear branch, and in the shortcut what is missing."""
    shapes = []
    for layer in s.layers:
        _halves(plan, layer)
        columns, rows = _ends(plan, layer)
        shapes.append((rows // 2, columns // 2))
    (shortcut,) = s.shortcut_layers
    _halves(plan, shortcut)
    columns, rows = _ends(plan, shortcut)
    shared = _Shared([*shapes, (rows // 2, columns // 2)])
    last = len(s.layers) - 1
    for j, layer in enumerate(s.layers):

        def draw(shape: torch.Size, source: Source, j: int = j) -> torch.Tensor:
            u = shared.of(source)[j] * (factor if j == last else 1.0)
            return centre(_assembled(u, _HIDDEN), shape)

        scale = factor if j == last else 1.0
        rule = _HIDDEN if scale == 1.0 else f"{scale:.4g} {_HIDDEN}"
        variance = scale**2 / max(shapes[j])
        plan.recall(layer.weight)
        plan.write(_setting(plan, layer, rule, variance, f"{_what(layer)} of a branch"), draw)

    def missing(shape: torch.Size, source: Source) -> torch.Tensor:
        *branch, m = (u.cpu().numpy() for u in shared.of(source))
        return centre(torch.from_numpy(pairs.skip_matrix(m, branch, 1.0, alpha)), shape)

    rule = "LL(M - alpha U_m..U_1)"
    plan.recall(shortcut.weight)
    plan.write(_setting(plan, shortcut, rule, math.nan, "projection of a shortcut"), missing)


def _identity(plan: Plan, s: ResidualSum, alpha: float, factor: float) -> None:
    """Type B: pairs are handed on, and the last matrix makes LL(M) together with the trunk."""
    width = _ends(plan, s.layers[0])[0]
    units = [width]
    for layer in s.layers:
        _halves(plan, layer)
        units.append(_ends(plan, layer)[1])
    routed = min(units) // 2
    if 2 * routed < width:
        plan.note(
            "Bottlenecks beside an identity mix as many pairs as they carry; the others pass on "
            "the shortcut."
        )
    for layer in s.layers[:-1]:
        columns, rows = _ends(plan, layer)

        def hand_on(
            shape: torch.Size, source: Source, rows: int = rows, columns: int = columns
        ) -> torch.Tensor:
            return centre(torch.from_numpy(pairs.routed(rows, columns)), shape)

        plan.recall(layer.weight)
        why = f"{_what(layer)} of a branch: hands pairs on"
        plan.write(_setting(plan, layer, "routes", 1 / columns, why), hand_on)
    last = s.layers[-1]
    columns, rows = _ends(plan, last)

    def top(shape: torch.Size, source: Source) -> torch.Tensor:
        m = haar(routed, routed, source).cpu().numpy()
        matrix = pairs.top_matrix(np.asarray(m), rows, columns, 1.0, alpha)
        return centre(torch.from_numpy(factor * matrix), shape)

    plan.recall(last.weight)
    rule = "LL(M) - 1" if alpha == 1.0 or factor != 1.0 else "(LL(M) - 1)/alpha"
    why = f"{_what(last)}, the last of a branch"
    plan.write(_setting(plan, last, rule, math.nan, why), top)
