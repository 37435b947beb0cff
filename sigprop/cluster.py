"""Workers on other machines: a Dask cluster behind the interface of an executor.

A block of work is a function of its number, so a block that was lost with its worker is
done again elsewhere and gives the same bits. Dask is needed here and nowhere else.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from typing import Any

from sigprop.errors import SpecError, Unsupported

__all__ = ["check_versions", "connected", "versions"]

PATIENCE = 5.0  # seconds to wait for a scheduler, and for its first worker


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Yield an executor whose workers are those of the Dask scheduler at ``address``.

    Parameters
    ----------
    address : str
        ``tcp://host:8786``, or ``host:8786``.

    Raises
    ------
    Unsupported
        If Dask is not installed, or a worker has another version of sigprop or of what
        decides its bits.
    SpecError
        If no scheduler answers there, or it has no worker.
    """
    if importlib.util.find_spec("distributed") is None:
        raise Unsupported(
            "--scheduler needs Dask, which is not installed. "
            "Install it with: pip install 'sigprop[dask]'"
        )
    from distributed import Client

    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what goes wrong is told by our errors
    try:
        try:
            client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SpecError(
                f"no Dask scheduler answers at {address!r} ({_first_line(error)}), so nothing was "
                "simulated. Start one with dask scheduler, and name the address that it prints: "
                "--scheduler tcp://HOST:8786"
            ) from error
        try:
            yield _Cluster(client, _workers(client, address))
        finally:
            with suppress(Exception):  # of a cluster that is gone already
                client.close(timeout=PATIENCE)
    finally:
        logger.setLevel(level)


def _workers(client: Any, address: str) -> int:
    """Threads of all workers, after a look at what is installed there."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise SpecError(
            f"the Dask scheduler at {address!r} has no workers, so nothing would be simulated. "
            f"Start some with: dask worker {address}"
        ) from error
    try:
        found = client.run(versions)
    except Exception as error:
        raise Unsupported(
            f"the workers of the Dask scheduler at {address!r} cannot run sigprop: "
            f"{_first_line(error)}. Install the same version there."
        ) from error
    check_versions(found)
    return sum(client.nthreads().values())


def versions() -> dict[str, str]:
    """What decides the bits of a block, as it is installed here."""
    import importlib.metadata
    import platform

    import sigprop

    found = {name: importlib.metadata.version(name) for name in ("numpy", "numba", "scipy")}
    return {"sigprop": sigprop.__version__, "python": platform.python_version(), **found}


def check_versions(found: Mapping[str, Mapping[str, str]]) -> None:
    """Raise Unsupported if a worker has other versions than this process."""
    here = versions()
    for worker, there in found.items():
        other = [
            f"{k} {there.get(k)} there, {v} here" for k, v in here.items() if there.get(k) != v
        ]
        if other:
            raise Unsupported(
                f"the worker {worker} has other versions ({'; '.join(other)}), and results would "
                "depend on who computed them. Install the same versions on all machines."
            )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _Cluster(Executor):
    """The executor of a Dask client; its own errors arrive as a pool that broke."""

    def __init__(self, client: Any, workers: int) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)
        self._max_workers = workers

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            inner = self._executor.submit(fn, *args, **kwargs)
        except Exception as error:
            raise BrokenExecutor(f"the Dask cluster is gone: {_first_line(error)}") from error
        outer: Future[Any] = Future()

        def tell(done: Future[Any]) -> None:
            if outer.cancelled():
                return
            if done.cancelled():
                outer.set_exception(BrokenExecutor("the Dask cluster gave the work up"))
                return
            error = done.exception()
            if error is None:
                outer.set_result(done.result())
            elif type(error).__module__.partition(".")[0] == "distributed":
                outer.set_exception(BrokenExecutor(_first_line(error)))
            else:
                outer.set_exception(error)

        inner.add_done_callback(tell)
        outer.add_done_callback(lambda done: inner.cancel() if done.cancelled() else None)
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)
