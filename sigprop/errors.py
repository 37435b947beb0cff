"""What can go wrong, said once and said well.

Every error of the package derives from `SigpropError` and carries the exit status that
the command line returns for it, so one table serves the whole program:

====== ============================================================================
status meaning
====== ============================================================================
0      done
1      a verdict against (disagree, unhealthy)
2      bad input: nothing was done; or the disk filled: the last checkpoint is kept
3      inconclusive
4      numbers that stopped being finite
130    interrupted
====== ============================================================================

A message has three parts: what was wrong with which value, why it matters, what to
write instead.
"""

__all__ = [
    "DataError",
    "DeviceMemory",
    "Interrupted",
    "NonFinite",
    "OutputExists",
    "ResultError",
    "SigpropError",
    "SpecError",
    "StorageError",
    "UnknownName",
    "Unsupported",
]


class SigpropError(Exception):
    """Base of all errors that a user can cause or meet."""

    exit_status: int = 2


class SpecError(SigpropError, ValueError):
    """A value of a specification is out of its range or contradicts another."""


class UnknownName(SigpropError, KeyError):
    """A name that no registry knows."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0])


class Unsupported(SigpropError, NotImplementedError):
    """A well-formed request that the chosen sampler, block or scheme cannot serve."""


class OutputExists(SigpropError, FileExistsError):
    """The output file stands already and neither replacing nor resuming was asked for."""

    def __str__(self) -> str:
        return str(self.args[0])


class ResultError(SigpropError):
    """A result file that is truncated, of another schema, or does not fit the request."""


class DataError(SigpropError):
    """A file of images that is absent, truncated, damaged or of another format."""


class StorageError(SigpropError, OSError):
    """The disk refused: no space, no permission."""

    def __str__(self) -> str:
        return str(self.args[0])


class DeviceMemory(SigpropError, MemoryError):
    """A device had less memory than was planned; a run starts again with smaller blocks."""


class NonFinite(SigpropError, ArithmeticError):
    """A simulated number stopped being finite."""

    exit_status = 4


class Interrupted(SigpropError, KeyboardInterrupt):
    """A run that was stopped before its end; the message says how to go on."""

    exit_status = 130
