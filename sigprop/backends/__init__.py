"""The samplers: several ways of drawing from one law.

=========== ====================== ==================================================
sampler     cost of a layer        for
=========== ====================== ==================================================
chain       O(1)                   one input, Gaussian weights, activations piecewise
                                   linear with one kink at 0, branches off the trunk
conditional O(K width)             K inputs, Gaussian weights, any activation
dense       O(width^2)             any weight law: the definition, fast
jacobian    O(width^3)             singular values of the Jacobian, and all the rest
reference   O(width^2), NumPy      the definition, written to be read
=========== ====================== ==================================================

``auto`` takes the first of chain, conditional, dense, jacobian that gives everything asked
for.
"""

from __future__ import annotations

from sigprop.backends.base import Sampler, applicable
from sigprop.backends.jacobian import Jacobian
from sigprop.backends.numba_cpu import Chain, Conditional, Dense
from sigprop.backends.reference import Reference
from sigprop.errors import Unsupported
from sigprop.registry import Registry
from sigprop.spec import Ensemble

__all__ = ["Sampler", "applicable", "choose", "samplers"]

samplers: Registry[type[Sampler]] = Registry("sampler")

_PREFERENCE = ("chain", "conditional", "dense", "jacobian")


for _sampler in (Chain, Conditional, Dense, Jacobian, Reference):
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
            return sampler
        refusals.append(f"sampler {candidate!r} cannot do this: {refusal}")
    raise Unsupported("\n".join(refusals))
