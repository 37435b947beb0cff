"""The command ``spectrum``: singular values of the Jacobian, measured, with theory beside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.commands import of_a_law
from sigprop import options
from sigprop.commands import Format

__all__ = ["spectrum"]


@of_a_law
def spectrum(
    ensemble: Any,
    replicas: Annotated[int, typer.Option("--replicas", help="Independent networks.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Fixes every number.")] = 0,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Threads; no number depends on them. (default: one a core)"),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers", metavar="LAYERS", help="0,10,500 or from:to:step. (default: about 11)"
        ),
    ] = None,
    bins: Annotated[
        int, typer.Option("--bins", help="Bins of the histogram of the logarithm.")
    ] = 321,
    reach: Annotated[
        float, typer.Option("--reach", help="The histogram covers +-reach in the logarithm.")
    ] = 8.025,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.nc", help="Write the result as a netCDF file."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw it: .png, .pdf or .svg."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --out.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace --out.")] = False,
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Measure the singular values of the input-output Jacobian, and say what they mean.

    Takes the options of a law that simulate takes. Prints extremes, condition number and
    distance to an isometry against layer, one plain sentence, and what free probability says
    of the last layer. Singular values are exact: the whole Jacobian is multiplied out.
    """
    from sigprop.observables.spectrum import Spectrum
    from sigprop.simulate import simulate

    if picture is not None:
        from figures.commands import require_format

        require_format(picture)
    result = simulate(
        ensemble,
        Spectrum(bins=bins, reach=reach),
        replicas=replicas,
        seed=seed,
        sampler="jacobian",
        workers=workers,
        layers=options.layers("--layers", layers),
        out=out,
        force=force,
        resume=resume,
    )
    if style is Format.table:
        from analysis.spectra import beside
        from sigprop import report

        print(report.text(result))
        print("\n" + beside(result))
    else:
        from sigprop import export

        print({Format.json: export.json, Format.csv: export.csv}[style](result).rstrip("\n"))
    if out is not None:
        print(f"wrote {out}", file=sys.stderr)
    if picture is not None:
        from analysis.spectra import densities
        from figures.commands import save_picture
        from figures.gallery.spectra import draw

        save_picture(draw(result, densities(ensemble, result.layer.values.tolist())), picture)
        print(f"wrote {picture}", file=sys.stderr)
