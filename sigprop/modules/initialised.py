"""Cases of a study that begin with one of the initialisers of `sigprop.modules.init`.

>>> start = initialised("resnet:norm=none,alpha=1", "fixup")
>>> start.about
{'scheme': 'fixup', 'options': {}}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sigprop.errors import SpecError, UnknownName
from sigprop.modules import init
from sigprop.modules.data import ImageSet
from sigprop.modules.study import Case
from sigprop.registry import did_you_mean

__all__ = ["by_scheme", "initialised"]

_SCHEMES = tuple(sorted(name.removesuffix("_") for name in init.__all__ if name.endswith("_")))
_EXAMPLES = 2  # images by which a network's anatomy is found


def by_scheme(name: str, **options: Any) -> Callable[[nn.Module, ImageSet, int], object]:
    """A `Case.prepare` that initialises by a scheme: ``he``, ``fixup``, ...

    Parameters
    ----------
    name : str
        Of a function of `sigprop.modules.init`, without its underscore.
    **options
        Of that function: ``alpha=0.5``.

    Raises
    ------
    UnknownName, SpecError
        If there is no such scheme or option; the nearest is told. What the scheme itself refuses
        it refuses when it is called.
    """
    if name not in _SCHEMES:
        raise UnknownName(
            f"{name!r} is not a scheme for modules.{did_you_mean(name, _SCHEMES)} "
            f"Known: {', '.join(_SCHEMES)}."
        )
    function = getattr(init, f"{name}_")
    known = [p.name for p in inspect.signature(function).parameters.values()
             if p.kind is p.KEYWORD_ONLY and p.name not in ("generator", "anatomy")]  # fmt: skip
    for option in options:
        if option not in known:
            raise SpecError(
                f"{name}_ has no option {option!r}.{did_you_mean(option, known)} "
                f"Options: {', '.join(known) or 'none'}."
            )

    def prepare(network: nn.Module, data: ImageSet, seed: int) -> object:
        images, _ = data.train.take(slice(0, _EXAMPLES))
        generator = torch.Generator().manual_seed(seed)
        return function(network, images, generator=generator, **options)

    return prepare


def initialised(network: str, scheme: str, **options: Any) -> Case:
    """The network of a line of text, initialised anew by a scheme before it is trained.

    Parameters
    ----------
    network : str
        For `sigprop.modules.architecture`.
    scheme : str
    **options
        As of `by_scheme`, in plain values.

    Returns
    -------
    Case
        Weights come from the seed of the run that is for preparation; what the scheme leaves
        alone is as the network was built.

    Raises
    ------
    UnknownName, SpecError
        As `by_scheme`.
    """
    prepare = by_scheme(scheme, **options)
    return Case(network=network, prepare=prepare, about={"scheme": scheme, "options": options})
