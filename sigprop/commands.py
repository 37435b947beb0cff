"""The commands ``simulate``, ``sweep``, ``gain``, ``show``, ``list``: from options to print.

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
from sigprop.errors import Interrupted, SpecError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import xarray as xr

__all__ = ["gain", "list_members", "show", "simulate", "sweep"]


class Format(enum.StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    csv = "csv"


class TableOrJson(enum.StrEnum):
    """How something is printed that has no rows to be written as CSV."""

    table = "table"
    json = "json"


class Coupled(enum.StrEnum):
    """Whether the points of a sweep share their random numbers."""

    auto = "auto"
    yes = "yes"
    no = "no"


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
            help="Blocks plain, projection: the width of every state, the first first; implies the "
            "depth.",
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
            help="Blocks inner, preact, identity, projection: matrices in a branch.",
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
    input_width: Annotated[
        int | None,
        typer.Option(
            "--input-width",
            metavar="N",
            help="Blocks identity, projection and plain: size of the network's input. (default: "
            "half the width; plain: the width)",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="N[,N]",
            help="Pixels of an image, a side or rows,columns: a convolutional network, whose "
            "widths count channels. (default: none)",
        ),
    ] = None,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            metavar="K[,K,...]",
            help="Side of its kernels, odd: one, or one for each matrix of a branch. (default: 3)",
        ),
    ] = None,
    padding: Annotated[
        str | None,
        typer.Option(
            "--padding",
            metavar="zero|circular",
            help="What lies beyond the border of an image. (default: zero)",
        ),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(
            "--stride",
            metavar="S[,S,...]",
            help="Blocks plain and projection: stride of every layer, or one for each. (default: "
            "1)",
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
    dropout: Annotated[
        float | None,
        typer.Option(
            "--dropout",
            help="Probability that a unit gives 0, drawn once a network. (default: 0)",
        ),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(
            "--law",
            metavar="NAME",
            help="Law of the weights: see sigprop list laws. (default: the scheme's own)",
        ),
    ] = None,
    process: Annotated[
        str | None,
        typer.Option(
            "--process",
            metavar="NAME|FILE.npy",
            help="Dependence of weights along depth: see sigprop list processes; a file holds a "
            "covariance. (default: independent)",
        ),
    ] = None,
    inner_process: Annotated[
        str | None,
        typer.Option(
            "--inner-process",
            metavar="NAME|FILE.npy",
            help="That of all but the last matrix of a layer. (default: that of --process)",
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="point|pair|equiangular|batch|FILE.npy",
            help="What enters layer 0; a file holds one row for each input. (default: pair)",
        ),
    ] = None,
    cosine: Annotated[
        float | None,
        typer.Option(
            "--cosine",
            help="Cosine of the angle between inputs. (default: 0.5; equiangular: 0.75)",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", help="Inputs equiangular and batch: their number. (default: 10; 100)"
        ),
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
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Use the workers of this Dask scheduler; no number depends on them.",
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
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="auto|cpu|cuda",
            help="Where sampler torch works. (default: auto, a GPU where there is one)",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="float32|tf32|bf16",
            help="Of the products of sampler torch; below float32 the error is measured and "
            "recorded. (default: float32)",
        ),
    ] = None,
    tilt: Annotated[
        float | None,
        typer.Option(
            "--tilt",
            help="Draw networks weighted by |h|^tilt: moments of about that order at any depth, "
            "nothing else. Gaussian weights, one input.",
        ),
    ] = None,
    population: Annotated[
        int | None,
        typer.Option(
            "--population",
            metavar="N",
            help="Let N networks split where the moment of --orders (one) is carried: any law. "
            "Replicas are then populations.",
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
            help="Among norm, displacement, gradient, separability, activity, and on request only "
            "spectrum, balance, diversity, first_step. (default: all that apply but these)",
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

    Options of the chosen scheme, activation, law and process are options here too, as in
    --scheme power --beta 0.5. They are listed by: sigprop list schemes, sigprop list
    activations, sigprop list laws, sigprop list processes.
    """
    asked = {
        "depth": depth,
        "width": width,
        "widths": options.counts("--widths", widths),
        "block": block,
        "inner_layers": inner_layers,
        "inner_width": options.inner_width(inner_width),
        "input_width": input_width,
        "image": image,
        "kernel": kernel,
        "padding": padding,
        "stride": stride,
        "scheme": scheme,
        "activation": activation,
        **({} if dropout is None else {"dropout": dropout}),
        "law": law,
        "process": process,
        "inner_process": inner_process,
        "inputs": inputs,
        "cosine": cosine,
        "count": count,
    }
    own = [name for parameter in context.command.params for name in parameter.opts]
    members = options.extra(context.args, own)
    run = {
        "replicas": replicas,
        "seed": seed,
        "sampler": sampler,
        "tilt": tilt,
        "population": population,
        "device": device,
        "precision": precision,
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

    weights = {name: given.get(name) for name in ("tilt", "population")}
    path = Path(default_name(ensemble, given.get("seed", 0), **weights)) if out is None else out
    if out is None and not (force or resume) and stands(path, ensemble, **given):
        _tell(f"{path} holds this run already, and is shown. To run it again: --force")
        result = load(path)
    else:
        with _executor(scheduler) as executor, _progress() as progress, _resumable(path):
            result = run_simulation(
                ensemble,
                **given,
                workers=workers,
                executor=executor,
                out=path,
                force=force,
                resume=resume,
                progress=progress,
            )
        _tell(f"wrote {path}")
    _print(result, style)


simulate.open_options = True  # type: ignore[attr-defined]


def sweep(
    context: typer.Context,
    scheme: Annotated[
        str | None,
        typer.Option("--scheme", metavar="NAME,...", help="See sigprop list schemes."),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", metavar="NAME,...", help="(default: relu)"),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option("--law", metavar="NAME,...", help="Of one weight. (default: gaussian)"),
    ] = None,
    process: Annotated[
        str | None,
        typer.Option(
            "--process",
            metavar="NAME,...",
            help="Dependence of weights along depth: see sigprop list processes. "
            "(default: independent)",
        ),
    ] = None,
    inner_process: Annotated[
        str | None,
        typer.Option(
            "--inner-process",
            metavar="NAME,...",
            help="That of all but the last matrix. (default: the same)",
        ),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option("--block", metavar="NAME,...", help="(default: the scheme's own)"),
    ] = None,
    depth: Annotated[
        str | None, typer.Option("--depth", metavar="VALUES", help="Number of layers.")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option("--width", metavar="VALUES", help="Dimension of the state. (default: 100)"),
    ] = None,
    inner_layers: Annotated[
        str | None,
        typer.Option("--inner-layers", metavar="VALUES", help="Matrices in a branch."),
    ] = None,
    inner_width: Annotated[
        str | None,
        typer.Option("--inner-width", metavar="VALUES", help="Hidden width of the branch."),
    ] = None,
    input_width: Annotated[
        str | None,
        typer.Option("--input-width", metavar="VALUES", help="Size of the network's input."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="VALUES", help="Side of an image: convolutions."),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option("--kernel", metavar="VALUES", help="Side of kernels. (default: 3)")
    ] = None,
    padding: Annotated[
        str | None,
        typer.Option("--padding", metavar="zero|circular", help="Borders. (default: zero)"),
    ] = None,
    stride: Annotated[
        str | None, typer.Option("--stride", metavar="VALUES", help="Of every layer. (default: 1)")
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            "--inputs",
            metavar="point|pair|equiangular|batch|FILE.npy",
            help="What enters layer 0. (default: pair)",
        ),
    ] = None,
    cosine: Annotated[
        str | None,
        typer.Option("--cosine", metavar="VALUES", help="Between two inputs. (default: 0.5)"),
    ] = None,
    count: Annotated[
        str | None,
        typer.Option("--count", metavar="N", help="Number of equiangular or batch inputs."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option("--replicas", help="Independent networks at each point. (default: 1000)"),
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
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Use the workers of this Dask scheduler; no number depends on them.",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", metavar="NAME", help="(default: auto, point by point)"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="auto|cpu|cuda",
            help="Where sampler torch works. (default: auto, a GPU where there is one)",
        ),
    ] = None,
    coupled: Annotated[
        Coupled,
        typer.Option(
            "--coupled",
            help="Whether points share their random numbers; auto: where one draw of the weights "
            "then serves many points.",
        ),
    ] = Coupled.auto,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="LAYERS",
            help="Layers to record: numbers, from:to:step, top, or fractions of the depth such as "
            "50%. (default: 0,top)",
        ),
    ] = None,
    orders: Annotated[
        str | None,
        typer.Option("--orders", metavar="S,S,...", help="Of the moments E|h|^s. (default: 1,2)"),
    ] = None,
    observe: Annotated[
        str | None,
        typer.Option(
            "--observe",
            metavar="NAME,NAME,...",
            help="Among norm, displacement, gradient, separability, activity, and on request only "
            "spectrum, balance, diversity, first_step. (default: all that apply but these)",
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
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.nc",
            help="Where the result goes. (default: a name made of the axes and the seed)",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a sweep that was stopped."),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace what stands there."),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Confirm a grid of more than 10^4 points."),
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Simulate a grid of ensembles into one result with a dimension for every axis.

    Any option of the law that is given several values is an axis: --beta 0:1.3:70 (start, stop,
    count, ends included) or --scheme he,fixup,skipinit,rezero. Axes stand in the order of this
    list, then those of the members' own options as they are given. At each point the first and
    the last layer are recorded, unless --layers says otherwise.

    Options of the chosen schemes, activations, laws and processes are options here too; an
    option that the scheme of a point does not have is left out there.
    """
    from sigprop.grid import LAW_OPTIONS, axis_of_text, value_of_text

    own = [name for parameter in context.command.params for name in parameter.opts]
    given = locals()
    base: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    for name in LAW_OPTIONS:
        text = given.get(name)
        if text is not None:
            option = f"--{name.replace('_', '-')}"
            values = axis_of_text(option, text)
            base |= {name: value_of_text(option, text)} if values is None else {}
            axes |= {} if values is None else {name: values}
    for name, value in options.extra(context.args, own).items():
        if isinstance(value, str) and ":" in value:
            axes[name] = axis_of_text(f"--{name.replace('_', '-')}", value)
        elif isinstance(value, tuple):
            axes[name] = list(value)
        else:
            base[name] = value
    if not axes:
        raise SpecError(
            "no option has several values, so there is one point. Give for example --depth "
            "10,100,1000 or --beta 0:1:11, or use sigprop simulate."
        )
    asked: dict[str, Any] = {
        "replicas": replicas,
        "seed": seed,
        "sampler": sampler,
        "device": device,
        "layers": options.places("--layers", layers),
        "orders": options.numbers("--orders", orders),
        "observe": options.words(observe),
        "keep": options.places("--keep", keep),
    }
    from sigprop.result import load
    from sigprop.sweep import holds, plan
    from sigprop.sweep import run as run_sweep

    planned = plan(
        base,
        axes,
        **{name: value for name, value in asked.items() if value is not None},
        coupled={"yes": True, "no": False}.get(coupled.value, "auto"),
        yes=yes,
    )
    path = Path(planned.name) if out is None else out
    if out is None and not (force or resume) and holds(path, planned):
        _tell(f"{path} holds this sweep already, and is shown. To run it again: --force")
    else:
        with _executor(scheduler) as executor, _progress() as progress, _resumable(path):
            run_sweep(
                planned,
                workers=workers,
                executor=executor,
                out=path,
                force=force,
                resume=resume,
                progress=progress,
            )
        _tell(f"wrote {path}")
    _print(load(path), style, path)


sweep.open_options = True  # type: ignore[attr-defined]


def show(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A file that simulate wrote.")],
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Print a result again: the table with error bars and what it means.

    Of a sweep over schemes they stand side by side, with what each does to norm, gradient and
    angle, and what a network of it costs.
    """
    from sigprop.result import load

    _print(load(result), style, result)


def gain(
    context: typer.Context,
    width: Annotated[
        int | None, typer.Option("--width", help="Dimension of the state. (default: 100)")
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option("--widths", metavar="N,N", help="Fan-in and fan-out of a plain layer."),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option(
            "--block", metavar="NAME", help="plain, res1, res3 or inner. (default: plain)"
        ),
    ] = None,
    inner_layers: Annotated[
        int | None, typer.Option("--inner-layers", help="Block inner: matrices in a branch.")
    ] = None,
    inner_width: Annotated[
        str | None,
        typer.Option("--inner-width", metavar="N", help="Hidden width of the branch."),
    ] = None,
    activation: Annotated[
        str | None, typer.Option("--activation", metavar="NAME", help="(default: relu)")
    ] = None,
    law: Annotated[
        str | None,
        typer.Option("--law", metavar="NAME", help="Law of one weight. (default: gaussian)"),
    ] = None,
    style: Annotated[
        TableOrJson, typer.Option("--format", help="What to print.")
    ] = TableOrJson.table,
) -> None:
    """Print the scale of weights that keeps a moment E|h|^s through a layer, and what it costs.

    --s is the order, in [0, 2]: 2 is He, 0 keeps the mean of log|h|. Options of scheme fractional
    (--s, --preserve, --given, --expansion, --adjust, --branch, --skip), of the activation and of
    the law are options here too. He's value stands beside it, the Lyapunov exponent (the mean of
    log|h'|/|h| a layer) and the growth of the mean square.
    """
    import json

    own = [name for parameter in context.command.params for name in parameter.opts]
    members = options.extra(context.args, own)
    if "s" not in members:
        raise SpecError(
            "no order was given: gain is the scale that keeps E|h|^s. Add for example --s 1 "
            "(2 is He, 0 keeps the mean of log|h|)."
        )
    pair = options.counts("--widths", widths)
    asked = {
        "depth": None if pair else 1,
        "width": width,
        "widths": pair,
        "block": block,
        "inner_layers": inner_layers,
        "inner_width": options.inner_width(inner_width),
        "scheme": "fractional",
        "activation": activation,
        "law": law,
        "process": None,
        "inner_process": None,
        "inputs": "point",
        "cosine": None,
        "count": None,
    }
    from sigprop import gain as gains

    found = gains.describe(options.ensemble(asked, members, own))
    if style is TableOrJson.json:
        finite = {k: None if v != v else v for k, v in found.items()}
        print(json.dumps(finite, indent=2, allow_nan=False))
    else:
        print(gains.text(found))


gain.open_options = True  # type: ignore[attr-defined]


def list_members(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY",
            help="schemes, blocks, activations, laws, processes, inputs, samplers or observables.",
        ),
    ] = None,
) -> None:
    """Print every scheme, block, activation, law, process, input, sampler or observable."""
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


def _print(result: xr.Dataset, style: Format, path: Path | None = None) -> None:
    from sigprop import export, report
    from sigprop.result import SWEEP, read

    if style is Format.table and path is not None and result.attrs["schema"] == SWEEP:
        from sigprop import side_by_side

        seconds = read(path, SWEEP, state=True)[1].get("seconds")
        print(side_by_side.text(result, seconds).rstrip("\n"))
        return
    writers = {Format.table: report.text, Format.json: export.json, Format.csv: export.csv}
    print(writers[style](result).rstrip("\n"))


@contextmanager
def _executor(scheduler: str | None) -> Iterator[Executor | None]:
    """Yield the workers of a Dask scheduler, or None for threads of our own."""
    if scheduler is None:
        yield None
        return
    from sigprop.cluster import connected

    with connected(scheduler) as executor:
        yield executor


@contextmanager
def _progress(counted: str = "networks") -> Iterator[Callable[[int, int], None] | None]:
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
        task = bar.add_task(counted, total=None)
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
