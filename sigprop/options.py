"""From the words of a command line to the law and the run that they mean.

Nothing here knows the program; the same functions serve every command that takes a law. A
value that cannot be read is a `SpecError` that shows how to write it; whether it makes sense
is for the dataclass that receives it to say.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigprop.errors import SpecError, UnknownName
from sigprop.registry import did_you_mean

if TYPE_CHECKING:
    from sigprop.spec import Ensemble, Inputs, Member

__all__ = [
    "counts",
    "ensemble",
    "extra",
    "inner_width",
    "layers",
    "literal",
    "made_by",
    "numbers",
    "places",
    "refuse_beside_source",
    "seed",
    "words",
]

# -------------------------------------------------------------------------- one option


def words(text: str | None) -> list[str] | None:
    """Split ``a,b,c``."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str | None) -> list[float] | None:
    """Read ``0.5,1,2``."""
    return _each(option, text, float, "numbers", "0.5,1,2")


def counts(option: str, text: str | None) -> list[int] | None:
    """Read ``6,5,8``."""
    return _each(option, text, int, "whole numbers", "6,5,8")


def _each(option: str, text: str | None, kind: type, what: str, example: str) -> Any:
    parts = words(text)
    try:
        values = None if parts is None else [kind(part) for part in parts]
    except ValueError:
        values = []
    if values == []:
        raise SpecError(
            f"{option} must be {what} with commas between them, got {text!r}. "
            f"Write for example: {option} {example}"
        )
    return values


def seed(value: int, runs: int = 1) -> int:
    """Return ``--seed``, the first of ``runs``, if generators take it."""
    if not 0 <= value <= 2**63 - runs:
        raise SpecError(
            f"--seed must be a whole number from 0 to {2**63 - runs}, got {value}: generators take "
            "63 bits. Write for example: --seed 0"
        )
    return value


def inner_width(text: str | None) -> int | tuple[int, ...] | None:
    """Read one width, or one for each layer."""
    values = counts("--inner-width", text)
    if values is None:
        return None
    return values[0] if len(values) == 1 else tuple(values)


def layers(option: str, text: str | None) -> list[int] | None:
    """Read ``0,10,500`` and ``from:to:step`` in any mixture, ends included."""
    if text is None:
        return None
    found: set[int] = set()
    try:
        for word in words(text) or ():
            if ":" in word:
                first, last, *rest = (int(part) for part in word.split(":"))
                (step,) = rest or (1,)
                if step < 1 or last < first:
                    raise ValueError
                found.update((*range(first, last, step), last))
            else:
                found.add(int(word))
    except ValueError:
        found.clear()
    if not found:
        raise SpecError(
            f"{option} must be layers such as 0,10,500 or a range from:to:step such as 0:1000:10, "
            f"got {text!r}."
        )
    return sorted(found)


def places(option: str, text: str | None) -> list[int | str] | None:
    """Read ``0,50%,top``: layers as `layers` does, and words, which are checked elsewhere."""
    if text is None:
        return None
    found: list[int | str] = []
    for word in words(text) or ("",):
        found += layers(option, word) or () if ":" in word else [word]
    return found


def extra(arguments: Sequence[str], own: Sequence[str]) -> dict[str, Any]:
    """Pair up the options that a command does not have itself: those of a member.

    Parameters
    ----------
    arguments : sequence of str
        What the parser left: ``["--beta", "0.5"]`` or ``["--beta=0.5"]``.
    own : sequence of str
        Options of the command, for the nearest one.
    """
    found: dict[str, Any] = {}
    left = list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            raise SpecError(
                f"{word!r} stands alone, with no option before it. Write --option value."
            )
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            if not left or left[0].startswith("--"):
                raise SpecError(f"{word} needs a value, or is no option.{did_you_mean(word, own)}")
            value = left.pop(0)
        found[name.replace("-", "_")] = literal(value)
    return found


def literal(text: str) -> Any:
    """Read a number, a list of them, or leave a word as it is."""
    if "," in text:
        return tuple(literal(word) for word in words(text) or ())
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _dashed(field: str) -> str:
    return "--" + field.replace("_", "-")


# ----------------------------------------------------------------------------- the law


