"""The figure of gradients across batches: its numbers belong together, at the smoke budget."""

import numpy as np
import pytest
import torch

from figures._base import obtain, on_data
from figures.gradinit.gradient_variance import GradientVariance, _run
from sigprop.modules import architecture, gradient_noise, load_data
from tests import cifar

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("variance") / "numbers.nc"
    made, _ = obtain(GradientVariance(), "smoke", path)
    assert [entry.name for entry in path.parent.iterdir()] == ["numbers.nc"]
    return made


def test_what_is_drawn_is_what_the_measurement_says(content):
    found = content.results["batch"].isel(seed=0)
    effort, data = GradientVariance().effort("smoke"), load_data("digits", validation=0)
    endless = data.train.batches(effort["batch"], seed=2**16, epochs=None)
    batches = [batch for batch, _ in zip(endless, range(16))]
    network = architecture(f"{effort['network']},norm=batch").build(data.shape, 10, seed=0)
    loss = lambda output, batch: torch.nn.functional.cross_entropy(output, batch[1])  # noqa: E731
    own = gradient_noise(network, batches, loss).sel(parameter=found.weight.values)
    np.testing.assert_allclose(found.relvar_before, own.relvar, rtol=1e-5)
    np.testing.assert_allclose(
        found.weight_norm_after / found.weight_norm_before, found.scale, rtol=1e-5
    )
    below = found.relvar_after[:-1] < found.relvar_before[:-1]
    assert float(found.fallen) == below.mean() and 0 < found.norm_after < found.norm_before
    # Gains stand at the convolution that they follow.
    assert found.gain.values.tolist()[:3] == ["1.weight", "3.bn1.weight", "3.bn2.weight"]
    assert found.gain_layer.values.tolist() == [1, 2, 3, 4, 5]


def test_without_normalisation_there_are_no_gains_and_the_table_holds_every_number(content):
    plain = content.results["none"]
    assert "gain_scale" not in plain and "last_gain_smallest" not in plain
    table = GradientVariance().table(content.results, content.predictions)
    assert table.count("\n") == 2 + 11 + 10
    assert f"{float(plain.accuracy_after[0]):.3g}" in table


def test_expected_numbers_stand_beside_those_of_their_own_experiment_only():
    figure = GradientVariance()
    assert figure.predict("smoke") == {}
    expected = figure.predict("paper")
    assert expected["batch"].fallen.values.tolist() == [0.74, 0.79]
    figure.data = "mnist:/data"
    assert figure.predict("paper") == {}


def test_of_cifar10_a_part_is_taken(tmp_path, monkeypatch):
    """Files in its format: 2300 images to train and 2100 to test, of which 2000 each are taken."""
    figure = on_data(GradientVariance(), cifar.written(tmp_path, 2300, 2100))
    whole = figure.effort("paper")
    assert (whole["train"], whole["test"], whole["steps"], whole["epochs"]) == (2000, 2000, 100, 3)
    assert (
        figure.effort("smoke")["steps"] == 12 and GradientVariance().effort("paper")["steps"] == 390
    )
    sizes = []

    def seen(spec, seed, data, effort):
        sizes.append((len(data.train), len(data.test), data.shape))
        return _run(spec, seed, data, effort | {"steps": 2, "epochs": 1})

    monkeypatch.setattr("figures.gradinit.gradient_variance._run", seen)
    results = figure.compute("smoke")
    assert sizes == [(2000, 2000, (3, 32, 32))] * 2
    for found in results.values():
        right = found.accuracy_after * 2000
        np.testing.assert_allclose(right, right.round(), rtol=0, atol=1e-9)
    picture = figure.draw(results, figure.predict("smoke"))
    assert any("cifar10" in text.get_text() for text in picture.texts)


def test_a_run_that_was_stopped_goes_on(tmp_path, content):
    """The network that was finished is read from the disk; nothing is computed for it."""
    figure = GradientVariance()
    figure.checkpoint = tmp_path / "part"
    kept = content.results["none"].isel(seed=0).drop_vars("seed")
    kept.to_netcdf(tmp_path / "part.none.0", engine="h5netcdf")
    read = figure._kept_run("none", 0, None, figure.effort("smoke"))
    assert read.identical(kept)


def test_the_picture_names_batches_and_seeds(content):
    picture = GradientVariance().draw(content.results, content.predictions)
    words = " ".join(text.get_text() for text in picture.texts)
    assert "B = 16 batches of 32" in words and "seed 0" in words
    assert len(picture.axes) == 6
