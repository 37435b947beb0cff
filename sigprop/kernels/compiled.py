"""The three ways in which a kernel is compiled, so that its bits do not depend on when.

What Numba loads from its disk cache is not always what the compiling process ran: a callee
stands in that process once by itself and once, optimised again, in its caller, and the two
copies may contract or reassociate a sum differently. So

- an `entry`, and nothing else, is called from Python and cached on disk;
- a function with relaxed arithmetic is `inner`: always merged into its caller, so that it
  exists in one copy;
- everything else is `strict`: IEEE arithmetic, the same in any number of copies. (Where a
  fused product is wanted, `philox.fma` says so.) It calls no relaxed function.
"""

import numba as nb

__all__ = ["entry", "inner", "strict"]


def entry(function):  # type: ignore[no-untyped-def]
    """Compile what Python calls; cached on disk."""
    return nb.njit(nogil=True, cache=True, error_model="numpy")(function)


def strict(function):  # type: ignore[no-untyped-def]
    """Compile in IEEE arithmetic, the same in any number of copies."""
    return nb.njit(nogil=True, error_model="numpy")(function)


def inner(*fastmath):  # type: ignore[no-untyped-def]
    """Merge into every caller, with the given relaxations of IEEE arithmetic."""
    return nb.njit(
        nogil=True,
        error_model="numpy",
        fastmath=set(fastmath),
        forceinline=True,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )
