"""The samplers that run on the processor's cores, compiled by Numba.

Here a table becomes the arrays that a kernel takes, and what a kernel fills becomes a
trace. The law is in the kernels: `sigprop.kernels.chain`, `.conditional` and `.dense`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from sigprop.activations._codes import USER
from sigprop.activations.uneven import Uneven
from sigprop.backends.base import Sampler, applicable, kept
from sigprop.errors import SpecError
from sigprop.spec import ADDRESSES, Activation, Ensemble, LayerTable

__all__ = ["Chain", "Conditional", "Dense"]

_TAPE_BYTES = 32 * 2**20
_GROUP_DRAWS = 4096  # normals with one address, so that the generator works on long stretches
_WEIGHT_BYTES = 2**31  # of one network, where all of its layers are drawn together
_GRADIENT_FIELDS = frozenset({"log_gradient", "log_gradient_displacement", "alignment"})
_FRAMES_BYTES = 2**30  # states kept for the way back by the kernel of orthogonal weights
_ELSEWHERE = frozenset({"log_singular"})  # fields of a sampler of their own
_DISPLACEMENT_FIELDS = frozenset({"log_displacement", "log_gradient_displacement"})


# --------------------------------------------------------------- shared pieces


@lru_cache(maxsize=32)
def _compiled(phi: Activation) -> Any:
    """What a kernel takes for ``phi``: its code, or its functions compiled in this process."""
    if phi.code != USER:
        return phi.code
    import numba as nb

    function: Any = phi
    value = _scalar(nb, phi.kind, function.function)
    derivative = function.derivative_function
    slope = value if derivative is None else _scalar(nb, phi.kind, derivative)
    # The leading 0 keeps Numba from making one anonymous function type of the two.
    return (0, value, slope)


def _scalar(numba: Any, name: str, function: Any) -> Any:
    """Compile a user's function of one number now, so that a failure is told plainly."""
    compiled = numba.njit(nogil=True)(function)
    try:
        compiled.compile("float64(float64)")
    except numba.core.errors.NumbaError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise SpecError(
            f"activation {name!r} cannot be compiled by Numba, so no kernel can call it: "
            f"{lines[1] if len(lines) > 1 else lines[0]} Write it for one float with `math` or "
            "NumPy functions only."
        ) from error
    return compiled


def _uncached(kernel: Any, activation: Any) -> Any:
    """The kernel itself, or for a user's functions a twin that never touches the disk cache.

    A compiled function as an argument gives every process another cache key, so that a
    cache of such kernels would only grow.
    """
    return kernel if isinstance(activation, int) else _twin(kernel)


@lru_cache(maxsize=8)
def _twin(kernel: Any) -> Any:
    import numba as nb

    return nb.njit(nogil=True, error_model="numpy")(kernel.py_func)


