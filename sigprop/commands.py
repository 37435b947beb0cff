"""The commands ``simulate``, ``show`` and ``list``: from options to a law, and to what to print.

Nothing heavy is imported before a command runs, so that ``--help`` is instant.
"""

from __future__ import annotations

import enum
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.errors import Interrupted

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["list_members", "show", "simulate"]


class Format(enum.StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    csv = "csv"


# ------------------------------------------------------------------------ commands


def simulate(
    context: typer.Context,
    depth: Annotated[int | None, typer.Option("--depth", help="Number of layers.")] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", help="Dimension of the state. (default: 100)"),
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            metavar="N,N,...",
            help="Block plain: the width of every state, the input's first; implies the depth.",
        ),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            metavar="NAME",
            help="How weights and coefficients are initialised: see sigprop list schemes.",
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            "--block",
            metavar="NAME",
            help="What a layer is: see sigprop list blocks. (default: the scheme's own)",
        ),
    ] = None,
    inner_layers: Annotated[
        int | None,
        typer.Option(
            "--inner-layers",
            help="Blocks inner and preact: matrices in a branch.",
        ),
    ] = None,
    inner_width: Annotated[
        str | None,
        typer.Option(
            "--inner-width",
            metavar="N[,N,...]",
            help="Hidden width of the branch: one, or one for each layer. (default: the width)",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            "--activation",
            metavar="NAME",
            help="See sigprop list activations. (default: relu)",
        ),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(
            "--law",
            metavar="NAME",
            help="Law of one weight: see sigprop list laws. (default: gaussian)",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="point|pair|FILE.npy",
            help="What enters layer 0; a file holds one row for each input. (default: pair)",
        ),
    ] = None,
    cosine: Annotated[
        float | None,
        typer.Option("--cosine", help="Cosine of the angle of the pair. (default: 0.5)"),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", help="Independent networks. (default: 1000)"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Fixes every number. (default: 0)"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Threads; no number depends on them. (default: one a core)",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="auto takes the cheapest that is exact: see sigprop list samplers. "
            "(default: auto)",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LAYERS",
            help="Layers to record: 0,10,500 or from:to:step, ends included. "
            "(default: all up to 200, then about 100)",
        ),
    ] = None,
    orders: Annotated[
        str | None,
        typer.Option(
            "--orders",
            metavar="S,S,...",
            help="Orders s, 0 < s <= 4, of the moments E|h|^s. (default: 1,2)",
        ),
    ] = None,
    observe: Annotated[
        str | None,
        typer.Option(
            "--observe",
            metavar="NAME,NAME,...",
            help="Among norm, displacement, gradient, separability, activity. "
            "(default: all that apply)",
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="LAYERS",
            help="Layers at which the value of every replica is stored.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RESULT",
            help="Run again what this result was made by; options of the run override.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.nc",
            help="Where the result goes. (default: a name made of the law and the seed)",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run, or add replicas to a finished one.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace what stands there."),
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Simulate an ensemble of random networks, forward and backward.

    Prints what was measured against layer, with error bars and one plain sentence on what it
    means, and writes a netCDF file.

    Options of the chosen scheme, activation and law are options here too, as in
    --scheme power --beta 0.5. They are listed by: sigprop list schemes, sigprop list
    activations, sigprop list laws.
    """
    asked = {
        "depth": depth,
        "width": width,
        "widths": options.counts("--widths", widths),
        "block": block,
        "inner_layers": inner_layers,
        "inner_width": options.inner_width(inner_width),
        "scheme": scheme,
        "activation": activation,
        "law": law,
        "inputs": inputs,
        "cosine": cosine,
    }
    own = [name for parameter in context.command.params for name in parameter.opts]
    members = options.extra(context.args, own)
    run = {
        "replicas": replicas,
        "seed": seed,
        "sampler": sampler,
        "layers": options.layers("--layers", layers),
        "orders": options.numbers("--orders", orders),
        "observe": options.words(observe),
        "keep": options.layers("--keep", keep),
    }
    given: dict[str, Any] = {name: value for name, value in run.items() if value is not None}
    if source is None:
        ensemble = options.ensemble(asked, members, own)
    else:
        options.refuse_beside_source(asked, members)
        ensemble, given = options.made_by(source, given)

    from sigprop.result import default_name, load
    from sigprop.simulate import simulate as run_simulation
    from sigprop.simulate import stands

    path = Path(default_name(ensemble, given.get("seed", 0))) if out is None else out
    if out is None and not (force or resume) and stands(path, ensemble, **given):
        _tell(f"{path} holds this run already, and is shown. To run it again: --force")
        result = load(path)
    else:
        with _progress() as progress, _resumable(path):
            result = run_simulation(
                ensemble,
                **given,
                workers=workers,
                out=path,
                force=force,
                resume=resume,
                progress=progress,
            )
        _tell(f"wrote {path}")
    _print(result, style)


simulate.open_options = True  # type: ignore[attr-defined]


def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A file that simulate wrote.")],
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Print a result again: the table with error bars and what it means."""
    from sigprop.result import load

    _print(load(result), style)


def list_members(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY",
            help="schemes, blocks, activations, laws, inputs, samplers or observables.",
        ),
    ] = None,
) -> None:
    """Print every scheme, block, activation, law, input, sampler or observable there is."""
    from sigprop.catalogue import FAMILIES, catalogue

    if family is None:
        for name, about in FAMILIES.items():
            print(f"{name:12s} {about}")
        return
    print(catalogue(family))


# --------------------------------------------------------------------------- talking


def _tell(message: str) -> None:
    """Say something about the run: on stderr, for stdout holds the result and nothing else."""
    print(message, file=sys.stderr)


def _print(result: xr.Dataset, style: Format) -> None:
    from sigprop import export, report

    writers = {Format.table: report.text, Format.json: export.json, Format.csv: export.csv}
    print(writers[style](result).rstrip("\n"))


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is called with (done, total): a bar with the time left, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("networks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _resumable(path: Path) -> Iterator[None]:
    """On an interrupt say what is kept, and the very words that go on from there."""
    try:
        yield
    except Interrupted as stop:
        _tell(f"error: {stop}")
        if path.with_name(path.name + ".part").exists():
            words = [word for word in sys.argv[1:] if word not in ("--force", "--resume")]
            _tell(f"that is: {shlex.join(['sigprop', *words, '--resume'])}")
        raise typer.Exit(stop.exit_status) from None
