"""One pass over a few rows: four numbers abreast, products summed in one fixed order.

The sweeps of `sigprop.kernels.single` cost a third of drawing what they sweep over, so they
are written as vectors and not left to the compiler: that one handles what is left over behind
its widest vectors by loops of their own, with a sum across lanes behind each and, where a sign
decides, a branch that nothing can predict. Here what is left over, fewer than four numbers,
passes through the first lane alone; a 0 in the others adds nothing to any sum below.

A row is a one-dimensional array of singles or doubles and the place where it begins; singles
are widened before anything is done with them. The order of a sum depends on its length alone.

The bodies below say what is done with the numbers at one place of the rows: what is written to
the first row, if anything, and the products that are summed. Run as Python, without Numba's
compiler, they work on whole rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ahead", "count", "crossed", "crossed_both", "dot", "land", "norm", "norms", "square"]

_LANES = 4
_INT, _DOUBLE = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, _LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * _LANES)
_FUSED = ("contract",)


def _constant(value: int) -> Any:
    return ir.Constant(_INT, value)


def _first(builder: ir.IRBuilder, value: Any) -> Any:
    """A vector of ``value`` and zeros."""
    return builder.insert_element(_ZERO, value, ir.Constant(ir.IntType(32), 0))


class _Lanes:
    """Numbers at four neighbouring places, or one number four times."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        if value.type != _VECTOR:
            order = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            value = builder.shuffle_vector(_first(builder, value), _ZERO, order)
        self.builder, self.value = builder, value

    def __mul__(self, other: "_Lanes") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fmul(self.value, other.value, flags=_FUSED))

    def __add__(self, other: "_Lanes") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fadd(self.value, other.value, flags=_FUSED))

    def __sub__(self, other: "_Lanes") -> "_Lanes":
        return _Lanes(self.builder, self.builder.fsub(self.value, other.value))


def _above(sign: Any, x: Any) -> Any:
    """``x``, numbers or one number, where ``sign`` is positive; 0 elsewhere."""
    if not isinstance(sign, _Lanes):
        return np.where(sign > 0.0, x, 0.0)
    chosen = x.value if isinstance(x, _Lanes) else ir.Constant(_VECTOR, [x] * _LANES)
    positive = sign.builder.fcmp_ordered(">", sign.value, _ZERO)
    return _Lanes(sign.builder, sign.builder.select(positive, chosen, _ZERO))


# ------------------------------------------------------------------------ bodies

_Body = Callable[..., tuple[Any, tuple[tuple[Any, Any], ...]]]


def _norm(z: Any) -> Any:
    plus = _above(z, z)
    return None, ((plus, plus),)


def _norms(z: Any) -> Any:
    plus = _above(z, z)
    minus = z - plus
    return None, ((plus, plus), (minus, minus))


def _count(z: Any) -> Any:
    one = _above(z, 1.0)
    return None, ((one, one),)


def _dot(x: Any, y: Any) -> Any:
    return None, ((x, y),)


def _crossed(z: Any, zeta: Any) -> Any:
    plus = _above(z, zeta)
    return None, ((z, plus), (plus, plus))


def _crossed_both(z: Any, zeta: Any) -> Any:
    plus = _above(z, zeta)
    minus = zeta - plus
    return None, ((z, plus), (z, minus), (plus, plus), (minus, minus))


def _square(z: Any, zeta: Any, slope: Any, more: Any, fresh: Any, along: Any) -> Any:
    slopes = slope + _above(z, more)
    through = slopes * (fresh * zeta + along * (slopes * z))
    return None, ((through, through),)


def _ahead(_: Any, h: Any, z: Any, c: Any, a: Any) -> Any:
    new = c * h + a * z
    return new, ((new, new),)


def _land(p: Any, zeta: Any, h: Any, z: Any, c: Any, a: Any, b: Any) -> Any:
    new = c * p + a * zeta + b * h
    return new, ((new, new), (new, z))


# ---------------------------------------------------------------------- compiled


