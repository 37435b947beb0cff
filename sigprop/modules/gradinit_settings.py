"""The settings of GradInit: what may be asked for, and what is refused before any work."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from sigprop.errors import SpecError, UnknownName
from sigprop.registry import did_you_mean

__all__ = ["Exclude", "Settings"]

Exclude = Iterable[str] | Callable[[str, torch.Tensor], bool]

_CHOICES = {
    "optimizer": ("sgd", "adam"),
    "moments": ("shared", "split"),
    "hvp": ("auto", "double", "fd"),
    "backend": ("auto", "functional", "inplace"),
    "final": ("last", "best_feasible"),
}
_LR = {"sgd": 0.1, "adam": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting of `sigprop.modules.gradinit`, where they are described."""

    optimizer: str = "sgd"
    lr: float | None = None
    gamma: float | None = None
    steps: int = 390
    tau: float = 1e-2
    normalize: bool = True
    min_scale: float = 0.01
    min_scale_bias: float = 0.0
    max_scale: float | None = None
    clip: float | None = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    moments: str = "shared"
    overlap: float = 0.5
    second_order: bool = False
    hvp: str = "auto"
    backend: str = "auto"
    exclude: Exclude = ()
    final: str = "last"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UnknownName(
                    f"{name}={value!r} is not known.{did_you_mean(value, known)} "
                    f"Known: {', '.join(known)}."
                )
        missing = [name for name in ("lr", "gamma") if getattr(self, name) is None]
        object.__setattr__(self, "_defaults", tuple(missing))
        if self.lr is None:
            object.__setattr__(self, "lr", _LR[self.optimizer])
        if self.gamma is None:
            if self.optimizer == "adam":
                raise SpecError(
                    "gamma was not given, and for optimizer 'adam' it bounds the sum of |g|, which "
                    "grows with the square root of the number of parameters: no default fits. "
                    "Look at grad_norm in `before`, and give for example gamma=100."
                )
            object.__setattr__(self, "gamma", 1.0)
        for name, advice in (
            ("lr", "the learning rate of the training to come, such as 0.1"),
            ("gamma", "1 for sgd, or inf for no bound"),
            ("tau", "the size of a step of the scales, such as 0.01"),
            ("eps", "1e-8"),
        ):
            value = getattr(self, name)
            if not _number(value) or not value > 0 or (name != "gamma" and math.isinf(value)):
                raise SpecError(
                    f"{name} must be positive, got {value!r}: it is a size. Give {advice}."
                )
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise SpecError(
                f"steps must be a whole number, 1 or more, got {self.steps!r}: it counts the "
                "iterations of both cases. Give for example steps=390."
            )
        if self.clip is not None and not (_number(self.clip) and self.clip > 0):
            raise SpecError(
                f"clip must be positive or None, got {self.clip!r}: it bounds every derivative. "
                "Give clip=1, or clip=None for no bound."
            )
        if self.overlap not in (0, 0.5, 1):
            raise SpecError(
                f"overlap is 0, 0.5 or 1, got {self.overlap!r}: the share of the batch of the step "
                "on which its outcome is seen too, in half-batches. Give overlap=0.5."
            )
        pair = isinstance(self.betas, (tuple, list)) and len(self.betas) == 2
        if not pair or not all(_number(b) and 0 <= b < 1 for b in self.betas):
            raise SpecError(
                f"betas must be two numbers in [0, 1), got {self.betas!r}: the memory of the "
                "moments. Give betas=(0.9, 0.999)."
            )
        object.__setattr__(self, "betas", tuple(self.betas))
        if not callable(self.exclude):
            globs = (self.exclude,) if isinstance(self.exclude, str) else tuple(self.exclude)
            object.__setattr__(self, "exclude", globs)
        self._check_bounds()

    def _check_bounds(self) -> None:
        for name in ("min_scale", "min_scale_bias"):
            value = getattr(self, name)
            if not _number(value) or not 0 <= value <= 1:
                raise SpecError(
                    f"{name} must be between 0 and 1, got {value!r}: scales start at 1 and are "
                    "never negative. Give for example 0.01."
                )
        if self.max_scale is not None and not (_number(self.max_scale) and self.max_scale >= 1):
            raise SpecError(
                f"max_scale must be 1 or more, or None, got {self.max_scale!r}: scales start at "
                "1. Give for example max_scale=100."
            )

    def excludes(self, name: str, value: torch.Tensor) -> bool:
        """Whether the tensor keeps its scale: by the predicate or by one of the globs."""
        if callable(self.exclude):
            return bool(self.exclude(name, value))
        return any(fnmatch.fnmatchcase(name, glob) for glob in self.exclude)

    def require_matches(self, names: Iterable[str]) -> None:
        """Raise SpecError if a glob of ``exclude`` fits no tensor: it is misspelt."""
        known = list(names)
        for glob in () if callable(self.exclude) else self.exclude:
            if not fnmatch.filter(known, glob):
                raise SpecError(
                    f"exclude names {glob!r}, which fits no trainable tensor, so that nothing "
                    f"would be excluded.{did_you_mean(glob, known)} There are: "
                    f"{', '.join(known)}."
                )

    def lower(self, name: str) -> float:
        """Floor of the scale of a tensor: biases may vanish, weights may not."""
        return self.min_scale_bias if "bias" in name.rpartition(".")[2] else self.min_scale

    def given(self) -> dict[str, Any]:
        """As arguments of `sigprop.modules.gradinit`; None where the default is to be taken."""
        return self._values() | dict.fromkeys(self.defaults)

    @property
    def defaults(self) -> tuple[str, ...]:
        """Which of ``lr`` and ``gamma`` were not given, so that they have their default."""
        found: tuple[str, ...] = self.__dict__["_defaults"]
        return found

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it; ``defaults`` names what was not given."""
        values = self._values() | {"defaults": list(self.defaults)}
        exclude = self.exclude
        values["exclude"] = (
            f"predicate {getattr(exclude, '__name__', type(exclude).__name__)}"
            if callable(exclude)
            else list(exclude)
        )
        values["betas"] = list(self.betas)
        return values


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
