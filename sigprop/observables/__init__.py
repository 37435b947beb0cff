"""What is recorded of a trace: sums that merge, and the labelled estimates made of them.

An observable is a homomorphism of monoids: ``observe`` turns the traces of some replicas
into sums, ``merge`` adds the sums of two sets of replicas, and ``finalize`` reads off
estimates, so that it cannot matter how replicas were divided into blocks. Nine stand
here, one a file; ``sigprop.observables.observables`` knows them by name.

============ ==========================================================================
norm         |h_l| / |h_0|
displacement |h_l - h_0| / |h_0|
gradient     |p_l| / |p_L| and |p_l - p_L| / |p_L|, with p_l = dLoss/dh_l
separability cosine and distance of pairs of inputs, effective rank of all of them
activity     the fraction of active units, and the number of dead branches
balance      what branch and skip bring to a layer, of |h|^2; on request
diversity    how differently the inputs turn units on; on request
first_step   the change of the function by one step of gradient descent; on request
alpha_norm   the norm of l_alpha for stable weights; with sampler alpha_chain only
moment       E|h_l|^s from weighted networks; with a tilt or a population only
spectrum     the singular values of dh_l / dh_0; on request only, for it costs O(width^3)
============ ==========================================================================

A new one is a subclass of `Observable` under ``@observables.register("name")``.
"""

# The order of these imports is the order of the registry, and so of every table.
from sigprop.observables import norm  # noqa: F401  isort: skip
from sigprop.observables import displacement  # noqa: F401  isort: skip
from sigprop.observables import gradient  # noqa: F401  isort: skip
from sigprop.observables import separability  # noqa: F401  isort: skip
from sigprop.observables import activity  # noqa: F401  isort: skip
from sigprop.observables import alpha_norm  # noqa: F401  isort: skip
from sigprop.observables import moment  # noqa: F401  isort: skip
from sigprop.observables import spectrum  # noqa: F401  isort: skip
from sigprop.observables import balance  # noqa: F401  isort: skip
from sigprop.observables import diversity  # noqa: F401  isort: skip
from sigprop.observables import first_step  # noqa: F401  isort: skip
from sigprop.observables.observable import Observable, Variable, observables

__all__ = ["Observable", "Variable", "observables"]
