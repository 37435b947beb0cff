"""The commands ``plot``, a result on disk to a picture on disk, and ``figure``, of a paper."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from figures._writing import require_format, save_picture
from sigprop.errors import Interrupted, SpecError

__all__ = ["figure", "plot"]


def plot(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A file that simulate wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where the picture goes: .png, .pdf or .svg. (default: RESULT as .png)",
        ),
    ] = None,
) -> None:
    """Draw every recorded quantity against depth, with its error band."""
    path = result.with_suffix(".png") if out is None else out
    require_format(path)
    from figures.gallery.overview import draw
    from sigprop.result import read

    found, _ = read(result)  # of one ensemble: a sweep has no single depth to draw against
    if "singular_density" in found and "log_norm_mean" not in found:
        import json

        from analysis.spectra import densities
        from figures.gallery import spectra
        from sigprop.spec import Ensemble

        law = Ensemble.from_dict(json.loads(found.attrs["ensemble"]))
        theory = densities(law, found.layer.values.tolist())
        save_picture(spectra.draw(found, theory), path)
    else:
        save_picture(draw(found), path)
    print(f"wrote {path}")


class Budget(enum.StrEnum):
    """How much effort a figure takes: `figures._base.BUDGETS`."""

    smoke = "smoke"
    draft = "draft"
    paper = "paper"


class Kind(enum.StrEnum):
    """In what format a figure is written."""

    png = "png"
    pdf = "pdf"
    svg = "svg"


def figure(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="As in --list, or all of them: all.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Say which figures there are.")] = False,
    budget: Annotated[
        Budget,
        typer.Option(
            "--budget", help="smoke takes seconds, paper the effort of the paper or more."
        ),
    ] = Budget.draft,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Where numbers and pictures go."),
    ] = Path("pictures"),
    force: Annotated[
        bool, typer.Option("--force", help="Compute again what stands there already.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Threads; no number depends on them. (default: one a core)"),
    ] = None,
    kind: Annotated[Kind, typer.Option("--format", help="Of the picture.")] = Kind.png,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Images of figures that train: digits, mnist:FOLDER, cifar10:FOLDER. "
            "(default: digits)",
        ),
    ] = None,
) -> None:
    """Make a figure of a paper, with the theory beside what is measured.

    Numbers are kept in a netCDF file beside the picture and used again where they are those
    that the budget asks for.
    """
    from figures._base import Figure, named, obtain, on_data
    from sigprop.work import check_pool

    check_pool(workers, None)
    if listing:
        named_all = _all_figures()
        for known in named_all:
            print(f"{known:34s} {Figure.family[known].title}")
        return
    if name is None:
        raise SpecError("no figure was named. See sigprop figure --list, or write: figure all")
    for chosen in _all_within(budget.value) if name == "all" else [name]:
        drawn = named(chosen)
        stem = out / f"{chosen}.{budget.value}"
        if data is not None and (name != "all" or drawn.trains):
            drawn = on_data(drawn, data)
            stem = stem.with_name(f"{stem.name}.{data.partition(':')[0]}")
        numbers = stem.with_name(stem.name + ".nc")
        try:
            with _progress(chosen) as progress:
                content, standing = obtain(
                    drawn,
                    budget.value,
                    numbers,
                    workers=workers,
                    force=force,
                    progress=progress,
                )
        except Interrupted as stop:  # the parser would end without a word
            print(f"error: {stop}", file=sys.stderr)
            raise typer.Exit(stop.exit_status) from None
        if standing:
            print(
                f"{numbers} holds the numbers already. To compute again: --force", file=sys.stderr
            )
        picture = stem.with_name(f"{stem.name}.{kind.value}")
        save_picture(drawn.draw(content.results, content.predictions), picture)
        table = drawn.table(content.results, content.predictions)
        print(f"{table}\n" * bool(table) + f"wrote {picture}")


def _all_within(budget: str) -> list[str]:
    """All figures but those that take hours at this budget, which are named on stderr."""
    from figures._base import Figure

    known = _all_figures()
    long = [name for name in known if budget in Figure.family[name].long_budgets]
    if long:
        print(
            f"left out, since networks are trained for hours: {', '.join(long)}. "
            f"To make one: sigprop figure {long[0]} --budget {budget}",
            file=sys.stderr,
        )
    return [name for name in known if name not in long]


def _all_figures() -> list[str]:
    import figures.dynamical_isometry
    import figures.fractional_moments
    import figures.gradinit
    import figures.modules
    import figures.scaling_resnets  # noqa: F401  the five fill the registry
    from figures._base import Figure

    return sorted(Figure.family)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is called with (done, total): a bar with the time left, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