def ensemble(asked: Mapping[str, Any], members: Mapping[str, Any], own: Sequence[str]) -> Ensemble:
    """Build the law.

    Parameters
    ----------
    asked : mapping
        depth, width, widths, block, inner_layers, inner_width, scheme, activation, law,
        inputs and cosine, and possibly input_width, image, kernel, padding, stride, process,
        inner_process and count; None where the option was not given.
    members : mapping
        Options of the scheme, the activation, the law and the processes, see `extra`. Those
        of the inner process have ``inner_`` before their name.
    own : sequence of str
        Options of the command, for the nearest one.

    Raises
    ------
    SpecError, UnknownName, Unsupported
        If no law is meant by this.
    """
    import sigprop.activations
    import sigprop.laws
    import sigprop.processes
    import sigprop.schemes  # noqa: F401  the four fill their registries
    from sigprop.spec import Activation, Ensemble, Network, Process, Scheme, WeightLaw

    if asked["scheme"] is None:
        raise SpecError(
            "no scheme was given, and there is no default one. Add for example: --scheme fixup "
            f"(known: {', '.join(sorted(Scheme.family))}; see: sigprop list schemes)."
        )
    chosen: dict[str, type[Member]] = {
        "scheme": Scheme.family[asked["scheme"]],
        "activation": Activation.family[asked["activation"] or "relu"],
    }
    usual = str(chosen["scheme"].__dataclass_fields__["law"].default)
    chosen["law"] = WeightLaw.family[asked["law"] or usual]
    files: dict[str, Any] = {}
    for role in ("process", "inner process"):
        name = asked.get(role.replace(" ", "_"))
        if name is not None and name.endswith(".npy"):
            name, files[role] = "covariance", _array(f"--{role.replace(' ', '-')}", Path(name))
        if name is not None:
            chosen[role] = Process.family[name]
    members = dict(members)
    dropped = members.pop("dropout", None)
    values = _deal(members, chosen, own)
    for role, matrix in files.items():
        values[role]["matrix"] = matrix
    made = {
        role.replace(" ", "_"): _make(chosen[role], values[role], role)
        for role in chosen
        if role in ("law", "process", "inner process")
    }
    scheme = _make(chosen["scheme"], {**values["scheme"], **made})
    shape = {
        name: asked[name]
        for name in ("width", "widths", "inner_layers", "inner_width", "input_width", "block")
        if asked.get(name) is not None
    }
    shape |= _of_images(asked)
    dropout = asked.get("dropout", dropped)
    if dropout is not None:
        shape["dropout"] = dropout
    wide = asked["widths"] and scheme.default_block not in ("plain", "projection")
    shape.setdefault("block", "plain" if wide else scheme.default_block)
    network = Network(
        depth=_depth(asked),
        activation=_make(chosen["activation"], values["activation"]),
        **shape,
    )
    inputs = _inputs(asked["inputs"], asked["cosine"], asked.get("count"))
    return Ensemble(network, scheme, inputs)


