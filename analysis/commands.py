"""The commands ``predict``, ``compare`` and ``design``: theory beside, against and before a run.

Nothing heavy is imported before a command runs. The options of a law are those of ``simulate``,
read off its signature, so that a command line can be turned from one into the other by changing
a word.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.commands import Format
from sigprop.commands import simulate as _simulate

if TYPE_CHECKING:
    import xarray as xr

    from analysis.compare import Verdict
    from analysis.design import Design
    from sigprop.spec import Ensemble

__all__ = ["compare", "design", "of_a_law", "predict"]

# Options of simulate that say how it is run, not which law: all others are of the law.
_RUN = {"context", "replicas", "seed", "workers", "sampler", "layers", "orders", "observe", "keep"}
_RUN |= {"source", "out", "resume", "force", "style", "scheduler", "tilt", "population"}

_Words = Annotated[
    str | None,
    typer.Option(
        "--variables",
        metavar="NAME,NAME,...",
        help="Variables of a result, such as norm_moment_log,log_norm_mean. (default: all)",
    ),
]
_Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="0,10,500 or from:to:step, ends included. (default: those of simulate)",
    ),
]
_Orders = Annotated[
    str | None,
    typer.Option("--orders", metavar="S,S,...", help="Orders of the moments. (default: 1,2)"),
]
_Names = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="NAME,NAME,...",
        help="Predictions to use, by name. (default: the strongest that applies)",
    ),
]
_FamilyError = Annotated[
    float,
    typer.Option(
        "--family-error",
        help="Chance of calling any agreement a disagreement, over all numbers.",
    ),
]
_Style = Annotated[Format, typer.Option("--format", help="What to print.")]


def of_a_law(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument is an Ensemble, the options of a law instead."""
    law = [
        parameter.replace(annotation=hint)
        for name, parameter in inspect.signature(_simulate).parameters.items()
        for hint in [typing.get_type_hints(_simulate, include_extras=True)[name]]
        if name not in _RUN
    ]
    hints = typing.get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in list(inspect.signature(command).parameters.items())[1:]
    ]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    context = inspect.Parameter("context", kind, annotation=typer.Context)

    def wrapped(context: typer.Context, **given: Any) -> None:
        asked = {parameter.name: given.pop(parameter.name) for parameter in law}
        asked["widths"] = options.counts("--widths", asked["widths"])
        asked["inner_width"] = options.inner_width(asked["inner_width"])
        known = [name for parameter in context.command.params for name in parameter.opts]
        members = options.extra(context.args, known)
        command(options.ensemble(asked, members, known), **given)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__signature__ = inspect.Signature([context, *law, *own])  # type: ignore[attr-defined]
    parameters = [context, *law, *own]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapped.open_options = True  # type: ignore[attr-defined]
    return wrapped


# ------------------------------------------------------------------------- commands


@of_a_law
def predict(
    ensemble: typing.Any,
    layers: _Layers = None,
    orders: _Orders = None,
    variables: _Words = None,
    names: _Names = None,
    style: _Style = Format.table,
) -> None:
    """Print what theory says of an ensemble, without simulating it.

    Takes the options of a law that simulate takes, and prints every predicted variable against
    layer, with its status, its assumptions and its source; and, where the branch shrinks like
    a power of the depth, the regime and the critical exponent.
    """
    from analysis.prediction import predict as run
    from sigprop.request import defaults, requested

    asked = requested(
        ensemble, **{**defaults(), "layers": options.layers("--layers", layers), "orders": None}
    )
    prediction = run(
        ensemble,
        asked.layers.tolist(),
        orders=options.numbers("--orders", orders),
        variables=_chosen(variables),
        names=options.words(names),
    )
    if style is Format.table:
        print(_prediction_text(prediction, ensemble))
    else:
        _export(prediction, style)


