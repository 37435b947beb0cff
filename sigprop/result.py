"""Results on disk: a netCDF-4 file that xarray opens anywhere, and that says how it was made.

The root of the file is the result, an `xarray.Dataset`. Its group ``state`` holds the sums
over the complete blocks of replicas, from which a longer run goes on as if it had never
stopped; of a sweep, the times that its points took. A checkpoint of a run under way is a
file of the same kind, named ``<output>.part``, of another schema; that of a sweep is a
`sigprop.journal`.

A file is composed in memory and then written beside its destination, flushed and renamed:
whatever happens, what stood there before stands there still, or the new file does. HDF5 is
written and read directly, following the netCDF-4 conventions (dimension scales, one
``_Netcdf4Dimid`` each), since a hundred variables take ten times longer through xarray.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop import journal
from sigprop.accumulate import State
from sigprop.errors import OutputExists, ResultError, StorageError

if TYPE_CHECKING:
    import h5py
    import xarray as xr

    from sigprop.spec import Ensemble

__all__ = [
    "CHECKPOINT",
    "RESULT",
    "SWEEP",
    "VERSION",
    "checked",
    "checkpoint_path",
    "default_name",
    "load",
    "read",
    "require_writable",
    "save",
]

RESULT = "sigprop-result"
CHECKPOINT = "sigprop-checkpoint"
SWEEP = "sigprop-sweep"  # a grid of results in one file, with a dimension for every axis
VERSION = 1

_REQUIRED = ("ensemble", "digest", "seed", "replicas", "sampler", "sampler_version", "block")
_REQUIRED_OF_SWEEP = ("axes", "digest", "seed", "replicas", "sampler", "coupled", "observe")
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. "


def default_name(
    ensemble: Ensemble, seed: int, *, tilt: float | None = None, population: int | None = None
) -> str:
    """Name of the file of a run: what it is, for the eye, and the digest, for certainty.

    ``fixup-res3-relu-d100-L1000-s0-1f0c9a3e.nc``: scheme, block, activation, width, depth,
    seed, and the first 8 digits of the digest of the ensemble; ``-tilt1.9`` or ``-N1000`` where
    networks are weighted. Images add their size, as in ``d64-8x8``.
    """
    network = ensemble.network
    weighted = f"-tilt{tilt:g}" if tilt is not None else ""
    weighted += f"-N{population}" if population is not None else ""
    image = f"-{network.shape_of_image}" if network.convolutional else ""
    return (
        f"{ensemble.scheme.kind}-{network.block}-{network.phi.kind}-d{network.width}{image}"
        f"-L{network.depth}-s{seed}-{ensemble.digest[:8]}{weighted}.nc"
    )


def checkpoint_path(out: Path) -> Path:
    """Where the checkpoint of the run that ends in ``out`` stands."""
    return out.parent / f"{out.name}.part"


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a result into memory, checked.

    Parameters
    ----------
    path : path
        A file that `sigprop.simulate` or `sigprop.sweep` wrote, or the commands of that name.

    Raises
    ------
    ResultError
        If there is no such file, or if it is truncated, unfinished, foreign, or of a
        version of the schema that this version of sigprop does not know.
    """
    return read(path, (RESULT, SWEEP))[0]


def read(
    path: str | os.PathLike[str], schema: str | Sequence[str] = RESULT, *, state: bool = False
) -> tuple[xr.Dataset, State]:
    """Return (dataset, state) of a file of ``schema``, or of one of them.

    The state is empty unless asked for.
    """
    import h5py

    path = Path(path)
    schemas = (schema,) if isinstance(schema, str) else tuple(schema)
    if not os.path.isfile(path):
        what = "is a directory" if os.path.isdir(path) else "does not exist"
        raise ResultError(
            f"{path} {what}, so there is no result to read. Make one with sigprop simulate."
        )
    if journal.is_one(path):
        raise ResultError(
            f"{path} is the checkpoint of a sweep that has not ended, not a result. Finish it with "
            f"--resume (resume=True) and --out {path.with_suffix('')}."
        )
    try:
        with h5py.File(path, "r") as file:
            _check_schema(file, path, schemas)
            dataset = _read_group(file)
            sums = {k: v.values for k, v in _read_group(file["state"]).items()} if state else {}
    except ResultError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ResultError(
            f"{path} cannot be read as a result: {str(error).strip()}. It is truncated, damaged "
            "or no netCDF-4 file. Run the simulation again with --force."
        ) from error
    _check_content(dataset, path)
    return dataset, sums  # type: ignore[return-value]


