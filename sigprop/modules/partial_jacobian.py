r"""The averaged partial Jacobian norm: how much a block of a network stretches a small change.

He, Doshi and Gromov (2022), *AutoInit: Automatic initialization via Jacobian tuning*. For a block
that makes h' of h, with N entries of h' an example,

.. math:: J = \frac1N\, E_x \left\| \frac{\partial h'}{\partial h} \right\|_F^2
   = \frac1N\, E_{x, v} \left\| \Bigl(\frac{\partial h'}{\partial h}\Bigr)^T v \right\|^2,
   \qquad v \sim N(0, I),

so that one product backward a probe v estimates it. J = 1 in every block keeps gradients through
any depth. h is held as it is, so a J depends on its own block alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from sigprop.errors import NonFinite, SpecError, Unsupported
from sigprop.modules.nested import call, floating, mapped
from sigprop.modules.restoring import measuring
from sigprop.spec import check_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Blocks", "apjn", "blocks_of"]


def blocks_of(model: nn.Sequential) -> list[nn.Sequential]:
    """Cut a sequence of layers into blocks, each of which ends before the next weight.

    Parameters
    ----------
    model : nn.Sequential
        Sequences within it are opened; other modules are kept whole.

    Returns
    -------
    list of nn.Sequential
        Each with one module that has a weight of two dimensions or more, the first among them
        with whatever precedes it; the modules are those of ``model``.

    Raises
    ------
    SpecError
        If ``model`` is no `nn.Sequential`, whose order alone is known.
    """
    if not isinstance(model, nn.Sequential):
        raise SpecError(
            f"{type(model).__name__} is no nn.Sequential: what its blocks are and in which order "
            "they act only its forward knows. Give blocks by hand, with model=... if they are "
            "parts of it."
        )
    blocks: list[list[nn.Module]] = [[]]
    weighted = False
    for layer in _opened(model):
        heavy = _has_weight(layer)
        if heavy and weighted:
            blocks.append([])
        weighted |= heavy
        blocks[-1].append(layer)
    return [nn.Sequential(*block) for block in blocks if block]


def _has_weight(layer: nn.Module) -> bool:
    return any(p.ndim >= 2 for p in layer.parameters())


def _heavy(block: nn.Module) -> nn.Module:
    """The module of a block that has a weight, or its first."""
    layers = list(block.children())
    return next(filter(_has_weight, layers), layers[0])


def _opened(model: nn.Sequential) -> Iterator[nn.Module]:
    for layer in model:
        if isinstance(layer, nn.Sequential):
            yield from _opened(layer)
        else:
            yield layer


@dataclass(frozen=True)
class _Seen:
    """What entered a block."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Blocks:
    """Blocks of a network, which can be run where they stand.

    Parameters
    ----------
    blocks : sequence of nn.Module
        One after the other; or, if ``model`` is given, any parts of it that are called as modules.
        An `nn.Sequential` is cut by `blocks_of`, and its blocks bear the name of their module
        with a weight.
    model : nn.Module, optional
        The network that runs them.
    """

    def __init__(self, blocks: Sequence[nn.Module] | nn.Module, model: nn.Module | None) -> None:
        cut = model is None and isinstance(blocks, nn.Sequential)
        cut |= isinstance(blocks, nn.Module) and not hasattr(blocks, "__iter__")  # is refused
        parts: list[nn.Module] = []
        parts += blocks_of(blocks) if cut else list(blocks)  # type: ignore[arg-type]
        if not parts or not all(isinstance(part, nn.Module) for part in parts):
            raise SpecError(
                f"blocks must be one or more torch modules, got {type(blocks).__name__} of "
                f"{len(parts)}: a Jacobian is that of a block. Give a list such as "
                "[nn.Sequential(linear, relu), ...], or blocks_of(model)."
            )
        self.parts = parts
        self.model = model
        if model is not None:
            self.owner = model
            inside = {id(module): name for name, module in model.named_modules()}
            self.names = [inside.get(id(part), "") for part in parts]
            for i, part in enumerate(parts):
                # A block that only groups modules of the model is run by nobody.
                if id(part) not in inside:
                    raise SpecError(
                        f"block {i} ({type(part).__name__}) is no part of model: its input is "
                        "recorded when the model calls it. Give modules of the model, or leave "
                        "model out where the blocks follow each other."
                    )
        else:
            self.owner = blocks if isinstance(blocks, nn.Module) else nn.ModuleList(parts)
            self.names = [str(i) for i in range(len(parts))]
            if cut:
                places = {id(module): name for name, module in self.owner.named_modules()}
                self.names = [places[id(_heavy(part))] for part in parts]

    def inputs(self, x: Any) -> list[_Seen]:
        """Run the network without gradients and return what entered every block, detached."""
        seen: dict[int, _Seen] = {}

        def watch(place: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
                if place not in seen:
                    held = mapped(torch.clone, (args, kwargs))  # it may be changed in place
                    seen[place] = _Seen(*held)

            return hook

        handles = []
        try:
            for i, part in enumerate(self.parts):
                handles.append(part.register_forward_pre_hook(watch(i), with_kwargs=True))
            with torch.no_grad():
                if self.model is not None:
                    call(self.model, x)
                else:
                    for part in self.parts:
                        x = call(part, x)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for i, name in enumerate(self.names) if i not in seen]
        if missing:
            raise SpecError(
                f"block {missing[0]!r} was never called by the network: its input is not known. "
                "Give blocks that the forward pass calls as modules."
            )
        return [seen[i] for i in range(len(self.parts))]

    def squares(
        self, place: int, seen: _Seen, probes: Sequence[list[torch.Tensor]], graph: bool = False
    ) -> torch.Tensor:
        """Return the squared norms of the products, over the entries of an output.

        Parameters
        ----------
        place : int
            Which block.
        seen : what entered it.
        probes : sequence
            A list of tensors, one for each tensor of the output, a probe.
        graph : bool
            Whether they are to be differentiated.

        Returns
        -------
        Tensor, shape (probes, examples)
            Float64. Their mean is J.
        """
        whose = f"block {self.names[place]!r}"
        leaves: list[torch.Tensor] = []

        def free(tensor: torch.Tensor) -> torch.Tensor:
            if not tensor.is_floating_point():
                return tensor
            leaf = tensor.detach().requires_grad_()
            leaves.append(leaf)
            # Behind a copy: a block whose first layer works in place may not write on a leaf.
            return leaf.clone()

        args, kwargs = mapped(free, (seen.args, seen.kwargs))
        if not leaves:
            raise Unsupported(
                f"{whose} reads no floating-point tensor: it has no Jacobian. Begin with the block "
                "behind the embedding."
            )
        with torch.enable_grad():
            outputs = floating(self.parts[place](*args, **kwargs), f"the output of {whose}")
        size = sum(output.numel() for output in outputs) / len(leaves[0])
        rows = []
        for i, probe in enumerate(probes):
            found = torch.autograd.grad(
                outputs,
                leaves,
                probe,
                create_graph=graph,
                retain_graph=graph or i + 1 < len(probes),
                allow_unused=True,
                materialize_grads=True,
            )
            rows.append(sum(g.double().square().flatten(1).sum(dim=1) for g in found) / size)
        return torch.stack(rows)  # type: ignore[arg-type]

    def probes(
        self, place: int, seen: _Seen, count: int, generator: torch.Generator
    ) -> list[list[torch.Tensor]]:
        """Draw normal probes of the shape of the output of a block."""
        with torch.no_grad():
            args, kwargs = mapped(torch.clone, (seen.args, seen.kwargs))
            found = self.parts[place](*args, **kwargs)
        outputs = floating(found, f"the output of block {self.names[place]!r}")
        return [
            [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o) for o in outputs]
            for _ in range(count)
        ]


