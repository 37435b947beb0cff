"""Whether trained networks show a ranking that a paper claims: shown, not shown or contradicted.

Runs are paired by seed, since the cases of a study share the order of their images. What is
told of is the test set that was used: that another one would give other numbers is no part of
the error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.stats import t as student

from sigprop.errors import SpecError

__all__ = ["Pair", "Ranking", "final_accuracy", "rank"]

_ALPHA = 0.05  # chance that any pair of a ranking is called different where none is


@dataclass(frozen=True)
class Pair:
    """Two cases of a claimed ranking.

    Attributes
    ----------
    better, worse : str
        As claimed.
    difference, se : float
        Of the mean accuracies, better less worse, and its standard error between seeds; NaN of
        one seed.
    p : float
        Two-sided, of Student's paired test; NaN of one seed.
    """

    better: str
    worse: str
    difference: float
    se: float
    p: float


@dataclass(frozen=True)
class Ranking:
    """What a study says of a claimed ranking.

    Attributes
    ----------
    claim : str
        In the words of the cases: ``a > b > c``, or ``a > b, c`` where a is claimed to be best.
    pairs : tuple of Pair
    seeds : int
    verdict : {"shown", "not shown", "contradicted"}
        Shown: in every pair the first is better, beyond chance. Contradicted: in one it is worse,
        beyond chance. Else not shown.
    """

    claim: str
    pairs: tuple[Pair, ...]
    seeds: int
    verdict: str

    def sentence(self) -> str:
        """The verdict with its numbers, in percent."""
        if self.seeds == 1:
            return f"Claimed: {self.claim}. Of one seed nothing can be said."
        level = _ALPHA / len(self.pairs)
        told = "; ".join(
            f"{pair.better} - {pair.worse} = {100 * pair.difference:+.1f} ± {100 * pair.se:.1f}"
            + ("" if pair.p <= level else " (within chance)")
            for pair in self.pairs
        )
        seen = f"In these data {self.verdict}"
        return f"Claimed: {self.claim}. {seen}: {told} points, {self.seeds} seeds."


def final_accuracy(study: xr.Dataset) -> xr.DataArray:
    """Test accuracy after the last epoch at the learning rate chosen for each case.

    Parameters
    ----------
    study : Dataset
        Of `sigprop.modules.run_study`.

    Returns
    -------
    DataArray, dims (case, seed)
    """
    found: xr.DataArray = study.test_accuracy.isel(epoch=-1).sel(lr=study.chosen_lr)
    return found.reset_coords(drop=True).transpose("case", "seed")


def rank(accuracy: xr.DataArray, claimed: Sequence[str], *, best: bool = False) -> Ranking:
    """Set a claimed ranking beside accuracies.

    Parameters
    ----------
    accuracy : DataArray, dims (case, seed)
    claimed : sequence of str
        Two cases or more, the best first.
    best : bool
        Whether the claim is only that the first is better than every other one, not that the
        others are in this order (default False).

    Returns
    -------
    Ranking
        Bonferroni over the pairs, at 5% together.

    Raises
    ------
    SpecError
        If fewer than two are claimed, or a case is not there.

    Examples
    --------
    >>> seen = xr.DataArray(
    ...     [[0.8, 0.7, 0.9], [0.5, 0.35, 0.61]],
    ...     dims=("case", "seed"), coords={"case": ["fixup", "he"]},
    ... )
    >>> rank(seen, ["fixup", "he"]).sentence()
    'Claimed: fixup > he. In these data shown: fixup - he = +31.3 ± 1.9 points, 3 seeds.'
    """
    known = [str(case) for case in accuracy.case.values]
    absent = [case for case in claimed if case not in known]
    if len(claimed) < 2 or absent:
        raise SpecError(
            f"a ranking is of two cases or more of {', '.join(known)}, got {list(claimed)}. "
            "Name those that were trained."
        )
    values = accuracy.transpose("case", "seed")
    seeds = values.sizes["seed"]
    pairs = []
    others = claimed[1:]
    for better, worse in zip([claimed[0]] * len(others) if best else claimed[:-1], others):
        apart = (values.sel(case=better) - values.sel(case=worse)).values
        mean, se, p = float(apart.mean()), math.nan, math.nan
        if seeds > 1:
            se = float(apart.std(ddof=1) / math.sqrt(seeds))
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.float64(abs(mean)) / se if mean else 0.0
            p = float(2 * student.sf(score, seeds - 1))
        pairs.append(Pair(str(better), str(worse), mean, se, p))
    sure = [pair.p <= _ALPHA / len(pairs) for pair in pairs]
    if any(s and pair.difference < 0 for s, pair in zip(sure, pairs)):
        verdict = "contradicted"
    else:
        verdict = "shown" if all(sure) else "not shown"
    claim = f"{claimed[0]} > {', '.join(others)}" if best else " > ".join(claimed)
    return Ranking(claim, tuple(pairs), seeds, verdict)
