"""A claimed ranking beside accuracies: shown, not shown, contradicted, refused."""

import doctest
import importlib

import numpy as np
import pytest
import xarray as xr

from analysis.ranking import final_accuracy, rank
from sigprop.errors import SpecError


def test_examples_are_true():
    found = doctest.testmod(importlib.import_module("analysis.ranking"))
    assert found.attempted and not found.failed


def accuracies(**rows):
    values = np.array(list(rows.values()))
    return xr.DataArray(values, dims=("case", "seed"), coords={"case": list(rows)})


def test_a_pair_has_the_numbers_of_the_paired_test():
    """By hand: differences .3, .35, .29 have mean .31333 and deviation .03215; t = 16.88, 2 dof."""
    found = rank(accuracies(a=[0.8, 0.7, 0.9], b=[0.5, 0.35, 0.61]), ["a", "b"])
    (pair,) = found.pairs
    assert pair.difference == pytest.approx(0.94 / 3)
    assert pair.se == pytest.approx(0.0185592, rel=1e-5)
    t = pair.difference / pair.se  # the tail of two degrees of freedom is elementary
    assert pair.p == pytest.approx(1 - t / np.sqrt(2 + t * t), rel=1e-9)
    assert found.verdict == "shown"
    assert rank(accuracies(a=[0.8, 0.7, 0.9], b=[0.5, 0.35, 0.61]), ["b", "a"]).verdict == (
        "contradicted"
    )


def test_one_pair_within_chance_leaves_a_ranking_unshown():
    seen = accuracies(a=[0.8, 0.81, 0.83, 0.8], b=[0.5, 0.52, 0.49, 0.51], c=[0.5, 0.53, 0.48, 0.5])
    found = rank(seen, ["a", "b", "c"])
    assert found.verdict == "not shown"
    assert "b - c = +0.3 ± 0.5 (within chance)" in found.sentence()
    assert "a - b = +30.5" in found.sentence() and "4 seeds" in found.sentence()
    # Between equal runs nothing is different, and a constant difference is beyond chance.
    assert rank(seen.assign_coords(case=["c", "b", "a"]), ["b", "c"]).verdict == "contradicted"
    same = accuracies(a=[0.5, 0.6], b=[0.5, 0.6], c=[0.25, 0.35])
    assert rank(same, ["a", "b"]).verdict == "not shown"
    assert rank(same, ["b", "c"]).verdict == "shown"


def test_the_best_is_compared_with_every_other_one_whatever_their_order():
    seen = accuracies(a=[0.9, 0.92, 0.91], b=[0.5, 0.51, 0.53], c=[0.7, 0.71, 0.73])
    found = rank(seen, ["a", "b", "c"], best=True)
    assert [(pair.better, pair.worse) for pair in found.pairs] == [("a", "b"), ("a", "c")]
    assert found.verdict == "shown" and "Claimed: a > b, c. In" in found.sentence()
    assert rank(seen, ["a", "b", "c"]).verdict == "contradicted"  # b is not better than c


def test_several_pairs_share_one_chance_of_error():
    """p is 0.04 for one pair: beyond chance alone, within it as one of two."""
    b = np.array([0.5, 0.5, 0.5])
    a = b + 0.1 + 0.0353 * np.array([-1, 0, 1])  # t = 4.906, p = 0.0391
    assert rank(accuracies(a=a, b=b), ["a", "b"]).pairs[0].p == pytest.approx(0.0391, abs=2e-4)
    assert rank(accuracies(a=a, b=b), ["a", "b"]).verdict == "shown"
    assert rank(accuracies(a=a, b=b, c=b - 0.2), ["a", "b", "c"]).verdict == "not shown"


def test_one_seed_says_nothing_and_unknown_cases_are_refused():
    seen = accuracies(a=[0.9], b=[0.2])
    assert rank(seen, ["a", "b"]).verdict == "not shown"
    assert "Of one seed nothing" in rank(seen, ["a", "b"]).sentence()
    with pytest.raises(SpecError, match=r"of a, b, got \['a', 'x'\]"):
        rank(seen, ["a", "x"])
    with pytest.raises(SpecError, match="two cases or more"):
        rank(seen, ["a"])


def test_the_accuracy_is_that_of_the_last_epoch_at_the_chosen_rate():
    values = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    study = xr.Dataset(
        {
            "test_accuracy": (("case", "lr", "seed", "epoch"), values),
            "chosen_lr": ("case", [0.3, 0.1]),
        },
        coords={"case": ["a", "b"], "lr": [0.1, 0.2, 0.3], "seed": range(4)},
    )
    expected = [values[0, 2, :, -1], values[1, 0, :, -1]]
    np.testing.assert_array_equal(final_accuracy(study), expected)
