"""Training after GradInit and its rivals: what is trained, told and drawn, at the smoke budget."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from figures._base import Figure, named, obtain
from figures.gradinit._training import by_method, judged, preparation
from figures.gradinit.mlp_training import MLPTraining
from figures.gradinit.vgg_training import VGGTraining
from sigprop.modules import architecture, load_data

torch.set_num_threads(1)

FIGURES = ("gradinit/mlp_training", "gradinit/vgg_training")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = {}

    def of(name):
        if name not in found:
            folder = tmp_path_factory.mktemp("numbers")
            found[name] = obtain(named(name), "smoke", folder / "numbers.nc")[0].results
            assert [path.name for path in folder.iterdir()] == ["numbers.nc"]
        return found[name]

    return of


@pytest.mark.parametrize("name", FIGURES)
def test_every_seed_and_preparation_is_drawn_and_told(made, name):
    results, figure = made(name), named(name)
    table = figure.table(results, {})
    for result in results.values():
        assert result.preparation.values.tolist() == ["none", "gradinit", "lsuv"]
        assert np.isfinite(result.test_accuracy).all()
        seconds = result.preparation_seconds.mean(["lr", "seed"]).stack(at=[...])
        assert (seconds.sel(preparation="gradinit") > seconds.sel(preparation="none")).all()
        mean = float(result.accuracy_mean.isel(epoch=-1).values.ravel()[-1])
        assert f"{mean:.3f}" in table
        assert json.loads(result.attrs["study"])["data"]["name"] == "digits"
    assert "GradInit above none" in table and "GradInit above LSUV" in table
    picture = figure.draw(results, {})
    for axes, result in zip(picture.axes, results.values()):
        drawn = np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines])
        last = result.test_accuracy.isel(epoch=-1).values.ravel()
        assert np.isin(last, drawn).all()


def test_a_gain_that_diverges_is_trained_once_it_is_undone(made):
    """A gain of 1.5 under SGD, the rate 0.1; what diverges is drawn at chance."""
    result = made("gradinit/mlp_training")["sgd"]
    none, prepared = (result.sel(preparation=m).isel(gain=0) for m in ("none", "gradinit"))
    assert (none.diverged_step >= 0).all() and (none.accuracy_mean == 0.1).all()
    assert (prepared.diverged_step == -1).all()


@pytest.mark.parametrize("kind", [MLPTraining, VGGTraining])
def test_what_was_expected_stands_beside_what_is_measured(made, kind):
    """The expected numbers are drawn and printed where the study is theirs, and only there."""
    figure = kind()
    assert figure.predict("smoke") == {}
    theory = figure.predict("paper")
    elsewhere = kind()
    elsewhere.data = "mnist:folder"
    assert elsewhere.predict("paper") == {}
    results = {}
    for name, whole in theory.items():  # numbers that are nowhere else, in the shape of the study
        part = made(kind.kind)[name]
        axis = {"gain": "gain"} if kind is MLPTraining else {"epoch": "epoch"}
        (other,) = axis
        part = part.isel(preparation=[0]).reindex({other: whole[other].values}, method="nearest")
        results[name] = part.assign_coords(preparation=["lsuv"])
        if "rival" in part.dims:
            results[name] = results[name].assign_coords({other: whole[other].values})
    name, *_ = theory
    value = theory[name].accuracy_mean.sel(preparation="lsuv").values[-1]
    assert f"[{value:.3f}±" in figure.table(results, theory)
    axes, *_ = figure.draw(results, theory).axes
    heights = [y for line in axes.lines for y in np.ravel(line.get_ydata())]
    assert np.isin(theory[name].accuracy_mean.sel(preparation="lsuv"), heights).all()


def test_of_other_images_a_part_is_taken(tmp_path):
    """Files in the format of MNIST, written here: 2300 images, of which 2000 are trained on."""
    random, raw = np.random.default_rng(3), tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in (("train", 2300), ("t10k", 2100)):
        labels = random.integers(0, 10, n).astype(np.uint8)
        images = random.integers(0, 99, (n, 4, 4), np.uint8) + 9 * labels[:, None, None]
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([2048 + array.ndim, *array.shape], ">u4").tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())
    figure = VGGTraining()
    figure.data = f"mnist:{tmp_path}"
    whole = figure.effort("paper")
    assert (whole["train"], whole["test"], whole["steps"], whole["epochs"]) == (2000, 2000, 100, 3)
    assert whole["seeds"] == {"none": 3, "batch": 3}
    results = figure.compute("smoke")
    for result in results.values():
        accuracy = result.test_accuracy * 2000
        np.testing.assert_allclose(accuracy, accuracy.round(), rtol=0, atol=1e-9)
    assert figure.draw(results, figure.predict("smoke")).axes


def accuracies(**rows):
    return xr.DataArray(
        list(rows.values()), dims=("preparation", "seed"), coords={"preparation": list(rows)}
    )


def test_a_ranking_within_a_deviation_between_seeds_is_not_shown():
    """However sure the paired difference is."""
    worse = np.array([0.5, 0.6, 0.7, 0.55, 0.66])
    same = accuracies(gradinit=worse + np.array([0.01, 0.011, 0.009, 0.01, 0.012]), none=worse)
    assert judged(same, "gradinit", "none") == "not shown"
    clear = accuracies(gradinit=worse + np.array([0.21, 0.2, 0.19, 0.22, 0.2]), none=worse)
    assert judged(clear, "gradinit", "none") == "shown"
    assert judged(clear, "none", "gradinit") == "contradicted"
    assert judged(clear.isel(seed=[0]), "gradinit", "none") == "not shown"


def test_the_cases_of_a_study_become_two_dimensions():
    names = ["a/1", "a/2", "b/1", "b/2"]
    study = xr.Dataset({"x": ("case", [1, 2, 3, 4])}, {"case": names}, {"seed": 7})
    found = by_method(study.isel(case=[3, 0, 2, 1]), ["b", "a"], "gain", [1, 2])
    assert found.x.sel(preparation="a").values.tolist() == [1, 2]
    assert found.x.sel(preparation="b", gain=2) == 4 and found.attrs == {"seed": 7}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("gradinit", {"half_batch": 16, "steps": 12}),
        ("lsuv", {}),
        ("autoinit", {"steps": 3}),
        ("metainit", {"steps": 3}),
        ("kraehenbuehl", {}),
    ],
)
def test_a_preparation_changes_weights_and_is_a_function_of_its_seed(method, settings):
    data, ends = load_data("digits", train=300), []
    for seed in (1, 1, 2):
        network = architecture("mlp:depth=2,width=20").build(data.shape, seed=0)
        start = [p.clone() for p in network.parameters()]
        preparation(method, settings)(network, data, seed)
        ends.append(torch.cat([p.detach().ravel() for p in network.parameters()]))
    assert not torch.equal(ends[0], torch.cat([p.detach().ravel() for p in start]))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_nothing_is_done_where_nothing_is_to_be_done():
    assert preparation("none", {}) is None


def test_the_figures_are_listed():
    import figures.gradinit  # noqa: F401

    assert set(FIGURES) <= set(Figure.family)
