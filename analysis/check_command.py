"""The command ``check``: is a module healthy at initialisation, and if not, where; what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from analysis.module_question import (
    Device,
    Measured,
    Question,
    Replicas,
    Scheme,
    Seed,
    Shape,
    Target,
    Tokens,
    heading,
)
from sigprop import options
from sigprop.commands import TableOrJson

if TYPE_CHECKING:
    import xarray as xr

    from analysis.depth_check import DepthLaw
    from analysis.module_verdict import ModuleVerdict

__all__ = ["check"]

_SHOWN = 12  # rows of a table


def check(
    target: Target,
    shape: Shape = None,
    tokens: Tokens = None,
    scheme: Scheme = None,
    replicas: Replicas = 5,
    seed: Seed = 0,
    device: Device = "auto",
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", help="Factor of a length by which it may change end to end."),
    ] = 10.0,
    common: Annotated[
        float,
        typer.Option("--common", help="Cosine above which inputs count as collapsed into one."),
    ] = 0.95,
    depths: Annotated[
        str | None,
        typer.Option("--depths", metavar="L,L,...", help="Fit laws of depth: build(depth=L) each."),
    ] = None,
    style: Annotated[
        TableOrJson, typer.Option("--format", help="What to print.")
    ] = TableOrJson.table,
) -> int:
    """Judge a module of torch at initialisation: vanishing, exploding, collapsing, dead, healthy.

    What builds it is imported from the current directory or from what is installed, and called
    once for every network. Exit status: 0 healthy, 1 not, 2 bad input, 3 inconclusive, 4 numbers
    that stopped being finite.
    """
    from analysis.depth_check import require_depths
    from analysis.module_verdict import judge_module, require_limits

    require_limits(tolerance, common)
    at = options.counts("--depths", depths)
    if at:
        require_depths(at, replicas)
    asked = Question(
        target=target, shape=shape, tokens=tokens, scheme=scheme, replicas=replicas, seed=seed,
        device=device, depth=max(at) if at else None,
    )  # fmt: skip
    measured = asked.measured()
    found = measured.found
    verdict = judge_module(found, tolerance=tolerance, common=common)
    laws = _laws(asked, at, found) if at else []
    advice = _advice(verdict, measured)
    status = verdict.exit_status
    if status != 1 and laws:
        growth = {law.grows for law in laws}
        status = 1 if "yes" in growth else 3 if "unsure" in growth else status
    if style is TableOrJson.json:
        print(_json(target, verdict, laws, advice, found, status))
    else:
        print(_text(verdict, laws, advice, found, status, measured.predicted()))
    return status


def _laws(asked: Question, depths: list[int], deepest: xr.Dataset) -> list[DepthLaw]:
    from analysis.depth_check import depth_laws

    found = [
        deepest if depth == asked.depth else asked.at(depth).measured().found for depth in depths
    ]
    return depth_laws(depths, found)


def _advice(verdict: ModuleVerdict, measured: Measured) -> list[str]:
    from analysis.module_advice import advise

    return advise(verdict, measured.anatomy()) if verdict.findings else []


# ------------------------------------------------------------------------------ words


def _text(
    verdict: ModuleVerdict,
    laws: list[DepthLaw],
    advice: list[str],
    found: xr.Dataset,
    status: int,
    theory: xr.Dataset | None,
) -> str:
    from textwrap import fill

    lines = [*_table(found, theory), ""]
    said = [finding.words for finding in verdict.findings] + list(verdict.unsure)
    if verdict.verdict == "healthy":
        said = [_healthy(verdict)]
    lines += [fill(one, 100) for one in said]
    lines += [fill(law.words(), 100) for law in laws]
    if advice:
        lines.append("To try, from sigprop.modules.init (here: --scheme NAME):")
        lines += [fill(one, 100, initial_indent="  ", subsequent_indent="    ") for one in advice]
    word = verdict.verdict
    if status != verdict.exit_status:
        word += ", but not at every depth" if status == 1 else ", and inconclusive with depth"
    return "\n".join([*lines, f"verdict: {word}"])


def _healthy(verdict: ModuleVerdict) -> str:
    parts = [f"the {c.quantity} by a factor {c.factor:.3g}" for c in verdict.changes]
    return f"From end to end, lengths change little: {' and '.join(parts)}."


def _table(found: xr.Dataset, theory: xr.Dataset | None) -> list[str]:
    import numpy as np

    from analysis.module_verdict import trunk

    states = trunk(found)
    shown = np.unique(np.round(np.linspace(0, len(states.names) - 1, _SHOWN)).astype(int))
    names = [states.names[i] for i in shown]
    prefix = "sum_" if states.kind == "sum" else ""
    columns = [[states.kind, *names]]

    def column(head: str, words: list[str], name: str, length: bool = False) -> None:
        columns.append([head, *words])
        if theory is None:
            return
        rows = theory[name].sel({states.kind: names}).values
        if np.isnan(rows).all():
            return
        if "log" in name:
            entries = found[f"{prefix}entries"].sel({states.kind: names}).values
            rows = np.exp(rows) * (entries if length else 1)
        digits = ".3g" if "log" in name else ".3f"
        columns.append(["theory", *("-" if np.isnan(x) else f"{x:{digits}}" for x in rows)])

    squares = [f"{np.exp(states.log_square[i]):.3g}" for i in shown]
    column("mean square", squares, f"log_{prefix}second_moment_mean")
    gradients = [f"{np.exp(states.log_gradient[i]):.3g}" for i in shown]
    column("|gradient|²", gradients, f"log_{prefix}gradient_second_moment_mean", length=True)
    cosines = [f"{states.cosine[i]:.3f}" for i in shown]
    column("cosine", cosines, f"{prefix}cosine_mean")
    if states.kind == "sum":
        columns.append(["branch/trunk", *(f"{found.branch_ratio.values[i]:.3g}" for i in shown)])
    widths = [max(map(len, column)) for column in columns]
    rows = ["  ".join(c.rjust(w) for c, w in zip(row, widths)) for row in zip(*columns)]
    told = [] if theory is None else ["Theory is the limit of great width; - where it is silent."]
    return [*heading(found), rows[0], "-" * len(rows[0]), *rows[1:], *told]


def _json(
    target: str,
    verdict: ModuleVerdict,
    laws: list[DepthLaw],
    advice: list[str],
    found: xr.Dataset,
    status: int,
) -> str:
    import json

    from analysis.module_verdict import trunk
    from sigprop import export

    states = trunk(found)
    whole = {
        "target": target,
        "exit_status": status,
        **verdict.to_dict(),
        "advice": advice,
        "depth_laws": [law.to_dict() for law in laws],
        "trunk": {
            "kind": states.kind,
            "names": states.names,
            "log_square": states.log_square.tolist(),
            "log_gradient": states.log_gradient.tolist(),
            "cosine": states.cosine.tolist(),
        },
        "probe": {key: str(value) for key, value in found.attrs.items()},
    }
    return json.dumps(export.strict(whole), indent=1)
