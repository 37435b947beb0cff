"""What a published figure is here: something measured, something predicted, a picture of both.

A figure is a class in a module of its own. `Figure.compute` asks `sigprop` for measurements,
`Figure.predict` asks `analysis` for theory, and `Figure.draw` is a pure function of the two. What
was computed is kept in a netCDF file beside the picture, with the effort that it took, so that
a change of colour costs no simulation: `obtain` computes only what does not stand already.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sigprop.errors import SpecError, StorageError, UnknownName
from sigprop.registry import Registry, did_you_mean

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

__all__ = [
    "BUDGETS",
    "Content",
    "Figure",
    "Progress",
    "load",
    "named",
    "obtain",
    "on_data",
    "replacing",
    "save",
]

BUDGETS = {
    "smoke": "a few seconds: the shape of the figure, and the test",
    "draft": "seconds to a minute: every panel and point, few networks",
    "paper": "the effort of the paper or more",
}

Progress = Callable[[int, int], None]


class Figure:
    """Base of all figures.

    Class attributes
    ----------------
    kind : str
        Its name, as in ``scaling_resnets/fig02``; given by the registry.
    title : str
        One line for ``sigprop figure --list``.
    efforts : mapping
        For each name of `BUDGETS`, the parameters that `compute` and `predict` read: plain JSON
        values, which decide whether what stands on disk is what is asked for.
    version : int
        Raised whenever the same effort would be computed differently.
    trains : bool
        Whether networks are trained on images, which ``--data`` may name.
    long_budgets : tuple of str
        Budgets that take hours or days: ``figure all`` leaves them out, and says so.

    Attributes
    ----------
    data : str
        Those images, as `sigprop.modules.load_data` reads them.
    checkpoint : Path or None
        Where `compute` may keep what is finished while it is at work, or with names that begin
        so; what stands there is of the same request, and is deleted when all is done.
    """

    family: ClassVar[Registry[type[Figure]]] = Registry("figure")
    kind: ClassVar[str] = ""
    title: ClassVar[str] = ""
    efforts: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    version: ClassVar[int] = 1
    trains: ClassVar[bool] = False
    long_budgets: ClassVar[tuple[str, ...]] = ()
    data: str = "digits"
    checkpoint: Path | None = None

    def effort(self, budget: str) -> Mapping[str, Any]:
        """The parameters of ``budget``.

        Raises
        ------
        UnknownName
            If there is no such budget.
        """
        if budget not in self.efforts:
            raise UnknownName(
                f"{budget!r} is not a budget.{did_you_mean(budget, BUDGETS)} "
                f"Known: {', '.join(BUDGETS)}."
            )
        return self.efforts[budget]

    def compute(
        self, budget: str, workers: int | None = None, progress: Progress | None = None
    ) -> dict[str, xr.Dataset]:
        """Measure: datasets by name, each with what it takes to make it again.

        Parameters
        ----------
        budget : str
            A name of `BUDGETS`.
        workers : int, optional
            Threads (default: one a processor). No number depends on it.
        progress : callable, optional
            Called with (steps done, steps in all).
        """
        raise NotImplementedError

    def predict(self, budget: str) -> dict[str, xr.Dataset]:
        """What theory says of the same: datasets by name, the status in their attributes."""
        raise NotImplementedError

    def draw(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> matplotlib.figure.Figure:
        """Draw. Touches no global state, computes no statistics and saves nothing."""
        raise NotImplementedError

    def table(
        self, results: Mapping[str, xr.Dataset], predictions: Mapping[str, xr.Dataset]
    ) -> str:
        """What the command prints beside the picture; nothing, unless numbers are to be read."""
        return ""


def named(name: str) -> Figure:
    """Return the figure of this name.

    Raises
    ------
    UnknownName
        If there is none; the message says which is meant.
    """
    import figures.dynamical_isometry
    import figures.fractional_moments
    import figures.gradinit
    import figures.modules
    import figures.scaling_resnets  # noqa: F401  all of them fill the registry

    ends = sorted(known for known in Figure.family if known.rpartition("/")[2] == name)
    if name not in Figure.family and ends:  # no distance of words finds these
        meant = " or ".join(map(repr, ends))
        raise UnknownName(f"{name!r} is not a figure. Did you mean {meant}?")
    return Figure.family[name]()


def on_data(figure: Figure, data: str) -> Figure:
    """Return ``figure``, of networks trained on ``data``.

    Raises
    ------
    SpecError
        If nothing is trained in it.
    """
    if not figure.trains:
        raise SpecError(
            f"{figure.kind} trains no network on images, so data {data!r} would change nothing in "
            "it. Leave out --data."
        )
    figure.data = data
    return figure


# --------------------------------------------------------------------- on disk


@dataclass(frozen=True)
class Content:
    """What a figure is drawn from."""

    results: dict[str, xr.Dataset]
    predictions: dict[str, xr.Dataset]


def obtain(
    figure: Figure,
    budget: str,
    path: Path,
    *,
    workers: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[Content, bool]:
    """Read what the figure is drawn from if ``path`` holds it, or compute and write it.

    Returns
    -------
    (Content, bool)
        The datasets, and whether they stood there already.

    Raises
    ------
    UnknownName, StorageError
        Before any work, if the budget is unknown or nothing can be written there.
    """
    asked = _request(figure, budget)
    if not force:
        standing = load(path, asked)
        if standing is not None:
            return standing, True
    _require_folder(path)
    digest = hashlib.sha256(asked.encode()).hexdigest()[:8]
    figure.checkpoint = path.with_name(f".{path.name}.{digest}.part")
    if force:
        _delete_beginning(figure.checkpoint)
    content = Content(figure.compute(budget, workers, progress), figure.predict(budget))
    save(content, asked, path)
    _delete_beginning(figure.checkpoint)
    return content, False


def _delete_beginning(path: Path) -> None:
    for found in path.parent.iterdir():
        if found.name.startswith(path.name):
            found.unlink(missing_ok=True)


def _request(figure: Figure, budget: str) -> str:
    import sigprop

    request = {
        "figure": figure.kind,
        "version": figure.version,
        "sigprop": sigprop.__version__,
        "budget": budget,
        "effort": dict(figure.effort(budget)),
    }
    if figure.trains:
        request["data"] = figure.data
    return json.dumps(request, sort_keys=True)


def load(path: Path, request: str) -> Content | None:
    """Read a file of `save`; None where it is absent, damaged or of another request."""
    import xarray as xr

    if not os.path.isfile(path):
        return None
    found: dict[str, dict[str, xr.Dataset]] = {"results": {}, "predictions": {}}
    try:
        with xr.open_dataset(path, engine="h5netcdf") as head:
            if head.attrs.get("request") != request:
                return None
            groups = json.loads(head.attrs["groups"])
        for group in groups:
            role, _, name = group.partition("/")
            with xr.open_dataset(path, engine="h5netcdf", group=group) as dataset:
                found[role][name] = dataset.load()
    except (OSError, ValueError, KeyError):  # of no use: it is made again
        return None
    return Content(**found)


def save(content: Content, request: str, path: Path) -> None:
    """Write one netCDF-4 file with a group for every dataset, beside and then in place."""
    import xarray as xr

    groups = {f"results/{name}": data for name, data in content.results.items()}
    groups |= {f"predictions/{name}": data for name, data in content.predictions.items()}
    head = xr.Dataset(attrs={"request": request, "groups": json.dumps(list(groups))})
    with replacing(path) as part:
        head.to_netcdf(part, mode="w", engine="h5netcdf")
        for group, data in groups.items():
            data.to_netcdf(part, mode="a", engine="h5netcdf", group=group)


def _require_folder(path: Path) -> None:
    """Raise StorageError before any work if nothing can be written there."""
    with replacing(path, empty=True) as part:
        part.touch()


@contextlib.contextmanager
def replacing(path: Path, empty: bool = False) -> Iterator[Path]:
    """Yield a name in the folder of ``path``, which is made; then move it there unless empty."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if not empty:
            os.replace(part, path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}. "
            "Name a folder in which you may write: --out DIR."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
