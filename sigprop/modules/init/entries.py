"""Schemes that say of every weight by itself what it is: from He to fractional."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sigprop.errors import Unsupported
from sigprop.modules.anatomy import Anatomy
from sigprop.modules.init.plan import Plan, Source
from sigprop.modules.init.report import InitReport, Setting
from sigprop.modules.refusals import where
from sigprop.modules.roles import WeightLayer
from sigprop.spec import Activation

__all__ = ["fractional_", "glorot_", "haar", "he_", "he_variance", "lecun_", "orthogonal_"]


def he_(
    model: nn.Module,
    *inputs: Any,
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """He: every weight Gaussian of variance 1 / (fan_in E phi(Z)^2), biases 0.

    phi is the one activation that weight layers read, also for the first layer and the read-out,
    as in `sigprop.He`; attention projections read none, and their phi is linear. Normalisations
    are kept, with gain 1 and shift 0, and every branch scalar becomes 1.

    Parameters
    ----------
    model : Module
    *inputs
        An example of what its forward takes.
    generator, nonlinearity, anatomy
        See `sigprop.modules.init`.

    Returns
    -------
    InitReport

    Raises
    ------
    SpecError, Unsupported
        Before anything is written: if the module cannot be read, or reads several activations and
        none was named.

    Notes
    -----
    Source: He, Zhang, Ren and Sun (2015), arXiv:1502.01852.
    """
    plan = _plan("he", model, inputs, anatomy, nonlinearity, generator)
    _independent(plan, he_variance(plan), "He")
    return plan.carry_out({"activation": plan.phi.kind})


def glorot_(
    model: nn.Module,
    *inputs: Any,
    generator: torch.Generator | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """Glorot: variance 2 / (fan_in + fan_out) whatever the activation, biases 0.

    Parameters, result and errors as for `he_`. Queries, keys and values are three matrices, each
    with fans of its own (torch's own initialisation takes them as one).

    Notes
    -----
    Source: Glorot and Bengio (2010), AISTATS.
    """
    plan = _plan("glorot", model, inputs, anatomy, "linear", generator)
    _independent(plan, lambda x: 2 / (x.fan_in + x.fan_out), "Glorot")
    return plan.carry_out({})


def lecun_(
    model: nn.Module,
    *inputs: Any,
    generator: torch.Generator | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """LeCun: variance 1 / fan_in whatever the activation, biases 0.

    Parameters, result and errors as for `he_`.

    Notes
    -----
    Source: LeCun, Bottou, Orr and Mueller (1998), Efficient BackProp.
    """
    plan = _plan("lecun", model, inputs, anatomy, "linear", generator)
    _independent(plan, lambda x: 1 / x.fan_in, "LeCun")
    return plan.carry_out({})


def orthogonal_(
    model: nn.Module,
    *inputs: Any,
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """Orthogonal matrices times 1 / sqrt(E phi(Z)^2); of kernels the central tap, the others 0.

    Uniformly distributed; rectangular ones have orthonormal rows or columns, whichever are fewer.
    Parameters, result and errors as for `he_`; kernels of several groups and those without a
    centre are refused.

    Notes
    -----
    Sources: Saxe, McClelland and Ganguli (2014), arXiv:1312.6120; for kernels Xiao et al. (2018),
    arXiv:1806.05393.
    """
    plan = _plan("orthogonal", model, inputs, anatomy, nonlinearity, generator)
    for layer in plan.usual():
        delta = layer.kind == "conv" and math.prod(layer.kernel) > 1
        even = any(side % 2 == 0 for side in layer.kernel)
        if layer.kind == "conv_transpose" or layer.groups > 1 or even:
            raise Unsupported(
                f"scheme 'orthogonal' is not defined for {where(model, layer.name)}: a kernel "
                "needs a centre and one group, or no matrix of it is orthogonal. Use he_."
            )
        gain = 1 / math.sqrt(_second_moment(plan, layer))
        matrix = "Q" if gain == 1.0 else f"{gain:.4g} Q"
        rule = f"central tap {matrix}" if delta else matrix
        assert layer.weight is not None
        shape = plan.parameters[layer.weight].shape
        longest = max(shape[0] // (3 if _threefold(layer) else 1), shape[1])
        std = gain / math.sqrt(longest * (math.prod(layer.kernel) if delta else 1))
        setting = Setting(tensor=layer.weight, role="weight", rule=rule, std=std, why=_what(layer))
        plan.write(setting, _orthogonal(gain, layer))
    return plan.carry_out({"activation": plan.phi.kind})


def fractional_(
    model: nn.Module,
    *inputs: Any,
    s: float = 1.5,
    preserve: str = "coordinate",
    given: str = "all",
    expansion: str = "exact",
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    r"""Fractional: Gaussian weights that keep E|h|^s through every layer, exactly at any width.

    Of plain, fully connected networks: no branch beside an identity keeps a moment, and pixels
    share their weights, so that residual sums and kernels are refused. The read-out, which no
    activation follows, keeps the moment as a linear layer.

    Parameters
    ----------
    s : float
        Order of the moment, in [0, 2]; 2 is He, 0 keeps the mean of log|h|.
    preserve, given, expansion
        As in `sigprop.Fractional`.

    Other parameters, result and errors as for `he_`.

    Notes
    -----
    Source: Gurbuzbalaban and Hu (2020), arXiv:2005.11878.
    """
    from sigprop.schemes import Fractional
    from sigprop.spec import Network

    scheme = Fractional(s=s, preserve=preserve, given=given, expansion=expansion)
    plan = _plan("fractional", model, inputs, anatomy, nonlinearity, generator, sums=False)
    if plan.anatomy.norms:
        raise Unsupported(
            f"scheme 'fractional' keeps a moment of the norm, and "
            f"{where(model, plan.anatomy.norms[0].name)} divides the norm out. "
            "Use a network without normalisation."
        )
    for layer in plan.usual():
        if layer.kind not in ("linear", "product"):
            raise Unsupported(
                f"scheme 'fractional' is of fully connected layers, and {where(model, layer.name)} "
                f"is of kind {layer.kind!r}: what shares weights has no norm that is a product of "
                "independent factors. Use he_."
            )
        phi = plan.phi if layer.feeds is not None else "linear"
        one = Network(depth=1, widths=(layer.fan_in, layer.fan_out), block="plain", activation=phi)
        assert layer.weight is not None
        sigma = float(scheme.layers(one).scale[0, 0])
        rule = f"Fractional s={s:g}" + ("" if layer.feeds is not None else ", linear")
        plan.normal(layer.weight, sigma**2, rule, _what(layer))
    return plan.carry_out({"s": s, "preserve": preserve, "given": given, "expansion": expansion})


# ------------------------------------------------------------------------ what they share


def _plan(
    scheme: str,
    model: nn.Module,
    inputs: tuple[Any, ...],
    anatomy: Anatomy | None,
    nonlinearity: Activation | str | None,
    generator: torch.Generator | None,
    sums: bool | None = None,
) -> Plan:
    return Plan(
        scheme, model, inputs, found=anatomy, nonlinearity=nonlinearity, generator=generator,
        sums=sums,
    )  # fmt: skip


def _independent(plan: Plan, variance: Callable[[WeightLayer], float], rule: str) -> None:
    """Every weight Gaussian, of a variance that is a function of its layer."""
    for layer in plan.usual():
        assert layer.weight is not None
        linear = rule == "He" and layer.kind.startswith("attention")
        named = f"{rule}, linear" if linear else rule
        plan.normal(layer.weight, variance(layer), named, _what(layer))


def he_variance(plan: Plan) -> Callable[[WeightLayer], float]:
    """He's variance of a weight of a layer."""
    return lambda layer: 1 / (layer.fan_in * _second_moment(plan, layer))


def _second_moment(plan: Plan, layer: WeightLayer) -> float:
    """E phi(Z)^2 of what a layer reads."""
    if layer.kind.startswith("attention"):
        return 1.0
    gain = plan.phi.second_moment()
    if not gain > 0:
        raise Unsupported(
            f"scheme {plan.scheme!r} divides by E phi(Z)^2, but activation {plan.phi.kind!r} has "
            f"{gain:g}: it is zero almost everywhere. Use another scheme."
        )
    return gain


def _what(layer: WeightLayer) -> str:
    """What a layer is, for the report."""
    kinds = {
        "linear": "linear", "product": "linear, by hand", "conv": "convolution",
        "conv_transpose": "transposed convolution", "attention_in": "queries, keys, values",
        "attention_out": "output of attention",
    }  # fmt: skip
    return kinds[layer.kind]


def _threefold(layer: WeightLayer) -> bool:
    """Whether the weight is queries, keys and values, one below the other."""
    return layer.kind == "attention_in" and (layer.weight or "").endswith("in_proj_weight")


def haar(rows: int, columns: int, source: Source) -> torch.Tensor:
    """A uniformly distributed matrix of orthonormal rows or columns, whichever are fewer."""
    q, r = torch.linalg.qr(source.normals(max(rows, columns), min(rows, columns)))
    q = q * torch.sign(torch.diagonal(r))  # without the sign Q depends on the library
    return q if rows >= columns else q.T


def centre(matrix: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A kernel with ``matrix`` at its centre and 0 elsewhere; the matrix itself without taps."""
    if len(shape) == 2:
        return matrix
    kernel = torch.zeros(shape, dtype=matrix.dtype, device=matrix.device)
    middle: Any = (slice(None), slice(None), *(side // 2 for side in shape[2:]))
    kernel[middle] = matrix
    return kernel


def _orthogonal(gain: float, layer: WeightLayer) -> Callable[[torch.Size, Source], torch.Tensor]:
    parts = 3 if _threefold(layer) else 1

    def draw(shape: torch.Size, source: Source) -> torch.Tensor:
        rows = shape[0] // parts
        matrix = torch.cat([haar(rows, shape[1], source) for _ in range(parts)])
        return centre(gain * matrix, shape)

    return draw