def checked(path: Path, schema: str) -> xr.Dataset:
    """Read the dataset of an output that is about to be gone on from or shown.

    Raises
    ------
    OutputExists
        If it is no file of this schema: what stands there is left as it is.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("schema") == schema:
                return _read_group(file)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError):
        pass  # damaged, or no netCDF-4 file at all
    raise OutputExists(
        f"{path} holds something else, which would be lost (it is no {schema} file, or damaged). "
        "Name another with --out, or add --force to replace it."
    )


def _check_schema(file: h5py.File, path: Path, schemas: tuple[str, ...]) -> None:
    found = file.attrs.get("schema")
    if found == CHECKPOINT not in schemas:
        raise ResultError(
            f"{path} is the checkpoint of a run that has not ended, not a result. Finish the run "
            f"with --resume (resume=True) and --out {path.with_suffix('')}."
        )
    if found == SWEEP not in schemas:
        raise ResultError(
            f"{path} is a sweep, a grid of many results, and one result is needed here. Run one of "
            "its points with sigprop simulate, or read it with sigprop show (sigprop.load)."
        )
    if found not in schemas:
        raise ResultError(
            f"{path} is no result of sigprop: its attribute 'schema' is {found!r}, not "
            f"{schemas[0]!r}, so nothing is known of its numbers. Name a file that sigprop "
            "simulate wrote."
        )
    version = _plain(file.attrs.get("schema_version"))
    if version != VERSION:
        raise ResultError(
            f"{path} has version {version!r} of the schema, and this version of sigprop reads "
            f"version {VERSION}. Read it with the version of sigprop named in its attribute "
            "'software', or run it again with --force."
        )


def _check_content(dataset: xr.Dataset, path: Path) -> None:
    schema = dataset.attrs["schema"]
    required = _REQUIRED_OF_SWEEP if schema == SWEEP else _REQUIRED
    missing = [f"attribute {name!r}" for name in required if name not in dataset.attrs]
    axes = str(dataset.attrs.get("axes", "")).split() if schema == SWEEP else ["layer"]
    missing += [f"coordinate {axis!r}" for axis in axes if axis not in dataset.coords]
    if schema != CHECKPOINT and not any("layer" in v.dims for v in dataset.data_vars.values()):
        missing.append("any variable over 'layer'")
    if missing:
        raise ResultError(
            f"{path} lacks {', '.join(missing)}, so it is no whole result. "
            "Run the simulation again with --force."
        )


def require_writable(path: Path) -> None:
    """Raise StorageError unless a file can be written where ``path`` is to stand."""
    folder = path.parent
    taken = os.path.isdir(path)  # unlike Path.is_dir, False for a name that cannot be
    if taken or not os.path.isdir(folder):
        what = f"{path} is a directory" if taken else f"there is no directory {folder}"
        raise StorageError(f"{what}, so no result can be written to {path}. Name another output.")
    try:
        with _beside(path) as temporary:
            temporary.touch()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"{path} cannot be written: {reason}. Nothing was simulated. "
            "Name an output in a directory where you may write."
        ) from error


def save(dataset: xr.Dataset, state: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a result or a checkpoint, atomically.

    Parameters
    ----------
    dataset : Dataset
        Its attribute ``schema`` says which of the two it is.
    state : mapping of str to ndarray
        Sums over complete blocks.
    path : Path

    Raises
    ------
    StorageError
        If the disk refuses; what stood at ``path`` stands there still.
    """
    image = _compose(dataset, state)
    try:
        with _beside(path) as temporary:
            with open(temporary, "wb") as file:
                file.write(image)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}. What stood there before "
            "is untouched. Make room, or name another output."
        ) from error
    # The rename itself is lasting only once the directory is flushed; not every system can.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file in the directory of ``path``, gone afterwards."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


