"""Cases of a study that begin with one of the initialisers of `sigprop.modules.init`.

>>> start = initialised("resnet:norm=none,alpha=1", "fixup")
>>> start.about
{'scheme': 'fixup', 'options': {}}
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, UnknownName
from sigprop.modules import init
from sigprop.modules.data import ImageSet
from sigprop.modules.source import as_trained, named_source, scores
from sigprop.modules.study import Case
from sigprop.modules.train import Seeds
from sigprop.registry import did_you_mean

__all__ = ["OWN", "by_scheme", "cases_of", "initialised", "initialiser"]

OWN = "own"  # the name of no scheme: as the network is built

_SCHEMES = tuple(sorted(name.removesuffix("_") for name in init.__all__ if name.endswith("_")))
_EXAMPLES = 2  # images by which a network's anatomy is found


def initialiser(
    name: str, **options: Any
) -> Callable[[nn.Module, torch.Tensor, torch.Generator], object]:
    """What initialises a network in place by a scheme, called with it, inputs and a generator.

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

    def start(network: nn.Module, example: torch.Tensor, generator: torch.Generator) -> object:
        return function(network, example, generator=generator, **options)

    return start


def by_scheme(name: str, **options: Any) -> Callable[[nn.Module, ImageSet, int], object]:
    """A `Case.prepare` that initialises by a scheme: ``he``, ``fixup``, ...

    Parameters, errors
        Those of `initialiser`.
    """
    start = initialiser(name, **options)

    def prepare(network: nn.Module, data: ImageSet, seed: int) -> object:
        images, _ = data.train.take(slice(0, _EXAMPLES))
        return start(network, images, torch.Generator().manual_seed(seed))

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


def cases_of(model: str, schemes: Sequence[str], images: ImageSet, seed: int) -> dict[str, Case]:
    """A case for every scheme; each is built, prepared and run on two images before any training.

    Parameters
    ----------
    model : str
        As `sigprop.modules.source.named_source` reads it; not one module, for every run starts
        from weights of its own.
    schemes : sequence of str
        As of `by_scheme`, or `OWN`: as the network is built.
    images : ImageSet
    seed : int
        The first of the study.

    Raises
    ------
    NonFinite
        If no case gives finite scores: training would not take one step.
    SigpropError
        What a network or a scheme refuses.
    """
    source = named_source(model, images.shape, classes=images.classes, device="cpu")
    source.require()
    if source.fixed is not None:
        raise SpecError(
            f"{source.target} is a module and not what builds one, and every run is to start from "
            "weights of its own. Name a function that returns the module."
        )
    prepared = {name: None if name == OWN else by_scheme(name) for name in schemes}
    first, given = images.train.take(slice(0, 2))[0], Seeds.of(seed)
    about: dict[str, Any] = {}
    finite = False
    for prepare in prepared.values():
        network, told = as_trained(source.drawn(given.init))
        about = source.told(network) | ({"types": told} if told else {})
        with contextlib.suppress(NonFinite):  # which the study tells as a run that diverged
            if prepare is not None:
                prepare(network, images, given.preparation)
            output = scores(source.target, network, first, images.classes)
            finite |= bool(torch.isfinite(output).all())
    if not finite:
        raise NonFinite(
            f"{source.target} gives scores that are not finite before the first step"
            f"{'' if len(prepared) == 1 else ', by every scheme'}, so no step can be taken. Give "
            "it smaller weights."
        )

    def made(seed: int) -> nn.Module:
        return as_trained(source.drawn(seed))[0]

    return {
        name: Case(network=source.line or made, prepare=prepare, about={"scheme": name} | about)
        for name, prepare in prepared.items()
    }
