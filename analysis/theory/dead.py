r"""Silent layers: with n ReLUs, all are off with probability :math:`2^{-n}`.

A pre-activation is a sum of symmetric terms, so each unit is off half of the time, and the
rows of a matrix are independent. Under dropout a ReLU is 0 with probability
:math:`1 - q/2`, q the chance to be kept, and any other unit with :math:`1 - q`; that takes the
place of 1/2 below. What happens next is a matter of the block: a plain net
without biases stays silent for ever, a residual branch falls silent alone.
"""

from __future__ import annotations

import numpy as np

from analysis.theory._entrywise import check_entrywise
from analysis.theory._transition import unit_silence
from sigprop.errors import Unsupported
from sigprop.spec import Ensemble

__all__ = ["dead_probability", "expected_dead_layers"]


def dead_probability(ensemble: Ensemble) -> np.ndarray:
    r"""Probability that a plain ReLU net without biases is dead after l layers.

    .. math:: P_l = 1 - \prod_{k \le l} (1 - 2^{-n_k})

    Returns
    -------
    ndarray, shape (depth + 1,)

    Raises
    ------
    Unsupported
        If the block is not plain, the activation not ReLU and nothing is dropped, or there are
        biases, which wake a dead layer; if rows are centred or weights have atoms, where a
        pre-activation may be exactly zero.

    Notes
    -----
    Status: exact for all widths. Assumes independent symmetric weights without atoms.
    Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, He, Network, Point
    >>> widths = (6, 5, 8, 4, 7, 5)
    >>> net = Ensemble(Network(depth=5, block="plain", widths=widths), He(), Point())
    >>> round(float(dead_probability(net)[-1]), 4)
    0.1305
    """
    name = "dead_probability"
    if ensemble.network.form.trunk:
        raise Unsupported(
            f"{name} is a law of block 'plain', got {ensemble.network.block!r}: a dead branch "
            "does not silence its trunk. Use expected_dead_layers."
        )
    if ensemble.table.biased:
        raise Unsupported(
            f"{name} needs a net without biases: they wake a dead layer. Use expected_dead_layers."
        )
    log_alive = np.cumsum(np.log1p(-_layer_probability(ensemble, name)))
    return np.concatenate([[0.0], -np.expm1(log_alive)])


def expected_dead_layers(ensemble: Ensemble) -> np.ndarray:
    r"""Mean number of dead layers, or dead branches, up to each layer.

    A branch with hidden widths n_j is dead with probability :math:`1 - \prod_j (1 - 2^{-n_j})`;
    in a plain net without biases a layer is dead if any before it is.

    Returns
    -------
    ndarray, shape (depth + 1,)

    Raises
    ------
    Unsupported
        As `dead_probability`, biases and blocks 'res3' and 'inner' allowed; with a trunk, if
        a skip coefficient is 0, since the state itself may then be zero.

    Notes
    -----
    Status and assumptions as `dead_probability`. Cost O(depth).

    Examples
    --------
    >>> from sigprop import Ensemble, Network, Power
    >>> net = Ensemble(Network(depth=4, width=9, inner_width=2), Power(beta=0.5))
    >>> round(float(expected_dead_layers(net)[-1]), 12)  # 4 branches, 1/4 each
    1.0
    """
    name = "expected_dead_layers"
    if not ensemble.network.form.trunk and not ensemble.table.biased:
        return np.cumsum(dead_probability(ensemble))
    if ensemble.network.form.trunk and np.any(ensemble.table.skip == 0):
        raise Unsupported(
            f"{name} needs a trunk that is never zero, but a skip coefficient is 0: a dead "
            "branch then silences all above it. Use block 'plain', or another skip."
        )
    return np.concatenate([[0.0], np.cumsum(_layer_probability(ensemble, name))])


def _layer_probability(ensemble: Ensemble, name: str) -> np.ndarray:
    """Of one layer to be dead, the one before alive."""
    network, table = ensemble.network, ensemble.table
    check_entrywise(ensemble, name)
    if network.phi.kind != "relu" and not network.dropout:
        raise Unsupported(
            f"{name} is a law of activation 'relu', got {network.phi.kind!r}, whose output is "
            "zero in no other way than by a zero input. Nothing is to be computed."
        )
    if network.form.pre:
        raise Unsupported(
            f"{name} does not hold for block {network.block!r}: the activation acts on the "
            "trunk, whose coordinates are not symmetric in sign. Use block 'res3' or 'inner'."
        )
    if table.centred or table.law.kind == "rademacher":
        raise Unsupported(
            f"{name} assumes that no pre-activation is exactly zero, which centred rows and "
            "weights of law 'rademacher' do not grant. Simulate it."
        )
    rows = network.fans[1] if not network.form.trunk else network.fans[1][:, :-1]
    if np.any(table.scale[:, : rows.shape[1]] == 0):
        raise Unsupported(
            f"{name} needs matrices that are not zero, but one in front of an activation is: "
            "that branch is dead for certain. Simulate it."
        )
    return -np.expm1(np.sum(np.log1p(-(unit_silence(network.phi) ** rows.astype(float))), axis=1))