def compare(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="A file that simulate or sweep wrote.")
    ],
    variables: _Words = None,
    names: _Names = None,
    family_error: _FamilyError = 0.01,
    resolution: Annotated[
        float | None,
        typer.Option(
            "--resolution",
            help="The error that an agreement must exclude, relative for logarithms and "
            "variances. (default: 0.5)",
        ),
    ] = None,
    style: _Style = Format.table,
) -> None:
    """Judge a result against theory: agree, disagree or inconclusive.

    Of a sweep all points are judged at once. Ends with status 0 if all that is both measured and
    predicted agrees, 1 if anything disagrees, 3 if something could not be judged.
    """
    from analysis import compare as verdicts
    from sigprop.report import headline
    from sigprop.result import SWEEP, load

    measured = load(result)
    verdict = verdicts.compare(
        measured,
        variables=_chosen(variables),
        names=options.words(names),
        family_error=family_error,
        resolution=resolution,
    )
    if style is Format.table:
        swept = measured.attrs["schema"] == SWEEP
        print(f"{measured.attrs['title'] if swept else headline(measured)}\n\n{verdict}")
    else:
        print(_records(_verdict_rows(verdict), style, _verdict_head(verdict)))
    raise typer.Exit(verdict.exit_status)


@of_a_law
def design(
    ensemble: typing.Any,
    resolution: Annotated[
        float,
        typer.Option(
            "--resolution",
            help="The smallest error to be seen, relative for logarithms and variances.",
        ),
    ] = 0.01,
    variables: _Words = None,
    layers: _Layers = None,
    orders: _Orders = None,
    family_error: _FamilyError = 0.01,
    time: Annotated[
        bool, typer.Option("--time/--no-time", help="Time a few replicas on this machine.")
    ] = True,
    style: _Style = Format.table,
) -> None:
    """Say how many replicas a measurement needs, and how long that takes, before running it.

    The number follows from exact variances. The time is an estimate, from a few replicas that
    are drawn and thrown away.
    """
    from analysis import design as designs

    chosen = options.layers("--layers", layers)
    planned = designs.design(
        ensemble,
        resolution,
        variables=_chosen(variables),
        layers=chosen,
        orders=options.numbers("--orders", orders),
        family_error=family_error,
    )
    seconds, sampler = _pilot(ensemble, chosen) if time else (None, "")
    if style is Format.table:
        print(designs.table(planned, seconds))
        print(f"\n{designs.sentence(planned, seconds)}")
        if seconds is not None:
            print(f"Times are estimates for this machine, with sampler {sampler}.")
    else:
        print(_records(_design_rows(planned, seconds), style, _design_head(planned, sampler)))


def _chosen(variables: str | None) -> list[str] | None:
    return options.words(variables)


# ----------------------------------------------------------------------------- a pilot


def _pilot(ensemble: Ensemble, layers: list[int] | None) -> tuple[float, str]:
    """(seconds a replica, sampler): a few replicas, more until the clock can tell."""
    from time import perf_counter

    from sigprop.simulate import simulate

    result = simulate(ensemble, replicas=1, layers=layers)  # also loads compiled kernels
    replicas, spent = 1, 0.0
    while spent < _PILOT_SECONDS and replicas < _PILOT_MOST:
        replicas = min(_PILOT_MOST, max(2 * replicas, 64))
        before = perf_counter()
        result = simulate(ensemble, replicas=replicas, layers=layers)
        spent = perf_counter() - before
    return spent / replicas, str(result.attrs["sampler"])


_PILOT_SECONDS = 0.2
_PILOT_MOST = 1 << 16


# ------------------------------------------------------------------------------ tables

_SHOWN = 11  # rows of a table against layer
_WIDE = 100  # characters of a line


def _prediction_text(prediction: xr.Dataset, ensemble: Ensemble) -> str:
    """The predicted variables against layer, of the first input, and what they rest on."""
    import textwrap

    import numpy as np

    layers = prediction["layer"].values
    rows = np.unique(np.round(np.linspace(0, len(layers) - 1, _SHOWN)).astype(int))
    columns = [["layer", *map(str, layers[rows])]]
    notes, labels = [], []
    for name, order, values, slack, about in _predicted(prediction):
        label = name if order is None else f"{name}[{order:g}]"
        labels.append(label)
        columns.append([f"({len(labels)})", *(_cell(values[r], slack[r]) for r in rows)])
        side = f", {about['side']}" if about["side"] else ""
        notes.append(
            textwrap.fill(
                f"({len(labels)}) {label}: {about['status']}{side}, by {about['prediction']!r}; "
                f"assumes {about['assumptions']}. {about['source']}.",
                _WIDE,
                subsequent_indent="    ",
            )
        )
    count = ensemble.inputs.count
    several = [f"Input 0 of {count}."] if count > 1 else []
    footer = ["± how far the truth may be from a limit."] if _slack_shown(prediction) else []
    return "\n".join((*_beside(columns), *notes, *footer, *several, *_regimes(ensemble)))