def _of_images(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of convolutions, read where it is text: one number, or several."""
    found: dict[str, Any] = {}
    for name in ("image", "kernel", "stride"):
        value = asked.get(name)
        if isinstance(value, str):
            several = counts(f"--{name}", value.replace("x", ",")) or ()
            value = several[0] if len(several) == 1 else tuple(several)
        found |= {} if value is None else {name: value}
    padding = asked.get("padding")
    return found if padding is None else {**found, "padding": padding}


def _depth(asked: Mapping[str, Any]) -> int:
    depth, widths = asked["depth"], asked["widths"]
    if widths is not None and asked["width"] is not None:
        raise SpecError("--widths gives every width: leave out --width.")
    if depth is not None:
        return int(depth)
    if widths is None:
        raise SpecError("no depth was given. Add for example: --depth 1000")
    return len(widths) - 1


def _deal(
    members: Mapping[str, Any], chosen: Mapping[str, type[Member]], own: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Hand every extra option to the chosen member that has a field of that name."""
    members_too = ("law", "process", "inner_process")  # of the scheme, with options of their own
    takes = {
        role: [
            _prefix(role) + f.name for f in dataclasses.fields(kind) if f.name not in members_too
        ]
        for role, kind in chosen.items()
    }
    values: dict[str, dict[str, Any]] = {role: {} for role in chosen}
    for name, value in members.items():
        takers = [role for role in chosen if name in takes[role]]
        if not takers:
            listing = "; ".join(
                f"{role} {chosen[role].kind!r} takes "
                f"{', '.join(_dashed(field) for field in takes[role]) or 'none'}"
                for role in chosen
            )
            from sigprop.spec import Activation, Process, Scheme, WeightLaw

            known = [*own, *(_dashed(field) for fields in takes.values() for field in fields)]
            owners = [
                f"{kind.family.family} {member!r}"
                for kind in (Scheme, Activation, WeightLaw, Process)
                for member in kind.family
                if any(f.name == name for f in dataclasses.fields(kind.family[member]))
            ]
            hint = (
                f" It belongs to {' or '.join(owners)}, which was not chosen."
                if owners and not any(k.endswith(_dashed(name)[1:]) for k in known)
                else did_you_mean(_dashed(name), known)
            )
            raise UnknownName(
                f"{_dashed(name)} is no option of the command, nor of what was chosen."
                f"{hint} Of the members, {listing}."
            )
        if len(takers) > 1:
            raise SpecError(
                f"{_dashed(name)} could mean the {' or the '.join(takers)}. Say it in Python, "
                "where each has its own."
            )
        values[takers[0]][name.removeprefix(_prefix(takers[0]))] = value
    return values


def _prefix(role: str) -> str:
    """What stands before the options of a role: both processes may be of one kind."""
    return "inner_" if role == "inner process" else ""


def _make(kind: type[Member], values: Mapping[str, Any], role: str = "") -> Any:
    missing = [
        _dashed(_prefix(role) + f.name)
        for f in dataclasses.fields(kind)
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise SpecError(
            f"{kind.family.family} {kind.kind!r} has no default for {', '.join(missing)}: "
            "give it on the command line."
        )
    return kind(**values)


def _inputs(name: str | None, cosine: float | None, count: int | None) -> Inputs:
    from sigprop.inputs import Batch, Equiangular, Given, Pair, Point

    given = {"cosine": cosine, "count": count}
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if name == "equiangular":
        return Equiangular(**asked)
    if name == "batch" and cosine is None:
        return Batch(**asked)
    if count is not None and name != "batch":
        raise SpecError(
            "--count is the number of equiangular inputs, or of a batch: leave it out, or use "
            "--inputs equiangular or batch."
        )
    if name in (None, "pair"):
        return Pair(**asked)
    if name.endswith(".npy"):
        chosen: Inputs = Given(_array("--inputs", Path(name)))
    elif name in ("point", "batch"):
        chosen = Point()
    else:
        raise UnknownName(
            f"{name!r} is no input.{did_you_mean(name, ['point', 'pair', 'equiangular', 'batch'])} "
            "Known: point, pair, equiangular, batch, or a file FILE.npy with one row an input."
        )
    if cosine is not None:
        raise SpecError(
            "--cosine is the angle of a pair or of equiangular inputs: leave it out, or use "
            "--inputs pair."
        )
    return chosen


def _array(option: str, path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(
            f"{option} {path} cannot be read as a NumPy array: {error}. Write it with "
            "numpy.save(FILE, array), one row for each "
            f"{'input' if option == '--inputs' else 'layer'}."
        ) from error


# ------------------------------------------------------------------- an earlier result


def refuse_beside_source(asked: Mapping[str, Any], members: Mapping[str, Any]) -> None:
    """Raise SpecError if options of a law stand beside ``--from``, which gives the law."""
    options = [_dashed(name) for name, value in asked.items() if value is not None]
    options += [_dashed(name) for name in members]
    if options:
        raise SpecError(
            f"--from takes the law from the result, and {', '.join(options)} would change it. "
            "Leave out one of the two; --seed, --replicas, --sampler, --layers, --orders, "
            "--observe and --keep may be given beside --from."
        )


def made_by(source: Path, run: Mapping[str, Any]) -> tuple[Ensemble, dict[str, Any]]:
    """Return the law of a result, and the arguments of `simulate` that make it again.

    Parameters
    ----------
    source : Path
        A result.
    run : mapping
        Arguments given explicitly; they replace those of the result.
    """
    from sigprop.result import read
    from sigprop.simulate import arguments
    from sigprop.spec import Ensemble

    result, _ = read(source)
    law = Ensemble.from_dict(json.loads(result.attrs["ensemble"]))
    before = arguments(result)
    if "tilt" in run or "population" in run:
        before["sampler"] = "auto"
    if "orders" in run or "observe" in run:
        # Observables carry their orders: name them, so that the two can be given apart.
        before["observe"] = [observable.kind for observable in before["observe"]]
        if "order" in result.coords:
            before["orders"] = result.order.values.tolist()
    return law, {**before, **run}
