"""What is installed only on request: one sentence where it is missing, before any work.

torch is an extra, because nothing but wide networks on a device and modules of torch needs it.
"""

from __future__ import annotations

import importlib.util

from sigprop.errors import Unsupported

__all__ = ["require_torch"]


def require_torch(what: str) -> None:
    """Refuse ``what`` in one sentence, with the install command, if torch is not installed.

    Parameters
    ----------
    what : str
        The subject of the sentence, such as ``"sampler 'torch'"``.

    Raises
    ------
    Unsupported
        If torch is not there. Everything else of sigprop works without it.
    """
    if importlib.util.find_spec("torch") is None:
        raise Unsupported(
            f"{what} needs torch, which is not installed; everything else works without it. "
            "Install it with: pip install 'sigprop[torch]'"
        )
