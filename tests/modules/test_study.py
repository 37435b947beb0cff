"""Studies: the learning rate is chosen on the validation part; a killed study ends the same."""

import dataclasses

import numpy as np
import pytest
import torch
import xarray as xr

from sigprop.errors import Interrupted, NonFinite, ResultError, SpecError
from sigprop.modules.architectures import architecture
from sigprop.modules.data import load_data
from sigprop.modules.study import Case, run_study
from sigprop.modules.train import Recipe, Seeds, train_network

torch.set_num_threads(1)

RECIPE = Recipe(epochs=2, batch=50)
CASES = {
    "shallow": Case(network="mlp:depth=1,width=10"),
    "deep": Case(network="mlp:depth=3,width=10,gain=.9"),
}
LRS, SEEDS = (0.003, 0.3, 1e30), (0, 4)


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", train=230)


@pytest.fixture(scope="module")
def whole(digits):
    return run_study(CASES, digits, RECIPE, lrs=LRS, seeds=SEEDS)


def test_every_run_is_that_of_the_trainer_alone(digits, whole):
    for case in CASES:
        for lr in LRS:
            for seed in SEEDS:
                seeds = Seeds.of(seed)
                network = architecture(CASES[case].network).build(digits.shape, seed=seeds.init)
                told = train_network(network, digits, dataclasses.replace(RECIPE, lr=lr), seeds)
                run = whole.sel(case=case, lr=lr, seed=seed)
                for name in ("train_loss", "validation_accuracy", "test_accuracy"):
                    np.testing.assert_array_equal(run[name], getattr(told, name))
                assert run.diverged_step == told.diverged_step


def test_the_learning_rate_is_chosen_on_the_validation_part(digits, whole):
    """Swapping the test part's labels changes nothing but what is told of the test."""
    for case in CASES:
        at_end = whole.sel(case=case).validation_accuracy.isel(epoch=-1).mean("seed")
        chosen = float(whole.chosen_lr.sel(case=case))
        assert chosen == LRS[at_end.values.argmax()]
        runs = whole.test_accuracy.sel(case=case, lr=chosen)
        told = whole.sel(case=case)
        np.testing.assert_allclose(told.accuracy_mean, runs.mean("seed"), rtol=1e-15)
        spread = runs.std("seed", ddof=1)
        np.testing.assert_allclose(told.accuracy_deviation, spread, rtol=1e-12)
        np.testing.assert_allclose(told.accuracy_mean_se, spread / 2**0.5, rtol=1e-12)
    wrong = dataclasses.replace(digits.test, labels=(digits.test.labels + 1) % 10)
    other = run_study(CASES, dataclasses.replace(digits, test=wrong), RECIPE, lrs=LRS, seeds=SEEDS)
    assert (other.test_accuracy != whole.test_accuracy).any()
    xr.testing.assert_identical(other.chosen_lr, whole.chosen_lr)
    xr.testing.assert_identical(other.train_loss, whole.train_loss)


def test_a_rate_that_diverges_is_told_and_not_chosen(whole):
    assert (whole.diverged_step.sel(lr=1e30) == 1).all()
    assert (whole.chosen_lr < 1).all() and (whole.diverged_fraction == 0).all()
    assert (whole.test_accuracy.sel(lr=1e30) == 0.1).all()


def test_a_killed_study_goes_on_and_ends_in_the_same_numbers(digits, whole, tmp_path):
    """Killed in the middle of its fourth run, then of its eighth; the tail of a record is cut."""
    journal, calls = tmp_path / "study.part", []

    def kill(at):
        def progress(done, total):
            assert total == 12 * RECIPE.epochs
            calls.append(done)
            if done == at:
                raise KeyboardInterrupt

        return progress

    for at, finished in ((7, 3), (13, 6)):
        with pytest.raises(Interrupted, match=f"{finished} of 12 runs; they stand in .*study.part"):
            run_study(
                CASES, digits, RECIPE, lrs=LRS, seeds=SEEDS, journal=journal, progress=kill(at)
            )
    journal.write_bytes(journal.read_bytes()[:-5])
    calls.clear()
    ended = run_study(
        CASES, digits, RECIPE, lrs=LRS, seeds=SEEDS, journal=journal, progress=kill(-1)
    )
    assert calls[0] == 10 and calls[-1] == 24  # five whole runs stood in the journal
    numbers = [name for name in whole if "seconds" not in str(name)]
    xr.testing.assert_identical(ended[numbers], whole[numbers])
    calls.clear()
    again = run_study(
        CASES, digits, RECIPE, lrs=LRS, seeds=SEEDS, journal=journal, progress=kill(-1)
    )
    xr.testing.assert_identical(again, ended)
    assert calls == [24]  # nothing was trained


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": dataclasses.replace(RECIPE, momentum=0.5)},
        {"seeds": (0, 5)},
        {"lrs": (0.003, 0.3)},
        {"cases": {"shallow": CASES["shallow"]}},
        {"cases": CASES | {"deep": Case(network="mlp:depth=3,width=10,gain=.8")}},
        {"threads": 2},
    ],
)
def test_a_journal_of_another_study_is_refused(digits, tmp_path, changed):
    journal = tmp_path / "study.part"
    cases = {name: dataclasses.replace(case, about={"a": 1}) for name, case in CASES.items()}
    asked = {"cases": cases, "recipe": RECIPE, "lrs": LRS, "seeds": SEEDS, "threads": 1}

    def begin(progress, **asked):
        cases, recipe = asked.pop("cases"), asked.pop("recipe")
        return run_study(cases, digits, recipe, journal=journal, progress=progress, **asked)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        begin(stop, **asked)
    with pytest.raises(Interrupted):  # of the same study: goes on
        begin(stop, **asked)
    with pytest.raises(ResultError, match="another study"):
        begin(stop, **asked | changed)


