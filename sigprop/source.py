"""The text of a user's function, so that a result can say which law it was made by.

Two functions of one name must never share a digest, so the values of everything that a
function refers to belong to its text.
"""

from __future__ import annotations

import ast
import inspect
import numbers
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from sigprop.errors import SpecError

__all__ = ["text"]


def text(function: Callable[..., Any], seen: tuple[int, ...] = ()) -> str:
    """Return the source of ``function``, and the value of every name that it takes from outside.

    Raises
    ------
    SpecError
        If the source cannot be read, or refers to something whose value cannot be written.
    """
    name = getattr(function, "__name__", repr(function))
    try:
        written = textwrap.dedent(inspect.getsource(function)).strip()
        if name == "<lambda>":
            ast.parse(written)  # a lambda that spans lines may come back cut
    except (OSError, TypeError, SyntaxError) as error:
        raise SpecError(
            f"the source of function {name!r} cannot be read, and a result must record it. "
            "Define it with def, in a file or a notebook cell."
        ) from error
    lines = [written]
    if function.__defaults__:
        lines.append(f"# defaults: {function.__defaults__!r}")
    outside = inspect.getclosurevars(function)
    for key, value in sorted({**outside.globals, **outside.nonlocals}.items()):
        value = getattr(value, "py_func", value)
        if isinstance(value, types.ModuleType):
            lines.append(f"# {key}: module {value.__name__}")
        elif isinstance(value, types.FunctionType):
            if id(value) not in (*seen, id(function)):
                lines.append(f"# {key}:\n{text(value, (*seen, id(function), id(value)))}")
        elif isinstance(value, (types.BuiltinFunctionType, np.ufunc, type)):
            lines.append(f"# {key}: {getattr(value, '__module__', '')}.{value.__name__}")
        elif _is_constant(value):
            lines.append(f"# {key} = {value!r}")
        else:
            raise SpecError(
                f"function {name!r} refers to {key!r}, a {type(value).__name__}, whose value a "
                "result cannot record. Use numbers, functions and modules only."
            )
    return "\n".join(lines)


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_constant(item) for item in value)
    return value is None or isinstance(value, (numbers.Number, str, np.bool_))
