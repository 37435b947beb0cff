"""Figures of trained networks: pictures of known numbers, going on after a kill, verdicts."""

import json

import numpy as np
import pytest
import xarray as xr

from figures import commands
from figures._base import Figure, named, obtain, on_data
from figures.scaling_resnets.fig09_trained_accuracy import _contour, _verdict
from sigprop import cli
from sigprop.modules import Recipe, Seeds, architecture, load_data, train_network
from tests import cifar
from tests.stat import assert_agrees

LONG = [
    "dynamical_isometry/accuracy_against_alpha",
    "dynamical_isometry/training_schemes",
    "fractional_moments/training",
    "scaling_resnets/fig08",
    "scaling_resnets/fig09",
]

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


def test_a_cell_is_the_network_of_its_beta_and_its_index():
    """At the one rate of the smoke budget: the course of the trainer alone."""
    figure = named("scaling_resnets/fig09")
    found, effort = figure.compute("smoke")["cells"], figure.effort("smoke")
    data, given = load_data("digits", train=effort["train"]), Seeds.of(1)
    recipe = Recipe(**effort["recipe"], lr=effort["lrs"][0])
    for hurst, beta in ((0.2, 0.9), (0.8, 0.1)):
        line = f"stacked:depth=24,width=10,beta={beta},hurst={hurst}"
        network = architecture(line).build(data.shape, seed=given.init)
        course = train_network(network, data, recipe, given)
        cell = found.sel(hurst=hurst, beta=beta)
        assert float(cell.accuracy.sel(seed=1)) == course.test_accuracy[-1]
        assert float(cell.accuracy_mean) == pytest.approx(float(cell.accuracy.mean()))
    assert (found.accuracy.sel(hurst=0.2, beta=0.9) > found.accuracy.sel(hurst=0.8, beta=0.1)).all()


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


