"""The figures of the rivals of RISOTTO: their numbers against theory, at the smoke budget."""

import numpy as np
import pytest

from analysis.theory import phase
from figures._base import named
from tests.stat import assert_agrees


@pytest.fixture(scope="module")
def content():
    made = {}

    def of(name):
        if name not in made:
            figure = named(f"dynamical_isometry/{name}")
            made[name] = figure.compute("smoke", workers=2), figure.predict("smoke")
        return made[name]

    return of


def test_only_risotto_keeps_the_angle_with_its_branch_on(content):
    """At width 30, where the maps are off by some hundredths; sees 0.45 in every cosine."""
    results, predictions = content("fig01b_dense")
    for name in ("he_projection", "normal", "skipinit_projection", "root_identity"):
        measured, theory = results[name], predictions[name].cosine_mean
        se = np.hypot(measured.cosine_mean_se, 0.01)
        assert_agrees(measured.cosine_mean[1:], theory[1:], se[1:], resolution=0.45)
        assert theory[-1] > theory[0] + 0.3
    for name in ("risotto_projection", "risotto_identity"):
        kept = results[name].looks_linear_cosine_mean
        np.testing.assert_allclose(kept, 0.2, rtol=0, atol=1e-12)


def test_the_first_step_is_flat_for_fixup_alone(content):
    """Fires by chance once in a million; sees a factor e, and depths differ by 4."""
    results, predictions = content("first_step")
    measured, theory = results["change"], predictions["change"].log_mean
    error = measured.first_step_moment_log_se
    assert_agrees(measured.first_step_moment_log, theory, error, resolution=1.0)
    slope = theory.diff("depth").isel(depth=0) / np.log(4)
    np.testing.assert_allclose(
        slope.sel(scheme=["fixup", "unscaled", "skipinit"]), [0, 1, 1], atol=1e-12
    )


def test_gradients_of_networks_grow_where_chaos_is_predicted(content):
    """Away from the edge, where chi_1 is 6% or more from 1; width 100 is off by 3% at most."""
    results, _ = content("edge_of_chaos")
    seen = {-1: 0, 1: 0}
    for name, data in results.items():
        for w in data.weight_variance.values:
            for b in data.bias_variance.values:
                predicted = np.log(phase(name, float(w), float(b)).chi_1)
                if abs(predicted) < 0.06:
                    continue
                rate = float(data.rate.sel(weight_variance=w, bias_variance=b))
                assert np.sign(rate) == np.sign(predicted), (name, w, b)
                seen[int(np.sign(rate))] += 1
    assert min(seen.values()) > 6


def test_every_row_of_the_rivals_is_where_theory_says(content):
    """At width 40 and depth 12; the exact rows alone: a mean square is not far off by chance."""
    results, predictions = content("rivals")
    for name in ("fixup", "risotto_projection"):
        for variable in ("norm_moment_log", "gradient_moment_log"):
            measured, se = (results[name][f"{variable}{end}"] for end in ("", "_se"))
            assert_agrees(measured, predictions[name][variable], se + 1e-12, resolution=3.0)
    for name in ("root", "layerscale", "nf"):
        measured = results[name].cosine_mean
        se = np.hypot(results[name].cosine_mean_se, 0.02)
        assert_agrees(measured, predictions[name].cosine_mean, se, resolution=0.5)
