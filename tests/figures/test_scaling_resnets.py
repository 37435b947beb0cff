"""Figures of the scaling paper: their numbers against known ones, their pictures, their files."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from figures._base import BUDGETS, Figure, named, obtain
from figures.scaling_resnets import critical_exponents
from sigprop import cli
from sigprop.errors import StorageError, UnknownName
from tests.stat import assert_agrees

NAMES = sorted(Figure.family) if named("scaling_resnets/fig01") else []
SOURCES = {
    "scaling_resnets": "Marion, Fermanian, Biau and Vert (2022)",
    "dynamical_isometry": "Gadhikar and Burkholz (2022)",
    "fractional_moments": "Gurbuzbalaban and Hu",
    "gradinit": "Zhu et al. (2021)",
}


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    """What a figure is drawn from at the smoke budget, made once."""
    made = {}

    def of(name):
        if name not in made:
            path = tmp_path_factory.mktemp("figures") / "numbers.nc"
            made[name], standing = obtain(named(name), "smoke", path, workers=2)
            assert not standing
            again, standing = obtain(named(name), "smoke", path)
            assert standing  # what is drawn below has been on disk
            made[name] = again
        return made[name]

    return of


# --------------------------------------------------------------- every figure


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_a_pure_function_of_its_numbers(name, content):
    numbers = content(name)
    kept = {
        role: {k: v.copy(deep=True) for k, v in vars(numbers)[role].items()}
        for role in ("results", "predictions")
    }
    before = dict(mpl.rcParams)
    picture = named(name).draw(numbers.results, numbers.predictions)
    assert dict(mpl.rcParams) == before
    for role, datasets in kept.items():
        for key, data in datasets.items():
            assert data.identical(vars(numbers)[role][key])
    assert isinstance(picture, mpl.figure.Figure)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_can_be_read_alone(name, content):
    numbers = content(name)
    picture = named(name).draw(numbers.results, numbers.predictions)
    panels = [axes for axes in picture.axes if axes.get_visible()]
    assert all(axes.get_xlabel() or axes.get_ylabel() for axes in panels)
    words = " ".join(text.get_text() for text in picture.texts)
    assert SOURCES.get(name.partition("/")[0], "") in words  # figures of modules have no paper
    assert len(picture.texts[0].get_text()) > 20  # a title that says what is seen
    assert picture.legends or any(axes.get_legend() for axes in panels)
    width, height = picture.get_size_inches() * picture.dpi
    drawn = picture.get_tightbbox().transformed(picture.dpi_scale_trans)
    assert drawn.x1 <= width and drawn.y1 <= height and drawn.x0 >= 0 and drawn.y0 >= 0


@pytest.mark.parametrize("name", NAMES)
def test_every_prediction_says_how_far_it_can_be_trusted(name, content):
    for data in content(name).predictions.values():
        assert data.data_vars
        for variable in data.data_vars.values():
            assert variable.attrs["status"] in {"exact", "limit", "approximation", "conjecture"}


@pytest.mark.parametrize("name", NAMES)
def test_every_budget_has_an_effort_and_the_file_names_it(name):
    figure = named(name)
    assert set(figure.efforts) == set(BUDGETS)
    assert figure.title and figure.kind == name
    with pytest.raises(UnknownName, match=r"'drft' is not a budget. Did you mean 'draft'\?"):
        figure.effort("drft")


# ------------------------------------------------------------------- numbers

DEPTHS = [10, 120, 450, 1000]
# Means of 60,000 to a million networks, to the digits given.
KNOWN = {
    1.0: [0.2244, 0.0642, 0.0331, 0.0222],
    0.25: [1.788, 13.57, 165.9, 2.09e3],
    0.5: [0.7834, 0.7959, 0.797, 0.797],
}


@pytest.mark.parametrize("name", ["scaling_resnets/fig01", "scaling_resnets/fig03"])
def test_figures_1_and_3_have_the_known_means(name, content):
    """Fires by chance once in a million; sees 9% at the stable scaling, 40% in the explosion."""
    numbers = content(name)
    quantity = named(name).quantity
    measured = numbers.results["ratio"].isel(process=0).sel(depth=DEPTHS, order=1)
    theory = numbers.predictions["ratio"].isel(process=0).sel(depth=DEPTHS)
    for beta, resolution in ((1.0, 0.07), (0.25, 0.4), (0.5, 0.09)):
        mean = np.exp(measured[f"{quantity}_moment_log"].sel(beta=beta))
        exact = theory.sel(beta=beta)
        relative = np.sqrt((exact.root_mean_square / exact["mean"]) ** 2 - 1)
        se = relative / np.sqrt(measured.attrs["replicas"])
        known = np.array(KNOWN[beta])
        assert_agrees(mean / known, 1.0, se, resolution=resolution)
        # The approximate mean, by itself: the digits given, and their error.
        np.testing.assert_allclose(exact["mean"], known, rtol=3e-3)


def test_figure_2_is_log_normal(content):
    """Fires by chance twice in a million; sees 0.02 in the mean of the log, 35% in its variance."""
    numbers = content("scaling_resnets/fig02")
    law = numbers.predictions["norms"].attrs
    assert law["log_mean"] == pytest.approx(0.245, abs=2e-4)  # of order 1 / depth
    assert law["log_variance"] == pytest.approx(1 / 200, rel=1e-3)
    measured = numbers.results["norms"].isel(input=0)
    n = measured.attrs["replicas"]
    for name, layer in (("norm", 1000), ("gradient", 0)):
        at = measured.sel(layer=layer)
        error = np.sqrt(law["log_variance"] / n)
        assert_agrees(at[f"log_{name}_mean"], law["log_mean"], error, resolution=0.02)
        ratio = at[f"log_{name}_variance"] / law["log_variance"]
        assert_agrees(ratio, 1.0, np.sqrt(2 / n), resolution=0.35)
    density = numbers.predictions["norms"]["density"]
    assert float(density.integrate("ratio")) == pytest.approx(1.0, abs=1e-4)
    assert float((density * density.ratio).integrate("ratio")) == pytest.approx(1.281, abs=1e-3)


# At beta = 1 and L = 1000: mean of many networks. The ratio of one network varies by 15%.
SMOOTH = {
    "scaling_resnets/fig04": {"rbf": 0.307, "legacy_rbf": 0.201},
    "scaling_resnets/fig05": {"rbf": 0.269, "legacy_rbf": 0.2125},
}


@pytest.mark.parametrize("name", SMOOTH)
def test_figures_4_and_5_have_the_known_values(name, content):
    """Fires by chance once in a million; sees 40%, where the two processes differ by more."""
    numbers = content(name)
    top = {"beta": 1.0, "depth": 1000}
    measured = numbers.results["ratio"].sel(order=1, **top)
    theory = numbers.predictions["ratio"].sel(top)
    n = measured.attrs["replicas"]
    for process, known in SMOOTH[name].items():
        mean = float(np.exp(measured[f"{named(name).quantity}_moment_log"].sel(process=process)))
        assert_agrees(mean / known, 1.0, 0.155 / np.sqrt(n), resolution=0.4)
        # A mean lies below its root mean square by half the relative variance, 1%; and the
        # known values have an error of 1%.
        limit = float(theory["root_mean_square"].sel(process=process))
        assert limit == pytest.approx(known * 1.01, rel=0.02)


def test_figure_4_explodes_as_known_and_falls_as_known(content):
    """Fires by chance twice in a million; sees 1.7 decades of seven, and 40%."""
    numbers = content("scaling_resnets/fig04")
    measured = numbers.results["ratio"]
    n = measured.attrs["replicas"]
    deep = measured.sel(beta=0.5, depth=1000).log_displacement_mean / np.log(10)
    # Medians of 10^7.37 and 10^5.95, each known to 0.08; networks vary by 0.7 decades.
    assert_agrees(deep, [7.37, 5.95], np.hypot(0.7 / np.sqrt(n), 0.08), resolution=2.0)
    still = np.exp(measured.sel(beta=2.0, depth=10, order=1).displacement_moment_log)
    assert_agrees(still / [0.0303, 0.0209], 1.0, 0.145 / np.sqrt(n), resolution=0.4)


def test_figure_6_adds_up_increments_and_shows_the_known_error(content):
    paths = content("scaling_resnets/fig06").results["paths"]
    np.testing.assert_allclose(paths.motion.diff("layer"), paths.noise[..., 1:], atol=1e-12)
    # The error alternates: it is the mean of (-1)^k times the noise, which is 0 for the right law.
    alternating = paths.noise * (-1) ** paths.layer
    published = np.abs(alternating.mean("layer")).sel(process="legacy_fgn(0.97)")
    right = np.abs(alternating.mean("layer")).sel(process="fgn(0.97)")
    assert float(published.max()) > 0.3 > 0.05 > float(right.max())


# H, and the zero contour of the mean field at depth 1000, forward and backward.
CONTOUR = np.array([
    [0.05, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97],
    [0.466, 0.460, 0.457, 0.476, 0.525, 0.604, 0.700, 0.814, 0.913],
    [0.486, 0.483, 0.479, 0.476, 0.479, 0.499, 0.576, 0.736, 0.882],
])  # fmt: skip


def test_figure_7_has_the_known_contour_and_networks_lie_on_it(content):
    numbers = content("scaling_resnets/fig07")
    theory = numbers.predictions["contour"]
    np.testing.assert_array_equal(theory.hurst, CONTOUR[0])
    for quantity, known in zip(("displacement", "gradient_displacement"), CONTOUR[1:]):
        contour = theory[f"{quantity}_right"]
        np.testing.assert_allclose(contour, known, atol=6e-4)  # three digits
        ratio = numbers.results["ratio"][f"log_{quantity}_mean"].mean("input") / np.log(10)
        # Networks of width 40 leave the limit by O(1 / 40), and vary: 0.15 above and below the
        # contour, where the ratio is a third of a decade away, there is no doubt.
        assert (ratio.interp(beta=contour + 0.15) < 0).all()
        assert (ratio.interp(beta=contour - 0.15) > 0).all()
    # The error of the published code moves the forward contour up, at large H only.
    moved = theory.displacement_published - theory.displacement_right
    assert abs(moved.sel(hurst=[0.05, 0.5, 0.7])).max() < 0.003 < 0.01 < moved.sel(hurst=0.97)


EXPONENT = {
    "state": lambda h: np.maximum(0.5, h),
    "gradient": lambda h: np.maximum(0.5, 2 * h - 1),
    "res1": lambda h: np.maximum(h, 0.25),
}


def test_exponents_of_networks_and_of_the_mean_field_are_those_predicted(content):
    """Fires by chance five times in a million; sees what the declared resolutions say."""
    numbers = content("scaling_resnets/critical_exponents")
    for case, resolution in (("state", 0.5), ("gradient", 0.6), ("res1", 0.6)):
        measured, theory = numbers.results[case], numbers.predictions[case]
        quantity = "gradient_displacement" if case == "gradient" else "displacement"
        predicted = EXPONENT[case](measured.hurst.values)
        np.testing.assert_allclose(theory.critical, EXPONENT[case](theory.fine_hurst))
        for h, beta, critical in zip(measured.hurst, measured.beta, measured.critical):
            row = measured.sel(hurst=h)
            log, error = (row[f"log_{quantity}_mean{end}"].values for end in ("", "_se"))
            slope, _ = np.polyfit(np.log(row.depth), log, 1, w=1 / error)
            assert float(critical - beta) == pytest.approx(slope, abs=1e-9)
        # Depths are small: the shift of a finite depth comes on top, up to 0.07.
        se = np.hypot(measured.critical_se, 0.07 / 3)
        assert_agrees(measured.critical, predicted, se, resolution=resolution)
        deepest = theory.crossing.isel(depths=-1)
        np.testing.assert_allclose(deepest, predicted, atol=0.05)
        nearest = theory.crossing.isel(depths=0)
        assert abs(deepest - predicted).max() <= abs(nearest - predicted).max() + 1e-3


def test_one_step_finds_the_crossing_of_dear_depths(monkeypatch):
    """Where the mean field is dear, Newton's step stands for the root; the figure reads 0.005."""
    figure = named("scaling_resnets/critical_exponents")
    assert max(map(max, figure.effort("paper")["theory_depths"])) == 100_000
    for case, hurst in (("state", 0.75), ("gradient", 0.9), ("res1", 0.1)):
        roots = figure._crossings("smoke", case, hurst)
        with monkeypatch.context() as patch:
            patch.setattr(critical_exponents, "_CHEAP", 300)
            steps = figure._crossings("smoke", case, hurst)
        assert steps[0] == roots[0]
        assert steps[1] == pytest.approx(roots[1], abs=1e-3)
        # The step is needed: the pair before is farther off.
        assert case == "res1" or abs(roots[0] - roots[1]) > 4e-3


