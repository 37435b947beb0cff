"""The command gradinit: table, JSON, pictures, comparison, and what is refused."""

from __future__ import annotations

import json

import pytest

from sigprop import cli
from tests.own_module import OWN

torch = pytest.importorskip("torch", exc_type=ImportError)
torch.set_num_threads(1)

SMALL = ("--model", "mlp:depth=3,width=16,gain=1.5", "--steps", 30, "--half-batch", 32)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main(["gradinit", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_scales_are_told_by_layer_written_and_drawn(run, tmp_path):
    from sigprop.modules import InitResult, architecture

    status, out, err = run(*SMALL, "--out", "r.json", "--plot", "s.png")
    assert status == 0 and err == "wrote r.json\nwrote s.png\n"
    result = InitResult.from_json((tmp_path / "r.json").read_text())
    rows = {line.split()[0]: line.split() for line in out.splitlines()[1:5]}
    assert list(rows) == ["1.weight", "3.weight", "5.weight", "7.weight"]
    assert float(rows["3.weight"][3]) == pytest.approx(result.scales["3.weight"], abs=1e-4)
    assert "4 tensors are zero" in out and "loss after one step" in out
    lowered = (result.history["case"] == "c").sum()
    assert lowered == 30 and "all 30 iterations lowered the norm" in " ".join(out.split())
    model = architecture("mlp:depth=3,width=16,gain=1.5").build((1, 8, 8), seed=0)
    result.apply(model)  # the network that the command saw
    assert (tmp_path / "s.png").stat().st_size > 10_000


def test_methods_are_set_side_by_side(run, tmp_path):
    names = "none,lsuv,autoinit-analytic,kraehenbuehl"
    status, out, _ = run(*SMALL, "--compare", names, "--plot", "s.png")
    assert status == 0 and (tmp_path / "s-comparison.png").exists()
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert {"gradinit", *names.split(",")} <= set(rows)
    assert float(rows["none"][2]) > 2 * float(rows["gradinit"][2])  # the gradient norm
    status, out, _ = run(*SMALL, "--compare", "none", "--format", "json")
    whole = json.loads(out)
    assert whole["comparison"]["coords"]["preparation"]["data"] == ["gradinit", "none"]
    assert whole["method"] == "gradinit"


def test_a_module_of_the_users_own_and_a_method_that_cannot_prepare_it(run, tmp_path):
    (tmp_path / "own_networks.py").write_text(OWN)
    words = ("--model", "own_networks:build", "--steps", 5, "--half-batch", 32)
    first, second = (run(*words, "--seed", seed)[1] for seed in (1, 2))
    assert "first.weight" in first and first != second
    status, out, _ = run(*words, "--compare", "none,autoinit-jacobian")
    assert status == 0 and "autoinit-jacobian   refuses this network" in out
    assert "autoinit-jacobian: Own is no sequence of blocks" in " ".join(out.split())


@pytest.mark.parametrize(
    ("name", "last", "says"),
    [
        ("own_too_few", "nn.Linear(12, 5)", "returned (2, 5) for 2 images"),
        ("own_tuple", "nn.GRU(12, 10)", "returned tuple for"),
    ],
)
def test_a_module_that_returns_no_score_for_every_class(run, tmp_path, name, last, says):
    (tmp_path / f"{name}.py").write_text(OWN.replace("nn.Linear(12, 10)", last))
    status, out, err = run("--model", f"{name}:build", "--steps", 2)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and says in err and "labels up to 9" in err


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--model", "mpl:depth=3"), 2, "Did you mean 'mlp'"),
        (("--model", "mlp:depht=3"), 2, "Did you mean 'depth'"),
        (("--model", "no_such_package.models:build"), 2, "there is no module"),
        (("--data", "didgits"), 2, "digits"),
        (("--data", "mnist:/nowhere"), 2, "/nowhere"),
        (("--optimizer", "adam"), 2, "gamma was not given"),
        (("--gamma", "-1"), 2, "gamma must be positive"),
        (("--steps", "0"), 2, "steps must be"),
        (("--compare", "none,lsvu"), 2, "Did you mean 'lsuv'"),
        (("--exclude", "nothing*"), 2, "fits no trainable tensor"),
        (("--half-batch", "100000"), 2, "100000"),
        (("--plot", "s.gif"), 2, ".png, .pdf, .svg"),
        (("--format", "csv"), 2, "'table', 'json'"),
        (("--seed", "-1"), 2, "--seed must be"),
        (("--seed", str(2**64)), 2, "--seed must be"),
        (("--half-batch", "0"), 2, "--half-batch must be"),
        (("--tau", "nan"), 2, "tau must be"),
        (("--gamma", "0"), 2, "gamma must be"),
        (("--out", "."), 2, "is a directory"),
        (("--out", "no/such.json"), 2, "there is no directory no"),
        (("--plot", "no/such.png"), 2, "there is no directory no"),
        (("--data", "cifar10:/nowhere"), 2, "/nowhere"),
        (("--model", "mlp:depth=60,gain=1e4", "--steps", "2"), 4, "iteration 0"),
    ],
)
def test_bad_input_is_one_sentence_and_a_status(run, words, status, says):
    done, out, err = run(*words)
    assert (done, out) == (status, "")
    assert err.startswith("error: ") and says in err and "Traceback" not in err


def test_the_bound_is_told_with_where_it_came_from_and_whether_it_was_reached(run):
    out = run(*SMALL, "--steps", 5, "--format", "json")[1]
    lowest = min(json.loads(out)["history"]["grad_norm"])
    out = " ".join(run(*SMALL, "--steps", 5)[1].split())
    assert "gamma = 1 (default) was never reached" in out and "%" not in out
    assert f"was {lowest:.4g} at the lowest" in out and "all 5 iterations lowered" in out
    out = " ".join(run(*SMALL, "--gamma", 10)[1].split())
    assert "the bound gamma = 10 (given) holds on the batch above" in out
    assert "of 30 iterations lowered the norm, the others the loss after one step" in out
    out = " ".join(run(*SMALL, "--optimizer", "adam", "--gamma", 1, "--steps", 5)[1].split())
    assert "gamma = 1 (given) was never reached" in out


def test_what_stands_at_out_is_replaced_only_if_it_is_of_the_same_kind(run, tmp_path):
    path = tmp_path / "r.json"
    path.write_text('{"notes": 1}')
    status, out, err = run(*SMALL, "--steps", 2, "--out", "r.json")
    assert (status, out) == (2, "") and "holds something else" in err
    assert path.read_text() == '{"notes": 1}'
    path.unlink()
    for steps in (2, 3):
        assert run(*SMALL, "--steps", steps, "--out", "r.json")[0] == 0
    assert len(json.loads(path.read_text())["history"]["case"]) == 3


def test_a_module_in_half_precision_is_told_and_one_for_other_inputs_refused(run, tmp_path):
    half = (
        OWN + "\ndef half():\n    return Own().half()\n\ndef flat():\n    return nn.Linear(64, 9)\n"
    )
    (tmp_path / "own_halves.py").write_text(half)
    status, out, _ = run("--model", "own_halves:half", "--steps", 2)
    assert status == 0 and "Its parameters are float16; used was a copy in float32" in out
    status, out, err = run("--model", "own_halves:flat", "--steps", 2)
    assert (status, out) == (2, "") and "take images of shape (n, 1, 8, 8)" in err
