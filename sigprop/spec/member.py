"""What every scheme, law, activation, process and input is: a named law that is plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sigprop.errors import SpecError
from sigprop.registry import Registry

__all__ = ["Member", "frozen", "nested", "plain"]

# The families of members that stand in a field of another, by the name of the field.
nested: dict[str, type[Member]] = {}


def plain(value: Any) -> Any:
    """The value as JSON can hold it: members as dicts, arrays and tuples as lists."""
    if isinstance(value, Member):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def frozen(value: Any) -> Any:
    """The value with lists as tuples, as a frozen field wants it."""
    if isinstance(value, Mapping):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    return value


@dataclass(frozen=True, kw_only=True)
class Member:
    """A registered, frozen, keyword-only dataclass that can be written as data.

    ``kind`` is its name in its registry, set on registration.
    """

    kind: ClassVar[str] = ""
    family: ClassVar[Registry[Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"kind": ..., field: value, ...}`` of plain JSON values."""
        if not self.kind:
            raise SpecError(
                f"{type(self).__name__} has no registered name, so a result could not say how "
                f"it was made. Decorate the class with register('some_name') of its family."
            )
        values = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"kind": self.kind, **values}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Any:
        """Rebuild the member that `to_dict` wrote; ``cls.family`` finds its class."""
        values = dict(data)
        member = cls.family[values.pop("kind")]
        for name in list(values):
            value = values[name]
            if isinstance(value, Mapping) and "kind" in value:
                values[name] = nested[name].from_dict(value)
            else:
                values[name] = frozen(value)
        return member(**values)

    @classmethod
    def named(cls, name: str) -> Any:
        """Return the member called ``name`` with its defaults, if it has them all."""
        member = cls.family[name]
        required = [f.name for f in dataclasses.fields(member) if f.default is dataclasses.MISSING]
        if required:
            values = ", ".join(f"{field}=..." for field in required)
            raise SpecError(
                f"the {cls.family.family} {name!r} is not one law but many: it has no default "
                f"{' and '.join(required)}. Write {member.__name__}({values})."
            )
        return member()
