"""Everything that has a name, with its formula, its options and its source.

This is what ``sigprop list`` prints. It is read off the registries and the classes in them,
so that a new member is in it the moment it is registered.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from sigprop.errors import UnknownName
from sigprop.registry import did_you_mean

__all__ = ["FAMILIES", "catalogue"]

FAMILIES = {
    "schemes": "how weights and coefficients are initialised (--scheme)",
    "blocks": "what a layer computes (--block)",
    "activations": "the function of a unit (--activation)",
    "laws": "the law of one weight (--law)",
    "processes": "the dependence of weights along depth (--process, --inner-process)",
    "inputs": "what enters layer 0 (--inputs)",
    "samplers": "ways of drawing from the law (--sampler)",
    "observables": "what is measured (--observe)",
}

_SHARED = {
    "schemes": "\nevery one also takes --bias-variance (default 0) and --skip (default 1)",
    "processes": (
        "\nneeds Gaussian weights, unless independent; options of the inner process have "
        "--inner- before\ntheir name, as in --inner-hurst"
    ),
    "inputs": "\ngiven vectors come from a file: --inputs FILE.npy, one row for each input",
}


def catalogue(family: str) -> str:
    """Return the page of one family.

    Raises
    ------
    UnknownName
        If there is no such family.
    """
    if family not in FAMILIES:
        raise UnknownName(
            f"{family!r} is no family of names.{did_you_mean(family, list(FAMILIES))} "
            f"Known: {', '.join(FAMILIES)}."
        )
    entries = [_entry(name, member) for name, member in _members(family).items()]
    return "\n\n".join((f"{family}: {FAMILIES[family]}{_SHARED.get(family, '')}", *entries))


def _members(family: str) -> Mapping[str, Any]:
    from sigprop import spec

    if family == "schemes":
        import sigprop.schemes

        return spec.Scheme.family
    if family == "blocks":
        return spec.blocks
    if family == "activations":
        import sigprop.activations

        return spec.Activation.family
    if family == "laws":
        import sigprop.laws

        return spec.WeightLaw.family
    if family == "processes":
        import sigprop.processes

        return spec.Process.family
    if family == "inputs":
        import sigprop.inputs  # noqa: F401  each of the five fills its registry

        return spec.Inputs.family
    if family == "samplers":
        from sigprop.backends import samplers

        return samplers
    from sigprop.observables import observables

    return observables


def _entry(name: str, member: Any) -> str:
    lines = [name]
    for line in _about(member):
        lines += textwrap.wrap(
            line, 96, initial_indent=" " * 4, subsequent_indent=" " * 6, break_on_hyphens=False
        )
    return "\n".join(lines)


def _about(member: Any) -> Iterator[str]:
    formula = getattr(member, "formula", None) or getattr(member, "about", None)
    yield formula or _first_paragraph(member)
    options = _options(member)
    if options:
        yield f"options: {', '.join(options)}"
    if getattr(member, "source", None):
        yield f"source: {member.source}"
    if getattr(member, "default_block", None):
        yield f"blocks: {', '.join(member.blocks)} (default {member.default_block})"


def _options(member: Any) -> list[str]:
    """The options of a member on the command line; not those that every scheme shares."""
    from sigprop.inputs import Equiangular, Pair
    from sigprop.processes import FunctionCovariance, GivenCovariance
    from sigprop.spec import Activation, Process, Scheme, WeightLaw

    families = (Scheme, Activation, WeightLaw, Process, Pair, Equiangular)
    unspoken = (FunctionCovariance, GivenCovariance)  # a file or Python says these
    if not (isinstance(member, type) and issubclass(member, families)):
        return []
    if issubclass(member, unspoken):
        return []
    shared = [field.name for field in dataclasses.fields(Scheme)]
    return [
        f"--{field.name.replace('_', '-')} {_default(field)}"
        for field in dataclasses.fields(member)
        if field.name not in shared
    ]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "(required)"
    if field.default is None:
        return "(default: see above)"
    value = field.default
    return f"(default {value:.4g})" if isinstance(value, float) else f"(default {value})"


def _first_paragraph(member: Any) -> str:
    paragraph = (inspect.getdoc(member) or "").split("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph.replace("``", ""))
