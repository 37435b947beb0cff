"""Arrays without reference counts, for inner loops.

Numba counts references to an array whenever it is passed on or sliced, with an atomic
operation that costs as much as a sweep over twenty numbers. Kernels therefore work on
borrowed arrays, which have no owner to count. The owner must outlive them: a borrowed
argument is kept by the caller, what a kernel allocates itself goes into a tuple
that it gives to `hold` at its end.
"""

import numba as nb
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["borrow", "hold"]


if nb.config.DISABLE_JIT:  # type: ignore[attr-defined]

    def borrow(array):  # type: ignore[no-untyped-def]
        """The same array; Python counts its references itself."""
        return array

    def hold(owners):  # type: ignore[no-untyped-def]
        """Do nothing, after everything else: what stands here is not freed before."""

else:

    @intrinsic
    def borrow(typingctx, array):  # type: ignore[no-untyped-def]
        """The same array, its memory not counted."""

        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            view = context.make_array(signature.args[0])(context, builder, value=args[0])
            view.meminfo = cgutils.get_null_value(view.meminfo.type)
            view.parent = cgutils.get_null_value(view.parent.type)
            return view._getvalue()

        return array(array), build

    @intrinsic
    def hold(typingctx, owners):  # type: ignore[no-untyped-def]
        """Do nothing, after everything else: what stands here is not freed before."""

        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return context.get_dummy_value()

        return types.void(owners), build
