"""The command ``spectrum``: singular values of the Jacobian, measured, with theory beside."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.commands import of_a_law
from figures._writing import require_outputs, write_dataset, write_picture
from sigprop import options
from sigprop.commands import Format

__all__ = ["spectrum"]


class Method(enum.StrEnum):
    """How singular values are found."""

    exact = "exact"
    lanczos = "lanczos"


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
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="exact: the whole Jacobian. lanczos: estimated from products with vectors, at "
            "the last layer, for widths whose Jacobian is too large.",
        ),
    ] = Method.exact,
    probes: Annotated[
        int, typer.Option("--probes", help="lanczos: random directions a network.")
    ] = 8,
    steps: Annotated[
        int, typer.Option("--steps", help="lanczos: steps; the density is resolved to 1/steps.")
    ] = 30,
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
    of the last layer. Singular values are exact: the whole Jacobian is multiplied out, unless
    --method lanczos estimates them.
    """
    if method is Method.lanczos:
        _estimated(ensemble, replicas, probes, steps, seed, out, picture, force, style)
        return
    from sigprop.observables.spectrum import Spectrum
    from sigprop.simulate import simulate

    require_outputs(None, picture)  # simulate looks at --out
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
        from figures.gallery.spectra import draw

        write_picture(draw(result, densities(ensemble, result.layer.values.tolist())), picture)


def _estimated(
    ensemble: Any,
    replicas: int,
    probes: int,
    steps: int,
    seed: int,
    out: Path | None,
    picture: Path | None,
    force: bool,
    style: Format,
) -> None:
    """The spectrum at the last layer by stochastic Lanczos quadrature."""
    from sigprop.errors import OutputExists, SpecError
    from sigprop.lanczos import lanczos_spectrum

    if picture is not None:
        raise SpecError(
            "--plot draws an exact spectrum, and --method lanczos estimates one. Leave out one of "
            "the two; the density is in the file that --out names."
        )
    if out is not None and out.exists() and not force:
        raise OutputExists(f"{out} exists, and is left as it is. Use --force, or another name.")
    require_outputs(out, None)
    found = lanczos_spectrum(ensemble, replicas=replicas, probes=probes, steps=steps, seed=seed)
    if style is Format.table:
        from sigprop.report import with_error

        depth = ensemble.network.depth
        print(f"Layer {depth}, {replicas} networks, seed {seed}: {found.attrs['method']}\n")
        for name in map(str, found.data_vars):
            if f"{name}_se" in found and not found[name].dims:
                cell = with_error(float(found[name]), float(found[f"{name}_se"]))
                print(f"{name:24s} {cell:>20s}  {found[name].attrs['long_name']}")
        print("\nAn estimate: the largest value is approached from below, the smallest from above.")
    else:
        from sigprop import export

        print({Format.json: export.json, Format.csv: export.csv}[style](found).rstrip("\n"))
    if out is not None:
        write_dataset(found, out)
