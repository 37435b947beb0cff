"""The command ``train``: small networks trained on real images, schemes beside one another."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.commands import _progress
from sigprop.errors import Interrupted, OutputExists, SpecError
from sigprop.extras import require_torch

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["train"]

_OWN = "own"


class Style(enum.StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


def train(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="mlp, resmlp, resnet, vgg or stacked, with options: mlp:depth=20"
        ),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="digits, mnist:FOLDER or cifar10:FOLDER.")
    ] = "digits",
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme",
            metavar="NAME,...",
            help="A function of sigprop.modules.init (he, fixup, ...), or own: the model's own.",
        ),
    ] = _OWN,
    lr: Annotated[
        str,
        typer.Option("--lr", metavar="X,...", help="Several: chosen on the validation part."),
    ] = "0.1",
    optimizer: Annotated[str, typer.Option("--optimizer", help="sgd or adam.")] = "sgd",
    momentum: Annotated[float, typer.Option("--momentum", help="Of sgd.")] = 0.0,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="Of matrices.")] = 0.0,
    clip: Annotated[
        float | None, typer.Option("--clip", help="Largest norm of a gradient. (default: none)")
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", help="constant, cosine or step.")] = (
        "constant"
    ),
    epochs: Annotated[int, typer.Option("--epochs", help="Times through all images.")] = 10,
    batch: Annotated[int, typer.Option("--batch", help="Images in a step.")] = 64,
    runs: Annotated[int, typer.Option("--runs", help="Seeds, for the error bars.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The first of them.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A netCDF file; a killed run goes on from it."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    style: Annotated[Style, typer.Option("--format", help="What to print.")] = Style.table,
) -> None:
    """Train a small network on real images: the accuracy on the test part, with its error.

    Every scheme is trained with every rate and seed; each scheme's rate is the best on the
    validation part, and the test part decides nothing.
    """
    if model is None:
        raise SpecError(
            "no network was given, and there is no default one. Add for example: "
            "--model mlp:depth=20"
        )
    rates = options.numbers("--lr", lr)
    if runs < 1 or seed < 0:
        raise SpecError(
            f"--runs must be 1 or more and --seed 0 or more, got {runs} and {seed}. "
            "Write for example: --runs 3 --seed 0"
        )
    require_torch("sigprop train")
    from sigprop.export import json
    from sigprop.modules.architectures import architecture
    from sigprop.modules.data import load_data
    from sigprop.modules.initialised import by_scheme
    from sigprop.modules.study import Case, run_study
    from sigprop.modules.train import Recipe
    from sigprop.result import checkpoint_path, require_writable, save

    network = architecture(model)
    recipe = Recipe(
        optimizer=optimizer,
        lr=rates[0] if rates else 0.1,
        momentum=momentum,
        weight_decay=weight_decay,
        clip=clip,
        schedule=schedule,
        epochs=epochs,
        batch=batch,
    )
    cases = {
        name: Case(
            network=str(network),
            prepare=None if name == _OWN else by_scheme(name),
            about={"scheme": name},
        )
        for name in options.words(scheme) or [_OWN]
    }
    journal = None
    if out is not None:
        if out.exists() and not force:
            raise OutputExists(
                f"{out} stands already, and would be lost. Add --force to replace it, or name "
                "another with --out."
            )
        require_writable(out)
        journal = checkpoint_path(out)
        if force:
            journal.unlink(missing_ok=True)
    images = load_data(data, validation=None if rates and len(rates) > 1 else 0)
    network.build(images.shape, images.classes)  # refused here, before any training
    try:
        with _progress("epochs") as progress:
            result = run_study(
                cases,
                images,
                recipe,
                lrs=rates,
                seeds=range(seed, seed + runs),
                journal=journal,
                progress=progress,
            )
    except Interrupted as stop:
        print(f"error: {stop}", file=sys.stderr)
        raise typer.Exit(stop.exit_status) from None
    if out is not None and journal is not None:
        save(result, {}, out)
        journal.unlink(missing_ok=True)
        print(f"wrote {out}", file=sys.stderr)
    print(json(result) if style is Style.json else _table(result))


def _table(result: xr.Dataset) -> str:
    """A line a scheme; the mean of the test accuracy and its standard error between seeds."""
    import json

    study: Mapping[str, Any] = json.loads(result.attrs["study"])
    recipe, seeds = study["recipe"], study["seeds"]
    first = next(iter(study["cases"].values()))["network"]
    lines = [
        f"{first} on {study['data']['name']}",
        f"{recipe['optimizer']}, {recipe['epochs']} epochs of batches of {recipe['batch']}, "
        f"{len(seeds)} seeds from {seeds[0]}; accuracy on the test part",
        "",
        f"{'scheme':14s}{'rate':>10s}{'accuracy':>18s}{'lowest':>10s}{'highest':>10s}  diverged",
    ]
    for case in result.case.values:
        last = result.sel(case=case).isel(epoch=-1)
        ends = last.test_accuracy.sel(lr=last.chosen_lr)
        told = _with_error(float(last.accuracy_mean), float(last.accuracy_mean_se), len(seeds))
        diverged = round(float(last.diverged_fraction) * len(seeds))
        lines.append(
            f"{case:14s}{float(last.chosen_lr):>10g}{told:>18s}{float(ends.min()):>10.3f}"
            f"{float(ends.max()):>10.3f}  {diverged} of {len(seeds)}"
        )
    if len(recipe["lr"]) > 1:
        lines += ["", f"Rates chosen on the validation part from {_listed(recipe['lr'])}."]
    return "\n".join(lines)


def _with_error(mean: float, se: float, seeds: int) -> str:
    return f"{mean:.4f} ± {se:.4f}" if seeds > 1 else f"{mean:.4f}"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
