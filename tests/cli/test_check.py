"""The command check: verdicts, exit statuses, and one sentence for every mistake."""

from __future__ import annotations

import json
import re
import sys

import pytest
import xarray as xr

from sigprop import cli

torch = pytest.importorskip("torch", reason="modules are those of torch", exc_type=ImportError)

SOURCE = """
import torch
from torch import nn

def linear(width, gain):
    made = nn.Linear(width, width, bias=False)
    nn.init.normal_(made.weight, std=gain * (2 / width) ** 0.5)
    return made

def plain(depth=20, gain=1.0):
    layers = [m for _ in range(depth) for m in (linear(24, gain), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(24, 3))

def loud(depth=20):
    return plain(depth, 2.0)

class Block(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.one, self.two, self.scale = linear(24, 1.0), linear(24, 0.7), scale

    def forward(self, h):
        return h + self.scale * self.two(torch.relu(self.one(h)))

def good(depth=6):
    return nn.Sequential(*(Block(depth**-0.5) for _ in range(depth)), nn.Linear(24, 3))

def silent():
    model = good()
    nn.init.zeros_(model[-1].weight)
    return model

def words():
    return nn.Sequential(nn.Embedding(9, 24), *good())

def infinite():
    return nn.Sequential(linear(24, 1e30), linear(24, 1e30))

def short():
    return nn.Linear(24, 3)

def needs(width):
    return good()

def number():
    return 3

def broken():
    raise KeyError("gone")

class Stored:
    inner = good()

def half():
    return good().half()

def double():
    return good().double()

class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = good().double(), nn.Sequential(nn.Linear(3, 24), *good())

    def forward(self, h):
        return self.two(self.one(h).float())

def turned():
    return Turned()

def clash():
    model = good()
    model[2].double()
    return model

def attending():
    layer = nn.TransformerEncoderLayer(24, 4, 48, batch_first=True)
    return nn.Sequential(layer, *good())

class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.good, self.spare, self.frozen = good(), nn.Linear(3, 3), nn.Linear(3, 3)
        self.frozen.requires_grad_(False)

    def forward(self, h):
        return self.good(h)

def idle():
    return Idle()
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run the program beside a package of one's own: (status, stdout, stderr)."""
    (tmp_path / "mine_to_check.py").write_text(SOURCE)
    (tmp_path / "lacks.py").write_text("import no_such_thing_at_all")
    (tmp_path / "fails.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(name, *words, command="check"):
        target = name if ":" in name or not name.isidentifier() else f"mine_to_check:{name}"
        given = words if "--input" in words else ("--input", "6,24", *words)
        status = cli.main([command, target, *map(str, given)])
        said = capsys.readouterr()
        return status, said.out, said.err

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield call
    torch.set_num_threads(threads)
    for name in ("mine_to_check", "lacks", "fails"):
        sys.modules.pop(name, None)


def test_a_healthy_module_passes(check):
    status, out, err = check("good")
    assert (status, err) == (0, "") and out.rstrip().endswith("verdict: healthy")
    assert "branch/trunk" in out and "5 network(s), 6 inputs" in out
    assert check("good") == (status, out, err)  # to the last digit
    assert check("good", "--seed", 1)[1] != out


def test_an_exploding_one_fails_with_the_layer_and_what_to_try(check):
    status, out, _ = check("loud")
    assert status == 1 and out.rstrip().endswith("verdict: exploding")
    assert "  he_:" in out
    out = " ".join(out.split())
    assert "exploding from 0 on" in out and "exploding from 38 on" in out


def test_a_classifier_of_zeros_is_seen_through(check):
    status, out, _ = check("silent", "--format", "json")
    found = json.loads(out)
    assert (status, found["verdict"]) == (0, "healthy")
    assert found["probe"]["backward"] == "unit cotangent at 5"
    assert [change["quantity"] for change in found["changes"]] == ["state", "gradient"]


def test_words_and_single_modules(check):
    assert check("words", "--input", "5,7", "--tokens", 9)[0] == 0
    status, out, _ = check("mine_to_check:Stored.inner")
    assert status == 0 and "1 network(s)" in out


def test_depth_is_told_as_a_law(check):
    status, out, _ = check("loud", "--depths", "5,10,20", "--format", "json")
    state, gradient = json.loads(out)["depth_laws"]
    assert status == 1 and state["better"] == gradient["better"] == "exponential"
    # 2 ln 2 a layer less 5 / (2 width): the mean log at width 24; two errors are about 0.1.
    assert abs(state["rate"] - 1.28) < 3 * state["rate_se"] < 0.4
    assert "healthy" in check("good", "--depths", "4,6,8")[1]


@pytest.mark.parametrize(
    "name, words, status, said",
    [
        ("infinite", (), 4, "output of 1 (Linear) is not finite"),
        ("short", (), 2, "a change needs two"),
        ("needs", (), 2, "cannot be called without arguments"),
        ("needs", ("--depths", "2,3,4"), 2, "cannot be called with depth="),
        ("number", (), 2, "number returned int and not a torch.nn.Module"),
        ("broken", (), 2, "broken raised KeyError: 'gone'"),
        ("godo", (), 2, "Did you mean 'good'?"),
        ("mine_to_check:SOURCE", (), 2, "has no 'SOURCE'"),
        ("mine_to_check:torch.nn", (), 2, "is module and neither"),
        ("nowhere:build", (), 2, "no module 'nowhere' of Python"),
        ("lacks:build", (), 2, "imports no_such_thing_at_all"),
        ("fails:build", (), 2, "importing fails raised ZeroDivisionError"),
        ("no-colon", (), 2, "does not say what builds"),
        ("good", ("--input", "6,23"), 2, "mat1 and mat2 shapes"),
        ("good", ("--input", "6,0"), 2, "must be positive"),
        ("good", ("--input", "x"), 2, "--input"),
        ("good", ("--device", "cud"), 2, "Did you mean 'cuda'?"),
        ("good", ("--replicas", 0), 2, "--replicas must be 1 or more, got 0"),
        ("good", ("--seed", -1), 2, "--seed must be"),
        ("good", ("--seed", 2**64), 2, "--seed must be"),
        ("good", ("--tolerance", 1), 2, "tolerance must be"),
        ("good", ("--format", "csv"), 2, "'table', 'json'"),
        ("good", ("--depths", "2,3"), 2, "three depths"),
        ("good", ("--depths", "2,3,4", "--replicas", 1), 2, "one network a depth has none"),
        ("mine_to_check:Stored.inner", ("--depths", "2,3,4"), 2, "it has one depth"),
        ("mine_to_check.py:good", (), 2, "Write mine_to_check:good"),
        ("words", ("--input", "5,7"), 2, "0 (Embedding) looks up rows by whole numbers"),
        ("words", ("--input", "5,7"), 2, "--tokens 9"),
        ("words", ("--input", "5,7", "--tokens", 90), 2, "has 9 rows"),
        ("good", ("--tokens", 9), 2, "leave out --tokens"),
        ("clash", (), 2, "float64 (2.one.weight, 2.two.weight)"),
        ("resmlp:depth=2", (), 2, "--input 8,1,8,8"),
        ("resmpl:depth=2", (), 2, "Did you mean 'resmlp'"),
        ("resmlp:depth=2", ("--input", "8,1,8,8", "--scheme", "fixup"), 2, "resmlp: block=res3"),
        ("good", ("--scheme", "fixupp"), 2, "Did you mean 'fixup'"),
        (
            "vgg:norm=batch",
            ("--input", "4,1,8,8", "--depths", "2,3,4"),
            2,
            "no depth to be varied",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(check, name, words, status, said):
    found, out, err = check(name, *words)
    assert (found, out) == (status, "") and said in err and "Traceback" not in err


def test_probe_prints_writes_and_draws_what_was_measured(check, tmp_path):
    words = ("--replicas", 2, "--out", "found.nc", "--plot", "found.png")
    status, out, err = check("good", *words, command="probe")
    assert status == 0 and "wrote found.nc" in err and "wrote found.png" in err
    assert [line.split()[0] for line in out.splitlines()[3:6]] == ["0.one", "0.two", "1.one"]
    with xr.open_dataset(tmp_path / "found.nc", engine="h5netcdf") as found:
        assert found.sizes["layer"] == 13 and found.sizes["sum"] == 6
        line = next(line for line in out.splitlines() if line.split()[:1] == ["1.two"])
        assert float(line.split()[2]) == pytest.approx(
            float(found.second_moment.sel(layer="1.two")), rel=1e-3
        )
    assert (tmp_path / "found.png").stat().st_size > 10_000
    told = json.loads(check("good", "--names", "0.*", "--format", "json", command="probe")[1])
    assert told["coords"]["layer"]["data"] == ["0.one", "0.two"]
    assert "log_second_moment_mean_predicted" in told["data_vars"]
    assert "limit of great width" in out and "limit of great width" in check("good")[1]
    csv = check("good", "--format", "csv", command="probe")[1].splitlines()
    assert csv[0].startswith("layer,second_moment,") and len(csv) == 15
    assert check("good", "--names", "2.tow", command="probe")[0] == 2
    assert check("good", "--plot", "x.gif", command="probe")[0] == 2


def test_the_input_is_asked_for(check, capsys):
    assert cli.main(["check", "mine_to_check:good"]) == 2
    assert "no --input was given" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "probe"])
def test_other_types_than_float32_are_measured_and_told(check, command):
    plain = check("good", command=command)[1].splitlines()
    status, out, _ = check("double", command=command)
    head, told, *rest = out.splitlines()
    assert (status, told) == (0, "Parameters and inputs are float64.")
    assert [head, *rest][:3] == plain[:3]
    status, out, _ = check("half", command=command)
    assert status == 0 and "float16: measured was a copy in float32" in out.splitlines()[1]
    status, out, _ = check("turned", command=command)
    assert status == 0 and "float64 and float32; inputs are float64" in out.splitlines()[1]


def test_double_precision_is_measured_in_double_precision(check):
    """Single and double agree to the rounding of single, and not to the last digit of double."""
    one, two = (
        json.loads(check(name, "--format", "json", command="probe")[1])["data_vars"]
        for name in ("good", "double")
    )
    single, double = (x["second_moment"]["data"] for x in (one, two))
    assert double == pytest.approx(single, rel=1e-5) and double != single
    half = json.loads(check("half", "--format", "json", command="probe")[1])
    assert half["data_vars"]["second_moment"]["data"] == pytest.approx(single, rel=1e-2)
    assert "float16" in half["attrs"]["types"]


def test_a_module_whose_weights_another_reads_is_not_called_unused(check):
    _, out, _ = check("attending", "--input", "4,5,24", command="probe")
    last = out.splitlines()[-1]
    assert last.endswith("reads their weights without calling them: 0.self_attn.out_proj")
    assert "Never called" not in out
    last = check("idle", command="probe")[1].splitlines()[-1]
    assert last == "Never called: spare"  # whether what is frozen was read is not known


def test_a_network_by_a_line_of_text_starts_as_it_is_built_or_by_a_scheme(check):
    words = ("resmlp:depth=6,block=res3", "--input", "8,1,8,8")
    status, out, _ = check(*words)
    assert status == 0 and out.splitlines()[1].split()[0] == "sum"
    status, fixup, _ = check(*words, "--scheme", "fixup")
    assert status == 0 and "initialised by fixup" in fixup
    # Fixup's branches end in 0, so that the trunk is handed on as it is.
    rows = [line.split() for line in fixup.splitlines()[3:9]]
    assert len({row[1] for row in rows}) == 1 and {row[-1] for row in rows} == {"0"}
    laws = json.loads(check(*words, "--depths", "2,4,8", "--format", "json")[1])["depth_laws"]
    assert laws[0]["depths"] == [2, 4, 8]
    assert "exploding" in check("loud")[1] and "exploding" not in check("loud", "--scheme", "he")[1]


def test_what_would_decide_is_told_and_decides(check):
    """A change whose error reaches over the limit; with the replicas that are named it does not."""
    words = ("good", "--tolerance", 1.35, "--replicas", 3)
    status, out, _ = check(*words)
    out = " ".join(out.split())
    assert status == 3 and "1/1.35 to 1.35 is tolerated: not decided" in out
    needed = max(int(n) for n in re.findall(r"--replicas (\d+)", out))
    assert needed > 3 and check(*words[:3], "--replicas", 4 * needed)[0] in (0, 1)


def test_probe_looks_at_its_outputs_before_it_works(check, tmp_path, monkeypatch):
    (tmp_path / "notes.nc").write_text("mine")
    monkeypatch.setattr("analysis.module_question.Question.measured", None)
    for words, says in (
        (("--out", "notes.nc"), "holds something else"),
        (("--out", "."), "is a directory"),
        (("--out", "no/such.nc"), "there is no directory no"),
        (("--plot", "no/such.png"), "there is no directory no"),
    ):
        status, out, err = check("good", *words, command="probe")
        assert (status, out) == (2, "") and says in err
    assert (tmp_path / "notes.nc").read_text() == "mine"