# ------------------------------------------------------------------- netCDF-4


def _compose(dataset: xr.Dataset, state: Mapping[str, np.ndarray]) -> bytes:
    import h5py
    import xarray as xr

    sums = {}
    for name, values in state.items():
        # A dimension is named by its size: what the axes mean, the observables know.
        sums[name] = ([f"size_{size}_{axis}" for axis, size in enumerate(values.shape)], values)
    numbers = itertools.count()
    with h5py.File("result", "w", driver="core", backing_store=False, track_order=True) as file:
        file.attrs["_NCProperties"] = f"version=2,h5py={h5py.__version__}"
        _write_group(file, dataset, numbers)
        _write_group(file.create_group("state", track_order=True), xr.Dataset(sums), numbers)
        file.flush()
        return bytes(file.id.get_file_image())


def _write_group(group: h5py.Group, dataset: xr.Dataset, numbers: Iterator[int]) -> None:
    scales = {}
    for dim, size in dataset.sizes.items():
        name = str(dim)
        if dim in dataset.coords:
            scale = _write_variable(group, name, dataset[dim])
            scale.make_scale(name)
        else:
            scale = group.create_dataset(name, shape=(size,), dtype=">f4")
            scale.make_scale(f"{_NO_VARIABLE}{size:10d}")
        scale.attrs["_Netcdf4Dimid"] = np.int32(next(numbers))
        scales[dim] = scale
    for label, variable in dataset.variables.items():
        if label in dataset.sizes:
            continue
        written = _write_variable(group, str(label), variable)
        for axis, dim in enumerate(variable.dims):
            written.dims[axis].attach_scale(scales[dim])
    for name, value in dataset.attrs.items():
        group.attrs[name] = value
    further = sorted(str(name) for name in dataset.coords if name not in dataset.sizes)
    if further:
        group.attrs["coordinates"] = " ".join(further)  # the convention of xarray, and of CF


def _write_variable(group: h5py.Group, name: str, variable: Any) -> h5py.Dataset:
    import h5py

    values, options = variable.values, {}
    attrs = dict(variable.attrs)
    if values.dtype == bool:
        values, attrs["dtype"] = values.astype(np.int8), "bool"  # xarray's convention
    if values.dtype.kind in "UO":
        values, options = values.astype(object), {"dtype": h5py.string_dtype()}
    elif values.size > 4096:
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if values.size and values.ndim and values.dtype.kind != "O":
        options["fletcher32"] = True
    written = group.create_dataset(name, data=values, **options)
    for key, value in attrs.items():
        written.attrs[key] = value
    return written


def _read_group(group: h5py.Group) -> xr.Dataset:
    import h5py
    import xarray as xr

    variables = {}
    for name, item in group.items():
        if not isinstance(item, h5py.Dataset):
            continue
        label = item.attrs.get("NAME", b"")
        label = label.decode() if isinstance(label, bytes) else str(label)
        if label.startswith(_NO_VARIABLE):
            continue
        if item.is_scale:
            dims: tuple[str, ...] = (name,)
        else:
            dims = tuple(dim[0].name.rpartition("/")[2] for dim in item.dims)
        values = item[()]
        if h5py.check_string_dtype(item.dtype):
            values = item.asstr()[()].astype(str)
        attrs = {key: _plain(item.attrs[key]) for key in item.attrs if key not in _HIDDEN}
        if attrs.pop("dtype", "") == "bool":
            values = values.astype(bool)
        variables[name] = (dims, np.asarray(values), attrs)
    attrs = {key: _plain(group.attrs[key]) for key in group.attrs if key not in _HIDDEN}
    further = attrs.pop("coordinates", "").split()
    coordinates = {n: v for n, v in variables.items() if v[0] == (n,) or n in further}
    rest = {name: v for name, v in variables.items() if name not in coordinates}
    return xr.Dataset(rest, coordinates, attrs)


_HIDDEN = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_NCProperties"}
_HIDDEN |= {"_Netcdf4Coordinates"}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
