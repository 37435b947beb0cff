"""Words of a command line become the law that they mean, or one error that helps."""

import numpy as np
import pytest

from sigprop import options
from sigprop.errors import SigpropError, SpecError, UnknownName, Unsupported

OWN = ["--depth", "--scheme", "--width"]


def law(members=None, **asked):
    names = (
        *("depth", "width", "widths", "block", "inner_layers", "inner_width"),
        *("scheme", "activation", "law", "inputs", "cosine"),
    )
    given = {name: None for name in names} | {"depth": 4, "scheme": "he", "width": 3} | asked
    return options.ensemble(given, members or {}, OWN)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("0,10,500", [0, 10, 500]),
        ("500, 0 ,500", [0, 500]),
        ("0:10:5", [0, 5, 10]),
        ("0:10:4", [0, 4, 8, 10]),
        ("3:5", [3, 4, 5]),
        ("0:4:2,9", [0, 2, 4, 9]),
    ],
)
def test_layers(text, meant):
    assert options.layers("--layers", text) == meant


@pytest.mark.parametrize("text", ["", "a", "1:2:3:4", "5:1", "0:9:0", "1.5", ","])
def test_layers_that_make_no_sense(text):
    with pytest.raises(SpecError, match="--layers must be layers such as"):
        options.layers("--layers", text)


@pytest.mark.parametrize("text", ["", "a,1", "1;2"])
def test_numbers_that_are_none(text):
    with pytest.raises(SpecError, match="--orders must be numbers"):
        options.numbers("--orders", text)


def test_options_of_members_come_as_pairs_or_with_an_equals_sign():
    found = options.extra(["--beta", "0.5", "--skip=-1,2", "--variant", "unscaled"], OWN)
    assert found == {"beta": 0.5, "skip": (-1, 2), "variant": "unscaled"}


@pytest.mark.parametrize("words", [["--beta"], ["--beta", "--skip", "1"]])
def test_an_option_without_a_value(words):
    with pytest.raises(SpecError, match="--beta needs a value"):
        options.extra(words, OWN)


def test_a_word_alone():
    with pytest.raises(SpecError, match="'word' stands alone"):
        options.extra(["word"], OWN)


def test_defaults_are_a_pair_and_the_block_of_the_scheme():
    made = law(scheme="nf")
    assert made.inputs.kind == "pair" and made.inputs.cosine == 0.5
    assert made.network.block == "preact" and made.network.phi.kind == "relu"


def test_every_member_gets_its_own_options():
    made = law(
        {"beta": 0.25, "slope": 0.1, "dof": 5, "bias_variance": 0.5, "skip": (1, 2, 3, 4)},
        scheme="power",
        activation="leaky_relu",
        law="student_t",
        inputs="point",
    )
    assert (made.scheme.beta, made.scheme.bias_variance) == (0.25, 0.5)
    assert made.scheme.skip == (1, 2, 3, 4)
    assert made.network.phi.slope == 0.1
    assert made.scheme.law.dof == 5
    assert made.inputs.kind == "point"


def test_processes_get_their_options_and_the_inner_one_has_its_own():
    made = law({"hurst": 0.7}, process="fgn")
    assert made.scheme.process.hurst == 0.7 and made.scheme.inner_process is None
    made = law({"hurst": 0.7}, process="fgn", inner_process="independent")
    assert [p.kind for p in made.table.processes] == ["independent", "fgn"]
    both = {"hurst": 0.7, "inner_hurst": 0.2, "beta": 0.5}
    made = law(both, scheme="power", process="fgn", inner_process="fgn")
    assert [p.hurst for p in made.table.processes] == [0.2, 0.7]
    made = law({"inner_bandwidth": 0.1}, inner_process="rbf")
    assert [p.kind for p in made.table.processes] == ["rbf", "independent"]


