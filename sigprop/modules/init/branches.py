"""Schemes of residual networks: what a branch is multiplied by, and how its weights are scaled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sigprop.errors import SpecError, Unsupported
from sigprop.modules.anatomy import Anatomy, ResidualSum
from sigprop.modules.init.entries import _what, he_variance
from sigprop.modules.init.plan import Draw, Plan, Source
from sigprop.modules.init.report import InitReport, Setting
from sigprop.modules.init.scalar import name_of_scalar
from sigprop.modules.refusals import where
from sigprop.modules.roles import NormLayer, WeightLayer
from sigprop.registry import did_you_mean
from sigprop.spec import Activation, check_number

__all__ = ["fixup_", "rezero_", "scaled_", "skipinit_"]

_CLASSIFIERS = ("zero", "he")


def fixup_(
    model: nn.Module,
    *inputs: Any,
    classifier: str = "zero",
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    r"""Fixup: in L branches of m weight layers the last is 0, the others He times L^{-1/(2m-2)}.

    Stem, projections and other layers are He, the classifier 0. Multipliers of branches become 1
    and scalar biases 0 where the module has them. Where a normalisation ends a branch, its gain
    is 0 in place of the last weight, which then is He: a normalisation reads nothing sensible from
    zeros, and the function at initialisation is the same.

    Parameters
    ----------
    classifier : str
        ``zero`` (default), as in the paper: then the output is 0 and no gradient passes it at the
        first step; or ``he``. The classifier is the last weight layer, if it is linear and behind
        the last sum.

    Other parameters, result and errors as for `he_`; also Unsupported for a branch of a single
    weight layer, whose exponent divides by zero, and for one that is no chain of layers, such as
    attention and gates, for which Fixup is not defined.

    Notes
    -----
    Source: Zhang, Dauphin and Ma (2019), arXiv:1901.09321.
    """
    if classifier not in _CLASSIFIERS:
        raise SpecError(
            f"classifier must be one of {', '.join(_CLASSIFIERS)}, got {classifier!r}: it says "
            f"what the read-out is.{did_you_mean(str(classifier), _CLASSIFIERS)}"
        )
    plan = _plan("fixup", model, inputs, anatomy, nonlinearity, generator)
    sums = _branches(plan, closed=True)
    for s in sums:
        if any(x.kind.startswith("attention") for x in s.layers):
            raise Unsupported(
                f"scheme 'fixup' is not defined for the branch {s.name!r}, which is attention: its "
                "scales are counted in layers that follow each other. Use skipinit_ or rezero_, "
                "which are defined for any branch."
            )
        if not s.plain:
            raise Unsupported(
                f"scheme 'fixup' is not defined for the branch {s.name!r}, which is no chain of "
                "layers: what gates or attends has no place in the count of its exponent. Use "
                "skipinit_ or rezero_, which are defined for any branch."
            )
        if len(s.layers) < 2:
            raise Unsupported(
                "scheme 'fixup' needs branches of at least 2 weight layers, and that of residual "
                f"sum {s.name!r} has {len(s.layers)}, for which its exponent -1/(2m-2) divides by "
                "zero. Use skipinit_, or branches of two layers (resmlp: block=res3)."
            )
    variance, depth = he_variance(plan), len(sums)
    _he(plan)
    for s in sums:
        m = len(s.layers)
        scale = float(depth) ** (-1 / (m - 1))
        rule = f"He L^-1/{2 * m - 2}"
        for layer in s.layers[:-1]:
            _again(plan, layer, variance(layer) * scale, rule, f"{_what(layer)} of a branch")
        _close_fixup(plan, s)
        if s.ends is not None:
            plan.note(
                "Branches are normalised: what scales their weights is divided out again. Fixup is "
                "meant for networks without normalisation."
            )
    _note_scalars(plan, sums)
    head = _classifier(plan)
    if head is not None and classifier == "zero":
        assert head.weight is not None
        plan.recall(head.weight)
        plan.constant(head.weight, 0.0, "weight", "classifier")
    return plan.carry_out({"activation": plan.phi.kind, "classifier": classifier})


def skipinit_(
    model: nn.Module,
    *inputs: Any,
    initial: float = 0.0,
    add_scalars: bool = False,
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """SkipInit: every branch multiplied by a scalar that starts at ``initial``; He weights.

    Parameters
    ----------
    initial : float
        Default 0: every block is its shortcut.
    add_scalars : bool
        Whether a branch that has neither a scalar nor a normalisation at its end is given a
        parameter that multiplies its last weight and bias (default False), by
        `torch.nn.utils.parametrize`, which changes the names in the state of the module.

    Other parameters, result and errors as for `he_`. Where the scalar goes: see
    `sigprop.modules.init`.

    Notes
    -----
    Source: De and Smith (2020), arXiv:2002.10444.
    """
    return _scalar(
        "skipinit", model, inputs, initial, add_scalars, generator, nonlinearity, anatomy
    )


def rezero_(
    model: nn.Module,
    *inputs: Any,
    initial: float = 0.0,
    add_scalars: bool = False,
    generator: torch.Generator | None = None,
    nonlinearity: Activation | str | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """ReZero: one scalar a residual sum, 0 at initialisation; He weights.

    The same function as `skipinit_` leaves; the papers differ in what they train. Parameters as
    for `skipinit_`.

    Notes
    -----
    Source: Bachlechner, Majumder, Mao, Cottrell and McAuley (2020), arXiv:2003.04887.
    """
    return _scalar("rezero", model, inputs, initial, add_scalars, generator, nonlinearity, anatomy)


def scaled_(
    model: nn.Module,
    *inputs: Any,
    beta: float = 0.5,
    add_scalars: bool = False,
    generator: torch.Generator | None = None,
    anatomy: Anatomy | None = None,
) -> InitReport:
    """Every branch multiplied by L^-beta, L the number of residual sums; weights 1 / fan_in.

    Parameters
    ----------
    beta : float
        The exponent, at least 0: 0 is no scaling, 1/2 the critical exponent.
    add_scalars : bool
        As for `skipinit_`.

    Other parameters, result and errors as for `he_`. Where the factor goes: see
    `sigprop.modules.init`.

    Notes
    -----
    Source: Marion, Fermanian, Biau and Vert (2022), arXiv:2206.06929.
    """
    why = "The branch is depth^-beta: 0 is no scaling, 1/2 the critical exponent."
    beta = check_number("beta", beta, low=0.0, why=why)
    plan = _plan("scaled", model, inputs, anatomy, "linear", generator)
    sums = _branches(plan, closed=False)
    for layer in plan.usual():
        assert layer.weight is not None
        plan.normal(layer.weight, 1 / layer.fan_in, "LeCun", _what(layer))
    factor = float(len(sums)) ** -beta
    for s in sums:
        _close(plan, s, factor, f"L^-{beta:g}", add=add_scalars)
        if s.activation is not None:
            plan.note(
                "The activation acts on sums of trunk and branch (types B and C), for which the "
                "paper's theorems are not made; the scaling is the same."
            )
    return plan.carry_out({"beta": beta})


# ------------------------------------------------------------------------ what they share


def _plan(
    scheme: str,
    model: nn.Module,
    inputs: tuple[Any, ...],
    anatomy: Anatomy | None,
    nonlinearity: Activation | str | None,
    generator: torch.Generator | None,
) -> Plan:
    return Plan(
        scheme, model, inputs, found=anatomy, nonlinearity=nonlinearity, generator=generator,
        sums=True,
    )  # fmt: skip


def _scalar(
    scheme: str,
    model: nn.Module,
    inputs: tuple[Any, ...],
    initial: float,
    add: bool,
    generator: torch.Generator | None,
    nonlinearity: Activation | str | None,
    anatomy: Anatomy | None,
) -> InitReport:
    initial = check_number("initial", initial, why="It is the value of the branch's scalar.")
    plan = _plan(scheme, model, inputs, anatomy, nonlinearity, generator)
    sums = _branches(plan, closed=initial == 0)
    _he(plan)
    for s in sums:
        _close(plan, s, initial, add=add)
        if s.ends is not None:
            plan.note(
                "Normalisation is kept where it is: the scheme was made to replace it, and as the "
                "gain of the last normalisation the scalar is one a channel."
            )
    _note_scalars(plan, sums)
    return plan.carry_out({"activation": plan.phi.kind, "initial": initial})


def _branches(plan: Plan, *, closed: bool) -> list[ResidualSum]:
    """The sums on which a scheme acts: all that have no other sum in their branch.

    ``closed`` says whether their branches are 0.
    """
    sums = [s for s in plan.anatomy.sums if not s.nested]
    for s in sums:
        plan.need(s)
    for s in plan.anatomy.sums:
        if s.nested:
            plan.note(
                f"The branch of {s.name or 'the module'} has residual sums of its own, on which "
                "the scheme acts; it is left as it is itself."
            )
        if s.norm is not None and closed:
            plan.note(
                "A normalisation follows sums of trunk and branch: where branches are 0 the trunk "
                "is normalised again and again, and not the identity."
            )
        if s.projected and closed:
            plan.note(
                "Where a shortcut is projected, it has a random matrix: a block whose branch is 0 "
                "is that matrix and the activation, and not the identity."
            )
    return sums


def _he(plan: Plan) -> None:
    """All weights He."""
    variance = he_variance(plan)
    for layer in plan.usual():
        assert layer.weight is not None
        rule = "He, linear" if layer.kind.startswith("attention") else "He"
        plan.normal(layer.weight, variance(layer), rule, _what(layer))


def _again(plan: Plan, layer: WeightLayer, variance: float, rule: str, why: str) -> None:
    """Set a weight to something else than before; twice in one way if it is shared."""
    assert layer.weight is not None
    noted = plan.writes.get(layer.weight)
    if noted is not None and noted.setting.rule in ("He", "He, linear", "LeCun"):
        plan.recall(layer.weight)
    plan.normal(layer.weight, variance, rule, why)


def _close(plan: Plan, s: ResidualSum, value: float, name: str | None = None, *, add: bool) -> None:
    """Multiply a branch by ``value``: by its scalar, else its last gain, else its last weights."""
    rule = f"{value:.4g}" if name is None else name
    if s.multipliers:
        last = s.multipliers[-1]
        _require_thawed(plan, last)
        plan.recall(last)
        setting = Setting(
            tensor=last, role="branch scalar", rule=rule, std=0.0, value=value,
            why="multiplies a branch",
        )  # fmt: skip
        plan.write(setting, _full(value))
        return
    norm = _norm(plan, s)
    if norm is not None and norm.gain is not None:
        _require_thawed(plan, norm.gain)
        plan.recall(norm.gain)
        setting = Setting(
            tensor=norm.gain, role="norm gain", rule=rule, std=0.0, value=value,
            why="ends a branch: in place of a branch scalar",
        )  # fmt: skip
        plan.write(setting, _full(value))
        return
    if s.ends is not None and value != 1:
        raise Unsupported(
            f"scheme {plan.scheme!r} multiplies the branch {s.name!r} by {rule}, and "
            f"{where(plan.model, s.ends)}, which ends it, has no gain and divides out what stands "
            "before. Give it one (affine = True), or a branch scalar."
        )
    if add:
        layer = s.layers[-1]
        assert layer.weight is not None
        setting = Setting(
            tensor=name_of_scalar(layer), role="branch scalar", rule=rule, std=0.0, value=value,
            why="added: multiplies the last weight and bias of a branch",
        )  # fmt: skip
        plan.added.setdefault(layer.weight, (layer, setting))
        return
    _scale_last(plan, s, value, rule)


def _close_fixup(plan: Plan, s: ResidualSum) -> None:
    """Make a branch 0 as Fixup does, by its last weight, whatever scalar it has."""
    norm, last = _norm(plan, s), s.layers[-1]
    if norm is not None and norm.gain is not None:
        _require_thawed(plan, norm.gain)
        plan.recall(norm.gain)
        why = "ends a branch: in place of its last weight"
        plan.constant(norm.gain, 0.0, "norm gain", why)
        return
    assert last.weight is not None
    if plan.writes[last.weight].setting.rule == "He":
        plan.recall(last.weight)
    plan.constant(last.weight, 0.0, "weight", f"{_what(last)}, the last of a branch")


def _scale_last(plan: Plan, s: ResidualSum, value: float, rule: str) -> None:
    """Multiply the last weight layer of a branch, as it is drawn."""
    layer = s.layers[-1]
    assert layer.weight is not None
    plan.note(
        "Branches have no scalar of their own: their last weights are multiplied by it instead, "
        "the same function at initialisation. In training a scalar would learn by itself."
    )
    why = f"{_what(layer)}, the last of a branch: in place of a branch scalar"
    before = plan.writes[layer.weight]
    plain = before.setting.rule in ("He", "He, linear", "LeCun")
    if value == 0.0:
        if plain:
            plan.recall(layer.weight)
        plan.constant(layer.weight, 0.0, "weight", why)
        return
    assert before.setting.std is not None
    if plain:
        plan.recall(layer.weight)
        variance = (value * before.setting.std) ** 2
        plan.normal(layer.weight, variance, f"{before.setting.rule} {rule}", why)


def _full(value: float) -> Draw:
    def draw(shape: torch.Size, source: Source) -> torch.Tensor:
        return torch.full(shape, value, dtype=torch.float64)

    return draw


def _norm(plan: Plan, s: ResidualSum) -> NormLayer | None:
    """The normalisation that ends a branch."""
    return next((n for n in plan.anatomy.norms if n.name == s.ends), None)


def _require_thawed(plan: Plan, name: str) -> None:
    if not plan.parameters[name].requires_grad:
        raise Unsupported(
            f"scheme {plan.scheme!r} sets {name!r}, of "
            f"{where(plan.model, name.rpartition('.')[0])}, which is frozen "
            "(requires_grad is False). Thaw it with requires_grad_(True)."
        )


def _note_scalars(plan: Plan, sums: list[ResidualSum]) -> None:
    if plan.scheme == "fixup" and not any(s.multipliers or s.biases for s in sums):
        plan.note(
            "The module has no scalar multipliers and biases: Fixup's are 1 and 0 at first, so the "
            "function is the same; in training they would learn."
        )


def _classifier(plan: Plan) -> WeightLayer | None:
    """The read-out: the last weight layer, if it is linear and behind the last sum."""
    last = plan.anatomy.layers[-1]
    inside = {x.weight for s in plan.anatomy.sums for x in (*s.layers, *s.shortcut_layers)}
    if last.kind not in ("linear", "product", "conv") or last.weight in inside:
        return None
    if last.weight is None or last.weight in plan.kept or last.feeds is not None:
        return None
    return last
