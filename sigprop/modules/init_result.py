"""What a data-driven initialisation did to a network: scales, course, and before beside after.

Every method of the kind (GradInit and its rivals) returns an `InitResult`. A method that only
multiplies tensors leaves their factors in ``scales``. One that sets tensors anew leaves the
values in ``weights`` as well, and its ``scales`` are ratios of norms, after over before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from sigprop.errors import ResultError, SpecError
from sigprop.export import strict

__all__ = ["InitResult", "kinds", "norms"]

KINDS = {"weight": "weights", "gain": "gains of normalisation", "bias": "biases", "other": "other"}

_NORMALISERS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)
# A norm that differs by more than this is another tensor: float32 and half weights round.
_SAME = {torch.float64: 1e-9, torch.float32: 1e-5}
_SAME_HALF = 2e-2


def kinds(model: nn.Module) -> dict[str, str]:
    """Say of every parameter what it is: ``weight``, ``gain``, ``bias`` or ``other``.

    A gain is the factor of a normalisation layer; a bias has ``bias`` in the last part of its
    name; a weight is any other tensor of two dimensions or more. A tensor that two modules share
    is named once, as by ``named_parameters``.
    """
    normalised = {
        id(value)
        for module in model.modules()
        if isinstance(module, _NORMALISERS)
        for name, value in module.named_parameters(recurse=False)
        if "bias" not in name
    }
    found = {}
    for name, value in model.named_parameters():
        if id(value) in normalised:
            found[name] = "gain"
        elif "bias" in name.rpartition(".")[2]:
            found[name] = "bias"
        else:
            found[name] = "weight" if value.ndim >= 2 else "other"
    return found


def norms(model: nn.Module) -> dict[str, float]:
    """Euclidean norm of every parameter, summed in float64."""
    with torch.no_grad():
        return {
            name: float(value.detach().double().norm()) for name, value in model.named_parameters()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class InitResult:
    """What one method found for one network.

    Parameters
    ----------
    method : str
        ``gradinit``, ``lsuv``, ...
    scales : mapping
        Tensor name -> factor by which its norm changed, in the order of the model.
    norms : mapping
        Tensor name -> norm before the method; by these `apply` knows the network.
    kinds : mapping
        Tensor name -> what it is, as by `sigprop.modules.init_result.kinds`.
    history : mapping
        Column -> array, all of one length: a row for every iteration. For what `plot_history`
        draws: ``iteration``, ``grad_norm`` or another ``objective``, and ``case``.
    before, after : mapping
        Numbers on a held-out batch, where the method has one: ``grad_norm``, ``loss``,
        ``stepped_loss``.
    settings : mapping
        Every setting of the method, plain values.
    seconds : float
        Wall time.
    warnings : tuple of str
        What the user should know, whole sentences.
    weights : mapping, optional
        Tensor name -> value, of the tensors that the method set rather than scaled. Not written
        by `to_json`.
    sets : tuple of str, optional
        Names of the tensors that were set; by default those of ``weights``. JSON keeps them, so
        that a result that was read from it knows what it lacks.
    """

    method: str
    scales: Mapping[str, float]
    norms: Mapping[str, float]
    kinds: Mapping[str, str]
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = math.nan
    warnings: tuple[str, ...] = ()
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sets", tuple(self.sets) or tuple(self.weights))
        lengths = {name: len(column) for name, column in self.history.items()}
        if len(set(lengths.values())) > 1:
            raise SpecError(
                f"the columns of a history must be of one length, got {lengths}: a row is an "
                "iteration. Write NaN where an iteration has no value."
            )

    # ------------------------------------------------------------------ to a network

    def apply(self, model: nn.Module) -> None:
        """Do to ``model`` what the method found: in place, on its own parameters.

        Parameters
        ----------
        model : nn.Module
            The network as it was before the method: same names, same norms. Optimisers, hooks and
            shared tensors stay valid, since no parameter is replaced.

        Raises
        ------
        SpecError
            Before anything is changed, if a tensor is missing or has another norm, as it has
            where the result was applied already.
        ResultError
            If the result was read from JSON and its method sets weights, which JSON leaves out.
        """
        if set(self.sets) - set(self.weights):
            raise ResultError(
                f"{self.method} sets weights anew, and this result, read from JSON, holds their "
                "norms only. Keep the result in memory, or run the method again."
            )
        parameters = dict(model.named_parameters())
        self._require_same(parameters)
        with torch.no_grad():
            for name, scale in self.scales.items():
                if name in self.weights:
                    parameters[name].copy_(self.weights[name])
                elif scale != 1:
                    parameters[name].mul_(scale)

    def _require_same(self, parameters: Mapping[str, torch.Tensor]) -> None:
        missing = [name for name in self.scales if name not in parameters]
        if missing:
            raise SpecError(
                f"the network has no tensor {missing[0]!r}, which this result of {self.method} "
                f"scales (it has {', '.join(parameters) or 'none'}). Apply it to the network that "
                "the method saw."
            )
        for name in self.scales:
            norm = float(parameters[name].detach().double().norm())
            slack = _SAME.get(parameters[name].dtype, _SAME_HALF)
            if abs(norm - self.norms[name]) > slack * max(self.norms[name], 1e-300):
                raise SpecError(
                    f"{name!r} has norm {norm:.6g}, and had {self.norms[name]:.6g} before "
                    f"{self.method}: the result was applied already, or belongs to other weights. "
                    "Apply it once, to the network that the method saw (apply=False leaves it so)."
                )

    # ------------------------------------------------------------------------ to text

    def to_json(self) -> str:
        """Return everything but the values of weights, as strict JSON (NaN is null)."""
        columns = {name: np.asarray(column).tolist() for name, column in self.history.items()}
        whole = {
            "method": self.method,
            "scales": dict(self.scales),
            "norms": dict(self.norms),
            "kinds": dict(self.kinds),
            "before": dict(self.before),
            "after": dict(self.after),
            "settings": dict(self.settings),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            "sets": list(self.sets),
            "history": columns,
        }
        return json.dumps(strict(whole), indent=1)

    @classmethod
    def from_json(cls, text: str) -> InitResult:
        """Read what `to_json` wrote.

        Raises
        ------
        ResultError
            If the text is no such result.
        """
        try:
            whole = json.loads(text)
            history = {
                name: np.array([math.nan if x is None else _number(x) for x in column])
                for name, column in whole.pop("history").items()
            }
            for part in ("scales", "norms", "before", "after"):
                whole[part] = {
                    name: math.nan if value is None else _number(value)
                    for name, value in whole[part].items()
                }
            whole["seconds"] = math.nan if whole["seconds"] is None else whole["seconds"]
            return cls(**whole | {"history": history, "warnings": tuple(whole["warnings"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(
                f"this is no result of an initialisation ({type(error).__name__}: {error}): it "
                "cannot be read. Give the text that InitResult.to_json returned."
            ) from error

    # --------------------------------------------------------------------- to a picture

    def plot_scales(self, ax: Any) -> None:
        """Draw the factor of every tensor against its place, a line for each kind of tensor.

        Parameters
        ----------
        ax : matplotlib Axes
            Weights stand at 1, 2, ... in the order of the model; a gain or a bias stands at the
            weight that it follows. Tensors that stayed at exactly 1 because they are zero are
            left out.
        """
        place, lines = 0, {kind: ([], []) for kind in KINDS}  # type: ignore[var-annotated]
        for name, scale in self.scales.items():
            kind = self.kinds[name]
            place += kind == "weight"
            if self.norms[name] == 0 and scale == 1:
                continue
            lines[kind][0].append(place)
            lines[kind][1].append(scale)
        marks = dict(zip(KINDS, "os^d"))
        for kind, (places, values) in lines.items():
            if places:
                ax.plot(places, values, marker=marks[kind], ms=3.5, lw=1, label=KINDS[kind])
        ax.axhline(1.0, color="0.6", lw=0.8, zorder=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("weight tensor, from the input")
        ax.set_ylabel("scale (1: as it was)")
        ax.legend()

    def plot_history(self, ax: Any) -> None:
        """Draw the course of the method: the gradient norm, or its objective, by iteration.

        Parameters
        ----------
        ax : matplotlib Axes
            Iterations that lowered the norm (case c) and those that lowered the stepped loss
            (case o) are told apart; a line stands at gamma, where the method has one.
        """
        column = next((c for c in ("grad_norm", "objective") if c in self.history), None)
        if column is None:
            raise SpecError(
                f"{self.method} has no course to draw: its history holds "
                f"{', '.join(self.history) or 'nothing'}, neither 'grad_norm' nor 'objective'. "
                "Draw plot_scales."
            )
        values = np.asarray(self.history[column], float)
        iterations = np.asarray(self.history.get("iteration", np.arange(len(values))))
        case = np.asarray(self.history.get("case", np.full(len(values), "")))
        ax.plot(iterations, values, color="0.7", lw=0.7, zorder=1)
        words = {"c": "case c: lower the norm", "o": "case o: lower the stepped loss", "": column}
        colours = {"c": "C0", "o": "C1"}  # one colour a case, whichever came first
        for which in sorted(_unique(case)):
            chosen = case == which
            look = {"color": colours.get(which, "C0"), "label": words.get(which, which)}
            ax.plot(iterations[chosen], values[chosen], ".", ms=3, **look)
        gamma = self.settings.get("gamma")
        if gamma is not None:
            ax.axhline(gamma, color="#222222", lw=0.9, ls="--", label=f"$\\gamma$ = {gamma:g}")
        ax.set_yscale("log")
        ax.set_xlabel("iteration")
        ax.set_ylabel("gradient norm of a batch" if column == "grad_norm" else column)
        ax.legend()


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(map(str, values)))


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value