class _Row:
    """Where a row begins, and how its numbers are read and written."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any, array: Any, at: Any) -> None:
        data = context.make_array(kind)(context, builder, value=array).data
        self.builder, self.start = builder, builder.gep(data, [at])
        self.single = kind.dtype == types.float32

    def _place(self, k: Any) -> Any:
        kind = ir.VectorType(ir.FloatType() if self.single else _DOUBLE, _LANES)
        return self.builder.bitcast(self.builder.gep(self.start, [k]), kind.as_pointer())

    def read(self, k: Any) -> _Lanes:
        value = self.builder.load(self._place(k), align=4 if self.single else 8)
        return _Lanes(self.builder, self.builder.fpext(value, _VECTOR) if self.single else value)

    def read_one(self, k: Any) -> _Lanes:
        value = self.builder.load(self.builder.gep(self.start, [k]))
        value = self.builder.fpext(value, _DOUBLE) if self.single else value
        return _Lanes(self.builder, _first(self.builder, value))

    def write(self, k: Any, new: _Lanes) -> None:
        self.builder.store(new.value, self._place(k), align=8)

    def write_one(self, k: Any, new: _Lanes) -> None:
        value = self.builder.extract_element(new.value, ir.Constant(ir.IntType(32), 0))
        self.builder.store(value, self.builder.gep(self.start, [k]))


def _loop(
    builder: ir.IRBuilder, place: Any, last: Any, step: int, body: Callable[[Any], None]
) -> None:
    """``while k <= last``, with steps of ``step``; the counter k is kept at ``place``."""
    test = builder.append_basic_block("sweep.test")
    inside = builder.append_basic_block("sweep.body")
    behind = builder.append_basic_block("sweep.end")
    builder.branch(test)
    builder.position_at_end(test)
    k = builder.load(place)
    builder.cbranch(builder.icmp_signed("<=", k, last), inside, behind)
    builder.position_at_end(inside)
    body(k)
    builder.store(builder.add(k, _constant(step)), place)
    builder.branch(test)
    builder.position_at_end(behind)


def _emit(body: _Body, rows: Sequence[_Row], scalars: Sequence[_Lanes], sums: int, n: Any) -> Any:
    """The sweep over ``n`` places; returns its sums."""
    builder = rows[0].builder
    # So many partial sums in all that none waits for the addition before.
    parts = max(1, 4 // sums)
    totals = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(sums)] for _ in range(parts)]
    place = cgutils.alloca_once(builder, _INT)
    builder.store(_constant(0), place)
    for part in totals:
        for total in part:
            builder.store(_ZERO, total)

    def step(numbers: Sequence[_Lanes], write: Callable[[_Lanes], None], part: Any) -> None:
        new, products = body(*numbers, *scalars)
        if new is not None:
            write(new)
        for total, (x, y) in zip(part, products, strict=True):
            builder.store((x * y + _Lanes(builder, builder.load(total))).value, total)

    def some(k: Any, part: Any) -> None:
        step([row.read(k) for row in rows], lambda new: rows[0].write(k, new), part)

    def many(k: Any) -> None:
        for i, part in enumerate(totals):
            some(builder.add(k, _constant(i * _LANES)), part)

    def few(k: Any) -> None:
        some(k, totals[0])

    def one(k: Any) -> None:
        step([row.read_one(k) for row in rows], lambda new: rows[0].write_one(k, new), totals[0])

    for count, turn in ((parts * _LANES, many), (_LANES, few), (1, one)):
        _loop(builder, place, builder.sub(n, _constant(count)), count, turn)
    return [_across(builder, [part[i] for part in totals]) for i in range(sums)]


def _across(builder: ir.IRBuilder, parts: Sequence[Any]) -> Any:
    """The sum of partial sums and of their lanes."""
    total = _Lanes(builder, builder.load(parts[0]))
    for part in parts[1:]:
        total += _Lanes(builder, builder.load(part))
    lanes = [
        builder.extract_element(total.value, ir.Constant(ir.IntType(32), i)) for i in range(_LANES)
    ]
    return builder.fadd(builder.fadd(lanes[0], lanes[2]), builder.fadd(lanes[1], lanes[3]))


def _typed(body: _Body, rows: Sequence[Any], scalars: int, sums: int) -> Any:
    """Signature and code of a sweep: rows with their places, scalars, the length."""
    result = types.float64 if sums == 1 else types.UniTuple(types.float64, sums)
    arguments = [kind for row in rows for kind in (row, types.int64)]
    arguments += [types.float64] * scalars + [types.int64]

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ends = 2 * len(rows)
        taken = [
            _Row(context, builder, rows[i // 2], args[i], args[i + 1]) for i in range(0, ends, 2)
        ]
        found = _emit(body, taken, [_Lanes(builder, x) for x in args[ends:-1]], sums, args[-1])
        return found[0] if sums == 1 else context.make_tuple(builder, result, found)

    return result(*arguments), build


def _interpreted(body: _Body, rows: int) -> Any:
    """A sweep as Python: whole rows of doubles."""

    def sweep(*args: Any) -> Any:
        n = args[-1]
        parts = [args[2 * i][args[2 * i + 1] : args[2 * i + 1] + n] for i in range(rows)]
        new, products = body(*(np.float64(part) for part in parts), *args[2 * rows : -1])
        if new is not None:
            parts[0][:] = new
        sums = tuple(float(np.sum(x * y)) for x, y in products)
        return sums[0] if len(sums) == 1 else sums

    return sweep


if nb.config.DISABLE_JIT:  # type: ignore[attr-defined]
    norm, norms, count = _interpreted(_norm, 1), _interpreted(_norms, 1), _interpreted(_count, 1)
    dot, crossed = _interpreted(_dot, 2), _interpreted(_crossed, 2)
    crossed_both, square = _interpreted(_crossed_both, 2), _interpreted(_square, 2)
    ahead, land = _interpreted(_ahead, 3), _interpreted(_land, 4)
else:

    @intrinsic
    def norm(typingctx, z, z_at, n):  # type: ignore[no-untyped-def]
        """N+, the sum of z^2 over z > 0."""
        return _typed(_norm, (z,), 0, 1)

    @intrinsic
    def norms(typingctx, z, z_at, n):  # type: ignore[no-untyped-def]
        """(N+, N-), the sums of z^2 over z > 0 and over the rest."""
        return _typed(_norms, (z,), 0, 2)

    @intrinsic
    def count(typingctx, z, z_at, n):  # type: ignore[no-untyped-def]
        """How many are positive."""
        return _typed(_count, (z,), 0, 1)

    @intrinsic
    def dot(typingctx, x, x_at, y, y_at, n):  # type: ignore[no-untyped-def]
        """x.y."""
        return _typed(_dot, (x, y), 0, 1)

    @intrinsic
    def crossed(typingctx, z, z_at, zeta, zeta_at, n):  # type: ignore[no-untyped-def]
        """(X+, Q+), the sums of z zeta and of zeta^2 over z > 0."""
        return _typed(_crossed, (z, zeta), 0, 2)

    @intrinsic
    def crossed_both(typingctx, z, z_at, zeta, zeta_at, n):  # type: ignore[no-untyped-def]
        """(X+, X-, Q+, Q-), the sums of z zeta and of zeta^2 over z > 0 and over the rest."""
        return _typed(_crossed_both, (z, zeta), 0, 4)

    @intrinsic
    def square(typingctx, z, z_at, zeta, zeta_at, slope, more, fresh, along, n):  # type: ignore[no-untyped-def]
        """|q|^2, q = m (fresh zeta + along m z), m = slope + more where z > 0, else slope."""
        return _typed(_square, (z, zeta), 4, 1)

    @intrinsic
    def ahead(typingctx, new, new_at, h, h_at, z, z_at, c, a, n):  # type: ignore[no-untyped-def]
        """``new = c h + a z``; returns its square."""
        return _typed(_ahead, (new, h, z), 2, 1)

    @intrinsic
    def land(typingctx, p, p_at, zeta, zeta_at, h, h_at, z, z_at, c, a, b, n):  # type: ignore[no-untyped-def]
        """``p = c p + a zeta + b h``; returns its square and its product with z."""
        return _typed(_land, (p, zeta, h, z), 3, 2)
