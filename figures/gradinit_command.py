"""The command ``gradinit``: learned scales of a network, beside other initialisations if asked."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figures._writing import require_outputs, write_picture, write_text
from sigprop import options
from sigprop.commands import TableOrJson
from sigprop.errors import SigpropError, SpecError

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
    style: Annotated[
        TableOrJson, typer.Option("--format", help="What to print.")
    ] = TableOrJson.table,
) -> None:
    """Learn by how much to multiply every tensor of a network before training (GradInit).

    Prints a table of scales by layer, the gradient norm and the loss after one step before and
    after, and one plain sentence. Nothing is trained.
    """
    options.seed(seed)
    if half_batch < 1:
        raise SpecError(
            f"--half-batch must be 1 or more, got {half_batch}: it counts images. Write for "
            "example: --half-batch 64"
        )
    second = None if picture is None else picture.with_stem(f"{picture.stem}-comparison")
    require_outputs(out, picture, _is_result)
    require_outputs(None, second if compare else None)
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
    from sigprop.modules.source import as_trained, named_source, scores

    images = load_data(data)
    source = named_source(model, images.shape, classes=images.classes, device="cpu")
    source.require()
    network, told = as_trained(source.drawn(seed))
    scores(source.target, network, images.train.take(slice(0, 2))[0], images.classes)
    batches = images.train.batches(half_batch, seed=seed, epochs=None)
    with _progress(steps) as log:
        result = learn(network, batches, _cross_entropy, **settings.given(), apply=False, log=log)
    if told:
        result = dataclasses.replace(result, warnings=(*result.warnings, told))
    what = f"{model} on {images.name}, seed {seed}"
    beside = _compared(network, names, images, batches, settings, seed) if names else None
    _print(result, beside, style)
    if out is not None:
        write_text(result.to_json() + "\n", out)
    if picture is not None:
        from figures.gradinit._panels import draw_comparison, draw_result

        write_picture(draw_result(result, what), picture)
        if beside is not None and second is not None:
            write_picture(draw_comparison(beside, what), second)


def _is_result(path: Path) -> bool:
    """Whether a file holds what an earlier call wrote."""
    from sigprop.modules.init_result import InitResult

    try:
        return bool(InitResult.from_json(path.read_text()).method == "gradinit")
    except (SigpropError, OSError, ValueError):
        return False


def _cross_entropy(output: Any, batch: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(output, batch[1])


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


def _print(result: Any, beside: Any, style: TableOrJson) -> None:
    from sigprop.modules.gradinit_report import comparison_text, result_text

    if style is TableOrJson.table:
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
