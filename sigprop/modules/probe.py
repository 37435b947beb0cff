"""What a module does to signals at initialisation: measured layer by layer, forward and backward.

`probe` runs a module of torch on a batch, once for each network of an ensemble, and keeps of every
layer a few numbers: the second moment of what it puts out, that of the gradient with respect to it,
how alike the outputs of different inputs are, and how many units no input turns on. Nobody needs
to have prepared the module, and nothing of it is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sigprop.errors import NonFinite, SigpropError, SpecError, Unsupported
from sigprop.modules import _label
from sigprop.modules._pass import Loss, Pass, run
from sigprop.modules._sums import Place, places
from sigprop.modules._untouched import seeded, untouched
from sigprop.modules._watch import refuse_unreadable
from sigprop.modules.anatomy import anatomy
from sigprop.modules.recording import tensors_in
from sigprop.spec import check_count

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["network_seed", "probe"]

Redraw = Callable[[torch.nn.Module, torch.Generator], Any]


def probe(
    model: torch.nn.Module | Callable[[], torch.nn.Module],
    batch: torch.Tensor | tuple[Any, ...] | Mapping[str, Any],
    *,
    loss: Loss | None = None,
    names: str | Sequence[str] = "*",
    ensemble: int = 1,
    redraw: Redraw | None = None,
    seed: int = 0,
    axis: int = 0,
    end: str | None = None,
) -> xr.Dataset:
    r"""Second moments, gradients, cosines and dead units of every layer of a module.

    Parameters
    ----------
    model : Module, or callable that returns one
        A callable is called for each network of the ensemble, under a seed of its own.
    batch : Tensor, tuple or mapping
        What the model is called with: one argument, arguments, or keywords. The first tensor says
        how many inputs there are.
    loss : callable, optional
        Takes the output of the model and returns a scalar; its gradient is measured. By default
        a random cotangent of unit length for each input goes backward, drawn from ``seed``, so that
        gradients are those of the Jacobian and know no loss.
    names : str or sequence of str
        Patterns of a shell for the names of modules. ``*`` means all layers: modules with
        parameters of their own, or without children.
    ensemble : int
        Networks. With one, the module as it stands.
    redraw : callable, optional
        ``redraw(model, generator)`` initialises the model in place. By default every layer's
        ``reset_parameters`` does, where there is more than one network.
    seed : int
        Of the networks drawn, of the cotangent, and of what is random in a forward pass (dropout).
    axis : int
        Over which inputs run, in the batch and in the outputs of layers: 1 for sequences first.
    end : str, optional
        A row, layer or sum, at which the cotangent enters in place of the output: of use where
        the last layer is 0.

    Returns
    -------
    Dataset
        Over ``layer``, in the order of execution; a layer that is called again has a row for each
        call (``relu``, ``relu#2``). Variables, each with ``<name>_se``, the standard error over
        the networks (nan for one):

        ``second_moment``
            Mean square of an entry of the output, over inputs and entries.
        ``gradient_second_moment``
            The same of the gradient with respect to that output; times ``entries`` it is the
            squared length of the gradient of one input.
        ``log_second_moment_mean``, ``log_gradient_second_moment_mean``
            Mean over networks of the logarithm, where it is finite.
        ``cosine_mean``
            Of the outputs of two inputs, over the pairs of the first 8 inputs; not centred.
        ``dead_fraction``
            Share of units, channels or features, which are positive for no input at any place.

        Over ``sum``, the residual sums that `sigprop.modules.anatomy` finds, in order of execution:
        ``sum_second_moment``, ``sum_gradient_second_moment``, their logarithms, ``sum_cosine_mean``
        and ``sum_dead_fraction`` of trunk and branch together, and

        ``branch_second_moment``, ``trunk_second_moment``
            Of the two that are added.
        ``branch_ratio``
            The first over the second, network by network.

        Attributes name the layers without a row: ``never_called``, and ``read_elsewhere``, those
        whose parameters another module reads without calling them, as attention does.

        And ``second_moment_batch_se``, ``gradient_second_moment_batch_se``: standard error over the
        inputs of one network, root mean square over networks. Where a layer mixes inputs (batch
        normalisation in training mode) it is a guide and no error.

    Raises
    ------
    SpecError
        If the module cannot be run on the batch: the message names the module in which it fails.
    Unsupported
        For modules compiled, quantised or lazy, and for outputs that no gradient reaches.
    UnknownName
        If a pattern matches nothing.
    NonFinite
        If a layer's output or gradient is not finite; the message names the first.

    Notes
    -----
    Status: a measurement. Runs in the mode (training or evaluation) in which the module stands.
    Parameters, buffers, modes, gradients, hooks and random generators are left as they were. Of
    a layer that returns tuples or mappings the first tensor of floating point is looked at. Costs
    no more than 1.3 of a plain forward and backward pass, and no memory beyond that.

    Examples
    --------
    >>> import torch
    >>> from sigprop.modules import probe
    >>> layer = torch.nn.Linear(3, 3, bias=False)
    >>> torch.nn.init.eye_(layer.weight).requires_grad
    True
    >>> found = probe(layer, torch.tensor([[1.0, 2.0, 2.0], [2.0, -2.0, 1.0]]))
    >>> float(found.second_moment[0]), float(found.cosine_mean[0])
    (3.0, 0.0)
    """
    networks = check_count("ensemble", ensemble)
    count = _inputs(batch, axis)
    given = model if isinstance(model, torch.nn.Module) else None
    if given is None and redraw is not None:
        raise SpecError(
            "both a callable that builds the model and redraw= were given, and each of them would "
            "draw the weights. Give one of the two."
        )
    if loss is not None and end is not None:
        raise SpecError(
            f"end={end!r} says where a cotangent enters, and loss= that there is none. Give one of "
            "the two."
        )
    drawn = given is not None and (networks > 1 or redraw is not None)
    if given is not None:
        refuse_unreadable(given)
        if drawn and redraw is None:
            _require_reset(given)
    passes: list[Pass] = []
    sums: tuple[list[Place], str] = ([], "")
    for network in range(networks):
        own = network_seed(seed, network)
        with seeded(own):
            current = _built(model) if given is None else given
            with untouched(current, values=drawn):
                if drawn:
                    _draw(current, redraw, own)
                if not network:
                    sums = _sums(current, batch, count, axis)
                passes.append(run(current, batch, loss, names, sums[0], own, count, axis, end))
        _check(passes, network)
    shapes = [tuple(tensor.shape) for tensor in tensors_in(batch)]
    return _label.dataset(
        [p.rows for p in passes],
        [p.sums for p in passes],
        inputs=count,
        attrs={
            "title": f"{type(current).__name__}, {networks} network(s), {count} inputs",
            "model": f"{type(current).__module__}.{type(current).__qualname__}",
            "parameters": sum(parameter.numel() for parameter in current.parameters()),
            "batch": " ".join(map(str, shapes)),
            "backward": f"unit cotangent at {end or 'the output'}" if loss is None else "loss",
            "mode": "training" if current.training else "evaluation",
            "networks": networks,
            "inputs": count,
            "drawn": "drawn anew" if drawn or given is None else "as it stands",
            "seed": seed,
            "never_called": " ".join(passes[0].never_called),
            "read_elsewhere": " ".join(passes[0].read_elsewhere),
            "no_sums_because": sums[1],
        },
    )


def _sums(model: torch.nn.Module, batch: Any, inputs: int, axis: int) -> tuple[list[Place], str]:
    """Where the residual sums are, found with one input; or why it is not known."""

    def one(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() <= axis:
            return value  # no inputs run over it
        # A copy, for a module may write to what it is given.
        return (value.narrow(axis, 0, 1) if value.shape[axis] == inputs else value).clone()

    keywords = {k: one(v) for k, v in batch.items()} if isinstance(batch, Mapping) else {}
    values = () if keywords else batch if isinstance(batch, tuple) else (batch,)
    try:
        return places(model, anatomy(model, *map(one, values), **keywords)), ""
    except SigpropError as error:  # what does not run at all says so in the pass itself
        return [], str(error)


def _inputs(batch: Any, axis: int) -> int:
    first = next(tensors_in(batch), None)
    if first is None or not isinstance(batch, (torch.Tensor, tuple, Mapping)):
        raise SpecError(
            f"the batch must be a tensor, a tuple of arguments or a mapping of keywords, got "
            f"{type(batch).__name__} without a tensor. Give what the model is called with."
        )
    if first.dim() <= axis or first.shape[axis] == 0:
        raise SpecError(
            f"the batch has shape {tuple(first.shape)}, whose axis {axis} holds no input, so there "
            "is nothing to average over. Give at least one input; two for cosines."
        )
    if not all(bool(torch.isfinite(t).all()) for t in tensors_in(batch) if t.is_floating_point()):
        raise NonFinite(
            "the batch holds numbers that are not finite, and so would every layer. Clean it first."
        )
    return int(first.shape[axis])


def network_seed(seed: int, network: int) -> int:
    """A seed for each network, of 63 bits, so that neighbours share nothing."""
    words = np.random.SeedSequence([check_count("seed", seed, least=0), network]).generate_state(2)
    return (int(words[0]) << 31) ^ int(words[1])


def _require_reset(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        own = [key for key, value in module._parameters.items() if value is not None]
        if own and _reset(module) is None:
            raise SpecError(
                f"{name or 'the model'} ({type(module).__name__}) has a parameter {own[0]!r} and "
                "no method reset_parameters, so it is not known how to draw it again. Give "
                "redraw=, or a callable that builds the model in its place."
            )


def _reset(module: torch.nn.Module) -> Callable[[], Any] | None:
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(getattr(module, name, None)):
            found: Callable[[], Any] = getattr(module, name)
            return found
    return None


def _draw(model: torch.nn.Module, redraw: Redraw | None, seed: int) -> None:
    if redraw is not None:
        redraw(model, torch.Generator().manual_seed(seed))
        return
    for module in model.modules():
        if module._parameters and (reset := _reset(module)) is not None:
            reset()


def _built(build: Callable[[], Any]) -> torch.nn.Module:
    if not callable(build):
        raise SpecError(
            f"the model must be a torch.nn.Module or a callable that returns one, got "
            f"{type(build).__name__}: there is nothing to run. Give the module."
        )
    model = build()
    if not isinstance(model, torch.nn.Module):
        raise SpecError(
            f"{getattr(build, '__name__', 'the callable')} returned {type(model).__name__} and not "
            "a torch.nn.Module: there is nothing to run. Return the module."
        )
    refuse_unreadable(model)
    return model


def _check(passes: list[Pass], network: int) -> None:
    rows = passes[-1].rows
    if not rows:
        raise Unsupported(
            "no watched layer put out a tensor of floating point, so there is nothing to measure. "
            "Widen names=, or give the module that does the computing."
        )
    for row in rows:
        if not bool(torch.isfinite(row.squares).all()):
            raise NonFinite(
                f"the output of {row.label} ({row.kind}) is not finite in network {network}, and "
                "so is all that follows. Its inputs have grown beyond the range of numbers, or it "
                "divides by 0: look at the layers before it with names=."
            )
    for row in reversed(rows):
        squares = row.gradient_squares
        if squares is not None and not bool(torch.isfinite(squares).all()):
            raise NonFinite(
                f"the gradient with respect to the output of {row.label} ({row.kind}) is not "
                f"finite in network {network}: a derivative after it is infinite, or "
                "overflows. Look at the layers after it with names=."
            )
    first, here = (
        [row.label for row in (*p.rows, *(found.row for found in p.sums))]
        for p in (passes[0], passes[-1])
    )
    if first != here:
        other = next((b for a, b in zip(first, here) if a != b), "one layer more or less")
        raise Unsupported(
            f"network {network} runs other layers than network 0 (first difference: {other}), so "
            "their numbers cannot be averaged. Probe them one by one."
        )
