"""The three ways in which a kernel is compiled, so that its bits do not depend on when.

What Numba loads from its disk cache is not always what the compiling process ran: a callee
stands in that process once by itself and once, optimised again, in its caller, and the two
copies may contract or reassociate a sum differently. So

- an `entry`, and nothing else, is called from Python and cached on disk;
- a function with relaxed arithmetic is `inner`: always merged into its caller, so that it
  exists in one copy;
- everything else is `strict`: IEEE arithmetic, the same in any number of copies. (Where a
  fused product is wanted, `philox.fma` says so.) It calls no relaxed function.

Numba takes a cached kernel for valid as long as the file that defines it has not changed, but
most of a kernel is merged in from other files. Here it is valid as long as none of the
sources has changed. And it is one process at a time that reads or writes the cache of a kernel.
"""

import contextlib
import fcntl
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba as nb

__all__ = ["entry", "inner", "strict"]


@functools.cache
def sources() -> str:
    """A digest of all that is compiled into kernels: this folder and the activations' codes."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for file in (*sorted(here.rglob("*.py")), here.parent / "activations" / "_codes.py"):
        name = file.relative_to(here.parent).as_posix()
        digest.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def entry(function):  # type: ignore[no-untyped-def]
    """Compile what Python calls; cached on disk, where there is a disk to write to."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel = nb.njit(cache=True, **options)(function)
    except RuntimeError:  # no place for a cache, neither beside the source nor at home
        return nb.njit(**options)(function)
    # A cache is fresh if it bears this stamp; Numba's own is time and size of one file.
    stored = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if stored is not None:
        stored._source_stamp = sources()
        stored.save, stored.load = alone(stored, stored.save), alone(stored, stored.load)
    return kernel


def alone(stored: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    """``method`` of a kernel's cache file, while no other process is in one of them.

    Numba writes the index and then the code. Two processes that compile two versions of a kernel
    at once may call both by one name, and a third is then given the wrong one.
    """

    def locked(*arguments: Any) -> Any:
        with _lock(stored._index_path + ".lock"):
            return method(*arguments)

    return locked


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold the lock of a file; where there can be none, as in a folder to read only, go on."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            fcntl.flock(held.enter_context(open(path, "a")), fcntl.LOCK_EX)
        yield


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
