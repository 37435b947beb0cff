"""What an initialiser did: a line for every parameter of the module."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["InitReport", "Setting"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What became of one parameter.

    Attributes
    ----------
    tensor : str
        Its name, as `named_parameters` has it.
    role : str
        ``weight``, ``bias``, ``norm gain``, ``norm bias``, ``branch scalar``, ``scalar bias`` or
        ``other``.
    rule : str or None
        What it was set to, as a formula: ``He``, ``0``, ``He L^-1/2``; None if it was left alone.
    std : float or None
        Standard deviation of its entries as drawn; 0 for a constant; None if left alone.
    value : float or None
        The constant that all its entries are, if it is one.
    why : str
        What it is in the scheme, or why it was left alone.
    """

    tensor: str
    role: str
    rule: str | None = None
    std: float | None = None
    value: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """What an initialiser did to a module.

    Attributes
    ----------
    scheme : str
        Name of the initialiser, without its underscore.
    options : dict
        Its parameters.
    sums : int
        L, the number of residual sums.
    settings : tuple of Setting
        One for every parameter, in the order of the module.
    notes : tuple of str
        Where the module is not what the scheme was defined for, in sentences.
    """

    scheme: str
    options: dict[str, Any]
    sums: int
    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, tensor: str) -> Setting:
        for setting in self.settings:
            if setting.tensor == tensor:
                return setting
        raise KeyError(tensor)

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.settings)

    @property
    def set(self) -> tuple[Setting, ...]:
        """What was set."""
        return tuple(s for s in self.settings if s.rule is not None)

    @property
    def left(self) -> tuple[Setting, ...]:
        """What was left alone."""
        return tuple(s for s in self.settings if s.rule is None)

    def grouped(self) -> list[tuple[str, str | None, str, int]]:
        """(role, rule, why, how many parameters), in the order in which they first occur."""
        counts: dict[tuple[str, str | None, str], int] = {}
        for s in self.settings:
            key = (s.role, s.rule, s.why)
            counts[key] = counts.get(key, 0) + 1
        return [(*key, count) for key, count in counts.items()]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "scheme": self.scheme,
            "options": dict(self.options),
            "sums": self.sums,
            "settings": [dataclasses.asdict(s) for s in self.settings],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        said = ", ".join(f"{k} = {v}" for k, v in self.options.items())
        head = f"{self.scheme}({said}), {self.sums} residual sums"
        rows = [("tensor", "set to", "std", "what it is, or why it was left alone")]
        for s in self.settings:
            std = "" if s.std is None else f"{s.std:.4g}"
            rows.append((s.tensor, "left alone" if s.rule is None else s.rule, std, s.why))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        table = [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[3]]).rstrip()
            for row in rows
        ]
        return "\n".join([head, *table, *self.notes])
