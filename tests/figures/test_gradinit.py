"""Figures of GradInit: what is drawn is what was learned, at the smoke budget."""

import numpy as np
import torch

from figures._base import obtain
from figures.gradinit.comparison import Comparison
from figures.gradinit.scales import LearnedScales
from sigprop.modules import InitResult

torch.set_num_threads(1)


def test_scales_and_course_are_kept_and_drawn(tmp_path):
    figure = LearnedScales()
    content, _ = obtain(figure, "smoke", tmp_path / "scales.nc")
    again, standing = obtain(figure, "smoke", tmp_path / "scales.nc")
    assert standing
    picture = figure.draw(again.results, again.predictions)
    assert len(picture.axes) == 6
    found = InitResult.from_json(str(content.results["resnet"].result.item()))
    lines = {line.get_label(): line for line in picture.axes[2].get_lines()}
    gains = [s for name, s in found.scales.items() if found.kinds[name] == "gain"]
    assert list(lines["gains of normalisation"].get_ydata()) == gains
    drawn = sum(len(line.get_ydata()) for line in picture.axes[5].get_lines()[1:-1])
    assert drawn == len(found.history["grad_norm"]) == 8


def test_the_comparison_draws_every_method_at_every_layer(tmp_path):
    figure = Comparison()
    content, _ = obtain(figure, "smoke", tmp_path / "comparison.nc")
    found = content.results["comparison"]
    picture = figure.draw(content.results, content.predictions)
    lines = picture.axes[1].get_lines()
    assert len(lines) == 3 and all(len(line.get_ydata()) == 4 for line in lines)
    np.testing.assert_array_equal(
        lines[0].get_ydata(), found.forward_variance.sel(preparation="none")
    )
    # He's variance times 1.5^2 a layer: the outputs grow, and LSUV's have variance 1.
    lsuv = found.forward_variance.sel(preparation="lsuv").values
    assert (np.abs(lsuv - 1) < 0.5).all()
    assert float(found.grad_norm.sel(preparation="none")) > 1
