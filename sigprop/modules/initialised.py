"""A case of a study that begins with one of the initialisers of `sigprop.modules.init`.

>>> start = initialised("resnet:norm=none,alpha=1", "fixup")
>>> start.about
{'scheme': 'fixup', 'options': {}}
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from sigprop.errors import SpecError, UnknownName
from sigprop.modules import init
from sigprop.modules.data import ImageSet
from sigprop.modules.study import Case
from sigprop.registry import did_you_mean

__all__ = ["initialised"]

_SCHEMES = tuple(name.removesuffix("_") for name in init.__all__ if name.endswith("_"))
_EXAMPLES = 2  # images by which a network's anatomy is found


def initialised(network: str, scheme: str, **options: Any) -> Case:
    """The network of a line of text, initialised anew by a scheme before it is trained.

    Parameters
    ----------
    network : str
        For `sigprop.modules.architecture`.
    scheme : str
        A function of `sigprop.modules.init` without its underscore, such as ``fixup``.
    **options
        Of that function, in plain values: ``alpha=0.5``.

    Returns
    -------
    Case
        Weights come from the seed of the run that is for preparation; what the scheme leaves
        alone is as the network was built.

    Raises
    ------
    UnknownName, SpecError
        If there is no such scheme or option. What the scheme itself refuses it refuses when the
        study begins to run.
    """
    if scheme not in _SCHEMES:
        raise UnknownName(
            f"{scheme!r} is not an initialiser.{did_you_mean(scheme, _SCHEMES)} "
            f"Known: {', '.join(_SCHEMES)}."
        )
    function = getattr(init, f"{scheme}_")
    known = [p.name for p in inspect.signature(function).parameters.values()
             if p.kind is p.KEYWORD_ONLY and p.name not in ("generator", "anatomy")]  # fmt: skip
    for name in options:
        if name not in known:
            raise SpecError(
                f"{scheme}_ has no option {name!r}.{did_you_mean(name, known)} "
                f"Options: {', '.join(known) or 'none'}."
            )

    def prepare(module: nn.Module, data: ImageSet, seed: int) -> object:
        images, _ = data.train.take(slice(0, _EXAMPLES))
        draws = torch.Generator().manual_seed(seed)
        return function(module, images, generator=draws, **options)

    return Case(network=network, prepare=prepare, about={"scheme": scheme, "options": options})
