"""The samplers: several ways of drawing from one law.

=========== ====================== ==================================================
sampler     cost of a layer        for
=========== ====================== ==================================================
chain       O(1)                   one input, Gaussian weights, activations piecewise
                                   linear with one kink at 0, branches off the trunk
conditional O(K width)             K inputs, Gaussian weights, any activation
dense       O(width^2)             any weight law: the definition, fast
batch       O(width^2), all inputs convolutions, batch normalisation
jacobian    O(width^3)             singular values of the Jacobian, and all the rest
torch       O(K width) or dense    wide networks on a GPU or the processor (--device)
reference   O(width^2), NumPy      the definition, written to be read
alpha_chain O(width)               stable weights in a plain net: the norm of l_alpha
tilted      O(1) or O(width)       moments of the norm by weighted networks (--tilt)
population  O(width) or dense      one moment by splitting, any law (--population)
=========== ====================== ==================================================

``auto`` takes the first of chain, conditional, dense, batch, jacobian that gives everything
asked for, and torch in place of dense where that is faster.
"""

from __future__ import annotations

from sigprop.backends.alpha_chain import AlphaChain
from sigprop.backends.base import Sampler, applicable
from sigprop.backends.batch import Batch
from sigprop.backends.jacobian import Jacobian
from sigprop.backends.numba_cpu import Chain, Conditional, Dense
from sigprop.backends.population import Population
from sigprop.backends.reference import Reference
from sigprop.backends.tilted import Tilted
from sigprop.backends.torch_gpu import Torch, faster
from sigprop.errors import SpecError, Unsupported
from sigprop.registry import Registry
from sigprop.spec import Ensemble

__all__ = ["Sampler", "Torch", "applicable", "choose", "choose_weighted", "samplers"]

samplers: Registry[type[Sampler]] = Registry("sampler")

_PREFERENCE = ("chain", "conditional", "dense", "batch", "jacobian")


_ALL = (
    *(Chain, Conditional, Dense, Batch, Jacobian, Reference, AlphaChain, Tilted, Population),
    Torch,
)
for _sampler in _ALL:
    samplers.register(_sampler.name)(_sampler)


def choose(name: str, ensemble: Ensemble, fields: frozenset[str]) -> Sampler:
    """Return the sampler called ``name``, or with ``"auto"`` the cheapest that is exact.

    Raises
    ------
    UnknownName
        If there is no such sampler.
    Unsupported
        If it cannot give ``fields`` for ``ensemble``; the message says what can.
    """
    refusals = []
    for candidate in _PREFERENCE if name == "auto" else (name,):
        sampler = samplers[candidate]()
        refusal = sampler.refusal(ensemble, fields)
        if refusal is None:
            wide = faster(ensemble, fields) if name == "auto" and candidate == "dense" else None
            return sampler if wide is None else wide
        refusals.append(f"sampler {candidate!r} cannot do this: {refusal}")
    raise Unsupported("\n".join(refusals))


def choose_weighted(
    name: str, ensemble: Ensemble, tilt: float | None, population: int | None, order: float
) -> Sampler:
    """Return the sampler of weighted networks: a tilt by chain or conditional, or a population.

    Raises
    ------
    SpecError, Unsupported
        If the two are mixed, or the sampler cannot follow ``ensemble``.
    """
    if tilt is not None and population is not None:
        raise SpecError(
            "tilt and population are two ways to the same moment: give one of the two. A tilt is "
            "exact for Gaussian weights, a population follows every law."
        )
    if population is not None:
        if name not in ("auto", "population"):
            raise SpecError(
                f"a population draws its own networks, and sampler {name!r} was asked for. Leave "
                "out --sampler."
            )
        asked: tuple[Sampler, ...] = (Population(order, population),)
    else:
        assert tilt is not None
        ways = ("chain", "conditional") if name in ("auto", "tilted") else (name,)
        asked = tuple(Tilted(tilt, way) for way in ways)
    refusals = []
    for sampler in asked:
        refusal = sampler.refusal(ensemble, frozenset())
        if refusal is None:
            return sampler
        how = f" by {sampler.options['by']}" if "by" in sampler.options else ""
        refusals.append(f"sampler {sampler.name!r}{how} cannot do this: {refusal}")
    raise Unsupported("\n".join(refusals))
