"""What is simulated: a probability law over networks, apart from how it is sampled.

A `Network` says the shape, a `Scheme` how weights and coefficients are initialised, an
input what enters layer 0. Together they are an `Ensemble`, which is a law and nothing
else. A scheme's whole meaning is the `LayerTable` to which it lowers, an array row a
layer: samplers consume tables and never hear the name of a scheme.

One residual block is ``h' = skip h + branch F(h)`` with

========== ===================================== =========================
block      F(h)                                  matrices
========== ===================================== =========================
res1       V phi(h)                              1
res3       V phi(W h)                            2
inner      W_m phi(... phi(W_1 h))               m (``inner_layers``)
preact     W_m phi(... W_1 phi(h))               m (``inner_layers``)
identity   as inner; h' = phi(that sum)          m
projection as inner; h' = phi(skip S h + that)   m and the skip matrix S
========== ===================================== =========================

and ``plain`` is the feed-forward net ``h' = branch phi(W h + b)``, without a trunk. The two
blocks whose activation acts after the sum (types B and C of the literature) read a state that
is an activation already: a first matrix, the stem, makes it of the network's input,
``h_0 = phi(W_0 x)``. Everywhere else the input is h_0.

With an image size a network is convolutional: a state has ``width`` channels at every pixel,
and a matrix becomes a kernel of as many taps. It is then still one large matrix, whose
entries repeat, so all that is said of a layer above holds.

The law of a weight says how one entry is distributed, a `Process` how the entries that sit
at one place of one matrix depend on each other from layer to layer.
"""

from __future__ import annotations

from sigprop.spec.block import Block, blocks
from sigprop.spec.checks import ADDRESSES, check_count, check_number
from sigprop.spec.ensemble import Ensemble
from sigprop.spec.families import Activation, Inputs, Process, WeightLaw
from sigprop.spec.member import Member
from sigprop.spec.network import Network
from sigprop.spec.scheme import Scheme
from sigprop.spec.table import LayerTable, Stem, Structure

__all__ = [
    "ADDRESSES",
    "Activation",
    "Block",
    "Ensemble",
    "Inputs",
    "LayerTable",
    "Member",
    "Network",
    "Process",
    "Scheme",
    "Stem",
    "Structure",
    "WeightLaw",
    "blocks",
    "check_count",
    "check_number",
]