def test_networks_of_the_phase_diagram_grow_and_shrink_as_predicted(content):
    """Away from a boundary by 0.2 nothing is in doubt, whatever the seed."""
    numbers = content("scaling_resnets/phase_diagram")
    for case, block, quantity in (
        ("state", "res3", "displacement"),
        ("gradient", "res3", "gradient_displacement"),
        ("res1", "res1", "displacement"),
    ):
        log = numbers.results[block][f"log_{quantity}_mean"]
        change = log.isel(depth=-1) - log.isel(depth=0)
        critical = EXPONENT[case](change.hurst)
        drawn = numbers.predictions["critical"][case]
        np.testing.assert_allclose(drawn, EXPONENT[case](drawn.hurst))
        assert (change.where(change.beta > critical + 0.2, -1.0) < 0).all()
        if case != "res1":  # at small H a narrow network of this block does not explode
            assert (change.where(change.beta < critical - 0.2, 1.0) > 0).all()


# ------------------------------------------------------------- command, files


def test_the_list_names_every_figure(capsys):
    assert cli.main(["figure", "--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == NAMES and "scaling_resnets/fig07" in listed


FIG06 = ["figure", "scaling_resnets/fig06", "--budget", "smoke"]


def test_numbers_stand_beside_the_picture_and_are_used_again(tmp_path, capsys):
    assert cli.main([*FIG06, "--out", str(tmp_path)]) == 0
    folder = tmp_path / "scaling_resnets"
    assert {p.name for p in folder.iterdir()} == {"fig06.smoke.nc", "fig06.smoke.png"}
    said = capsys.readouterr()
    assert said.out == f"wrote {folder / 'fig06.smoke.png'}\n" and not said.err
    before = (folder / "fig06.smoke.nc").stat().st_mtime_ns
    first = (folder / "fig06.smoke.png").read_bytes()
    assert cli.main([*FIG06, "--out", str(tmp_path)]) == 0
    assert "holds the numbers already" in capsys.readouterr().err
    assert (folder / "fig06.smoke.nc").stat().st_mtime_ns == before
    assert (folder / "fig06.smoke.png").read_bytes() == first
    assert cli.main([*FIG06, "--out", str(tmp_path), "--force", "--format", "svg"]) == 0
    assert (folder / "fig06.smoke.nc").stat().st_mtime_ns > before
    assert (folder / "fig06.smoke.svg").exists()


def test_damaged_or_foreign_numbers_are_computed_again(tmp_path):
    figure, path = named("scaling_resnets/fig06"), tmp_path / "numbers.nc"
    made, _ = obtain(figure, "smoke", path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no netCDF"):
        path.write_bytes(damaged)
        again, standing = obtain(figure, "smoke", path)
        assert not standing
        assert all(again.results[k].identical(v) for k, v in made.results.items())
    xr.Dataset({"x": 1}).to_netcdf(path, engine="h5netcdf")
    assert not obtain(figure, "smoke", path)[1]
    assert obtain(figure, "smoke", path)[1]
    type(figure).version += 1
    try:
        assert not obtain(figure, "smoke", path)[1]  # another computation, not the same numbers
    finally:
        type(figure).version -= 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_is_said_before_any_work(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    figure = named("scaling_resnets/fig06")
    monkeypatch.setattr(type(figure), "compute", lambda *_: pytest.fail("it worked first"))
    with pytest.raises(StorageError, match=r"cannot be written: .*--out DIR"):
        obtain(figure, "smoke", blocked / "numbers.nc")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fig07"], "'fig07' is not a figure. Did you mean 'scaling_resnets/fig07'?"),
        (["fig02"], "Did you mean 'fractional_moments/fig02' or 'scaling_resnets/fig02'?"),
        (["scaling_resnet/fig02"], "Did you mean 'scaling_resnets/fig02'?"),
        (["scaling_resnets/fig99"], "Known: dynamical_isometry/"),
        ([], "no figure was named. See sigprop figure --list"),
        (["scaling_resnets/fig02", "--budget", "cheap"], "budget"),
        (["scaling_resnets/fig02", "--workers", "-1"], "workers"),
    ],
)
def test_a_wrong_word_is_one_clear_error(words, says, capsys, tmp_path):
    assert cli.main(["figure", *words, "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
