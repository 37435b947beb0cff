r"""GradInit: learn by how much to multiply every tensor of a network before training starts.

A block is one parameter tensor, theta_i = m_i theta_i^0 with a scalar m_i >= 0. With g the
gradient of the loss on a batch S, A[g] the first step of the optimiser to be used (g / ||g|| for
SGD, sign g for Adam) and eta its learning rate, the scales m are to solve

.. math:: \min_m L(\tilde S;\, \theta - \eta A[g_S(\theta)])
          \quad\text{subject to}\quad \|g_S(\theta)\|_p \le \gamma,

p = 2 for SGD and 1 for Adam: to first order the stepped loss is L - eta ||g||_p, so the loss alone
would reward a large gradient, and the bound is on the same norm. An iteration looks at one of the
two: at the norm where it is above gamma (case c), else at the stepped loss (case o).
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import nn

from sigprop.modules.batches import Batches
from sigprop.modules.gradinit_run import Log, Run
from sigprop.modules.gradinit_settings import Exclude, Settings
from sigprop.modules.init_result import InitResult, kinds, norms
from sigprop.modules.loss_at import Backend, LossFunction
from sigprop.modules.refusals import check_loss, check_module
from sigprop.modules.restoring import measuring, trainable
from sigprop.modules.scale_steps import Moments
from sigprop.modules.second_derivatives import Hvp

__all__ = ["gradinit"]


def gradinit(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    *,
    optimizer: Literal["sgd", "adam"] = "sgd",
    lr: float | None = None,
    gamma: float | None = None,
    steps: int = 390,
    tau: float = 1e-2,
    normalize: bool = True,
    min_scale: float = 0.01,
    min_scale_bias: float = 0.0,
    max_scale: float | None = None,
    clip: float | None = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    moments: Moments = "shared",
    overlap: float = 0.5,
    second_order: bool = False,
    hvp: Hvp = "auto",
    backend: Backend = "auto",
    exclude: Exclude = (),
    final: Literal["last", "best_feasible"] = "last",
    apply: bool = True,
    log: Log | None = None,
) -> InitResult:
    """Learn a factor for every trainable tensor of ``model``, and multiply by it.

    Parameters
    ----------
    model : nn.Module
        Any network, initialised. While it is looked at it is in evaluation mode, but batch
        normalisation takes the statistics of the batch. Modes, buffers, gradients, hooks and the
        state of the random generators are given back as they were.
    batches : iterable or callable
        Half-batches: tensors, tuples (the first entry is what the model reads) or dicts (the
        entries that ``forward`` names). What ends is started again, short batches are dropped.
        Padded data: pairs, `sigprop.modules.BatchPair`.
    loss_fn : callable
        (output, batch) -> mean loss over the batch, a tensor of one number.
    optimizer : {"sgd", "adam"}
        Whose step is looked at, without momentum and weight decay: the one of the training to come.
    lr : float
        Its learning rate. Default: 0.1 (sgd), 0.001 (adam).
    gamma : float
        Bound of the norm of the gradient: Euclidean (sgd, default 1) or the sum of absolute
        values (adam, to be given).
    steps : int
        Iterations of both cases. A scale moves by at most about ``steps * tau``.
    tau : float
        Step of the scales.
    normalize : bool
        sgd: step by lr along the direction of the gradient, rather than by lr times the gradient.
    min_scale, min_scale_bias, max_scale : float
        Bounds of scales; tensors with ``bias`` in the last part of their name have a floor of
        their own, from which they come back.
    clip : float or None
        Bound of every derivative by a scale.
    betas, eps, moments
        Of the Adam that moves the scales. ``moments="split"`` gives each case its second moment.
    overlap : {0, 0.5, 1}
        The share of the batch of the step on which the stepped loss is seen too.
    second_order : bool
        Whether the change of the step with the scales is followed (sgd). The authors drop it.
    hvp : {"auto", "double", "fd"}
        How the norm is differentiated: twice backward, or from gradients at two points.
    backend : {"auto", "functional", "inplace"}
        ``auto`` compares the two and falls back to ``inplace``, which works with everything.
    exclude : globs or predicate
        Tensors that keep their scale. They count in the norm and take part in the step, as do
        tensors that are zero at the start.
    final : {"last", "best_feasible"}
        The last scales, as published, or those of the lowest smoothed stepped loss in case o.
    apply : bool
        Whether to multiply the parameters; else the result can, by `InitResult.apply`.
    log : callable
        Called after every iteration with its row of the history.

    Returns
    -------
    InitResult
        ``before`` and ``after`` hold ``grad_norm``, ``loss`` and ``stepped_loss`` on batches drawn
        when all iterations are done.

    Raises
    ------
    SpecError, UnknownName, Unsupported
        Bad settings, before any work; no trainable tensor; batches that end, grow or do not fit.
    NonFinite
        If a loss, the norm or a derivative is not finite, with the iteration. Nothing is clamped.

    Notes
    -----
    Status: the iteration is that of the authors' code, to rounding, except that a bias whose scale
    reached 0 can come back. When the bound binds, cases alternate and the norm straddles gamma by
    about tau times its slope. Cost, in forward and backward passes: case o 2, case c 3 to 5.

    References
    ----------
    Zhu, Ni, Xu, Kong, Huang, Goldstein (2021), *GradInit: Learning to Initialize Neural Networks
    for Stable and Efficient Training*, NeurIPS.
    """
    settings = Settings(
        optimizer=optimizer,
        lr=lr,
        gamma=gamma,
        steps=steps,
        tau=tau,
        normalize=normalize,
        min_scale=min_scale,
        min_scale_bias=min_scale_bias,
        max_scale=max_scale,
        clip=clip,
        betas=betas,
        eps=eps,
        moments=moments,
        overlap=overlap,
        second_order=second_order,
        hvp=hvp,
        backend=backend,
        exclude=exclude,
        final=final,
    )
    started = time.perf_counter()
    check_module(model)
    check_loss(loss_fn)
    parameters = trainable(model, "gradinit")
    settings.require_matches(parameters)
    starting_norms = norms(model)
    with measuring(model) as measured, torch.enable_grad():
        run = Run(measured, batches, loss_fn, parameters, settings)
        scales = run.iterate(log)
        before, after = run.held_out(scales)
        run.judge(before, after)
    result = InitResult(
        method="gradinit",
        scales={name: scales.get(name, 1.0) for name in starting_norms},
        norms=starting_norms,
        kinds=kinds(model),
        history=run.history(),
        before=before,
        after=after,
        settings=settings.plain() | {"hvp_used": run.way, "backend_used": run.backend},
        seconds=time.perf_counter() - started,
        warnings=tuple(run.warnings),
    )
    if apply:
        result.apply(model)
    return result
