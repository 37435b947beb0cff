"""The command spectrum: a table, one sentence, theory beside, a file and a picture."""

import json

import numpy as np
import pytest
import xarray as xr

from analysis.spectra import densities
from figures.gallery.spectra import draw
from sigprop import cli
from sigprop.inputs import Point
from sigprop.schemes import He, Power
from sigprop.simulate import simulate
from sigprop.spec import Ensemble, Network
from sigprop.spectral_report import spectral_sentence


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main(list(words))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_spectrum_prints_a_table_a_sentence_and_theory_and_writes_both_files(run, tmp_path):
    words = ("--scheme", "power", "--beta", "0.5", "--depth", "6", "--width", "12")
    status, out, err = run(
        "spectrum", *words, "--replicas", "4", "--layers", "3,6", "--out", "s.nc", "--plot", "s.png"
    )
    assert status == 0
    assert "condition  max|s-1|" in out and "At layer 6 the Jacobian has condition number" in out
    assert "Theory at layer 6" in out and "singular_zero_fraction" in out and "exact" in out
    assert "wrote s.nc" in err and "wrote s.png" in err
    assert (tmp_path / "s.png").stat().st_size > 5000
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as result:
        assert result.sizes["singular_bin"] == 321 and result.sizes["layer"] == 2
    status, out, _ = run("plot", "s.nc", "--out", "t.png")
    assert status == 0 and (tmp_path / "t.png").read_bytes() == (tmp_path / "s.png").read_bytes()
    status, out, _ = run("show", "s.nc")
    assert status == 0 and "condition number" in out


def test_spectrum_says_that_a_risotto_network_is_an_isometry(run):
    words = ("--scheme", "risotto", "--depth", "8", "--width", "6", "--replicas", "2")
    status, out, _ = run("spectrum", *words, "--layers", "8")
    assert status == 0 and "the Jacobian is an isometry: every singular value is 1 to" in out


def test_spectrum_by_lanczos_prints_estimates_and_writes_them(run, tmp_path):
    words = ("--scheme", "power", "--beta", "0.5", "--depth", "4", "--width", "30")
    lanczos = ("--method", "lanczos", "--probes", "3", "--steps", "8", "--replicas", "3")
    status, out, err = run("spectrum", *words, *lanczos, "--out", "l.nc")
    assert status == 0 and "3 directions, 8 steps" in out and "singular_mean_square" in out
    with xr.open_dataset(tmp_path / "l.nc", engine="h5netcdf") as found:
        assert found.singular_density.dims == ("singular_bin",)
    status, _, err = run("spectrum", *words, *lanczos, "--plot", "l.png")
    assert status == 2 and "--plot draws an exact spectrum" in err


def test_schemes_stand_side_by_side_with_their_condition_numbers(run):
    words = ("--scheme", "he,risotto", "--block", "projection", "--depth", "3", "--width", "8")
    status, out, _ = run("sweep", *words, "--observe", "spectrum", "--replicas", "3")
    assert status == 0 and "condition" in out
    risotto = next(line for line in out.splitlines() if line.startswith("risotto"))
    assert " 1 " in f"{risotto} "


def test_spectrum_in_json_is_nothing_but_that(run):
    words = ("--scheme", "he", "--depth", "2", "--width", "4", "--replicas", "2")
    status, out, _ = run("spectrum", *words, "--format", "json")
    assert status == 0 and "singular_density" in json.dumps(json.loads(out))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--depth", "3"), "no scheme was given"),
        (("--scheme", "he", "--depth", "3", "--width", "20000"), "A width of about 7253 would fit"),
        (("--scheme", "he", "--depth", "3", "--bins", "2"), "bins must be an integer"),
        (("--scheme", "he", "--depth", "3", "--plot", "s.gif"), "picture"),
        (("--scheme", "risotto", "--depth", "3", "--width", "7"), "even width"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(run, words, says):
    status, out, err = run("spectrum", *words)
    assert status == 2 and says in err and not out


def test_the_sentence_says_what_is_lost():
    plain = Ensemble(Network(depth=4, width=8, block="plain"), He(), Point())
    said = spectral_sentence(simulate(plain, "spectrum", replicas=8, layers=[4]))
    assert "is singular" in said and "of the directions are lost for good" in said


def test_the_density_that_is_drawn_has_all_of_the_mass():
    law = Ensemble(Network(depth=8, width=20), Power(beta=0.5), Point())
    theory = densities(law, [4, 8])
    for layer in (4, 8):
        here = theory.sel(layer=layer)
        mass = np.trapezoid(here.density, here.log_singular)
        assert mass == pytest.approx(1 - float(here.atom), abs=2e-3)
    result = simulate(law, "spectrum", replicas=4, layers=[4, 8])
    assert len(draw(result, theory).axes) == 3
    assert densities(Ensemble(Network(depth=3, width=6, block="identity"), He()), [3]) is None
