"""The overview is a pure function, shows everything recorded, and is legible alone."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from figures.gallery.overview import draw
from sigprop.sentence import trusted
from tests.synthetic import result, trace


@pytest.fixture(scope="module")
def figure():
    """The overview of a usual result, for those who only look at it."""
    return draw(result())


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def test_every_recorded_quantity_has_its_panels(figure):
    titles = panels(figure)
    for word in (r"$|h_\ell|\,/\,|h_0|$", r"$|p_\ell|\,/\,|p_L|$", r"$|h_\ell-h_0|\,/\,|h_0|$"):
        of_it = [title for title in titles if word in title]
        assert len(of_it) == 4, f"log, variance, shape and moments of {word}"
    for title in ("cosine of the angle between inputs", "fraction of active units"):
        assert title in titles


def test_only_what_was_recorded_is_drawn():
    measured = result()
    norm = measured[[name for name in measured if "norm" in name]]
    assert len(panels(draw(norm))) == 4


def test_lines_and_bands_are_the_numbers_of_the_result():
    measured = result(spread=0.5)
    first = measured.isel(input=0)
    axes = panels(draw(measured))[r"log $|h_\ell|\,/\,|h_0|$"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), first.log_norm_mean)
    spread, band = (p for p in axes.collections if isinstance(p, PolyCollection))
    top = spread.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(float(first.log_norm_quantile.isel(quantile=-1).max()))
    highest = float((first.log_norm_mean + 2 * first.log_norm_mean_se).max())
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(highest)


def test_moments_that_few_replicas_carry_are_dotted_only():
    measured = result(spread=3.0)
    axes = panels(draw(measured))[r"log E($|h_\ell|\,/\,|h_0|$)$^s$"]
    good = trusted(measured, "norm").isel(input=0).sel(order=2.0).values
    solid = [line for line in axes.get_lines() if line.get_linestyle() == "-"][1]
    np.testing.assert_array_equal(np.isfinite(solid.get_ydata()), good)
    assert not good.all()
    assert any(line.get_linestyle() == ":" for line in axes.get_lines())


def test_title_units_and_legend_make_it_legible_alone(figure):
    text = " ".join(item.get_text() for item in figure.texts)
    for word in ("power(beta=0.5)", "res3", "relu", "width 100", "depth 100", "400 replicas"):
        assert word in text
    for word in ("sampler conditional", "seed 0", "input 0 of 2"):
        assert word in text
    assert all(axes.get_ylabel() for axes in panels(figure).values())
    labels = [item.get_text() for item in figure.legends[0].get_texts()]
    assert "± 2 standard errors" in labels and "5% to 95% of networks" in labels


def test_every_column_names_its_depth_axis(figure):
    assert sum(axes.get_xlabel() == r"layer $\ell$" for axes in panels(figure).values()) == 4


def test_the_process_is_left_as_it_was():
    before = dict(mpl.rcParams)  # a dict resolves the backend, which is not our matter
    measured = result()
    kept = measured.copy(deep=True)
    draw(measured)
    assert dict(mpl.rcParams) == before
    assert measured.identical(kept)


@pytest.mark.parametrize(
    "options",
    [{"spread": 0.0}, {"dead": 1.0}, {"depth": 1}, {"log_rate": 30.0}, {"replicas": 1}],
    ids=["identity", "all dead", "one layer", "explosion", "one replica"],
)
def test_extreme_results_are_drawn_without_a_warning(options, tmp_path):
    draw(result(**{"depth": 9, "replicas": 50} | options)).savefig(tmp_path / "a.png")


def test_zero_displacement_says_so_instead_of_an_empty_panel():
    axes = panels(draw(result(spread=0.0)))[r"log $|h_\ell-h_0|\,/\,|h_0|$"]
    assert [text.get_text() for text in axes.texts] == ["exactly 0: no logarithm"]


def test_networks_that_die_get_a_panel():
    titles = panels(draw(result(trace(dead=0.3))))
    assert r"networks with $|h_\ell|\,/\,|h_0|$ = 0" in titles
