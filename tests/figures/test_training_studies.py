"""Figures of trained networks: pictures of known numbers, going on after a kill, verdicts."""

import numpy as np
import pytest
import xarray as xr

from figures._base import named, obtain
from figures.scaling_resnets.fig09_trained_accuracy import _contour, _verdict

# ------------------------------------------------------------------ Figure 9


def cells(accuracy, diverged=None, depth=24):
    """Numbers of Figure 9 at two H (rows) and three beta, written down: (H, beta, seed)."""
    accuracy = np.asarray(accuracy, float)
    axes = ("hurst", "beta")
    se = accuracy.std(-1, ddof=1) / np.sqrt(accuracy.shape[-1])
    zero = np.zeros(accuracy.shape[:2])
    made = xr.Dataset(
        {
            "accuracy": ((*axes, "seed"), accuracy),
            "accuracy_mean": (axes, accuracy.mean(-1)),
            "accuracy_mean_se": (axes, se),
            "diverged_fraction": (axes, zero if diverged is None else np.asarray(diverged)),
            "chosen_lr": (axes, zero + 0.01),
        },
        {"hurst": [0.2, 0.8], "beta": [0.1, 0.5, 0.9], "seed": range(accuracy.shape[-1])},
        named("scaling_resnets/fig09").effort("smoke") | {"depth": depth},
    )
    return made


TRAINED = [
    [[0.31, 0.35, 0.27], [0.91, 0.95, 0.93], [0.97, 0.96, 0.99]],
    [[0.11, 0.09, 0.13], [0.42, 0.44, 0.40], [0.96, 0.99, 0.93]],
]


def test_the_curve_of_figure_9_is_that_of_res1():
    """Three digits, from the mean-field recursion computed independently; not that of Figure 7."""
    found = [_contour(h, 1000) for h in (0.05, 0.35, 0.6)]
    np.testing.assert_allclose(found, [0.192, 0.337, 0.573], atol=1e-3)


def test_cells_are_sorted_by_the_curve_of_their_depth_and_compared_by_seed():
    """At depth 24 the curve passes beta = 0.22 at H = 0.2 and 0.7 at H = 0.8."""
    low, high = _contour(0.2, 24), _contour(0.8, 24)
    assert 0.1 < low < 0.5 < high < 0.9
    # Above: (0.2, 0.5), (0.2, 0.9), (0.8, 0.9); by seed 94.67, 96.67, 95.0, below 28, 29.33, 26.67.
    words = _verdict(cells(TRAINED))
    assert "above the curve 95.4 %, below it 28.0 %" in words
    assert "shown: above the curve - below it = +67.4 ± 0.5 points, 3 seeds" in words
    assert "contradicted" in _verdict(cells(1 - np.array(TRAINED)))
    assert "one side" in _verdict(cells(TRAINED).isel(beta=[0]))


def test_the_map_shows_accuracies_where_they_belong_and_marks_what_diverged():
    figure = named("scaling_resnets/fig09")
    lost = np.zeros((2, 3))
    lost[1, 0] = 1 / 3
    numbers = cells(TRAINED, lost).assign_attrs(
        verdict="Nothing is said.", data="digits", train_images=5, validation_images=6,
        test_images=7, study='{"recipe": {"lr": [0.1], "schedule": "step", "step": 5, "epochs": 9, '
        '"optimizer": "adam", "batch": 4}, "seeds": [0, 1, 2]}',
    )  # fmt: skip
    theory = xr.Dataset({"contour": ("hurst", [0.2, 0.7]), "deep": ("hurst", [0.25, 0.8])},
                        {"hurst": [0.2, 0.8]})  # fmt: skip
    picture = figure.draw({"cells": numbers}, {"contour": theory})
    axes = picture.axes[0]
    mesh = axes.collections[0].get_array()
    np.testing.assert_allclose(mesh, 100 * np.mean(TRAINED, -1).T)
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[0.8, 0.5] == "42 ± 1" and len(texts) == 6
    marked = [(x, y) for line in axes.lines if line.get_marker() == "x"
              for x, y in zip(*line.get_data())]  # fmt: skip
    assert marked == [(0.8, 0.1)]
    words = " ".join(" ".join(text.get_text() for text in picture.texts).split())
    assert "5/6/7 images" in words and "Nothing is said." in words and "rate 0.1 fixed" in words
    table = figure.table({"cells": numbers}, {}).splitlines()
    assert table[1].split() == ["0.2", "0.8"]
    assert table[-2].split() == ["0.1", "31.0", "11.0!"]


@pytest.mark.parametrize("after", [0, 9])
def test_a_killed_study_goes_on_and_ends_in_the_same_numbers(after, tmp_path):
    figure, seen = named("scaling_resnets/fig09"), []
    whole = figure.compute("smoke")["cells"]

    def kill(done, total):
        seen.append(done)
        if done >= after and len(seen) > 1:
            raise KeyboardInterrupt

    path = tmp_path / "fig09.nc"
    with pytest.raises(KeyboardInterrupt):
        obtain(named("scaling_resnets/fig09"), "smoke", path, progress=kill)
    later = []
    content, standing = obtain(
        named("scaling_resnets/fig09"), "smoke", path, progress=lambda d, t: later.append(d)
    )
    assert not standing and later[0] == 2 * (after // 2) and later[-1] == 16
    xr.testing.assert_equal(content.results["cells"].drop_attrs(), whole.drop_attrs())
    assert content.results["cells"].attrs["verdict"] == whole.attrs["verdict"]
    assert [found.name for found in tmp_path.iterdir()] == ["fig09.nc"]
