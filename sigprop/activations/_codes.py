"""The integers by which kernels know the activations.

A built-in activation reaches a compiled kernel as its code, so that the kernel can be
cached on disk; ``USER`` stands for a compiled Python function handed in beside it.
"""

__all__ = ["ERF", "GELU", "LEAKY", "LINEAR", "RANDOMISED", "RELU", "SILU", "TANH", "UNEVEN", "USER"]

LINEAR, RELU, LEAKY, RANDOMISED, TANH, ERF, GELU, SILU, USER = range(9)
UNEVEN = 9
