"""The figures of Jacobian spectra: what they measure, and that every panel is drawn."""

import numpy as np
import pytest

from figures._base import named


@pytest.fixture(scope="module")
def content():
    drawn = named("dynamical_isometry/spectra")
    return drawn, drawn.compute("smoke", workers=1), drawn.predict("smoke")


def test_the_spectra_are_those_of_the_models_with_their_laws(content):
    """RISOTTO alone has all its mass in one bin; all other panels have a law of mass 1 - atom."""
    drawn, results, predictions = content
    assert set(results) == set(predictions) | {"risotto"}
    one_bin = results["risotto"].singular_density[-1].values * 0.05
    assert one_bin.max() == pytest.approx(1.0, abs=1e-12)
    for name, law in predictions.items():
        mass = np.trapezoid(law.density[-1], law.log_singular[-1])
        assert mass == pytest.approx(1 - float(law["atom"][-1]), abs=5e-3), name
        lost = float(results[name].singular_zero_fraction[-1])
        assert (lost > 0.3) == (float(law["atom"][-1]) > 0), name
    picture = drawn.draw(results, predictions)
    assert len(picture.axes) == 6 and all(axes.get_title(loc="left") for axes in picture.axes)


def test_the_condition_number_is_that_of_every_scheme():
    drawn = named("dynamical_isometry/condition_number")
    results, predictions = drawn.compute("smoke", workers=1), drawn.predict("smoke")
    for name in ("risotto B", "risotto C", "looks linear", "fixup"):
        assert np.abs(results[name].log_singular_condition.values).max() < 1e-12, name
    he = results["he residual"].log_singular_condition.values
    assert he[-1] > results["power"].log_singular_condition.values[-1] + 2
    picture = drawn.draw(results, predictions)
    assert len(picture.axes) == 2
    assert len(picture.axes[0].get_lines()) == len(results) + 1
