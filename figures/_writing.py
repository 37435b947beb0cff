"""What a command writes beside what it prints: refused before any work, or written whole and told.

Where it was written goes to stderr, for stdout holds the result and nothing else.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sigprop.errors import OutputExists, SpecError, StorageError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = [
    "marked",
    "require_format",
    "require_outputs",
    "save_picture",
    "write_dataset",
    "write_picture",
    "write_text",
]

_FORMATS = (".png", ".pdf", ".svg")


def require_format(path: Path) -> None:
    """Raise SpecError, before any work, unless the name says in what format to draw."""
    if path.suffix.lower() not in _FORMATS:
        raise SpecError(
            f"a picture is written as {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'!r} in "
            f"{str(path)!r}. Write for example: {path.with_suffix('.png')}"
        )


def require_outputs(
    out: Path | None, picture: Path | None, own: Callable[[Path], bool] | None = None
) -> None:
    """Raise, before any work, unless both can be written.

    Parameters
    ----------
    out, picture : Path or None
        What ``--out`` and ``--plot`` name.
    own : callable, optional
        Whether what stands at ``out`` is of the command's own kind, and may be replaced.

    Raises
    ------
    SpecError, StorageError, OutputExists
        For a format that is not drawn, a directory that is absent or not to be written to, and a
        file of another kind.
    """
    from sigprop.result import require_writable

    if picture is not None:
        require_format(picture)
    for path in (out, picture):
        if path is not None:
            require_writable(path)
    if out is not None and own is not None and out.exists() and not own(out):
        raise OutputExists(
            f"{out} holds something else than this command writes, which would be lost. Name "
            "another with --out."
        )


def marked(attribute: str, value: str) -> Callable[[Path], bool]:
    """Whether a file is a netCDF file with this attribute."""

    def own(path: Path) -> bool:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return bool(file.attrs.get(attribute) == value)
        except OSError:
            return False

    return own


def write_dataset(found: xr.Dataset, path: Path) -> None:
    """Write a netCDF file, and say so."""
    from figures._base import replacing

    with replacing(path) as part:
        found.to_netcdf(part, engine="h5netcdf")
    print(f"wrote {path}", file=sys.stderr)


def write_text(text: str, path: Path) -> None:
    """Write a file of text, and say so."""
    from figures._base import replacing

    with replacing(path) as part:
        part.write_text(text)
    print(f"wrote {path}", file=sys.stderr)


def write_picture(figure: Figure, path: Path) -> None:
    """Save a picture, and say so."""
    save_picture(figure, path)
    print(f"wrote {path}", file=sys.stderr)


def save_picture(figure: Figure, path: Path) -> None:
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
