"""Sampler `torch` as the driver sees it: what it refuses, which method, how large a block.

torch itself is loaded when a run is planned, not before.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sigprop.activations._codes import USER
from sigprop.backends.base import Sampler, applicable
from sigprop.backends.torch_gpu import plan as plans
from sigprop.errors import DeviceMemory, SpecError
from sigprop.extras import require_torch
from sigprop.spec import Ensemble, check_count

if TYPE_CHECKING:
    from sigprop.backends.torch_gpu.device import Device

__all__ = ["DEVICES", "METHODS", "PRECISIONS", "Torch", "faster"]

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "tf32", "bf16")
METHODS = ("dense", "conditional")
LAWS = ("gaussian", "uniform", "rademacher")
WIDE = 1024  # fan-ins from which auto thinks of a device
MANY = 64  # inputs from which products on the processor outrun the compiled sampler
FEW = 8  # conditional, while inputs are fewer than the narrowest fan-in over this


class Torch(Sampler):
    """Blocks of replicas abreast on a device, whose size is planned from its memory.

    Parameters
    ----------
    device : str or Device
        ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
    precision : str
        Of products: ``float32``, or on request ``tf32`` or ``bf16``, whose error is then measured.
    method : str, optional
        ``dense`` or ``conditional``; by default law and width decide.
    block, halved : int, optional
        Those of a run that goes on; by default they are planned.
    """

    name = "torch"
    version = 1
    about = "wide networks on a GPU (--device), many abreast: dense or conditional, K inputs"

    def __init__(
        self,
        device: str | Device = "auto",
        precision: str = "float32",
        method: str | None = None,
        block: int | None = None,
        halved: int = 0,
    ) -> None:
        for name, value, known, what in (
            ("device", device, DEVICES, "where sampler 'torch' works"),
            ("precision", precision, PRECISIONS, "that of products with matrices"),
            ("method", method, METHODS, "how sampler 'torch' draws a matrix"),
        ):
            if (isinstance(value, str) or name == "precision") and value not in known:
                raise SpecError(
                    f"{name} must be one of {', '.join(known)}, got {value!r}: it is {what}. "
                    f"Use {known[0]}."
                )
        self.device, self.precision, self.method = device, precision, method
        self.given = None if block is None else check_count("block", block)
        self.halved = halved
        self.segment = 0  # once it is planned; 0 is all layers
        self.budget: float | None = None  # bytes of a block, where they were fixed before

    @property
    def block(self) -> int:  # type: ignore[override]
        """Replicas in a block, once it is planned."""
        return self.given or 1

    @property
    def options(self) -> dict[str, Any]:
        found = {
            "device": self.device if isinstance(self.device, str) else self.device.kind,
            "precision": self.precision,
            "method": self.method,
            "block": self.given,
        }
        return found | ({"halved": self.halved} if self.halved else {})

    # ----------------------------------------------------------------- refusing

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        require_torch("sampler 'torch'")
        network, table = ensemble.network, ensemble.table
        if network.convolutional:
            return (
                f"its network is convolutional, with an image of {network.shape_of_image} pixels, "
                "and this sampler multiplies whole matrices. Use --sampler batch."
            )
        if table.batch_norm:
            return (
                "batch normalisation ties the inputs of a network together, and this sampler "
                "passes each by itself. Use --sampler batch."
            )
        if table.correlated:
            return (
                "it draws every layer by itself, and a process along depth ties layers together. "
                "Use --sampler dense."
            )
        if table.structured or table.paired:
            return (
                f"scheme {ensemble.scheme.kind!r} makes one matrix of another, and it draws "
                "matrices that are independent. Use --sampler dense."
            )
        law = table.law.kind
        if law not in LAWS:
            return f"it draws weights of law {', '.join(LAWS)}, got {law!r}. Use --sampler dense."
        if getattr(network.phi, "code", None) == USER:
            return (
                f"activation {network.phi.kind!r} is a Python function of one number, which cannot "
                "be called on arrays of a device. Use --sampler dense."
            )
        if self.method == "conditional" and law != "gaussian":
            return (
                f"its method conditional is exact only for Gaussian weights, got law {law!r}. "
                "Leave out the method."
            )
        if self._method(ensemble) == "conditional" and self.precision != "float32":
            return (
                f"precision {self.precision!r} is that of products with matrices, and of these "
                f"weights, law {law!r} at {ensemble.inputs.count} input(s), no matrix is formed. "
                "Use --precision float32."
            )
        missing = sorted(fields - applicable(ensemble))
        if not missing:
            return None
        if fields <= applicable(ensemble, on_request=True):
            other = "jacobian" if "log_singular" in fields else "dense"
            return f"it does not give {', '.join(missing)}. Use --sampler {other}."
        return (
            f"{', '.join(missing)} has no meaning for this ensemble (block {network.block!r}, "
            f"activation {network.phi.kind!r}, {ensemble.inputs.count} input(s)). Leave it out of "
            "--observe."
        )

    def _method(self, ensemble: Ensemble) -> str:
        """Conditional where the law allows it and K inputs see little of a matrix."""
        if self.method is not None:
            return self.method
        narrowest = int(ensemble.network.fans[0].min())
        few = ensemble.inputs.count == 1 or FEW * ensemble.inputs.count <= narrowest
        return "conditional" if ensemble.table.law.kind == "gaussian" and few else "dense"

    # ----------------------------------------------------------------- planning

    def planned(
        self, ensemble: Ensemble, fields: frozenset[str], recorded: int, replicas: int
    ) -> Torch:
        """The sampler of one run: device, method and block are fixed from here on.

        Raises
        ------
        SpecError
            If not even one network fits into the memory of the device.
        """
        place = self._place()
        method = self._method(ensemble)
        plan = plans.plan(ensemble, fields, recorded, method)
        block = self.given
        if block is None:
            budget = self.budget or place.budget()
            block = plans.block_of(plan, budget, place.numbers, replicas)
            if not block:
                raise SpecError(
                    f"one network takes {plan.need / 2**30:.3g} GiB on device {place.kind!r} by "
                    f"estimate, and a block may take {budget / 2**30:.3g} GiB there. Nothing was "
                    "simulated. Use fewer inputs or layers, or a smaller width."
                )
        device = place.kind if isinstance(self.device, str) else self.device
        return self._again(device=device, method=method, block=block, segment=plan.segment)

    def placed(self) -> Torch:
        """The sampler of many runs: device and memory are fixed, each run plans its block."""
        place = self._place()
        made = self._again(device=place.kind if isinstance(self.device, str) else self.device)
        made.budget = place.budget()
        return made

    def continuing(self, options: dict[str, Any]) -> Torch:
        """The sampler by which a run goes on that recorded ``options``, if it can be the same.

        What was left open, the device and the block, is as recorded; what was asked for stays.
        """
        if self.given is not None or "device" not in options:
            return self
        device = self.device if self.device != "auto" else options["device"]
        more = {name: options[name] for name in ("block", "halved") if name in options}
        return self._again(device=device, **more)

    def smaller(self) -> Torch | None:
        if self.block < 2:
            return None
        return self._again(block=self.block // 2, halved=self.halved + 1, segment=self.segment)

    def _again(self, *, segment: int = 0, **change: Any) -> Torch:
        mine = {
            "device": self.device, "precision": self.precision, "method": self.method,
            "block": self.given, "halved": self.halved,
        }  # fmt: skip
        made = type(self)(**{**mine, **change})
        made.segment = segment
        return made

    def _place(self) -> Device:
        require_torch("sampler 'torch'")
        from sigprop.backends.torch_gpu.device import named

        if not isinstance(self.device, str):
            return self.device
        return named(self.device, self.precision)

    def made_of(self) -> dict[str, str]:
        """Versions and device, for the attribute ``software`` of a result."""
        import torch

        return {"torch": torch.__version__, "device": self._place().name()}

    # ----------------------------------------------------------------- drawing

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        return self._sample(ensemble, fields, layers, key, first, count, self.precision)

    def _sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
        precision: str,
    ) -> dict[str, np.ndarray]:
        device = self._place()
        with device.hold(precision):
            try:
                return self._walk(ensemble, fields, layers, key, first, count, precision, device)
            except (RuntimeError, MemoryError) as error:
                if not device.exhausted(error):
                    raise
            # Past the handler, whose traceback would keep alive what was drawn.
            device.release()
        raise DeviceMemory(
            f"device {device.kind!r} ran out of memory with {self.block} network(s) a block. Free "
            "memory there, or use fewer inputs or layers, or a smaller width."
        )

    def _walk(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
        precision: str,
        device: Device,
    ) -> dict[str, np.ndarray]:
        import torch

        from sigprop.backends.torch_gpu.draws import Draws
        from sigprop.backends.torch_gpu.products import Conditional, Dense
        from sigprop.backends.torch_gpu.walk import Walk

        draws = Draws(ensemble, key, self.block, first // self.block, count, device)
        products: Dense | Conditional
        if self._method(ensemble) == "conditional":
            products = Conditional(draws)
        else:
            exact = plans.product_bytes(ensemble) == 8
            lowered = torch.bfloat16 if precision == "bf16" else None
            products = Dense(draws, torch.float64 if exact else torch.float32, lowered)
        segment = self.segment or ensemble.network.depth
        return Walk(draws, products, fields, layers, segment).trace()

    def precision_error(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        count: int,
    ) -> dict[str, float] | None:
        """How far the first networks are from themselves in float32, on the same draws.

        Returns
        -------
        dict of str to float, or None where products are float32 anyway
            By field the largest difference over networks, recorded layers and inputs: of a
            logarithm, which is the relative error of what it is of. Where one of the two is
            infinite or undefined nothing can be said, and such entries are left out.
        """
        if self.precision == "float32":
            return None
        run = (ensemble, fields, layers, key, 0, min(count, self.block))
        low, full = self._sample(*run, self.precision), self._sample(*run, "float32")
        found = {}
        for name in sorted(fields):
            both = np.isfinite(low[name]) & np.isfinite(full[name])
            gap = np.abs(low[name][both] - full[name][both])
            found[name] = float(gap.max()) if gap.size else 0.0
        return found


def faster(ensemble: Ensemble, fields: frozenset[str]) -> Torch | None:
    """The sampler that ``auto`` takes in place of `dense`; None where that is as good.

    Only networks so large that loading torch costs nothing beside them are looked at.
    """
    network, inputs = ensemble.network, ensemble.inputs.count
    fan_in, fan_out = network.fans
    wide = int((fan_in * fan_out).max()) >= WIDE**2
    if not wide or importlib.util.find_spec("torch") is None:
        return None
    if Torch().refusal(ensemble, fields) is not None:
        return None
    sampler = _usual()
    return sampler if sampler.device == "cuda" or inputs >= MANY else None


@lru_cache(maxsize=1)
def _usual() -> Torch:
    return Torch().placed()
