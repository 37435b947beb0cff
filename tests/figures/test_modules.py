"""The figures of modules: their numbers against theory, at the smoke budget."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="modules are those of torch", exc_type=ImportError)

from figures._base import named, obtain  # noqa: E402


def test_a_resnet_is_where_theory_says_with_and_without_normalisation(tmp_path):
    """Two networks of 8 to 32 channels: within the correction that theory owns to, and errors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        figure = named("modules/resnet_schemes")
        content, stood = obtain(figure, "smoke", tmp_path / "content.nc")
    finally:
        torch.set_num_threads(threads)
    assert not stood and obtain(figure, "smoke", tmp_path / "content.nc")[1]
    compared = 0
    for key, theory in content.predictions.items():
        found = content.results[key]
        for name in ("log_sum_second_moment_mean", "log_sum_gradient_second_moment_mean"):
            gap = np.abs(found[name] - theory[name]).values
            known = np.isfinite(theory[name].values)
            allowed = theory[f"{name}_slack"] + 5 * found[f"{name}_se"]
            assert (gap[known] <= allowed.values[known]).all(), (key, name, gap, allowed.values)
            compared += int(known.sum())
    # Four schemes and three sums: states twice, gradients without normalisation; with it only that
    # at the last sum, where the cotangent enters, which is known of risotto too.
    assert compared == 4 * 3 * 3 + 4 + 2
    # Without a theory there is no line: risotto's pairs, and gradients behind batch normalisation.
    assert np.isnan(content.predictions["none_risotto"].log_sum_second_moment_mean).all()
    drawn = figure.draw(content.results, content.predictions)
    assert len(drawn.axes) == 6
