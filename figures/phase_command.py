"""The command ``phase``: order and chaos of wide plain nets, at a point or over the plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figures._writing import marked, require_outputs, write_dataset, write_picture
from sigprop import options
from sigprop.commands import Format
from sigprop.errors import SpecError, Unsupported

if TYPE_CHECKING:
    import numpy as np

__all__ = ["phase"]


def phase(
    context: typer.Context,
    activation: Annotated[
        str | None,
        typer.Option("--activation", metavar="NAME", help="See sigprop list activations."),
    ] = None,
    weight_variance: Annotated[
        float | None,
        typer.Option("--weight-variance", help="A point: variance of a weight times its fan-in."),
    ] = None,
    bias_variance: Annotated[
        float | None,
        typer.Option("--bias-variance", help="A point: variance of a bias. (default: 0)"),
    ] = None,
    weights: Annotated[
        str,
        typer.Option("--weights", metavar="FROM:TO:COUNT", help="The map: weight variances."),
    ] = "0.2:4:58",
    biases: Annotated[
        str,
        typer.Option("--biases", metavar="FROM:TO:COUNT", help="The map: bias variances."),
    ] = "0:0.5:41",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.nc", help="Write the map as a netCDF file."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the map: .png, .pdf or .svg."),
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Say whether a wide plain net is ordered, critical or chaotic, and how deep a signal lives.

    With --weight-variance: fixed points and depth scales of that point. Without: a map of the
    plane, with the edge of chaos.
    """
    from analysis import phase_report as report
    from sigprop.spec import Activation

    known = [name for parameter in context.command.params for name in parameter.opts]
    values = options.extra(context.args, known)
    phi = _activation(activation, values, known)
    if weight_variance is None and bias_variance is not None:
        raise SpecError(
            f"--bias-variance {bias_variance:g} without --weight-variance is half a point. "
            f"{_advice(phi, bias_variance)}"
        )
    if weight_variance is not None:
        if out is not None or picture is not None:
            raise SpecError(
                "--out and --plot are of the map, and --weight-variance asks for a point. Leave "
                "out one of the two; to keep a point: --format json."
            )
        _print_point(phi, weight_variance, bias_variance or 0.0, style)
        return
    assert isinstance(phi, Activation)
    require_outputs(out, picture, marked("title", "phases of wide plain networks"))
    from analysis.theory import phase_diagram

    grid = phase_diagram(phi, _axis("--weights", weights), _axis("--biases", biases))
    if style is Format.table:
        print(report.diagram_text(grid))
    elif style is Format.csv:
        print(report.diagram_csv(grid))
    else:
        from sigprop import export

        print(export.json(grid))
    if out is not None:
        write_dataset(grid, out)
    if picture is not None:
        from figures.gallery.phases import draw

        write_picture(draw(grid), picture)


def _activation(name: str | None, values: dict[str, Any], known: list[str]) -> Any:
    import dataclasses

    import sigprop.activations  # noqa: F401  fills the registry
    from sigprop.errors import UnknownName
    from sigprop.registry import did_you_mean
    from sigprop.spec import Activation

    if name is None and values:
        option = "--" + next(iter(values)).replace("_", "-")
        raise UnknownName(
            f"there is no option {option}, as long as no activation is chosen to which it could "
            f"belong.{did_you_mean(option, known)}"
        )
    if name is None:
        raise SpecError(
            "no activation was given, and the phase is a property of it. Write for example: "
            f"--activation tanh (known: {', '.join(Activation.family)})."
        )
    member = Activation.family[name]
    fields = {
        "--" + field.name.replace("_", "-"): field.name for field in dataclasses.fields(member)
    }
    for field in values:
        if field not in fields.values():
            option = "--" + field.replace("_", "-")
            raise UnknownName(
                f"{option} is no option of the command, nor of activation {name!r}."
                f"{did_you_mean(option, [*known, *fields.values()])}"
            )
    return member(**values) if values else Activation.named(name)


def _advice(phi: Any, bias: float) -> str:
    from analysis.theory import critical_weight_variance

    try:
        return f"On the edge of chaos: --weight-variance {critical_weight_variance(phi, bias):.6g}"
    except (SpecError, Unsupported):
        return "Add for example: --weight-variance 1.5"


def _print_point(phi: Any, weight: float, bias: float, style: Format) -> None:
    from analysis import phase_report as report
    from analysis.theory import critical_weight_variance
    from analysis.theory import phase as found_at

    found = found_at(phi, weight, bias)
    critical: float | None
    try:
        critical = critical_weight_variance(phi, bias)
    except Unsupported:
        critical = None
    told = {
        Format.table: report.point_text,
        Format.json: report.point_json,
        Format.csv: report.point_csv,
    }
    print(told[style](found, critical))


def _axis(option: str, text: str) -> np.ndarray:
    """Read FROM:TO:COUNT."""
    import numpy as np

    try:
        first, last, count = text.split(":")
        low, high, number = float(first), float(last), int(count)
        if number < 1 or not low <= high or (number > 1 and low == high):
            raise ValueError
    except ValueError:
        raise SpecError(
            f"{option} must be FROM:TO:COUNT with FROM below TO, got {text!r}: the lines of a map. "
            f"Write for example: {option} 0.5:4:41"
        ) from None
    return np.linspace(low, high, number)


phase.open_options = True  # type: ignore[attr-defined]