def test_all_leaves_out_what_takes_hours_and_says_so(monkeypatch, tmp_path, capsys):
    named("scaling_resnets/fig09")
    chosen = ["scaling_resnets/fig08", "scaling_resnets/fig09"]
    monkeypatch.setattr(commands, "_all_figures", lambda: chosen)
    assert cli.main(["figure", "all", "--budget", "paper", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "" and not list(tmp_path.iterdir())
    assert err.startswith("left out, since networks are trained for hours: ") and chosen[1] in err
    long = sorted(known for known in Figure.family if Figure.family[known].long_budgets)
    assert set(LONG) <= set(long)
    assert commands._all_within("draft") == chosen


def test_data_that_are_not_there_are_refused_in_one_sentence(tmp_path, capsys):
    words = ["figure", "scaling_resnets/fig08", "--budget", "smoke", "--out", str(tmp_path)]
    assert cli.main([*words, "--data", f"mnist:{tmp_path / 'none'}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "none" in err and "Traceback" not in err


# ------------------------------------------------------- studies written down


def study(cases, accuracy, rates=(0.01, 0.1), chosen=None, diverged=None, **attrs):
    """A result of `run_study`, written down: accuracy (case, rate, seed, epoch)."""
    accuracy = np.asarray(accuracy, float)
    n = accuracy.shape[2]
    chosen = np.zeros(len(cases), int) if chosen is None else np.asarray(chosen)
    at = accuracy[np.arange(len(cases)), chosen]
    told = {"recipe": {"lr": list(rates), "schedule": "cosine", "epochs": 3, "optimizer": "sgd",
                       "batch": 128}, "seeds": list(range(n))}  # fmt: skip
    return xr.Dataset(
        {
            "test_accuracy": (("case", "lr", "seed", "epoch"), accuracy),
            "chosen_lr": ("case", np.asarray(rates)[chosen]),
            "accuracy_mean": (("case", "epoch"), at.mean(1)),
            "accuracy_mean_se": (("case", "epoch"), at.std(1, ddof=1) / n**0.5),
            "diverged_fraction": ("case", np.zeros(len(cases)) if diverged is None else diverged),
        },
        {"case": cases, "lr": list(rates), "seed": range(n), "epoch": [1, 2, 3]},
        {"study": json.dumps(told), "data": "digits", "train_images": 5, "validation_images": 6,
         "test_images": 7, "net": "nets of a test", "verdict": "Nothing is said.", **attrs},
    )  # fmt: skip


def uneven(cases, seeds=3):
    """Accuracies that tell every place apart."""
    shape = (cases, 2, seeds, 3)
    return 0.1 + 0.8 * np.random.default_rng(5).random(shape)


def test_curves_are_those_of_the_chosen_rate_and_every_seed_is_drawn():
    names, values = ["risotto", "fixup", "skipinit", "he"], uneven(4)
    made = study(names, values, chosen=[1, 0, 0, 1], diverged=[0, 0, 0, 1 / 3])
    figure = named("dynamical_isometry/training_schemes")
    parts = {"everywhere_none": made, "everywhere_batch": made.assign_attrs(verdict="Or this.")}
    picture = figure.draw(parts, {})
    lines = [line.get_ydata() for line in picture.axes[0].lines]
    for seed in range(3):
        np.testing.assert_allclose(lines[seed], 100 * values[0, 1, seed])
    np.testing.assert_allclose(lines[3], 100 * values[0, 1].mean(0))
    np.testing.assert_allclose(lines[7], 100 * values[1, 0].mean(0))
    assert [text.get_text() for text in picture.axes[1].texts] == ["diverged: He 33 %"]
    words = " ".join(" ".join(text.get_text() for text in picture.texts).split())
    assert "No BN, type C: Nothing is said. BN, type C: Or this." in words
    assert "rate 0.01/0.1 chosen on the validation part, falling by a cosine; 3 seeds" in words
    rows = figure.table(parts, {}).splitlines()
    assert rows[0] == "type C, without batch normalisation"
    mean, seeds = 100 * values[0, 1, :, -1].mean(), 100 * values[0, 1, :, -1]
    assert rows[2].split()[:2] == ["RISOTTO", f"{mean:.1f}"]
    assert rows[2].split()[-3:] == [f"{value:.1f}" for value in seeds]
    assert "33 %" in rows[5]
    assert rows[2].split()[4] == "0.1*" and rows[6].startswith("* an end of the grid")


def test_accuracy_stands_over_its_alpha():
    alphas, labels = [0.0, 0.5, 2.0], ("RISOTTO", "He, branches times alpha")
    names = [f"{label}, alpha = {alpha:g}" for alpha in alphas for label in labels]
    values = uneven(6)
    made = study(names, values, diverged=[0, 0, 0, 0, 0, 1.0], alphas=alphas)
    axes = named("dynamical_isometry/accuracy_against_alpha").draw({"study": made}, {}).axes[0]
    risotto, he = (container.lines[0].get_xydata() for container in axes.containers)
    np.testing.assert_allclose(risotto[:, 1], 100 * values[::2, 0, :, -1].mean(1))
    np.testing.assert_allclose(he[:, 1], 100 * values[1::2, 0, :, -1].mean(1))
    np.testing.assert_allclose(he[:, 0], alphas, atol=0.02)
    (cross,) = (x for x in axes.lines if x.get_marker() == "x" and len(x.get_xydata()))
    np.testing.assert_array_equal(cross.get_xydata(), he[2:])


# ------------------------------------------------------------- fractional moments


def test_gains_are_the_exact_ones_of_the_scheme():
    """Known: sigma^2 d / 2 = 1.02402 at d = 64, s = 0.8; He's own gain is 1."""
    gains = named("fractional_moments/training").gains("draft")
    assert gains["He (s = 2)"] == pytest.approx(1, abs=1e-12)
    assert gains["s = 0.8"] ** 2 == pytest.approx(1.02402, abs=6e-6)
    assert gains["random walk"] == pytest.approx(np.exp(1.2 / 61.6), rel=1e-12)
    assert gains["Xavier"] ** 2 == pytest.approx(0.5)
    assert gains["s = 0.5"] > gains["s = 0.8"] > gains["s = 1"] > gains["s = 1.5"] > 1


def test_norms_before_training_are_the_exact_ones():
    """Fires by chance once in a million; sees 1 in a mean of logarithms that varies by 1.3."""
    figure = named("fractional_moments/training")
    norms = figure.compute("smoke", workers=1)["norms"]
    theory = figure.predict("smoke")["norms"]
    exact = theory["mean"].interp(s=norms.s)
    assert_agrees(norms.log_norm_mean, exact, norms.log_norm_mean_se, resolution=1.0)
    spread = np.sqrt(norms.log_norm_variance) / theory.deviation.interp(s=norms.s)
    assert_agrees(spread, 1, 2 * np.sqrt(1 / 800), resolution=0.8)


VARIANTS = ("training", "training_linear", "training_leaky", "training_convolutional")


def test_gains_of_linear_and_leaky_nets_are_those_of_the_theory():
    """Known scales at width 128 and 16; of linear nets Xavier's weights are He's and left out."""
    for name, s, sigma, width in (
        ("training_linear", 1.0, 0.2539343559478, 16),
        ("training_linear", 0.5, 0.2559880008299, 16),
    ):
        figure = named(f"fractional_moments/{name}")
        assert figure.effort("smoke")["width"] == width
        assert figure.gains("smoke")[f"s = {s:g}"] == pytest.approx(sigma * width**0.5, rel=1e-10)
    linear = named("fractional_moments/training_linear").gains("paper")
    assert "Xavier" not in linear and linear["random walk"] == pytest.approx(np.exp(1 / 128))
    leaky = named("fractional_moments/training_leaky").gains("paper")
    assert "random walk" not in leaky
    assert leaky["Xavier"] ** 2 == pytest.approx((1 + 0.01**2) / 2)
    # (2 - s)(5 - 2 a^2 + 5 a^4) / (2 (1 + a^2)^3 d^2), to second order in 1 / d.
    expected = 1 + (5 - 2e-4 + 5e-8) / (2 * 1.0001**3 * 64**2) / (2 / (1.0001 * 64))
    assert leaky["s = 1"] ** 2 == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_the_network_of_its_gain(variant):
    """At the one rate of the smoke budget: the course of the trainer alone."""
    figure = named(f"fractional_moments/{variant}")
    made, effort = figure.compute("smoke", workers=1), figure.effort("smoke")
    study, name = made["study"], f"s = {effort['s'][-1]:g}"
    data, given = load_data("digits", train=effort["train"]), Seeds.of(1)
    line = f"{figure.line('smoke')},gain={figure.gains('smoke')[name]:.12g}"
    network = architecture(line).build(data.shape, seed=given.init)
    recipe = Recipe(**effort["recipe"], lr=effort["lrs"][0])
    course = train_network(network, data, recipe, given)
    found = study.test_accuracy.sel(case=name, seed=1).isel(lr=0)
    np.testing.assert_array_equal(found, course.test_accuracy)
    picture = figure.draw(made, figure.predict("smoke"))
    words = " ".join(" ".join(text.get_text() for text in picture.texts).split())
    assert f"Of {figure.images} these digits say nothing." in words
    assert f"Claimed: s = {figure.claimed:g} > He (s = 2)" in words
    assert study.attrs["verdict"] in figure.table(made, {})


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_layers_are_those_of_the_law(variant):
    """The mean square of the hidden weights is that of the scheme.

    Fires by chance four times in a million, sees 12%.
    """
    figure = named(f"fractional_moments/{variant}")
    line = f"{figure.line('draft')},gain={figure.gains('draft')['s = 0.5']:.12g}"
    network = architecture(line).build((1, 8, 8), seed=3)
    weights = [m.weight for m in network.modules() if type(m).__name__ == "Linear"][1:-1]
    assert len(weights) == figure.effort("draft")["depth"] - 1
    law = float(figure.law("draft", 0.5).table.scale[0, 0])
    square = float(sum((w.detach().double() ** 2).mean() for w in weights)) / len(weights)
    numbers = sum(w.numel() for w in weights)
    assert_agrees(square / law**2, 1, (2 / numbers) ** 0.5, resolution=0.06)


def test_the_convolutional_study_has_the_papers_recipe_on_cifar10_only(tmp_path):
    """And a draft on its files takes a part of them."""
    kind = "fractional_moments/training_convolutional"
    figure = on_data(named(kind), cifar.written(tmp_path, 4600, 2100))
    paper = figure.effort("paper")
    assert paper["recipe"] == {"epochs": 50, "batch": 512, "schedule": "step", "step": 30,
                               "weight_decay": 1e-4, "crop": 4, "flip": True}  # fmt: skip
    assert 0.01 in paper["lrs"] and len(paper["seeds"]) == 10 and paper["train"] is None
    assert figure.line("paper") == "convmlp:depth=20,width=64,border=none"
    digits = named(kind)
    assert (
        digits.effort("paper")["recipe"] | {"crop": 4, "flip": True, "batch": 512}
        == paper["recipe"]
    )
    assert digits.effort("paper")["recipe"]["crop"] == 0
    part = figure.effort("draft")
    assert (part["train"], part["validation"], part["test"]) == (2000, 2000, 2000)
    # The smoke budget, on even less of it.
    figure.effort = lambda budget: named(kind).effort(budget) | {
        "train": 512, "validation": 30, "test": 40, "s": [2.0, 0.8, 0.5], "seeds": [0],
        "recipe": paper["recipe"] | {"epochs": 1},
    }  # fmt: skip
    figure.line = lambda budget: "convmlp:depth=20,width=16,border=none"
    made = figure.compute("smoke", workers=1)
    sizes = [made["study"].attrs[f"{part}_images"] for part in ("train", "validation", "test")]
    assert sizes == [512, 30, 40] and np.isfinite(made["study"].test_accuracy).all()


# ------------------------------------------------------------------- Figure 8


def test_roughness_before_training_is_that_of_the_process_and_the_change_is_smooth():
    """Independent weights: index 0.5 within its error, sees 0.3; Adam's change is a trend."""
    figure = named("scaling_resnets/fig08")
    rough = figure.compute("smoke")["roughness"]
    before = rough.sel(part="before", case=["independent", "stable"])
    # 64 entries and 64 layers, two seeds: 128 paths, each index with a deviation below 0.25.
    assert_agrees(before.short, 0.5, 0.25 / 128**0.5, resolution=0.3)
    assert float(rough.short.sel(part="before", case="smooth")) > 0.95
    assert (rough.short.sel(part="change") > 0.9).all()
    exact = figure.predict("smoke")["initial"].structure
    np.testing.assert_allclose(exact.sel(case="stable"), exact.lag, rtol=1e-12)
    np.testing.assert_allclose(rough.structure.sel(part="before", case="independent") * 8,
                               exact.sel(case="independent"), rtol=0.5)  # fmt: skip
