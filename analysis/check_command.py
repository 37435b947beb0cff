"""The command ``check``: is a module healthy at initialisation, and if not, where; what to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.commands import Format
from sigprop.errors import SpecError, Unsupported

if TYPE_CHECKING:
    import xarray as xr

    from analysis.depth_check import DepthLaw
    from analysis.module_verdict import ModuleVerdict
    from sigprop.modules.source import Source

__all__ = ["check", "measured", "predicted"]

_SHOWN = 12  # rows of a table


def check(
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:CALLABLE", help="What builds it: my.models:build"),
    ],
    shape: Annotated[
        str | None,
        typer.Option("--input", metavar="N,N,...", help="Shape of a batch, as in 8,3,32,32."),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", help="Inputs are whole numbers below this one, as of words."),
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", help="Networks; each is built anew.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of networks and inputs.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
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
    style: Annotated[Format, typer.Option("--format", help="table or json.")] = Format.table,
) -> int:
    """Judge a module of torch at initialisation: vanishing, exploding, collapsing, dead, healthy.

    MODULE:CALLABLE is imported from the current directory or from what is installed, and called
    once for every network. Exit status: 0 healthy, 1 not, 2 bad input, 3 inconclusive, 4 numbers
    that stopped being finite.
    """
    from analysis.module_verdict import judge_module

    if style is Format.csv:
        raise SpecError("a verdict has no table to be written as CSV. Write --format json.")
    at = options.counts("--depths", depths)
    source, found = measured(
        target, shape, tokens, replicas, seed, device, depth=max(at) if at else None
    )
    verdict = judge_module(found, tolerance=tolerance, common=common)
    laws = _laws(source, shape, tokens, replicas, seed, device, at, found) if at else []
    advice = _advice(source, shape, tokens, seed, device, at, verdict)
    status = verdict.exit_status
    if status != 1 and laws:
        growth = {law.grows for law in laws}
        status = 1 if "yes" in growth else 3 if "unsure" in growth else status
    if style is Format.json:
        print(_json(target, verdict, laws, advice, found, status))
    else:
        theory = predicted(
            source, shape, tokens, seed, device, found, depth=max(at) if at else None
        )
        print(_text(verdict, laws, advice, found, status, theory))
    return status


def measured(
    target: str,
    shape: str | None,
    tokens: int | None,
    replicas: int,
    seed: int,
    device: str,
    *,
    depth: int | None = None,
    names: list[str] | None = None,
) -> tuple[Source, xr.Dataset]:
    """Load, build and probe; with the cotangent ahead of an output layer that is 0."""
    from sigprop.extras import require_torch

    require_torch("a module of torch")
    from sigprop.modules import source as sources
    from sigprop.modules.probe import probe

    size = options.counts("--input", shape)
    if size is None:
        raise SpecError(
            "no --input was given, and a module is judged by what it does to one. Write the shape "
            "of a batch, the number of inputs first: --input 8,3,32,32"
        )
    if min(size) < 1 or (tokens is not None and tokens < 1):
        raise SpecError(
            f"--input {shape} and --tokens must be positive: there is nothing to send otherwise. "
            "Write for example: --input 8,3,32,32"
        )
    source = sources.load_source(target, device)
    source.require(*([] if depth is None else ["depth"]))
    batch = sources.random_batch(tuple(size), tokens=tokens, seed=seed, device=device)
    model = source.fixed or (source.build if depth is None else source.at(depth))
    many = 1 if source.fixed is not None else replicas
    asked: dict[str, Any] = {"ensemble": many, "seed": seed, "names": names or "*"}
    found = probe(model, batch, **asked)
    end = _end(found)
    return source, found if end is None else probe(model, batch, end=end, **asked)


def predicted(
    source: Source,
    shape: str | None,
    tokens: int | None,
    seed: int,
    device: str,
    found: xr.Dataset,
    *,
    depth: int | None = None,
) -> xr.Dataset | None:
    """What theory says of it in the limit of great width; None where it knows no row."""
    import numpy as np

    from analysis.module_law import predict_module
    from sigprop.modules import source as sources
    from sigprop.modules.anatomy import anatomy

    size = tuple(options.counts("--input", shape) or ())
    batch = sources.random_batch(size, tokens=tokens, seed=seed, device=device)
    model = source.first(seed, **({} if depth is None else {"depth": depth}))
    try:
        theory = predict_module(model, found, anatomy(model, batch[:1]), batch)
    except (SpecError, Unsupported):  # a module whose operations cannot be recorded
        return None
    known = any(bool(np.isfinite(value).any()) for value in theory.data_vars.values())
    return theory if known else None


def _end(found: xr.Dataset) -> str | None:
    """The last state of the trunk, if the output does not depend on it at first order."""
    from analysis.module_verdict import trunk

    dim, prefix = ("sum", "sum_") if found.sizes.get("sum", 0) >= 2 else ("layer", "")
    if (found[f"{prefix}gradient_second_moment"].fillna(0) > 0).any():
        return None
    try:
        return trunk(found).names[-1]
    except SpecError:
        return str(found[dim].values[-1])


def _laws(
    source: Source,
    shape: str | None,
    tokens: int | None,
    replicas: int,
    seed: int,
    device: str,
    depths: list[int],
    deepest: xr.Dataset,
) -> list[DepthLaw]:
    from analysis.depth_check import depth_laws

    found = [
        deepest
        if depth == max(depths)
        else measured(source.target, shape, tokens, replicas, seed, device, depth=depth)[1]
        for depth in depths
    ]
    return depth_laws(depths, found)


def _advice(
    source: Source,
    shape: str | None,
    tokens: int | None,
    seed: int,
    device: str,
    depths: list[int] | None,
    verdict: ModuleVerdict,
) -> list[str]:
    from analysis.module_advice import advise
    from sigprop.modules import source as sources
    from sigprop.modules.anatomy import anatomy

    if not verdict.findings:
        return []
    size = options.counts("--input", shape) or []
    batch = sources.random_batch((1, *size[1:]), tokens=tokens, seed=seed, device=device)
    try:
        found = anatomy(source.build(**({"depth": max(depths)} if depths else {})), batch)
    except (SpecError, Unsupported):
        return advise(verdict, None)
    return advise(verdict, found)


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
        lines.append("To try, from sigprop.modules.init:")
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
        if theory is None or not np.isfinite(theory[name]).any():
            return
        rows = theory[name].sel({states.kind: names}).values
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
    about = found.attrs
    head = f"{about['title']} {about['batch']}, {about['mode']} mode, seed {about['seed']}"
    told = [] if theory is None else ["Theory is the limit of great width; - where it is silent."]
    return [head, rows[0], "-" * len(rows[0]), *rows[1:], *told]


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
