"""The command ``train``: small networks trained on real images, schemes beside one another."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.commands import TableOrJson, _progress
from sigprop.errors import Interrupted, OutputExists, SpecError
from sigprop.extras import require_torch

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["train"]


def train(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="SPEC",
            help="mlp, convmlp, resmlp, resnet, vgg, stacked or transformer, with options: "
            "mlp:depth=20; or what builds a module: my_package.models:build",
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
    ] = "own",
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
        typer.Option(
            "--out",
            metavar="FILE.nc",
            help="Where the result goes; where it stands already it is shown, and a killed run "
            "goes on.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Add schemes, rates or runs to those that --out holds."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    style: Annotated[
        TableOrJson, typer.Option("--format", help="What to print.")
    ] = TableOrJson.table,
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
    if runs < 1:
        raise SpecError(
            f"--runs must be 1 or more, got {runs}: it counts seeds. Write for example: --runs 3"
        )
    options.seed(seed, runs)
    if force and resume:
        raise SpecError("--force replaces a result and --resume adds to it. Give one of the two.")
    if resume and out is None:
        raise SpecError("--resume adds to what --out holds, and no --out was given. Add it.")
    require_torch("sigprop train")
    from sigprop.modules.data import load_data
    from sigprop.modules.initialised import OWN, cases_of
    from sigprop.modules.study import run_study, studied
    from sigprop.modules.train import Recipe
    from sigprop.result import checkpoint_path, require_writable, save

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
    if out is not None:
        require_writable(out)
    images = load_data(data, validation=None if rates and len(rates) > 1 else 0)
    seeds = range(seed, seed + runs)
    cases = cases_of(model, options.words(scheme) or [OWN], images, seed)
    asked: dict[str, Any] = {"lrs": rates, "seeds": seeds}
    journal = None if out is None else checkpoint_path(out)
    if out is not None and journal is not None:
        if force:
            journal.unlink(missing_ok=True)
        elif out.exists():
            standing = _standing(out, studied(cases, images, recipe, **asked), journal, resume)
            if standing is not None:
                print(f"{out} holds this already, and is shown. Again: --force", file=sys.stderr)
                _print(standing, style)
                return
    try:
        with _progress("epochs") as progress:
            result = run_study(cases, images, recipe, **asked, journal=journal, progress=progress)
    except Interrupted as stop:
        print(f"error: {stop}", file=sys.stderr)
        raise typer.Exit(stop.exit_status) from None
    if out is not None and journal is not None:
        save(result, {}, out)
        journal.unlink(missing_ok=True)
        print(f"wrote {out}", file=sys.stderr)
    _print(result, style)


def _standing(
    out: Path, about: Mapping[str, Any], journal: Path, resume: bool
) -> xr.Dataset | None:
    """The result at ``out`` if it is the one asked for; None where it is to be gone on from.

    Raises
    ------
    OutputExists, ResultError
        If something else stands there, which is left as it is.
    """
    import json

    from sigprop.modules.study import TRAINING, begun, differing
    from sigprop.result import checked

    found = checked(out, TRAINING)
    before = json.loads(found.attrs["study"])
    if before == about:
        return found
    differ, lost, more = differing(before, about)
    if differ or lost:
        if "data" in differ and before["data"]["name"] == about["data"]["name"]:
            differ[differ.index("data")] = "data (several rates take a validation part)"
        why = f"in its {', '.join(differ)}" if differ else f"{', '.join(lost)} would be lost"
        raise OutputExists(
            f"{out} holds another study ({why}), and is left as it is. Name another with --out, "
            "or add --force to replace it."
        )
    if not resume:
        raise OutputExists(
            f"{out} holds a part of this study, without {', '.join(more)}, and is left as it is. "
            "Add --resume to train what is missing, or --force to replace it."
        )
    if not journal.exists():
        begun(found, about, journal)
    return None


def _print(result: xr.Dataset, style: TableOrJson) -> None:
    from sigprop.export import json

    print(json(result) if style is TableOrJson.json else _table(result))


def _table(result: xr.Dataset) -> str:
    """A line a scheme; the mean of the test accuracy and its standard error between seeds."""
    import json

    study: Mapping[str, Any] = json.loads(result.attrs["study"])
    recipe, seeds = study["recipe"], study["seeds"]
    first = next(iter(study["cases"].values()))
    types = first["about"].get("types")
    lines = [
        f"{first['about'].get('network', first['network'])} on {study['data']['name']}",
        *([types] if types else []),
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