def test_a_network_is_prepared_before_it_is_trained_and_told_what_it_may_see(digits):
    seen = []

    def halve(network, data, seed):
        seen.append((data is digits, seed))
        with torch.no_grad():
            network[-1].weight.mul_(0.5)

    case = Case(network="mlp:depth=1,width=10", prepare=halve, about={"factor": 0.5})
    found = run_study({"halved": case}, digits, RECIPE, seeds=(4,))
    assert seen == [(True, Seeds.of(4).preparation)]
    network = architecture("mlp:depth=1,width=10").build(digits.shape, seed=Seeds.of(4).init)
    with torch.no_grad():
        network[-1].weight.mul_(0.5)
    told = train_network(network, digits, RECIPE, Seeds.of(4))
    np.testing.assert_array_equal(found.train_loss.squeeze(), told.train_loss)
    assert np.isnan(found.accuracy_mean_se).all()  # one seed has no spread


def test_a_network_whose_preparation_overflows_is_told_as_diverged(digits):
    def fail(network, data, seed):
        raise NonFinite("the norm is not finite in iteration 0.")

    cases = {"fails": Case(network="mlp:depth=1", prepare=fail), "other": CASES["shallow"]}
    found = run_study(cases, digits, RECIPE, lrs=LRS, seeds=(4, 5))
    fails, other = (found.sel(case=case) for case in cases)
    assert (fails.diverged_step == 0).all() and (fails.test_accuracy == 0.1).all()
    assert np.isnan(fails.train_loss).all() and fails.diverged_fraction == 1
    assert (other.sel(lr=0.3).diverged_step == -1).all()


def test_a_network_may_come_from_a_function(digits):
    line = architecture("mlp:depth=1,width=10")
    by_hand = Case(network=lambda seed: line.build((1, 8, 8), seed=seed), about={"of": str(line)})
    found = run_study({"by line": CASES["shallow"], "by hand": by_hand}, digits, RECIPE, seeds=(1,))
    losses = found.train_loss.squeeze(["lr", "seed"])
    np.testing.assert_array_equal(losses.sel(case="by line"), losses.sel(case="by hand"))


def test_a_result_says_how_it_was_made(whole):
    import json

    told = json.loads(whole.attrs["study"])
    assert told["recipe"]["epochs"] == 2 and told["recipe"]["lr"] == list(LRS)
    assert told["cases"]["deep"]["network"].startswith("mlp:depth=3,width=10,gain=0.9")
    assert told["seeds"] == list(SEEDS) and len(told["data"]["digest"]) == 64
    assert "torch" in json.loads(whole.attrs["software"])
    for variable in whole.variables.values():
        assert variable.attrs["long_name"]


def test_the_number_of_threads_is_as_before_afterwards(digits):
    before = torch.get_num_threads()
    run_study({"a": CASES["shallow"]}, digits, RECIPE, seeds=(1,), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"seeds": ()}, "seeds must be one or more"),
        ({"seeds": (1, 1)}, "different"),
        ({"lrs": ()}, "lrs must be"),
        ({"cases": {}}, "cases must be"),
        ({"cases": {"a": Case(network="mlp", about={"f": print})}}, "plain values"),
        ({"recipe": Recipe(batch=231)}, "cannot be filled"),
        ({"lrs": (0.1, -1.0)}, "lr must be"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_before_any_work(digits, tmp_path, asked, says):
    given = {"cases": CASES, "recipe": RECIPE} | asked
    cases, recipe = given.pop("cases"), given.pop("recipe")
    journal = tmp_path / "j"
    with pytest.raises(SpecError, match=says):
        run_study(cases, digits, recipe, journal=journal, **given)
    assert not journal.exists()


def test_rates_are_not_chosen_on_the_test():
    with pytest.raises(SpecError, match="validation part is empty"):
        run_study(CASES, load_data("digits", validation=0), RECIPE, lrs=LRS)
