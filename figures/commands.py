"""The command ``plot``: a result on disk to a picture on disk."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sigprop.errors import SpecError, StorageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

_FORMATS = (".png", ".pdf", ".svg")


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
    if path.suffix.lower() not in _FORMATS:
        raise SpecError(
            f"a picture is written as {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'!r} in "
            f"{str(path)!r}. Write for example: --out {path.with_suffix('.png')}"
        )
    from figures.gallery.overview import draw
    from sigprop.result import load

    _save(draw(load(result)), path)
    print(f"wrote {path}")


def _save(figure: Figure, path: Path) -> None:
    """Write beside the target, then rename, so that no half picture is ever left."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(_image(figure, path.suffix.lower().removeprefix(".")))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"the picture cannot be written to {path}: {error.strerror or error}. "
            "Name a folder that exists and that you may write to."
        ) from error


def _image(figure: Figure, kind: str) -> bytes:
    """The bytes of the file; without a date, so that the same result gives the same bytes."""
    from PIL import Image

    from figures._style import style

    undated: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    drawn, packed = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(drawn, format=kind, metadata=undated.get(kind))
    if kind != "png":
        return drawn.getvalue()
    # Line art has few colours: a palette makes the file a third as large.
    with Image.open(drawn) as image:
        flat = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        flat.save(packed, format="png", optimize=True, dpi=image.info["dpi"])
    return packed.getvalue()
