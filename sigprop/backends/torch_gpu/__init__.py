"""Sampler `torch`: wide networks on a GPU or the processor, many replicas abreast.

Two methods, of which law and width decide: `dense` draws every weight on the device and multiplies
matrices; `conditional` draws, of Gaussian matrices, only what their inputs and gradients see. The
trunk is float64 in units of a power of two, what is multiplied float32 (or less, on request).

============ ==========================================================
module       what it knows
============ ==========================================================
sampler      what it refuses, the method, the plan of a run
plan         bytes of one network, the block, the layers of a tape
device       a place to work: memory, arithmetic, what running out looks like
draws        random numbers by address
products     a matrix of weights, by its entries or by conditioning
activation   phi and phi' of a unit
walk         networks forward and backward, and what is recorded of them
============ ==========================================================

Only this package and `sigprop.modules` know torch, and only when a network is drawn.
"""

from sigprop.backends.torch_gpu.sampler import Torch, faster

__all__ = ["Torch", "faster"]
