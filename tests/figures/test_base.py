"""Figures that take long: what is finished is kept while they work, and images may be named."""

import pytest
import xarray as xr
from matplotlib.figure import Figure as Picture

from figures._base import Figure, named, obtain, on_data
from sigprop import cli
from sigprop.errors import Interrupted, SpecError


@pytest.fixture
def slow(monkeypatch):
    """A figure that is killed after its first step, unless that step is finished already."""

    class Slow(Figure):
        trains, efforts, steps = True, {"smoke": {}}, []
        kind = "test/slow"

        def compute(self, budget, workers=None, progress=None):
            first = self.checkpoint.with_name(self.checkpoint.name + ".first")
            if not first.exists():
                self.steps.append(f"first of {self.data}")
                first.touch()
                raise Interrupted("stopped after 1 of 2 runs.")
            self.steps.append(f"second of {self.data}")
            return {"x": xr.Dataset({"x": 1})}

        def predict(self, budget):
            return {}

        def draw(self, results, predictions):
            return Picture()

        def table(self, results, predictions):
            return f"x = {int(results['x'].x)}"

    monkeypatch.setitem(Figure.family._members, "test/slow", Slow)
    return Slow


def test_a_killed_figure_finds_what_it_had_finished_and_leaves_nothing_behind(slow, tmp_path):
    path = tmp_path / "numbers.nc"
    with pytest.raises(KeyboardInterrupt):
        obtain(slow(), "smoke", path)
    # Of other images: not what is asked for.
    with pytest.raises(KeyboardInterrupt):
        obtain(on_data(slow(), "mnist:here"), "smoke", path)
    content, standing = obtain(slow(), "smoke", path)
    assert slow.steps == ["first of digits", "first of mnist:here", "second of digits"]
    assert int(content.results["x"].x) == 1 and not standing
    assert obtain(slow(), "smoke", path)[1]
    assert not obtain(on_data(slow(), "mnist:here"), "smoke", path)[1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_force_begins_anew(slow, tmp_path):
    path = tmp_path / "numbers.nc"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            obtain(slow(), "smoke", path, force=True)
    assert slow.steps == ["first of digits"] * 2


def test_the_command_names_the_images_and_prints_the_table(slow, tmp_path, capsys):
    words = ["figure", "test/slow", "--budget", "smoke", "--data", "mnist:/a/b"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "error: stopped after 1 of 2 runs.\n"
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    picture = tmp_path / "test" / "slow.smoke.mnist.png"
    assert capsys.readouterr().out == f"x = 1\nwrote {picture}\n"
    assert {p.name for p in picture.parent.iterdir()} == {picture.name, "slow.smoke.mnist.nc"}


def test_images_for_a_figure_that_trains_nothing_are_refused():
    with pytest.raises(SpecError, match=r"trains no network.*Leave out --data"):
        on_data(named("scaling_resnets/fig02"), "mnist:/a")
