"""Normals and weights from Python: the entries to the generators by themselves."""

from sigprop.kernels import philox, weights
from sigprop.kernels.compiled import entry

__all__ = ["entries", "normals"]


@entry
def normals(key, row, replica, purpose, count, out):
    """Fill ``out[:padded(count)]``, float32, with the normals of one address."""
    philox.singles(key, row, replica, purpose, count, philox.new_words(), out)


@entry
def entries(law, parameter, key, layer, replica, purpose, count, out):
    """Fill ``out``, float64[padded(count) + 128], with weights of a law, see `weights.fill`."""
    weights.fill(law, parameter, key, layer, replica, purpose, 0, count, philox.new_scratch(), out)