def apjn(
    blocks: Sequence[nn.Module] | nn.Module,
    sample_x: Any,
    *,
    model: nn.Module | None = None,
    probes: int = 4,
    seed: int = 0,
) -> xr.Dataset:
    """Measure the averaged partial Jacobian norm of every block.

    Parameters
    ----------
    blocks : sequence of nn.Module
        One after the other; or parts of ``model``. An `nn.Sequential` is cut before every weight.
    sample_x : tensor, tuple or dict
        One batch of inputs, dim 0 counts examples.
    model : nn.Module, optional
        The network that runs the blocks, where they do not simply follow each other.
    probes : int
        Products backward a block.
    seed : int
        Of the probes.

    Returns
    -------
    Dataset
        ``jacobian_norm`` over ``block``, dimensionless, with ``_se`` between examples (each the
        mean over its probes): of the inputs and of the probes, for the weights as they are.

    Raises
    ------
    SpecError, Unsupported
        If there are no blocks, one is not called, or one has no Jacobian.
    NonFinite
        If a Jacobian is not finite.

    Notes
    -----
    Status: unbiased. With batch normalisation in a block the examples depend on each other, and
    the standard error is an approximation. Cost: one pass forward and ``probes`` backward.
    """
    import xarray as xr

    check_count("probes", probes)
    parts = Blocks(blocks, model)
    generator = torch.Generator().manual_seed(seed)
    values, errors = [], []
    with measuring(parts.owner) as measured:
        for place, seen in enumerate(parts.inputs(measured.inputs(sample_x))):
            drawn = parts.probes(place, seen, probes, generator)
            squares = parts.squares(place, seen, drawn).mean(dim=0).detach().cpu().numpy()
            if not np.isfinite(squares).all():
                raise NonFinite(
                    f"the Jacobian of block {parts.names[place]!r} is not finite: the signal or "
                    "its derivatives overflow there. Scale the weights before it (lsuv)."
                )
            values.append(squares.mean())
            single = len(squares) == 1
            errors.append(np.nan if single else squares.std(ddof=1) / np.sqrt(len(squares)))
    words = {"long_name": "averaged partial Jacobian norm", "units": "1"}
    return xr.Dataset(
        {
            "jacobian_norm": ("block", np.array(values), words),
            "jacobian_norm_se": ("block", np.array(errors)),
        },
        coords={"block": parts.names},
        attrs={"probes": probes, "seed": seed},
    )
