"""A plan of what is written where, made and checked whole before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sigprop.activations import GELU, Erf, LeakyReLU, Linear, ReLU, SiLU, Tanh
from sigprop.errors import SpecError, Unsupported
from sigprop.modules.anatomy import Anatomy, ResidualSum
from sigprop.modules.anatomy import anatomy as anatomy_of
from sigprop.modules.init.report import InitReport, Setting
from sigprop.modules.init.scalar import add_scalar
from sigprop.modules.refusals import check_module, where
from sigprop.modules.roles import WeightLayer
from sigprop.spec import Activation

__all__ = ["Plan"]

Draw = Callable[[torch.Size, "Source"], torch.Tensor]

_KNOWN: dict[str, type[Activation]] = {
    "relu": ReLU, "tanh": Tanh, "gelu": GELU, "silu": SiLU, "erf": Erf,
}  # fmt: skip

# Where no scheme here says what a weight is.
_NO_SCALE = {
    "embedding": "an embedding: its rows are read one by one, and no sum has a scale to keep",
    "recurrent": "recurrent: no scheme here is of weights that are used again at every step",
    "other": "neither a matrix nor a kernel that is multiplied by its input alone",
}


@dataclass(frozen=True)
class Source:
    """Where random numbers come from, as float64 on the CPU or on the generator's device."""

    generator: torch.Generator | None

    def normals(self, *shape: int) -> torch.Tensor:
        device = None if self.generator is None else self.generator.device
        return torch.randn(shape, generator=self.generator, dtype=torch.float64, device=device)


@dataclass(frozen=True)
class _Write:
    """What one parameter becomes."""

    setting: Setting
    draw: Draw