def _beside(columns: list[list[str]]) -> list[str]:
    """Columns side by side, and below each other where a line is full; the first in each."""
    widths = [max(map(len, column)) for column in columns]
    lines, first = [], 1
    while first < len(columns):
        last, wide = first, widths[0]
        while last < len(columns) and (last == first or wide + 2 + widths[last] <= _WIDE):
            wide += 2 + widths[last]
            last += 1
        chosen = [0, *range(first, last)]
        rows = [
            "  ".join(line[at].rjust(widths[at]) for at in chosen)
            for line in zip(*columns, strict=True)
        ]
        rule = "-" * wide
        lines += [rows[0], rule, *rows[1:], rule]
        first = last
    return lines


def _regimes(ensemble: Ensemble) -> list[str]:
    """What becomes of states and gradients as depth grows, where that is known."""
    import textwrap

    from analysis.theory import regime
    from sigprop.errors import Unsupported

    said = []
    for what, quantity in (("state", "forward"), ("gradient", "backward")):
        try:
            found = regime(ensemble, quantity)
        except Unsupported:
            continue
        if math.isinf(found.exponent):
            continue  # every branch is 0, at every depth
        side = "at" if found.name == "stable" else "below" if found.name == "explosion" else "above"
        said.append(
            f"{what}: {found.name}, since beta {found.exponent:.4g} is {side} the critical "
            f"{found.critical_exponent:.4g} ({found.status}; assumes {found.assumptions})"
        )
    if not said:
        return []
    text = "As depth grows, branch L^-beta: " + "; ".join(said) + "."
    return [textwrap.fill(text, _WIDE, break_on_hyphens=False)]


def _predicted(prediction: xr.Dataset) -> list[tuple[str, float | None, Any, Any, dict[str, str]]]:
    """(variable, order, values, slack, attributes) of every column, first input or pair."""
    import numpy as np

    from analysis.prediction import told

    columns = []
    for name in map(str, prediction.data_vars):
        if f"{name}_slack" not in prediction:
            continue
        first = {dim: 0 for dim in prediction[name].dims if dim in ("input", "pair")}
        part = prediction.isel(first)
        orders = part["order"].values if "order" in part[name].dims else [None]
        for at, order in enumerate(orders):
            chosen = part if order is None else part.isel(order=at)
            values = np.asarray(chosen[name].values, float)
            if np.isnan(values).all():
                continue
            about = {key: told(text, at) for key, text in prediction[name].attrs.items()}
            slack = np.asarray(chosen[f"{name}_slack"].values, float)
            columns.append((name, None if order is None else float(order), values, slack, about))
    return columns


def _cell(value: float, slack: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.5g}" + (f"±{slack:.1g}" if slack > 0 else "")


def _slack_shown(prediction: xr.Dataset) -> bool:
    slacks = [str(name) for name in prediction.data_vars if str(name).endswith("_slack")]
    return any(bool((prediction[name] > 0).any()) for name in slacks)


# ------------------------------------------------------------------------------ export


def _export(dataset: xr.Dataset, style: Format) -> None:
    from sigprop import export

    print({Format.json: export.json, Format.csv: export.csv}[style](dataset).rstrip("\n"))


def _verdict_head(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict,
        "family_error": verdict.family_error,
        "numbers": verdict.numbers,
    }


def _verdict_rows(verdict: Verdict) -> list[dict[str, Any]]:
    import dataclasses

    return [dataclasses.asdict(comparison) for comparison in verdict.comparisons]


def _design_head(planned: Design, sampler: str) -> dict[str, Any]:
    return {
        "replicas": planned.replicas,
        "resolution": planned.resolution,
        "family_error": planned.family_error,
        "numbers": planned.numbers,
        "sampler": sampler or None,
    }


def _design_rows(planned: Design, seconds: float | None) -> list[dict[str, Any]]:
    import dataclasses

    return [
        {
            **dataclasses.asdict(requirement),
            "seconds": None if seconds is None else seconds * requirement.replicas,
        }
        for requirement in planned.requirements
    ]


def _records(rows: list[dict[str, Any]], style: Format, head: dict[str, Any]) -> str:
    """Rows as CSV, or with a head as strict JSON: NaN is null, infinities are "inf", "-inf"."""
    if style is Format.csv:
        import csv
        import io

        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().rstrip("\n")
    import json

    from sigprop import export

    return json.dumps(export.strict({**head, "variables": rows}), indent=1)
