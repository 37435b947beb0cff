"""The command plot: a result on disk to a picture on disk, or one clear error."""

import pytest

from sigprop import cli
from sigprop.result import save
from tests.synthetic import result


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A small result on disk."""
    import hashlib

    path = tmp_path_factory.mktemp("results") / "small.nc"
    made = result(depth=4, replicas=50)
    made = made[[name for name in made if "norm" in name]]
    made.attrs["digest"] = hashlib.sha256(made.attrs["ensemble"].encode()).hexdigest()
    save(made, {}, path)
    return path


MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("kind", MAGIC)
def test_a_picture_is_written_in_the_format_of_its_name(stored, tmp_path, capsys, kind):
    path = tmp_path / f"a.{kind}"
    assert cli.main(["plot", str(stored), "--out", str(path)]) == 0
    assert path.read_bytes().startswith(MAGIC[kind])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", MAGIC)
def test_the_same_result_gives_the_same_bytes(stored, tmp_path, kind):
    paths = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for path in paths:
        assert cli.main(["plot", str(stored), "--out", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_a_name_it_goes_beside_the_result(stored):
    assert cli.main(["plot", str(stored)]) == 0
    assert stored.with_suffix(".png").exists()
    stored.with_suffix(".png").unlink()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.gif", "a picture is written as .png, .pdf, .svg, got '.gif'"),
        ("a", "got 'no suffix'"),
        ("absent/a.png", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_clear_error(stored, tmp_path, capsys, name, says):
    assert cli.main(["plot", str(stored), "--out", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and says in said.err
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_refused_plainly(tmp_path, capsys):
    import sigprop
    from sigprop import Ensemble, Network, Point, Power

    sigprop.sweep(
        lambda beta: Ensemble(Network(depth=3, width=4), Power(beta=beta), Point()),
        {"beta": [0.4, 0.6]}, ["norm"], replicas=8, out=tmp_path / "sweep.nc",
    )  # fmt: skip
    assert cli.main(["plot", str(tmp_path / "sweep.nc")]) == 2
    assert "is a sweep" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.nc"]
