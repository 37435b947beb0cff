"""Arithmetic on many small tensors in one call, which finds them by their addresses.

A network of a dozen layers has its numbers in as many tensors, and to call a library for each of
them costs more than to do the sums. Here tensor i is the ``length[i]`` numbers from ``address[i]``
on, contiguous in the memory of the processor; who calls keeps it alive. ``kind``, an empty array,
tells their type, float32 or float64. Sums and products are in float64; what is written is rounded
once.
"""

import numba as nb
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sigprop.kernels.compiled import entry, inner

__all__ = ["products", "scaled", "sizes", "step"]

_f64 = np.float64

if nb.config.DISABLE_JIT:  # type: ignore[attr-defined]
    import ctypes

    def _tensor(address, length, kind):  # type: ignore[no-untyped-def]
        number = {4: ctypes.c_float, 8: ctypes.c_double}[kind.itemsize]
        return np.ctypeslib.as_array((number * int(length)).from_address(int(address)))

else:

    @intrinsic
    def _pointer(typingctx, address):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.inttoptr(args[0], cgutils.voidptr_t)

        return types.voidptr(types.int64), build

    @inner()
    def _tensor(address, length, kind):  # type: ignore[no-untyped-def]
        return nb.carray(_pointer(address), length, kind.dtype)


@inner("reassoc", "contract")
def _product(x, y):
    total = 0.0
    for i in range(len(x)):
        total += _f64(x[i]) * _f64(y[i])
    return total


@inner("reassoc", "contract")
def _absolute(x):
    total = 0.0
    for i in range(len(x)):
        total += abs(_f64(x[i]))
    return total


@entry
def sizes(order, address, length, kind, out):
    """``out[t]``, the sum of |x|^order over the entries of tensor t, order 1 or 2."""
    for t in range(len(address)):
        x = _tensor(address[t], length[t], kind)
        out[t] = _absolute(x) if order == 1 else _product(x, x)


@entry
def products(first, second, length, kind, out):
    """``out[t]``, the inner product of tensors t of ``first`` and ``second``."""
    for t in range(len(first)):
        x = _tensor(first[t], length[t], kind)
        out[t] = _product(x, _tensor(second[t], length[t], kind))


@entry
def scaled(factor, address, length, kind, to):
    """Write ``factor[t] x`` of every tensor t of ``address`` to that of ``to``."""
    for t in range(len(address)):
        x = _tensor(address[t], length[t], kind)
        y = _tensor(to[t], length[t], kind)
        a = factor[t]
        for i in range(len(x)):
            y[i] = a * _f64(x[i])


@entry
def step(by, signs, address, direction, length, kind):
    """``x -= by u`` in every tensor t of ``address``, u that of ``direction``, or its sign."""
    for t in range(len(address)):
        x = _tensor(address[t], length[t], kind)
        u = _tensor(direction[t], length[t], kind)
        if signs:
            for i in range(len(x)):
                x[i] = _f64(x[i]) - by * np.sign(_f64(u[i]))
        else:
            for i in range(len(x)):
                x[i] = _f64(x[i]) - by * _f64(u[i])
