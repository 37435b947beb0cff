"""A grid of laws: axes, what to call their values, and the ensemble at every point.

Ensembles are made when they are needed and not kept, since the tables of a few thousand
deep ones would fill the memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sigprop.errors import SigpropError, SpecError
from sigprop.spec import Ensemble

__all__ = ["LAW_OPTIONS", "Axis", "Grid", "axis_of_text", "grid_of", "value_of_text"]

COUNTS = (
    "depth",
    "width",
    "inner_layers",
    "inner_width",
    "input_width",
    "image",
    "kernel",
    "stride",
    "count",
)  # options that are whole numbers
LAW_OPTIONS = (
    *("scheme", "activation", "law", "process", "inner_process", "block", "depth", "width"),
    *("widths", "inner_layers", "inner_width", "input_width", "image", "kernel", "padding"),
    *("stride", "inputs", "cosine", "count"),
)
_TAKEN = ("layer", "t", "order", "quantile", "input", "pair", "replica", "kept_layer", "ensemble")
_SYNTAX = "start:stop:count, ends included, or a list with commas"


@dataclass(frozen=True)
class Axis:
    """One axis: its name, what is passed at each place, and what the place is called.

    Attributes
    ----------
    name : str
    values : tuple
    labels : ndarray
        int64, float64 or str; the coordinate of the result.
    """

    name: str
    values: tuple[Any, ...]
    labels: np.ndarray

    @classmethod
    def of(cls, name: str, given: Sequence[Any] | Mapping[str, Any] | np.ndarray) -> Axis:
        """Check an axis as `sigprop.sweep` takes it.

        Raises
        ------
        SpecError
            If it is empty, has a value twice, or a name that the result uses otherwise.
        """
        if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN:
            raise SpecError(
                f"{name!r} cannot be the name of an axis: it must be a word, and none of "
                f"{', '.join(_TAKEN)}, which every result has. Choose another."
            )
        if isinstance(given, str) or not isinstance(given, (Sequence, Mapping, np.ndarray)):
            raise SpecError(
                f"axis {name!r} must be a sequence of values, or a mapping from labels to values, "
                f"got {given!r}. Write for example: {{{name!r}: [0.25, 0.5, 1.0]}}."
            )
        if isinstance(given, Mapping):
            values, labels = tuple(given.values()), np.array([str(key) for key in given], dtype=str)
        else:
            values = tuple(v.item() if isinstance(v, np.generic) else v for v in given)
            labels = _labels(name, values)
        if not values:
            raise SpecError(f"axis {name!r} has no value, so there is no point. Give it one.")
        if len(set(labels.tolist())) < len(labels):
            twice = next(v for i, v in enumerate(labels) if v in labels[:i])
            raise SpecError(
                f"axis {name!r} has {twice} twice, and a point of the result would have two "
                "values. Name each once."
            )
        return cls(name, values, labels)


def _labels(name: str, values: tuple[Any, ...]) -> np.ndarray:
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return np.array(values, np.int64)
    if kinds <= {int, float}:
        labels = np.array(values, float)
        if not np.isfinite(labels).all():
            raise SpecError(f"axis {name!r} has a value that is not finite: {list(values)}.")
        return labels
    if not kinds <= {int, float, str, bool, type(None)}:
        raise SpecError(
            f"axis {name!r} must have numbers or words for values, got {values[0]!r}. Name other "
            f"objects: {{{name!r}: {{'first': ..., 'second': ...}}}}."
        )
    words = [str(v).lower() if v is None or isinstance(v, bool) else f"{v}" for v in values]
    return np.array(words, dtype=str)


def axis_of_text(option: str, text: str) -> list[Any] | None:
    """Read what the command line gives for an option of the law; None if it is one value.

    Parameters
    ----------
    option : str
        As typed, ``--beta``.
    text : str
        ``0:1.3:70`` (start, stop, count, ends included), or ``0.25,0.5``, or one value.

    Raises
    ------
    SpecError
        If it is neither, or names no value.
    """
    from sigprop.options import literal, words

    whole = option.removeprefix("--").replace("-", "_") in COUNTS
    if ":" in text and option != "--inputs":
        try:
            ends, count = [float(word) for word in text.split(":")[:2]], int(text.split(":")[2])
            readable = text.count(":") == 2 and all(map(math.isfinite, ends))
        except (ValueError, IndexError):
            readable = False
        if not readable:
            raise SpecError(
                f"{option} {text} cannot be read: a range is {_SYNTAX}. Write for example: "
                f"{option} {'10:1000:10' if whole else '0:1:11'}"
            )
        if count < 1:
            raise SpecError(
                f"{option} {text} asks for {count} values, so there is no point. Ask for one or "
                f"more: {option} {ends[0]:g}:{ends[1]:g}:5"
            )
        numbers = np.linspace(ends[0], ends[1], count)
        if not whole:
            return [float(x) for x in numbers]
        if (np.rint(numbers) != numbers).any():
            odd = numbers[np.rint(numbers) != numbers][0]
            raise SpecError(
                f"{option} {text} gives {odd:g}, and {option} counts. Choose a number of values "
                f"that divides the range, or list them: {option} 10,100,1000"
            )
        return [int(x) for x in numbers]
    if "," not in text:
        return None
    listed = [literal(word) for word in words(text) or []]
    if not listed:
        raise SpecError(f"{option} {text!r} names no value. Write {_SYNTAX}.")
    return [_whole(option, value) for value in listed] if whole else listed


def value_of_text(option: str, text: str) -> Any:
    """Read one value of an option of the law."""
    from sigprop.options import literal

    value = literal(text)
    whole = option.removeprefix("--").replace("-", "_") in COUNTS
    return _whole(option, value) if whole else value


def _whole(option: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpecError(f"{option} must be whole numbers, got {value!r}, since it counts.")
    return value


# ------------------------------------------------------------------------- grid


@dataclass(frozen=True)
class Grid:
    """The product of the axes, the last running fastest, and how to make a law from values."""

    make: Callable[..., Ensemble]
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes)

    def __len__(self) -> int:
        return math.prod(self.shape)

    def _places(self, index: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(index, self.shape)) if self.axes else ()

    def name(self, index: int) -> str:
        """``beta=0.5, scheme=he``."""
        labels = [axis.labels[i] for axis, i in zip(self.axes, self._places(index), strict=True)]
        return ", ".join(
            f"{axis.name}={f'{label:g}' if isinstance(label, float) else label}"
            for axis, label in zip(self.axes, labels, strict=True)
        )

    def ensemble(self, index: int) -> Ensemble:
        """The law at a point; an error names the point."""
        places = zip(self.axes, self._places(index), strict=True)
        values = {axis.name: axis.values[i] for axis, i in places}
        with self.naming(index):
            made = self.make(**values)
            if not isinstance(made, Ensemble):
                raise SpecError(f"make must return an Ensemble, got {made!r}.")
        return made

    def naming(self, index: int) -> _Naming:
        """A context in which an error of ours is told with the name of the point."""
        return _Naming(self, index)


class _Naming:
    def __init__(self, grid: Grid, index: int) -> None:
        self._grid, self._index = grid, index

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, SigpropError) and not isinstance(error, KeyboardInterrupt):
            raise type(error)(f"at {self._grid.name(self._index)}: {error}") from error


def grid_of(make: Callable[..., Ensemble] | Mapping[str, Any], axes: Mapping[str, Any]) -> Grid:
    """Check the axes, and turn a mapping of options into a maker of laws."""
    if not isinstance(axes, Mapping) or not axes:
        raise SpecError(
            f"axes must be a mapping from names to values, got {axes!r}: without an axis there is "
            "one point. Write for example {'beta': [0.25, 0.5]}, or use simulate."
        )
    checked = tuple(Axis.of(name, given) for name, given in axes.items())
    if isinstance(make, Mapping):
        both = sorted(set(make) & set(axes))
        if both:
            raise SpecError(f"{', '.join(both)} is given once for all and as an axis. Choose one.")
        elsewhere = _fields({axis.name: set(axis.values) for axis in checked})
        make = functools.partial(_from_options, dict(make), elsewhere)
    elif not callable(make):
        raise SpecError(
            f"make must be a callable that returns an Ensemble, or a mapping of the options of "
            f"the command line, got {make!r}."
        )
    return Grid(make, checked)


def _from_options(base: Mapping[str, Any], elsewhere: set[str], /, **values: Any) -> Ensemble:
    """The law that options mean, as on the command line.

    An option that the members chosen here do not have, but those at other points do, is
    left out: ``beta`` beside the schemes ``power`` and ``he``.
    """
    from sigprop import options

    given = {**base, **values}
    asked = {name: given.pop(name, None) for name in LAW_OPTIONS}
    here = _fields({family: {name} for family, name in asked.items() if name is not None})
    members = {name: v for name, v in given.items() if name in here or name not in elsewhere}
    own = [f"--{name.replace('_', '-')}" for name in (*LAW_OPTIONS, *sorted(elsewhere))]
    return options.ensemble(asked, members, own)


def _fields(chosen: Mapping[str, set[Any]]) -> set[str]:
    """The options of members, by family and name."""
    import sigprop.activations
    import sigprop.laws
    import sigprop.processes
    import sigprop.schemes  # noqa: F401  the four fill their registries
    from sigprop.spec import Activation, Process, Scheme, WeightLaw

    families: dict[str, Any] = {
        "scheme": Scheme,
        "activation": Activation,
        "law": WeightLaw,
        "process": Process,
        "inner_process": Process,
    }
    return {
        ("inner_" if family == "inner_process" else "") + field.name
        for family, names in chosen.items()
        if family in families
        for name in names
        if name in families[family].family
        for field in dataclasses.fields(families[family].family[name])
    }
