"""The command train: what it prints and writes, what it refuses, how it goes on."""

import json
import sys

import pytest
import torch
import xarray as xr

from sigprop import cli
from tests.own_module import OWN

torch.set_num_threads(1)

SHORT = ("train", "--model", "resmlp:depth=3,width=9,block=res3", "--epochs", "1", "--runs", "2")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_schemes_stand_beside_one_another_and_rates_are_chosen(run, tmp_path):
    words = (*SHORT, "--scheme", "own,fixup", "--lr", "0.0001,0.3", "--out", "r.nc")
    status, out, err = run(*words)
    assert status == 0 and err == "wrote r.nc\n"
    assert [path.name for path in tmp_path.iterdir()] == ["r.nc"]
    with xr.open_dataset("r.nc", engine="h5netcdf") as result:
        assert result.case.values.tolist() == ["own", "fixup"]
        assert (result.chosen_lr == 0.3).all()
        assert result.test_accuracy.sizes == {"case": 2, "lr": 2, "seed": 2, "epoch": 1}
        # Fixup's classifier is 0, so that its first losses are those of chance, and the rest follow
        assert not result.train_loss.sel(case="own").equals(result.train_loss.sel(case="fixup"))
        for case in ("own", "fixup"):
            last = result.sel(case=case).isel(epoch=-1)
            told = f"{float(last.accuracy_mean):.4f} ± {float(last.accuracy_mean_se):.4f}"
            assert told in out
    assert run(*words, "--force")[1] == out


def test_a_run_that_stands_finished_is_shown_and_anything_else_is_left_as_it_is(run, tmp_path):
    words = (*SHORT, "--out", "r.nc")
    _, out, _ = run(*words)
    before = (tmp_path / "r.nc").read_bytes()
    status, again, err = run(*words)
    assert (status, again) == (0, out) and "r.nc holds this already" in err
    assert run(*words, "--resume")[:2] == (0, out)
    for other, says in (
        (("--lr", "0.2"), "rate 0.1 would be lost"),
        (("--epochs", "2", "--resume"), "in its epochs"),
        (("--lr", "0.1,0.2", "--resume"), "several rates take a validation part"),
        (("--runs", "1", "--resume"), "seed 1 would be lost"),
        (("--runs", "3"), "without seed 2"),
        (("--resume", "--force"), "Give one of the two"),
    ):
        status, out, err = run(*words, *other)
        assert (status, out) == (2, "") and says in err
    assert (tmp_path / "r.nc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.nc"]
    status, out, err = run(*SHORT, "--resume")
    assert status == 2 and "no --out was given" in err


def test_what_is_added_by_resume_is_what_one_run_would_have_made(run, monkeypatch):
    import sigprop.modules.study as study

    run(*SHORT, "--runs", "1", "--out", "r.nc")
    train, calls = study.train_network, []
    monkeypatch.setattr(study, "train_network", lambda *a, **k: calls.append(1) or train(*a, **k))
    whole = (*SHORT, "--runs", "2", "--scheme", "fixup,own")
    assert run(*whole, "--out", "r.nc", "--resume")[0] == 0
    assert len(calls) == 3  # of four: the first stood there
    run(*whole, "--out", "s.nc")
    with (
        xr.open_dataset("r.nc", engine="h5netcdf") as grown,
        xr.open_dataset("s.nc", engine="h5netcdf") as once,
    ):
        timed = ["seconds", "preparation_seconds"]
        assert grown.drop_vars(timed).equals(once.drop_vars(timed))
        assert grown.attrs["study"] == once.attrs["study"]


def test_a_journal_of_the_same_cases_in_another_order_is_not_gone_on_from(run, monkeypatch):
    """Its runs are numbered by the order, so that each would stand for another case."""
    import sigprop.modules.study as study

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "train_network", killed)
        assert run(*SHORT, "--scheme", "own,fixup", "--out", "r.nc")[0] == 130
    status, _, err = run(*SHORT, "--scheme", "fixup,own", "--out", "r.nc")
    assert status == 2 and "its order differ" in err


