"""A case that begins with an initialiser: the same weights as a call, and what is refused."""

import doctest
import importlib

import pytest
import torch

from sigprop.errors import SpecError, UnknownName
from sigprop.modules import Recipe, Seeds, architecture, init, initialised, load_data, run_study

LINE = "resnet:stages=2,blocks=1,widths=4/6,norm=none,shortcut=everywhere,alpha=1"


@pytest.fixture(scope="module")
def data():
    return load_data("digits", train=64)


def test_examples_are_true():
    found = doctest.testmod(importlib.import_module("sigprop.modules.initialised"))
    assert found.attempted and not found.failed


def test_a_case_is_the_call_of_its_scheme_with_the_seed_of_preparation(data):
    before = torch.get_rng_state()
    case = initialised(LINE, "risotto", alpha=0.5, lossy=True)
    made = case.made(data, seed=7)
    case.prepare(made, data, 11)
    called = architecture(LINE).build(data.shape, seed=7)
    images, _ = data.train.take(slice(0, 3))  # whichever images: only their shape matters
    draws = torch.Generator().manual_seed(11)
    init.risotto_(called, images, alpha=0.5, lossy=True, generator=draws)
    state = called.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
    assert torch.equal(before, torch.get_rng_state())
    other = case.made(data, seed=7)
    case.prepare(other, data, 12)
    assert not torch.equal(other[0].weight, made[0].weight)
    assert case.told()["about"] == {"scheme": "risotto", "options": {"alpha": 0.5, "lossy": True}}


def test_a_study_trains_from_it(data):
    recipe = Recipe(lr=0.05, momentum=0.9, epochs=1, batch=32)
    cases = {name: initialised(LINE, name) for name in ("fixup", "skipinit")}
    found = run_study(cases, data, recipe, seeds=[5])
    fixup = initialised(LINE, "fixup")
    network, seeds = fixup.made(data, Seeds.of(5).init), Seeds.of(5)
    fixup.prepare(network, data, seeds.preparation)
    with torch.no_grad():
        output = network(data.train.images)
    assert not output.any()  # its classifier is 0: the loss of the first step is log 10
    assert float(found.train_loss.sel(case="fixup").max()) < 2.4


def test_what_is_no_scheme_or_option_is_refused():
    with pytest.raises(
        UnknownName, match=r"'fixpu' is not a scheme for modules. Did you mean 'fixup'"
    ):
        initialised(LINE, "fixpu")
    with pytest.raises(SpecError, match=r"risotto_ has no option 'alhpa'. Did you mean 'alpha'"):
        initialised(LINE, "risotto", alhpa=1.0)
    with pytest.raises(SpecError, match="no option 'generator'"):
        initialised(LINE, "he", generator=None)
