"""The command ``probe``: what a module does to signals, as a table, a file or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.module_question import (
    Device,
    Question,
    Replicas,
    Scheme,
    Seed,
    Shape,
    Target,
    Tokens,
    heading,
)
from figures._writing import marked, require_outputs, write_dataset, write_picture
from sigprop import options
from sigprop.commands import Format

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["probe"]


def probe(
    target: Target,
    shape: Shape = None,
    tokens: Tokens = None,
    scheme: Scheme = None,
    replicas: Replicas = 5,
    seed: Seed = 0,
    device: Device = "auto",
    names: Annotated[
        str | None,
        typer.Option("--names", metavar="NAME,...", help="Patterns, as layer1.*; default: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.nc", help="Write all as a netCDF file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw: .png, .pdf or .svg.")
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
) -> None:
    """Measure a module of torch at initialisation, layer by layer and sum by sum; no verdict.

    For a verdict: sigprop check, with the same words.
    """
    require_outputs(out, picture, marked("schema", "sigprop-probe"))
    asked = Question(
        target=target, shape=shape, tokens=tokens, scheme=scheme, replicas=replicas, seed=seed,
        device=device,
    )  # fmt: skip
    measured = asked.measured(options.words(names))
    found, theory = measured.found, measured.predicted()
    if theory is not None:
        # One file and one table hold both; a prediction is named after what it is of.
        found = found.assign({f"{name}_predicted": theory[name] for name in theory.data_vars})
    if style is Format.json:
        from sigprop import export

        print(export.json(found))
    elif style is Format.csv:
        print(found.drop_dims([d for d in ("sum",) if d in found.sizes]).to_dataframe().to_csv())
    else:
        print(_table(found))
    if out is not None:
        write_dataset(found, out)
    if picture is not None:
        from figures.gallery.module_probe import draw

        write_picture(draw(found), picture)


def _table(found: xr.Dataset) -> str:
    about = found.attrs
    lines = [*heading(found), *_rows(found, "layer", "", ["dead_fraction"])]
    if "sum" in found.sizes:
        lines += ["", *_rows(found, "sum", "sum_", ["branch_ratio"])]
    if any(str(name).endswith("_predicted") for name in found):
        lines.append("Theory is the limit of great width; - where it is silent.")
    if about["never_called"]:
        lines.append(f"Never called: {about['never_called']}")
    if about["read_elsewhere"]:
        lines.append(
            "No row, for another module reads their weights without calling them: "
            f"{about['read_elsewhere']}"
        )
    return "\n".join(lines)


def _predicted(name: str) -> str:
    return f"{name}_predicted" if name.endswith("_mean") else f"log_{name}_mean_predicted"


def _rows(found: xr.Dataset, dim: str, prefix: str, more: list[str]) -> list[str]:
    import numpy as np

    heads = {
        f"{prefix}second_moment": "mean square",
        f"{prefix}gradient_second_moment": "of the gradient",
        f"{prefix}cosine_mean": "cosine",
        "dead_fraction": "dead",
        "branch_ratio": "branch/trunk",
    }
    columns = [[dim, *map(str, found[dim].values)]]
    if dim == "layer":
        columns.append(["kind", *map(str, found.kind.values)])
    for name, head in heads.items():
        if name not in (*more, *list(heads)[:3]):
            continue
        columns.append([head, *(f"{value:.4g}" for value in found[name].values)])
        theory = found.get(_predicted(name))
        if theory is not None and np.isfinite(theory).any():
            rows = theory.values if "cosine" in name else np.exp(theory.values)
            columns.append(["theory", *("-" if np.isnan(x) else f"{x:.4g}" for x in rows)])
    widths = [max(map(len, column)) for column in columns]
    rows = ["  ".join(c.rjust(w) for c, w in zip(row, widths)) for row in zip(*columns)]
    return [rows[0], "-" * len(rows[0]), *rows[1:]]