def test_a_covariance_from_a_file(tmp_path):
    path = tmp_path / "covariance.npy"
    np.save(path, np.ones((4, 4)) + np.eye(4))
    made = law(process=str(path), inner_process="tied")
    assert made.scheme.process.kind == "covariance"
    np.testing.assert_array_equal(made.scheme.process.covariance(4), np.ones((4, 4)) + np.eye(4))


def test_equiangular_inputs():
    made = law({}, inputs="equiangular", count=3, cosine=0.25)
    assert (made.inputs.kind, made.inputs.count, made.inputs.cosine) == ("equiangular", 3, 0.25)
    assert law(width=10, inputs="equiangular").inputs.count == 10


def test_widths_imply_depth_and_block():
    made = law(depth=None, width=None, widths=[6, 5, 8])
    assert (made.network.depth, made.network.block) == (2, "plain")
    assert list(made.network.state_widths) == [6, 5, 8]


def test_inputs_from_a_file(tmp_path):
    path = tmp_path / "inputs.npy"
    np.save(path, np.arange(6.0).reshape(2, 3) + 1)
    assert law(inputs=str(path)).inputs.count == 2


@pytest.mark.parametrize(
    ("asked", "members", "error", "says"),
    [
        ({"scheme": None}, {}, SpecError, "no scheme was given"),
        ({"depth": None}, {}, SpecError, "no depth was given"),
        ({"widths": [3, 3, 3, 3, 3]}, {}, SpecError, "leave out --width"),
        ({"scheme": "hee"}, {}, UnknownName, "Did you mean 'he'"),
        ({"activation": "rleu"}, {}, UnknownName, "Did you mean 'relu'"),
        ({"law": "gausian"}, {}, UnknownName, "Did you mean 'gaussian'"),
        ({"inputs": "pont"}, {}, UnknownName, "Did you mean 'point'"),
        ({"inputs": "missing.npy"}, {}, SpecError, "cannot be read as a NumPy array"),
        ({"inputs": "point", "cosine": 0.1}, {}, SpecError, "angle of a pair"),
        ({"count": 3}, {}, SpecError, "--count is the number of equiangular inputs"),
        ({"process": "fng"}, {}, UnknownName, "Did you mean 'fgn'"),
        ({"process": "fgn"}, {}, SpecError, "no default for --hurst"),
        ({"inner_process": "fgn"}, {}, SpecError, "no default for --inner-hurst"),
        ({"inner_process": "fgn"}, {"hurst": 0.5}, UnknownName, "Did you mean '--inner-hurst'"),
        ({"process": "fgn"}, {"hurst": 1.5}, SpecError, "hurst must be a number in"),
        ({"process": "missing.npy"}, {}, SpecError, r"--process missing\.npy cannot be read"),
        ({"process": "tied", "law": "uniform"}, {}, Unsupported, "Use law 'gaussian'"),
        ({"scheme": "power"}, {}, SpecError, "no default for --beta"),
        ({"scheme": "power"}, {"bta": 1}, UnknownName, "Did you mean '--beta'"),
        ({}, {"wdth": 1}, UnknownName, "Did you mean '--width'"),
        ({}, {"law": "uniform"}, UnknownName, "--law is no option"),
        ({"scheme": "power"}, {"beta": "half"}, SpecError, "beta must be a number"),
        ({"scheme": "fixup", "block": "plain"}, {}, Unsupported, "not defined for block"),
    ],
)
def test_what_makes_no_law_is_refused(asked, members, error, says):
    with pytest.raises(error, match=says) as caught:
        law(members, **asked)
    assert isinstance(caught.value, SigpropError) and caught.value.exit_status == 2


def test_an_array_that_needs_pickle_is_refused(tmp_path):
    path = tmp_path / "inputs.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(SpecError, match="cannot be read as a NumPy array"):
        law(inputs=str(path))


def test_a_law_beside_an_earlier_result_is_refused():
    with pytest.raises(SpecError, match="--depth, --beta would change it"):
        options.refuse_beside_source({"depth": 3, "width": None}, {"beta": 1})
