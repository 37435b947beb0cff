"""The command train: what it prints and writes, what it refuses, how it goes on."""

import json

import pytest
import torch
import xarray as xr

from sigprop import cli

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
    status, _, err = run(*words)
    assert status == 2 and "--force" in err
    assert run(*words, "--force")[1] == out


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
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(run, tmp_path, words, says):
    status, out, err = run(*words)
    assert status == 2 and not out and says in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())
