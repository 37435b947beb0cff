"""What to try on a module that is not healthy: initialisers of `sigprop.modules.init` that fit it.

Which fits is read off the anatomy: whether there are residual sums, and whether an activation or a
normalisation follows them. What is recommended is what the scheme was made for, with its reason;
whether it helps, the same check tells afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.module_verdict import ModuleVerdict
    from sigprop.modules.anatomy import Anatomy

__all__ = ["advise"]


def advise(verdict: ModuleVerdict, found: Anatomy | None) -> list[str]:
    """Say what to try, the most fitting first.

    Parameters
    ----------
    verdict : ModuleVerdict
    found : Anatomy, optional
        None where the anatomy could not be read: then what holds for any module is said.

    Returns
    -------
    list of str
        Each begins with a name of `sigprop.modules.init`.
    """
    kinds = {finding.kind for finding in verdict.findings}
    if not kinds:
        return []
    sums = found.sums if found is not None else ()
    activated = any(one.activation is not None for one in sums)
    normalised = any(one.norm is not None or one.ends is not None for one in sums)
    if not sums:
        out = []
        if kinds & {"exploding", "vanishing", "dead"}:
            out.append(_HE)
        if "collapsing" in kinds:
            out.append(_LOOKS_LINEAR)
        return out or [_HE]
    out = []
    if activated and not normalised:  # normalisation would undo it
        out.append(_RISOTTO)
    if "exploding" in kinds or "vanishing" in kinds:
        out.append(_SKIPINIT if normalised else _FIXUP)
        out.append(_SCALED)
    if kinds & {"collapsing", "dead"}:
        out += [_SKIPINIT, _REZERO]
    return list(dict.fromkeys(out))


_HE = "he_: weights whose layers keep the mean square of a state, whatever the width"
_LOOKS_LINEAR = (
    "looks_linear_: +/- pairs of matrices, whose plain ReLU net starts as a linear map that keeps "
    "norms and angles"
)
_RISOTTO = "risotto_: keeps norms and angles exactly where an activation follows the sum"
_SKIPINIT = "skipinit_: branches start at 0, whatever normalisation they end with"
_REZERO = "rezero_: one number a sum, 0 at the start"
_FIXUP = "fixup_: branches whose step, and not only size, is bounded at any depth"
_SCALED = "scaled_: branches times depth^-beta; beta 0.5 keeps the mean square bounded"
