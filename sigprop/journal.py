"""A file to which finished work is only ever added: what a sweep knows when it is killed.

The first line says in JSON what is being run; records follow, each with its length and a
checksum. A record that was cut short or damaged ends what is read, and the next one is
written over it, so a killed run loses what was under way and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sigprop.errors import ResultError, StorageError

__all__ = ["Journal", "about", "is_one", "read"]

MAGIC = b"sigprop-journal 1\n"
_HEAD = struct.Struct("<Q16s")


class Journal:
    """Open for adding; made by `create` or `reopen`, closed by `close`.

    Parameters
    ----------
    path : Path
    position : int
        Where the next record goes.
    """

    def __init__(self, path: Path, position: int) -> None:
        self.path = path
        try:
            self._file = open(path, "r+b", buffering=0)
            self._file.truncate(position)
            self._file.seek(position)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror or error}. "
                "Name an output in a directory where you may write."
            ) from error

    @classmethod
    def create(cls, path: Path, about: Mapping[str, Any]) -> Journal:
        """Start a new one, in place of any that stands there."""
        head = MAGIC + json.dumps(about, sort_keys=True).encode() + b"\n"
        temporary = path.with_name(path.name + ".tmp")
        try:
            temporary.write_bytes(head)
            os.replace(temporary, path)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be written: {error.strerror or error}. "
                "Name an output in a directory where you may write."
            ) from error
        return cls(path, len(head))

    @classmethod
    def reopen(cls, path: Path) -> Journal:
        """Go on behind the last whole record."""
        *_, (end, _) = _records(path)
        return cls(path, end)

    def add(self, record: bytes) -> None:
        """Write one record; a StorageError leaves those before as they are."""
        head = _HEAD.pack(len(record), _checksum(record))
        start = self._file.tell()
        try:
            whole = memoryview(head + record)
            while whole:
                whole = whole[self._file.write(whole) or 0 :]
        except OSError as error:
            self._file.seek(start)
            raise StorageError(
                f"{self.path} could not be written: {error.strerror or error}. What it held before "
                "is untouched. Make room, or name another output."
            ) from error

    def close(self) -> None:
        self._file.close()


def is_one(path: Path) -> bool:
    """Whether the file at ``path`` is a journal."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def about(path: Path) -> dict[str, Any]:
    """What the journal at ``path`` was started with.

    Raises
    ------
    ResultError
        If it is no journal.
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                found = json.loads(file.readline())
                if isinstance(found, dict):
                    return found
    except (OSError, ValueError) as error:
        raise ResultError(f"{path} cannot be read: {error}. Use --force to start anew.") from error
    raise ResultError(
        f"{path} is no checkpoint of a sweep, so there is nothing to go on from. Name another "
        "output, or use --force (force=True) to start anew."
    )


def read(path: Path) -> Iterator[bytes]:
    """Yield every whole record, in the order in which they were added."""
    for _, record in _records(path):
        if record is not None:
            yield record


def _records(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield (end, record): first the end of the head and None, then of every whole record."""
    about(path)
    with open(path, "rb") as file:
        file.seek(len(MAGIC))
        file.readline()
        yield file.tell(), None
        size = os.fstat(file.fileno()).st_size
        while True:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            length, checksum = _HEAD.unpack(head)
            if length > size - file.tell():
                return
            record = file.read(length)
            if _checksum(record) != checksum:
                return
            yield file.tell(), record


def _checksum(record: bytes) -> bytes:
    return hashlib.blake2b(record, digest_size=16).digest()
