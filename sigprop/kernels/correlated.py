"""Normals for paths along depth, from Python: the one entry to the generator by itself."""

from sigprop.kernels import philox
from sigprop.kernels.compiled import entry

__all__ = ["normals"]


@entry
def normals(key, row, replica, purpose, count, out):
    """Fill ``out[:padded(count)]``, float32, with the normals of one address."""
    philox.singles(key, row, replica, purpose, count, philox.new_words(), out)