def _effective_rank(gram: np.ndarray) -> np.ndarray:
    """exp of the entropy of the eigenvalues over their sum, of (.., K, K)."""
    values = np.linalg.eigvalsh(gram).clip(0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = values / values.sum(-1, keepdims=True)
        entropy = -np.where(share > 0, share * np.log(share), 0.0).sum(-1)
        return np.where(np.isnan(share).any(-1), np.nan, np.exp(entropy))


def _cosine(gram: np.ndarray) -> np.ndarray:
    """Cosines of all pairs from Gram matrices (.., K, K); nan where a state is zero."""
    one, other = np.triu_indices(gram.shape[-1], 1)
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = gram[..., one, other] / np.sqrt(diagonal[..., one] * diagonal[..., other])
    return cosine.clip(-1.0, 1.0)


class _Outputs:
    """The arrays that the vector kernels fill, and the trace made of them."""

    def __init__(self, ensemble: Ensemble, recorded: int, count: int, gradient: bool) -> None:
        inputs = ensemble.inputs.count
        shape = (count, recorded, inputs)
        pairs = (count, recorded, max(1, inputs * (inputs - 1) // 2))
        displaced = ensemble.network.form.trunk
        full, none = np.empty, (1, 1, 1)
        self.states = (
            full(shape),
            full(shape if displaced else none),
            full(pairs if inputs > 1 else none),
            full((count, recorded, inputs, inputs)),
        )
        back = shape if gradient else none
        self.gradients = (full(back), full(back if displaced else none), full(back))
        self.activity, self.dead = full(shape), full(shape)

    def trace(self, fields: frozenset[str]) -> dict[str, np.ndarray]:
        log_norm, log_displacement, log_distance, gram = self.states
        log_gradient, log_gradient_displacement, alignment = self.gradients
        named = {
            "log_norm": log_norm,
            "log_displacement": log_displacement,
            "log_gradient": log_gradient,
            "log_gradient_displacement": log_gradient_displacement,
            "alignment": alignment,
            "log_distance": log_distance,
            "activity": self.activity,
            "dead": self.dead,
        }
        trace = {name: named[name] for name in fields if name in named}
        if "cosine" in fields:
            trace["cosine"] = _cosine(gram)
        if "effective_rank" in fields:
            trace["effective_rank"] = _effective_rank(gram)
        return trace


def _vectors_only(ensemble: Ensemble) -> str | None:
    """Why the samplers of this module cannot do it: an image, or inputs that are not alone."""
    if ensemble.network.convolutional:
        return (
            f"its network is convolutional, with an image of {ensemble.network.shape_of_image} "
            "pixels, and this sampler draws one row of weights for one unit. Use --sampler batch."
        )
    if ensemble.table.batch_norm:
        return (
            "batch normalisation ties the inputs of a network together, and this sampler passes "
            "each by itself. Use --sampler batch."
        )
    return None


def _not_applicable(ensemble: Ensemble, fields: frozenset[str]) -> str | None:
    if "log_singular" in fields:
        return (
            "it multiplies vectors, and singular values were asked for, which need the whole "
            "Jacobian. Use --sampler jacobian."
        )
    missing = sorted(fields - applicable(ensemble))
    if not missing:
        return None
    known = applicable(ensemble, on_request=True)
    if fields <= known and not ensemble.table.correlated:
        return f"it does not give {', '.join(missing)}. Use --sampler dense."
    if fields <= known:
        return (
            f"{', '.join(missing)} with a process along depth is given by the definition alone. "
            "Use --sampler reference."
        )
    return (
        f"{', '.join(missing)} has no meaning for this ensemble (block "
        f"{ensemble.network.block!r}, activation {ensemble.network.phi.kind!r}, "
        f"{ensemble.inputs.count} input(s)): a plain net has no displacement, one input no "
        "pairs, an activation without a derivative no gradient. Leave it out of --observe."
    )


def _kernels_lack(ensemble: Ensemble) -> str | None:
    """Why the compiled kernels cannot draw these matrices at all."""
    table, block = ensemble.table, ensemble.network.block
    if ensemble.network.form.post:
        return (
            f"block {block!r} activates the sum of trunk and branch, which its recursion does not "
            "know. Use --sampler dense."
        )
    if not table.entrywise:
        return (
            f"the entries of a matrix depend on each other (law {table.law.kind!r}). Use "
            "--sampler dense."
        )
    return None


def _correlated(table: LayerTable) -> str:
    """Why a sampler that forms no matrix cannot follow weights along depth."""
    kinds = sorted({process.kind for process in table.processes if not process.independent})
    return (
        f"it draws every layer without its matrix, so it needs independent layers, got process "
        f"{' and '.join(map(repr, kinds))}: later layers depend on weights that were never drawn. "
        "Use --sampler dense."
    )


def _slots(depth: int, layers: np.ndarray) -> np.ndarray:
    slots = np.full(depth + 1, -1, np.int64)
    slots[layers] = np.arange(len(layers))
    return slots


def _rows(table: LayerTable, unit: float = 1.0) -> np.ndarray:
    """The table as one array: skip, branch, input scale, scales (in ``unit``) and bias scales."""
    layers, matrices = table.scale.shape
    rows = np.empty((layers, 3 + 2 * matrices))
    rows[:, 0], rows[:, 1], rows[:, 2] = table.skip, table.branch, table.input_scale
    rows[:, 3 : 3 + matrices], rows[:, 3 + matrices :] = unit * table.scale, table.bias_scale
    return rows


def _unit(phi: Activation) -> tuple[float, float, float, float]:
    """(low, high, keep, turned): what a kernel is told of a unit beside its code."""
    if isinstance(phi, Uneven):
        return phi.unit
    low, high = phi.parameters
    return float(low), float(high), 1.0, 0.0


def _common(ensemble: Ensemble, layers: np.ndarray) -> dict[str, Any]:
    """The arguments that conditional and dense kernels share, by name."""
    network, table = ensemble.network, ensemble.table
    phi, form = network.phi, network.form
    fan_in, fan_out = network.fans
    frame = ensemble.inputs.frame()
    given = ensemble.inputs.array(network.input_size)
    return {
        "activation": _compiled(phi),
        "slope": _unit(phi),
        "scaled": not phi.homogeneous,
        "random_slopes": phi.homogeneous and phi.negative_slope is None and phi.code != USER,
        "pre": form.pre,
        "trunk": form.trunk,
        "centred": table.centred,
        "biased": 1 if table.biased else 0,
        "table": _rows(kept(ensemble)),
        "fan_in": fan_in,
        "fan_out": fan_out,
        "widths": network.state_widths,
        "slots": _slots(network.depth, layers),
        "frame": np.zeros((1, 1)) if frame is None else np.ascontiguousarray(frame, float),
        "given": np.zeros((1, 1)) if given is None else np.ascontiguousarray(given, float),
        "random_input": frame is not None,
    }


# What describes the law, and what describes the run, in the order of the kernels.
_LAW = (
    "activation", "slope", "scaled", "random_slopes", "pre", "trunk", "centred", "biased",
    "table", "fan_in", "fan_out", "widths",
)  # fmt: skip
_RUN = ("slots", "frame", "given", "random_input")


# ----------------------------------------------------------------------- chain


class Chain(Sampler):
    """A few scalars a layer, at any width: the joint law for one input."""

    name = "chain"
    version = 2
    block = 256
    about = "O(1) draws a layer: Gaussian weights, one input, linear / relu / leaky_relu"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        network, table = ensemble.network, ensemble.table
        phi = network.phi
        refused = _vectors_only(ensemble)
        if refused is not None:
            return refused
        elsewhere = "Use --sampler conditional."
        lacking = _kernels_lack(ensemble)
        if lacking is not None:
            return lacking
        if table.law.kind != "gaussian":
            return (
                f"it is exact only for Gaussian weights, got law {table.law.kind!r}: it needs "
                "rotation invariance. Use --sampler dense."
            )
        if table.correlated:
            return _correlated(table)
        if ensemble.inputs.count > 1:
            return (
                f"it follows one input, got {ensemble.inputs.count}: the angle between two passes "
                f"through sums without a closed law. {elsewhere} (Or ask for --inputs point.)"
            )
        if phi.negative_slope is None:
            return (
                f"its recursion is exact only for activations that are linear on either side of 0 "
                f"with fixed slopes, got {phi.kind!r}. {elsewhere}"
            )
        if network.form.pre and (phi.negative_slope != 1.0 or "activity" in fields):
            return (
                f"block {network.block!r} applies {phi.kind!r} to the trunk itself, whose "
                f"coordinates a few scalars do not know. {elsewhere}"
            )
        if table.centred:
            return f"its matrices have centred rows, which see more than a length. {elsewhere}"
        if network.form.trunk and bool(np.any(table.skip == 0)):
            return (
                "a skip coefficient is 0, and the chain measures change relative to the state "
                f"that it keeps. {elsewhere}"
            )
        return _not_applicable(ensemble, fields)

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        from sigprop.kernels import chain, lanes

        network, table = ensemble.network, ensemble.table
        slope = network.phi.negative_slope
        gradient = bool(fields & _GRADIENT_FIELDS)
        frame = bool(fields & _DISPLACEMENT_FIELDS)
        scale = table.scale.copy()
        scale[:, 0] *= table.input_scale
        coefficients = (table.skip, table.branch, scale, table.bias_scale)
        outputs = _Outputs(ensemble, len(layers), count, gradient)
        slots = _slots(network.depth, layers)
        given = ensemble.inputs.array(network.width)
        start = math.sqrt(network.width) if given is None else float(np.linalg.norm(given[0]))
        trunk = network.form.trunk
        hidden = network.fans[1][:, :-1] if trunk else network.state_widths[1:, None]
        cumulative, tables = _binomial_tables(tuple(np.unique(hidden).tolist()), lanes.TABLE_FROM)
        places = np.zeros((*hidden.shape, 2), np.int64)
        for n, place in tables.items():
            places[hidden == n] = place
        matrices = network.matrices
        rows = 4 * (6 + 4 * (matrices - 1) + matrices if trunk else 7) * lanes.LANES
        segment = _segment(network.depth, 1, rows, 40 * lanes.LANES)
        if trunk:
            chain.residual(
                slope, coefficients, network.width, np.ascontiguousarray(hidden), frame, cumulative,
                places, segment, slots, key, first, start, gradient, table.biased,
                outputs.states[:2], outputs.gradients, outputs.activity, outputs.dead,
            )  # fmt: skip
        else:
            chain.plain(
                slope, coefficients, network.state_widths, cumulative, places[:, 0], segment, slots,
                key, first, start, gradient, table.biased, outputs.states[:2], outputs.gradients,
                outputs.activity, outputs.dead,
            )  # fmt: skip
        return outputs.trace(fields)


@lru_cache(maxsize=32)
def _binomial_tables(
    trials: tuple[int, ...], above: int
) -> tuple[np.ndarray, dict[int, tuple[int, int]]]:
    """Distribution functions of Bin(n, 1/2) for the large n, as `lanes.binomial_half` reads them.

    Each stands in one array as its size, a guide of 257 places and the function itself, over
    the counts where it lies between 1e-17 and 1 - 1e-17. The dict gives (start, lowest count).
    """
    pieces: list[np.ndarray] = [np.zeros(1)]
    places = {}
    at = 1
    for n in trials:
        if n <= above:
            continue
        from scipy import stats

        reach = int(4.5 * math.sqrt(n)) + 8  # nine standard deviations
        lowest, highest = max(0, n // 2 - reach), min(n, n // 2 + reach)
        function = stats.binom.cdf(np.arange(lowest, highest + 1), n, 0.5)
        function[-1] = 1.0
        guide = np.searchsorted(function, np.arange(257) / 256, side="right")
        guide = guide.clip(0, len(function) - 1)
        pieces += [np.array([len(function)]), guide, function]
        places[n] = (at, lowest)
        at += 1 + 257 + len(function)
    return np.concatenate(pieces).astype(float), places


# ----------------------------------------------------------------- conditional


class Conditional(Sampler):
    """K inputs through Gaussian layers of any activation, O(K width) draws a layer."""

    name = "conditional"
    version = 3
    block = 128
    about = "O(K width) draws a layer: Gaussian or orthogonal weights, any block, K inputs"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        refused = _vectors_only(ensemble)
        if refused is not None:
            return refused
        law = ensemble.table.law
        if ensemble.table.structured:
            return (
                f"scheme {ensemble.scheme.kind!r} makes one matrix of another, and it follows "
                "matrices that are independent. Use --sampler dense."
            )
        if law.kind not in ("gaussian", "orthogonal"):
            return (
                f"it is exact only for Gaussian and orthogonal weights, got law {law.kind!r}: W h "
                "given h has no closed law for others. Use --sampler dense."
            )
        if ensemble.table.correlated:
            return _correlated(ensemble.table)
        if self._by_frames(ensemble):
            if ensemble.table.centred:
                return (
                    f"its matrices have centred rows, which law {law.kind!r} has not. Use "
                    "--sampler dense."
                )
            need = _frames_bytes(ensemble)
            if fields & _GRADIENT_FIELDS and need > _FRAMES_BYTES:
                fits = int(ensemble.network.depth * _FRAMES_BYTES / need)
                return (
                    f"its way back would keep {need / 2**30:.1f} GiB a worker, and "
                    f"{_FRAMES_BYTES / 2**30:.0f} GiB are allowed. A depth of about {fits} would "
                    "fit, or no gradient (--observe norm,separability)."
                )
        return _not_applicable(ensemble, fields)

    def _by_frames(self, ensemble: Ensemble) -> bool:
        """Whether it is the kernel of `sigprop.kernels.frames` that knows block and law."""
        return ensemble.network.form.post or ensemble.table.law.kind == "orthogonal"

    def kernel(self, ensemble: Ensemble) -> str:
        """The one that takes the fewest sweeps; on the same draws all that apply agree."""
        network, inputs = ensemble.network, ensemble.inputs.count
        linear_pieces = network.phi.negative_slope is not None
        trunk = network.form.trunk and not network.form.pre
        if self._by_frames(ensemble):
            return "frames"
        if inputs == 1 and linear_pieces and trunk and not ensemble.table.centred:
            return "single"
        return {1: "one", 2: "pair"}.get(inputs, "many")

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        from sigprop.kernels import conditional, pair, single

        if self._by_frames(ensemble):
            return _by_frames(ensemble, fields, layers, key, first, count)
        network = ensemble.network
        inputs = ensemble.inputs.count
        gradient = bool(fields & _GRADIENT_FIELDS)
        displaced = network.form.trunk and bool(fields & _DISPLACEMENT_FIELDS)
        common = _common(ensemble, layers)
        fan_in, fan_out = network.fans
        forward = inputs * fan_out.sum(1)
        backward = inputs * (fan_in + common["biased"]).sum(1)
        group = int(np.clip(_GROUP_DRAWS // forward.max(), 1, 64))
        state = 8 * inputs * (int(max(fan_in.max(), fan_out.max())) + 16)
        segment = _segment(network.depth, group, 8 * int(forward.max()) + state, state)
        outputs = _Outputs(ensemble, len(layers), count, gradient)
        forward, backward = _offsets(forward), _offsets(backward)
        plan = (
            forward, backward, group, segment, _stride(forward, group), _stride(backward, group)
        )  # fmt: skip
        kernel = self.kernel(ensemble)
        wanted: tuple[bool, ...] = (gradient, displaced)
        if kernel == "single":
            wanted += ("alignment" in fields,)
        rest = (
            plan, *(common[name] for name in _RUN), key, first, wanted,
            outputs.states, outputs.gradients, outputs.activity, outputs.dead,
        )  # fmt: skip
        if kernel == "single":
            law = ("biased", "table", "fan_in", "fan_out", "widths")
            single.sample(network.phi.negative_slope, *(common[name] for name in law), *rest)
        elif kernel == "pair":
            drawn = common["random_slopes"]
            # What a run does not need is None there, and not compiled.
            common |= {
                "curved": (network.phi.negative_slope is None and not drawn) or None,
                "random_slopes": drawn or None,
                "pre": common["pre"] or None,
            }
            compiled = _uncached(pair.sample, common["activation"])
            compiled(*(common[name] for name in (*_LAW[:3], "curved", *_LAW[3:])), *rest)
        else:
            of_name = {"one": conditional.sample_one, "many": conditional.sample_many}
            compiled = _uncached(of_name[kernel], common["activation"])
            compiled(*(common[name] for name in _LAW), *rest)
        return outputs.trace(fields)


def _by_frames(
    ensemble: Ensemble,
    fields: frozenset[str],
    layers: np.ndarray,
    key: np.ndarray,
    first: int,
    count: int,
) -> dict[str, np.ndarray]:
    """`Conditional.sample` by the kernel of any block and of orthogonal weights."""
    from sigprop.kernels import frames

    network, table = ensemble.network, ensemble.table
    form, gradient = network.form, bool(fields & _GRADIENT_FIELDS)
    displaced = form.trunk and not form.projected and bool(fields & _DISPLACEMENT_FIELDS)
    common = _common(ensemble, layers)
    stem = np.zeros(4)
    if table.stem is not None:
        stem[:] = 1.0, table.stem.scale, table.stem.bias_scale, network.input_size
    outputs = _Outputs(ensemble, len(layers), count, gradient)
    kernel = _uncached(frames.sample, common["activation"])
    kernel(
        table.law.kind == "orthogonal",
        *(common[name] for name in ("activation", "slope", "scaled", "random_slopes")),
        (form.pre, form.trunk, form.post, form.projected),
        *(common[name] for name in ("biased", "table")),
        stem,
        *(common[name] for name in ("fan_in", "fan_out", "widths", *_RUN)),
        key, first, (gradient, displaced), outputs.states, outputs.gradients, outputs.activity,
        outputs.dead,
    )  # fmt: skip
    return outputs.trace(fields)


def _frames_bytes(ensemble: Ensemble) -> int:
    """What `sigprop.kernels.frames` keeps of one network for the way back."""
    network = ensemble.network
    widest = max(int(network.fans[0].max()), int(network.fans[1].max()), network.input_size) + 16
    planes = 3 + 2 * network.branch_matrices + network.matrices
    return 8 * ensemble.inputs.count * widest * planes * network.depth


# ----------------------------------------------------------------------- dense


class Dense(Sampler):
    """Every weight of every matrix, of any law, drawn where it is used."""

    name = "dense"
    version = 3
    block = 16
    about = "O(width^2) draws a layer: any weight law, block and activation, K inputs"

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        refused = _vectors_only(ensemble)
        if refused is not None:
            return refused
        phi = ensemble.network.phi
        fan_in, fan_out = ensemble.network.fans
        largest = int((fan_in * fan_out).max())
        if largest >= ADDRESSES:
            return (
                f"a matrix has {largest:.2g} weights, and the addresses of its draws end at 2**32, "
                "beyond which they would repeat. Use a smaller width."
            )
        if self._by_matrices(ensemble, fields):
            from sigprop.backends import matrices

            absent = sorted(fields - applicable(ensemble, on_request=True) | fields & _ELSEWHERE)
            if absent:
                return f"it does not give {', '.join(absent)}. Use --sampler jacobian."
            need = matrices.need_bytes(ensemble, fields)
            if need > matrices.LARGEST_BYTES:
                fits = int(ensemble.network.depth * matrices.LARGEST_BYTES / need)
                return (
                    f"its way back would keep {need / 2**30:.1f} GiB a network, and "
                    f"{matrices.LARGEST_BYTES / 2**30:.0f} GiB are allowed. A depth of about "
                    f"{fits} would fit, or no gradient (--observe norm,separability)."
                )
            return None
        if ensemble.table.correlated:
            if phi.homogeneous and phi.negative_slope is None:
                return (
                    f"activation {phi.kind!r} draws its slopes unit by unit, which is not offered "
                    "with a process along depth. Use leaky_relu."
                )
            from sigprop.backends import correlated

            need = correlated.weight_bytes(ensemble)
            if need > _WEIGHT_BYTES:
                return (
                    f"a process along depth needs all weights of a network at once, "
                    f"{need / 2**30:.1f} GiB here, and {_WEIGHT_BYTES / 2**30:.0f} GiB are "
                    "allowed. Use a smaller width or depth."
                )
        return _not_applicable(ensemble, fields)

    def _by_matrices(self, ensemble: Ensemble, fields: frozenset[str]) -> bool:
        """Whether whole matrices are multiplied, since no kernel knows the block or the field."""
        kernels_know = applicable(ensemble) | _ELSEWHERE
        return not ensemble.table.correlated and (
            _kernels_lack(ensemble) is not None or not fields <= kernels_know
        )

    def coupled(self, ensembles: Sequence[Ensemble]) -> bool:
        return (
            not any(self._by_matrices(e, frozenset()) for e in ensembles)
            and all(e.table.law.kind == "gaussian" for e in ensembles)
            and not any(self.refusal(e, frozenset()) or _slopes_are_random(e) for e in ensembles)
        )

    def sample_coupled(
        self,
        ensembles: Sequence[Ensemble],
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> list[dict[str, np.ndarray]]:
        if not self.coupled(ensembles) or self._by_matrices(ensembles[0], fields):
            return super().sample_coupled(ensembles, fields, layers, key, first, count)
        from sigprop.backends import correlated

        return correlated.sample(ensembles, fields, layers, key, first, count)

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        if ensemble.table.correlated:
            from sigprop.backends import correlated

            return correlated.sample([ensemble], fields, layers, key, first, count)[0]
        if self._by_matrices(ensemble, fields):
            from sigprop.backends import matrices

            return matrices.sample(ensemble, fields, layers, key, first, count)
        from sigprop.kernels import dense

        network, law = ensemble.network, ensemble.table.law
        inputs = ensemble.inputs.count
        gradient = bool(fields & _GRADIENT_FIELDS)
        displaced = network.form.trunk and bool(fields & _DISPLACEMENT_FIELDS)
        common = _common(ensemble, layers)
        common["table"] = _rows(kept(ensemble), getattr(law, "unit", 1.0))
        fan_in, fan_out = network.fans
        state = 8 * inputs * (int(max(fan_in.max(), fan_out.max())) + 16)
        segment = _segment(network.depth, 1, state * (1 + network.matrices), state)
        outputs = _Outputs(ensemble, len(layers), count, gradient)
        kernel = _uncached(dense.sample, common["activation"])
        kernel(
            law.code, law.parameter, *(common[name] for name in _LAW), segment,
            *(common[name] for name in _RUN), key, first, (gradient, displaced), outputs.states,
            outputs.gradients, outputs.activity, outputs.dead,
        )  # fmt: skip
        return outputs.trace(fields)


def _slopes_are_random(ensemble: Ensemble) -> bool:
    phi = ensemble.network.phi
    return phi.homogeneous and phi.negative_slope is None


def _offsets(draws: np.ndarray) -> np.ndarray:
    """Cumulated draws of the layers, one more entry than layers."""
    return np.concatenate([[0], np.cumsum(draws)]).astype(np.int64)


def _stride(offsets: np.ndarray, group: int) -> int:
    """Padded number of draws of the largest group of layers."""
    ends = np.append(offsets[:-1:group], offsets[-1])
    return -(-int(np.diff(ends).max()) // 16) * 16


def _segment(depth: int, group: int, layer_bytes: int, state_bytes: int) -> int:
    """Layers between two stored states: all of them if the tape is small, else by sqrt(depth)."""
    whole = -(-depth // group) * group
    if whole * layer_bytes <= _TAPE_BYTES:
        return whole
    best = math.sqrt(depth * state_bytes / layer_bytes)
    return min(whole, -(-int(best) // group) * group or group)