SEVERAL = (
    OWN
    + """
def double():
    return Own().double()

def few():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

def flat():
    return nn.Linear(64, 10)

def fails():
    raise ValueError("no weights here")

def number():
    return 3

one = Own()
"""
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module of Python of the user's own, written where the program runs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_to_train.py").write_text(SEVERAL)
    yield "own_to_train"
    sys.modules.pop("own_to_train", None)


def test_a_module_of_the_users_own_is_trained_and_known_again_by_its_source(run, own, tmp_path):
    words = ("train", "--model", f"{own}:build", "--epochs", "1", "--runs", "2", "--out", "r.nc")
    status, out, _ = run(*words, "--scheme", "own,glorot")
    assert status == 0 and out.startswith(f"{own}:build on digits\n")
    with xr.open_dataset("r.nc", engine="h5netcdf") as result:
        own_way, glorot = result.test_accuracy.values
        assert len({*own_way.ravel(), *glorot.ravel()}) == 4  # seeds and schemes differ
    assert run(*words, "--scheme", "own,glorot")[:2] == (0, out)
    path = tmp_path / f"{own}.py"
    path.write_text(path.read_text().replace("tanh", "relu"))
    sys.modules.pop(own)
    status, _, err = run(*words, "--scheme", "own,glorot")
    assert status == 2 and "in its source" in err


def test_a_module_in_double_precision_is_trained_as_a_copy_and_that_is_told(run, own):
    words = ("--epochs", "1", "--runs", "1")
    single = run("train", "--model", f"{own}:build", *words)[1].splitlines()
    status, out, _ = run("train", "--model", f"{own}:double", *words)
    _, told, *rest = out.splitlines()
    assert status == 0 and told.startswith("Its parameters are float64; used was a copy in float32")
    assert rest == single[1:]


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("biuld", 2, "Did you mean 'build'"),
        ("few", 2, "returned (2, 5) for 2 images with labels up to 9"),
        ("flat", 2, "take images of shape (n, 1, 8, 8)"),
        ("fails", 2, "fails raised ValueError: no weights here"),
        ("number", 2, "returned int and not a torch.nn.Module"),
        ("one", 2, "Name a function that returns the module"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused_before_any_training(
    run, own, monkeypatch, name, status, says
):
    import sigprop.modules.study as study

    monkeypatch.setattr(study, "train_network", None)
    found, out, err = run("train", "--model", f"{own}:{name}", "--out", "r.nc")
    assert (found, out) == (status, "") and says in err and "Traceback" not in err


def test_json_holds_every_run_and_nothing_else_is_printed(run):
    status, out, err = run(*SHORT, "--lr", "1e30", "--format", "json", "--seed", "5")
    assert status == 0 and not err
    whole = json.loads(out)
    assert whole["coords"]["seed"]["data"] == [5, 6]
    assert whole["data_vars"]["diverged_step"]["data"] == [[[1, 1]]]
    assert whole["data_vars"]["accuracy_mean"]["data"] == [[0.1]]


def test_a_killed_run_goes_on_from_what_was_finished(run, tmp_path, monkeypatch):
    import sigprop.modules.study as study

    train, calls = study.train_network, []

    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(study, "train_network", killed)
    status, _, err = run(*SHORT, "--out", "r.nc")
    assert status == 130 and "1 of 2 runs" in err and (tmp_path / "r.nc.part").exists()
    assert run(*SHORT, "--out", "r.nc")[0] == 0
    assert len(calls) == 3 and not (tmp_path / "r.nc.part").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train"], "--model mlp:depth=20"),
        ([*SHORT, "--scheme", "fixupp"], "Did you mean 'fixup'"),
        ([*SHORT, "--lr", "fast"], "--lr 0.5,1,2"),
        ([*SHORT, "--lr", "-1"], "lr must be"),
        ([*SHORT, "--runs", "0"], "--runs 3"),
        ([*SHORT, "--data", "mnist:/nowhere"], "/nowhere does not exist"),
        ([*SHORT, "--data", "minst:/a"], "Did you mean 'mnist'"),
        ([*SHORT, "--optimizer", "adamm"], "Did you mean 'adam'"),
        ([*SHORT, "--batch", "1438"], "cannot be filled"),
        ([*SHORT, "--out", "no/such/folder.nc"], "Name another output"),
        (["train", "--model", "vgg:widths=2/2/2/2/2"], "too small"),
        (["train", "--model", "mlp:dept=3"], "Did you mean 'depth'"),
        (["train", "--model", "mlp:depth=2", "--scheme", "own,fixup"], "no residual sum"),
        (["train", "--model", "nowhere.models:build"], "there is no module 'nowhere'"),
        ([*SHORT, "--seed", "-1"], "--seed must be"),
        ([*SHORT, "--seed", str(2**63)], "--seed must be"),
        ([*SHORT, "--clip", "nan"], "clip must be"),
        ([*SHORT, "--format", "csv"], "'table', 'json'"),
        ([*SHORT, "--out", "/"], "is a directory"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(run, tmp_path, words, says):
    status, out, err = run(*words)
    assert status == 2 and not out and says in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_scores_that_are_not_finite_from_the_start_are_status_4_and_one_case_of_two_is_told(run):
    loud = ("train", "--model", "mlp:depth=3,width=9,gain=1e30", "--epochs", "1", "--runs", "1")
    status, out, err = run(*loud, "--out", "r.nc")
    assert (status, out) == (4, "") and "before the first step" in err
    status, out, _ = run(*loud, "--scheme", "own,he")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line}
    assert rows["own"].endswith("1 of 1") and rows["he"].endswith("0 of 1")


@pytest.mark.parametrize("other", ["words", "a result of another kind"])
def test_what_stands_at_out_and_is_no_study_is_left_as_it_is(run, tmp_path, other):
    path = tmp_path / "r.nc"
    if other == "words":
        path.write_text("notes")
    else:
        xr.Dataset({"a": 1.0}, attrs={"schema": "another"}).to_netcdf(path, engine="h5netcdf")
    before = path.read_bytes()
    status, out, err = run(*SHORT, "--out", "r.nc")
    assert (status, out) == (2, "") and "holds something else" in err
    assert path.read_bytes() == before