class Plan:
    """What an initialiser is going to do.

    Parameters
    ----------
    scheme : str
    model : Module
    inputs : tuple
        The example of what its forward takes.
    found : Anatomy, optional
        Instead of an example.
    nonlinearity : Activation or str, optional
    generator : torch.Generator, optional
    sums : bool or None
        Whether residual sums are needed (True), refused (False), or neither.
    """

    def __init__(
        self,
        scheme: str,
        model: nn.Module,
        inputs: tuple[Any, ...],
        *,
        found: Anatomy | None,
        nonlinearity: Activation | str | None,
        generator: torch.Generator | None = None,
        sums: bool | None = None,
    ) -> None:
        check_module(model)
        if found is None and not inputs:
            raise SpecError(
                f"{scheme}_ of {type(model).__name__} needs an example input: which layers there "
                "are, in which order, and what is added to what is found by running the module "
                f"once. Write {scheme}_(model, x), x of the shape that the module takes, or "
                f"{scheme}_(model, anatomy=anatomy(model, ...))."
            )
        if generator is not None and not isinstance(generator, torch.Generator):
            raise SpecError(
                f"generator must be a torch.Generator, got {generator!r}: weights are drawn from "
                "it. Write generator=torch.Generator().manual_seed(0)."
            )
        self.scheme, self.model, self.generator = scheme, model, generator
        self.anatomy = anatomy_of(model, *inputs) if found is None else found
        self.parameters = dict(model.named_parameters())
        self._check_anatomy()
        if sums is not None and bool(self.anatomy.sums) != sums:
            raise Unsupported(self._wrong_sums(sums))
        self.writes: dict[str, _Write] = {}
        self.kept: dict[str, Setting] = {}
        self.notes: list[str] = []
        self.added: dict[str, tuple[WeightLayer, Setting]] = {}  # scalars, by the weight's name
        self.phi = self._activation(nonlinearity)

    def _check_anatomy(self) -> None:
        """Raise unless the anatomy is of this module."""
        for layer in self.anatomy.layers:
            if layer.weight is not None and layer.weight not in self.parameters:
                raise SpecError(
                    f"the anatomy given is of another module: {type(self.model).__name__} has no "
                    f"parameter {layer.weight!r}. Give anatomy(model, x) of this one."
                )

    def _wrong_sums(self, wanted: bool) -> str:
        name = type(self.model).__name__
        if wanted:
            return (
                f"scheme {self.scheme!r} is of residual networks, and no residual sum was found in "
                f"{name}: a sum of two tensors of one shape with a common origin, one by more "
                "weight layers than the other. If the module adds in another way, name its "
                "branches: anatomy = anatomy(model, x, branches='*.branch')."
            )
        s = self.anatomy.sums[0]
        return (
            f"scheme {self.scheme!r} is of plain networks, and "
            f"{where(self.model, s.block)} adds a branch to a trunk. Use it on a plain network, "
            "or scaled_, fixup_ or skipinit_ here."
        )

    # ------------------------------------------------------------------ activation

    def _activation(self, given: Activation | str | None) -> Activation:
        """The activation whose gain the scheme takes."""
        if given is not None:
            return Activation.named(given) if isinstance(given, str) else given
        read = {(x.reads, x.slope) for x in self.anatomy.layers if x.reads is not None}
        if not read:
            return Linear()
        if len(read) > 1:
            names = ", ".join(sorted(str(kind) for kind, _ in read))
            raise SpecError(
                f"weight layers of {type(self.model).__name__} read several activations ({names}), "
                f"and scheme {self.scheme!r} takes the gain of one. Say nonlinearity = 'relu', or "
                "whichever it is."
            )
        ((kind, slope),) = read
        if kind == "leaky_relu":
            return LeakyReLU(slope=slope)
        if kind not in _KNOWN:
            raise Unsupported(
                f"activation {kind!r} of {type(self.model).__name__} has no Gaussian moments here, "
                f"which scheme {self.scheme!r} needs. Say nonlinearity = ..., an activation of "
                "sigprop.activations or one that function() makes of a Python function."
            )
        return _KNOWN[str(kind)]()

    # --------------------------------------------------------------------- writing

    def constant(self, name: str | None, value: float, role: str, why: str) -> None:
        """Set all entries of a parameter to one number."""
        if name is None:
            return
        rule = f"{value:.4g}"
        setting = Setting(tensor=name, role=role, rule=rule, std=0.0, value=float(value), why=why)
        self.write(setting, lambda shape, source: torch.full(shape, value, dtype=torch.float64))

    def normal(self, name: str, variance: float, rule: str, why: str) -> None:
        """Set a weight to independent Gaussian entries."""
        std = math.sqrt(variance)
        setting = Setting(tensor=name, role="weight", rule=rule, std=std, why=why)
        self.write(setting, lambda shape, source: std * source.normals(*shape))

    def write(self, setting: Setting, draw: Draw) -> None:
        """Note a write; a parameter that two layers share must be set to the same by both."""
        name = setting.tensor
        if name in self.kept:
            return
        if name in self.writes:
            before = self.writes[name].setting
            if (before.rule, before.std) != (setting.rule, setting.std):
                raise SpecError(
                    f"parameter {name!r} is shared: scheme {self.scheme!r} makes it {before.rule} "
                    f"({before.why}) and {setting.rule} ({setting.why}). Untie it, or leave the "
                    "module to another scheme."
                )
            return
        self.writes[name] = _Write(setting, draw)

    def keep(self, name: str, role: str, why: str) -> None:
        """Leave a parameter alone, whatever else is said of it."""
        self.writes.pop(name, None)
        self.kept.setdefault(name, Setting(tensor=name, role=role, why=why))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # -------------------------------------------------------------------- commonly

    def usual(self) -> list[WeightLayer]:
        """Keep what no scheme sets, set biases 0 and normalisations 1, 0; the layers that are left.

        Branch scalars become 1, for a scheme that says nothing else of them afterwards.
        """
        layers = []
        for layer in self.anatomy.layers:
            reason = _NO_SCALE.get(layer.kind)
            if layer.weight is None:
                for name in layer.made_of:
                    self.keep(name, "other", f"the weight of {layer.name!r} is computed of it")
            elif reason is not None:
                self.keep(layer.weight, "weight", reason)
            elif not self.parameters[layer.weight].requires_grad:
                self.keep(layer.weight, "weight", "frozen: requires_grad is False")
            else:
                layers.append(layer)
        for layer in self.anatomy.layers:
            if layer.bias is not None:
                self.constant(layer.bias, 0.0, "bias", "bias of a weight layer")
        for norm in self.anatomy.norms:
            self.constant(norm.gain, 1.0, "norm gain", "gain of a normalisation")
            self.constant(norm.bias, 0.0, "norm bias", "shift of a normalisation")
        for s in self.anatomy.sums:
            for name in s.multipliers:
                self.constant(name, 1.0, "branch scalar", "multiplies a branch")
            for name in s.biases:
                self.constant(name, 0.0, "scalar bias", "added to what a layer reads")
        return [x for x in layers if x.weight not in self.kept]

    def recall(self, name: str | None) -> None:
        """Forget what was noted for a parameter."""
        if name is not None:
            self.writes.pop(name, None)

    def need(self, s: ResidualSum) -> None:
        """Raise unless the weights of a sum are parameters that may be set."""
        for layer in (*s.layers, *s.shortcut_layers):
            if layer.weight is None:
                raise Unsupported(
                    f"scheme {self.scheme!r} sets the weight of {where(self.model, layer.name)}, "
                    f"which is computed of {', '.join(layer.made_of)}. Take the parametrisation "
                    "off first: torch.nn.utils.parametrize.remove_parametrizations."
                )
            for name in (layer.weight, layer.bias):
                if name is not None and not self.parameters[name].requires_grad:
                    raise Unsupported(
                        f"scheme {self.scheme!r} sets {name!r} of {where(self.model, layer.name)}, "
                        "which is frozen (requires_grad is False): the others alone would not be "
                        "the scheme. Thaw it with requires_grad_(True)."
                    )
            if layer.kind in _NO_SCALE:
                raise Unsupported(
                    f"scheme {self.scheme!r} is not defined for the branch {s.name!r}: "
                    f"{where(self.model, layer.name)} is {_NO_SCALE[layer.kind]}."
                )

    # --------------------------------------------------------------------- the end

    def carry_out(self, options: dict[str, Any]) -> InitReport:
        """Write everything, in the order of the module, and report."""
        for name, write in list(self.writes.items()):
            if not self.parameters[name].requires_grad:
                del self.writes[name]
                why = "frozen: requires_grad is False"
                self.kept[name] = Setting(tensor=name, role=write.setting.role, why=why)
        unused = set(self.anatomy.unused)
        settings, source = [], Source(self.generator)
        for name, parameter in self.parameters.items():
            if name in self.writes:
                self.fill(parameter, self.writes[name].draw, source)
                settings.append(self.writes[name].setting)
            elif name in self.kept:
                settings.append(self.kept[name])
            else:
                why = (
                    "not read in the pass of evaluation"
                    if name in unused
                    else "no part of the scheme"
                )
                settings.append(Setting(tensor=name, role="other", why=why))
        for layer, setting in self.added.values():
            add_scalar(self.model, layer, setting.value or 0.0)
            settings.append(setting)
        return InitReport(
            scheme=self.scheme,
            options=options,
            sums=len(self.anatomy.sums),
            settings=tuple(settings),
            notes=tuple(self.notes),
        )

    @staticmethod
    def fill(parameter: nn.Parameter, draw: Draw, source: Source) -> None:
        """Write one parameter."""
        with torch.no_grad():
            parameter.copy_(draw(parameter.shape, source))
