"""One small registry serves every family of named things.

A family (schemes, activations, laws, observables, samplers) is a `Registry`: a mapping
from a name to a class or object, filled by a decorator and asked by name. An unknown
name is answered by the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from sigprop.errors import UnknownName

__all__ = ["Registry", "did_you_mean"]

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of ``known``, or ``""``."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


class Registry(Mapping[str, T]):
    """Names of one family, in the order of their registration.

    Parameters
    ----------
    family : str
        What a member is called in a message: ``"activation"``.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under ``name``.

        A class so registered gets the attribute ``kind = name``. A name taken by
        another member raises ValueError.
        """

        def decorate(member: T) -> T:
            standing = self._members.get(name)
            if standing is not None and standing is not member:
                raise ValueError(f"the {self.family} {name!r} is registered already: {standing!r}")
            if isinstance(member, type):
                member.kind = name  # type: ignore[attr-defined]
            self._members[name] = member
            return member

        return decorate

    def __getitem__(self, name: str) -> T:
        try:
            return self._members[name]
        except (KeyError, TypeError):
            known = sorted(self._members)
            article = "an" if self.family[0] in "aeiou" else "a"
            raise UnknownName(
                f"{name!r} is not {article} {self.family}.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}."
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
