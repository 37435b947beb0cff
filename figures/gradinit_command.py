"""The command ``gradinit``: learned scales of a network, beside other initialisations if asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigprop import options
from sigprop.commands import Format
from sigprop.errors import SpecError

if TYPE_CHECKING:
    from torch import nn

    from sigprop.modules.data import ImageSet

__all__ = ["gradinit"]

_HELD = 256  # images by which methods are compared


def gradinit(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="SPEC",
            help="mlp:depth=20,width=64,gain=1.5 (or resnet:, vgg:, resmlp:), or what builds a "
            "module: my_package.models:build",
        ),
    ] = "mlp:depth=20,width=64,gain=1.5",
    data: Annotated[
        str,
        typer.Option("--data", metavar="SPEC", help="digits, mnist:FOLDER or cifar10:FOLDER."),
    ] = "digits",
    optimizer: Annotated[
        str, typer.Option("--optimizer", metavar="sgd|adam", help="Of the training to come.")
    ] = "sgd",
    lr: Annotated[
        float | None, typer.Option("--lr", help="Its learning rate. (default: 0.1; adam: 0.001)")
    ] = None,
    gamma: Annotated[
        float | None,
        typer.Option(
            "--gamma",
            help="Bound of the gradient's norm: Euclidean (sgd, default 1), sum of absolute values "
            "(adam, to be given).",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Iterations.")] = 390,
    tau: Annotated[float, typer.Option("--tau", help="Step of the scales.")] = 0.01,
    half_batch: Annotated[
        int, typer.Option("--half-batch", help="Images in a half-batch; a step sees two.")
    ] = 64,
    second_order: Annotated[
        bool,
        typer.Option("--second-order", help="Follow how the step changes with the scales (sgd)."),
    ] = False,
    final: Annotated[
        str, typer.Option("--final", metavar="last|best_feasible", help="Which scales to keep.")
    ] = "last",
    exclude: Annotated[
        str | None,
        typer.Option("--exclude", metavar="GLOB,GLOB,...", help="Tensors that keep their scale."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and batches.")] = 0,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="NAME,NAME,...",
            help="Set beside: none, lsuv, metainit, autoinit-jacobian, autoinit-analytic, "
            "kraehenbuehl; each with the settings of its paper.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", help="Write the result, course included."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw scales and course, and with --compare FILE-comparison: .png, .pdf, .svg.",
        ),
    ] = None,
    style: Annotated[Format, typer.Option("--format", help="table or json.")] = Format.table,
) -> None:
    """Learn by how much to multiply every tensor of a network before training (GradInit).

    Prints a table of scales by layer, the gradient norm and the loss after one step before and
    after, and one plain sentence. Nothing is trained.
    """
    if style is Format.csv:
        raise SpecError("a result of GradInit is no table of columns. Write --format json.")
    if picture is not None:
        from figures.commands import require_format

        require_format(picture)
    from sigprop.extras import require_torch

    require_torch("sigprop gradinit")
    from sigprop.modules.gradinit_settings import Settings
    from sigprop.modules.preparation import require_preparations

    names = options.words(compare) or []
    require_preparations(names)
    globs = tuple(options.words(exclude) or ())
    settings = Settings(
        optimizer=optimizer,
        lr=lr,
        gamma=gamma,
        steps=steps,
        tau=tau,
        second_order=second_order,
        final=final,
        exclude=globs,
    )
    from sigprop.modules.data import load_data
    from sigprop.modules.gradinit import gradinit as learn

    images = load_data(data)
    network = _network(model, images, seed)
    batches = images.train.batches(half_batch, seed=seed, epochs=None)
    with _progress(steps) as log:
        result = learn(network, batches, _cross_entropy, **settings.given(), apply=False, log=log)
    what = f"{model} on {images.name}, seed {seed}"
    beside = _compared(network, names, images, batches, settings, seed) if names else None
    _print(result, beside, style)
    if out is not None:
        from figures._base import replacing

        with replacing(out) as part:
            part.write_text(result.to_json() + "\n")
        print(f"wrote {out}", file=sys.stderr)
    if picture is not None:
        from figures.commands import save_picture
        from figures.gradinit._panels import draw_comparison, draw_result

        drawn = {picture: draw_result(result, what)}
        if beside is not None:
            second = picture.with_name(f"{picture.stem}-comparison{picture.suffix}")
            drawn[second] = draw_comparison(beside, what)
        for path, figure in drawn.items():
            save_picture(figure, path)
            print(f"wrote {path}", file=sys.stderr)


def _network(spec: str, images: ImageSet, seed: int) -> nn.Module:
    """A small network by its line of text, or a module of the user's own."""
    import torch

    from sigprop.modules.architectures import Architecture, architecture
    from sigprop.modules.source import load_source

    kind, colon, rest = spec.partition(":")
    # An option has "=", the name of a function has not; a single word is meant as a network.
    if kind.strip() in Architecture.family or not colon or "=" in rest:
        return architecture(spec).build(images.shape, images.classes, seed=seed)
    source = load_source(spec, device="cpu")
    source.require()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return source.build()


def _cross_entropy(output: Any, batch: Any) -> Any:
    import torch
    from torch.nn.functional import cross_entropy

    labels = batch[1]
    last = int(labels.max())
    told = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if not isinstance(told, tuple) or len(told) != 2 or told[1] <= last:
        raise SpecError(
            f"the network returned {told} for {len(labels)} images with labels up to {last}, so "
            "there is no cross-entropy. Let it return one tensor, a score for every image and "
            f"class: ({len(labels)}, {last + 1})."
        )
    return cross_entropy(output, labels)


def _compared(
    network: nn.Module, names: list[str], images: ImageSet, batches: Any, settings: Any, seed: int
) -> Any:
    from sigprop.modules.preparation import Task, compare_preparations

    held = images.validation
    task = Task(
        batches=batches,
        held=held.take(slice(min(_HELD, len(held)))),
        loss_fn=_cross_entropy,
        input_shape=images.shape,
        classes=images.classes,
        settings=settings,
        seed=seed,
    )
    asked = ["gradinit", *(name for name in names if name != "gradinit")]

    def tell(name: str) -> None:
        if sys.stderr.isatty():
            print(f"comparing: {name} ...", file=sys.stderr)

    return compare_preparations(network, asked, task, progress=tell)


def _print(result: Any, beside: Any, style: Format) -> None:
    from sigprop.modules.gradinit_report import comparison_text, result_text

    if style is Format.table:
        print(result_text(result))
        if beside is not None:
            print()
            print(comparison_text(beside))
        return
    if beside is None:
        print(result.to_json())
        return
    import json

    from sigprop import export

    whole = json.loads(result.to_json()) | {"comparison": json.loads(export.json(beside))}
    print(json.dumps(whole, indent=1))


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Yield what is called after every iteration: a bar with case and norm, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("gradinit"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps)

        def log(row: dict[str, Any]) -> None:
            words = {"c": "lowering the norm", "o": "lowering the stepped loss"}[row["case"]]
            told = f"norm {row['grad_norm']:.3g}, {words}"
            bar.update(task, completed=row["iteration"] + 1, description=told)

        yield log
