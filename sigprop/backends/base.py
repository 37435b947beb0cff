"""What a sampler is: a way of drawing from the law of an ensemble.

A sampler declares what it can give (`Sampler.refusal`) and gives it (`Sampler.sample`).
For whatever it gives it is exact in law, jointly over all the fields asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sigprop.spec import Ensemble, LayerTable

__all__ = ["Sampler", "applicable", "kept"]


class Sampler:
    """Base of all samplers.

    Class attributes
    ----------------
    name : str
    version : int
        Raised whenever the same seed would give other numbers.
    block : int
        Replicas in one block, the unit of work; a constant of the sampler, so that
        neither workers nor machines can matter (or of a run, see `Sampler.planned`).
    about : str
        One line for ``sigprop list samplers``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    block: ClassVar[int] = 64
    about: ClassVar[str] = ""

    @property
    def options(self) -> dict[str, Any]:
        """What beside its name makes it again: JSON values, empty for most."""
        return {}

    def applicable(self, ensemble: Ensemble, *, on_request: bool = False) -> frozenset[str]:
        """Every field that has a meaning for what it draws, whether or not it gives it."""
        return applicable(ensemble, on_request=on_request)

    def refusal(self, ensemble: Ensemble, fields: frozenset[str]) -> str | None:
        """Say why the sampler cannot give ``fields``, and what can; None if it can."""
        raise NotImplementedError

    def planned(
        self, ensemble: Ensemble, fields: frozenset[str], recorded: int, replicas: int
    ) -> Sampler:
        """The sampler of one run of ``replicas`` that records so many layers.

        Most are that for any run; one that works on a device fixes its block here.
        """
        return self

    def continuing(self, options: dict[str, Any]) -> Sampler:
        """The sampler, before it is planned, of a run that goes on and recorded ``options``."""
        return self

    def smaller(self) -> Sampler | None:
        """The sampler of a run that starts again after `DeviceMemory`; None if there is none."""
        return None

    def made_of(self) -> dict[str, str]:
        """What beside the package decides its numbers: versions, a device."""
        return {}

    def precision_error(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        count: int,
    ) -> dict[str, float] | None:
        """The measured error, by field, of a precision that was lowered on request."""
        return None

    def sample(
        self,
        ensemble: Ensemble,
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> dict[str, np.ndarray]:
        """Draw replicas ``first .. first + count - 1``.

        Parameters
        ----------
        ensemble : Ensemble
        fields : frozenset of str
            Names of `sigprop.trace.FIELDS`.
        layers : ndarray, int64, sorted
            Layers to record, within 0 .. depth.
        key : ndarray, uint32, shape (2,)
            From `sigprop.rng.key`.
        first, count : int
            ``first`` is a multiple of ``block`` and ``count`` at most ``block``.

        Returns
        -------
        dict of str to ndarray, float64
            One array a field, of shape (count, len(layers)) and a third axis as the field
            has it. Replica r is a function of (key, r) alone.
        """
        raise NotImplementedError

    def coupled(self, ensembles: Sequence[Ensemble]) -> bool:
        """Whether `sample_coupled` of these does less work than one `sample` for each.

        They share network, inputs, law and processes, and differ at most in the columns
        ``skip``, ``branch``, ``input_scale`` and ``scale`` of their tables.
        """
        return False

    def sample_coupled(
        self,
        ensembles: Sequence[Ensemble],
        fields: frozenset[str],
        layers: np.ndarray,
        key: np.ndarray,
        first: int,
        count: int,
    ) -> list[dict[str, np.ndarray]]:
        """Draw the same replicas of several ensembles from the same random numbers.

        Parameters
        ----------
        ensembles : sequence of Ensemble
        fields, layers, key, first, count
            As for `sample`.

        Returns
        -------
        list of dict of str to ndarray
            One trace an ensemble, in order: what `sample` gives with this key, up to rounding.
        """
        return [self.sample(e, fields, layers, key, first, count) for e in ensembles]


def kept(ensemble: Ensemble) -> LayerTable:
    """The table by which kernels know of dropout: what divides kept units stands in a scale.

    A unit that is kept is divided by the chance of it. The matrix that reads it does that, or in
    a plain net the branch coefficient.
    """
    network, table = ensemble.network, ensemble.table
    keep = getattr(network.phi, "keep", 1.0)
    if keep == 1.0:
        return table
    if not network.form.trunk:
        return dataclasses.replace(table, branch=table.branch / keep)
    scale = table.scale.copy()
    scale[:, 0 if network.form.pre else 1 :] /= keep
    return dataclasses.replace(table, scale=scale)


def applicable(ensemble: Ensemble, *, on_request: bool = False) -> frozenset[str]:
    """Every field that has a meaning for ``ensemble``, whichever sampler gives it.

    What few samplers give or what costs more than all the rest together, the singular values
    of the Jacobian, is among them with ``on_request`` alone.

    A plain net has no displacement, nor has one whose skip connections hold a matrix, since
    their layers live in unrelated spaces; one input
    has no pairs; an activation without a derivative has no gradient; a branch of one matrix
    off the trunk has no activation at all.
    """
    fields = {"log_norm"}
    form = ensemble.network.form
    trunk = form.trunk and not form.projected
    if form.pre or form.post or not trunk or ensemble.network.matrices > 1:
        fields |= {"activity", "dead"}
    if trunk:
        fields.add("log_displacement")
    if getattr(ensemble.network.phi, "differentiable", True):
        fields |= {"log_gradient", "alignment"}
        if trunk:
            fields.add("log_gradient_displacement")
        if on_request:
            fields.add("log_singular")
            # Of a kernel all pixels share a weight; under batch normalisation all inputs do.
            if not (ensemble.network.convolutional or ensemble.table.batch_norm):
                fields.add("log_first_step")
    if on_request and form.trunk:
        fields |= {"branch_energy", "skip_energy"}
    if ensemble.inputs.count > 1:
        fields |= {"cosine", "log_distance", "effective_rank"}
        if ensemble.table.paired:
            fields |= {
                "looks_linear_cosine", "log_looks_linear_distance", "looks_linear_effective_rank"
            }  # fmt: skip
        if on_request and "activity" in fields:
            fields.add("diversity")
    return frozenset(fields)
