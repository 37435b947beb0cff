"""The program as a user meets it: what it prints where, what it writes, how it ends."""

import csv
import io
import json
import math
import resource
import subprocess
import sys

import numpy as np
import pytest
import typer

import sigprop
from sigprop import cli, commands
from sigprop.errors import Interrupted, NonFinite

SMALL = ("simulate", "--depth", "6", "--width", "5", "--replicas", "40")
FIXUP = (*SMALL, "--scheme", "fixup")
POWER = (*SMALL, "--scheme", "power", "--beta", "0.5")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def only(folder):
    (path,) = folder.iterdir()
    return path


# ---------------------------------------------------------------------- the main job


def test_the_main_job_prints_a_table_and_a_sentence_and_writes_a_file(run, tmp_path):
    status, out, err = run(*FIXUP)
    assert status == 0
    assert out.startswith("fixup, block res3, relu, gaussian weights, width 5, depth 6\n")
    assert "pair of inputs at cosine 0.5, 40 replicas, seed 0, sampler" in out
    sentence = " ".join(out.split())
    assert "The signal is the identity at initialisation: norm, gradient and the angle" in sentence
    path = only(tmp_path)
    assert err == f"wrote {path.name}\n"
    result = sigprop.load(path)
    assert (result.attrs["seed"], result.attrs["replicas"]) == (0, 40)
    assert {"log_norm_mean", "log_gradient_mean", "log_displacement_mean"} <= set(result)
    assert {"cosine_mean", "activity_mean", "dead_layers_mean"} <= set(result)


def test_a_run_that_stands_finished_is_shown_and_not_refused(run, tmp_path):
    first = run(*FIXUP)
    before = only(tmp_path).read_bytes()
    status, out, err = run(*FIXUP)
    assert (status, out) == (0, first[1])
    assert "holds this run already" in err
    assert only(tmp_path).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [("--replicas", "50"), ("--layers", "0,6"), ("--observe", "norm"), ("--orders", "1")],
    ids=lambda words: words[0],
)
def test_another_run_of_the_same_name_is_refused_and_the_file_untouched(run, tmp_path, change):
    run(*FIXUP)
    before = only(tmp_path).read_bytes()
    status, out, err = run(*FIXUP, *change)
    assert (status, out) == (2, "")
    assert "--resume" in err and "--force" in err
    assert only(tmp_path).read_bytes() == before


def test_an_output_that_exists_needs_force_or_resume(run, tmp_path):
    run(*POWER, "--out", "a.nc")
    before = (tmp_path / "a.nc").read_bytes()
    assert run(*POWER, "--out", "a.nc")[0] == 2
    assert (tmp_path / "a.nc").read_bytes() == before
    assert run(*POWER, "--out", "a.nc", "--replicas", "20", "--resume")[0] == 2
    assert run(*POWER, "--out", "a.nc", "--replicas", "70", "--resume")[0] == 0
    assert run(*POWER, "--out", "b.nc", "--replicas", "70")[0] == 0
    assert sigprop.load("a.nc").identical(sigprop.load("b.nc"))
    assert run(*POWER, "--out", "a.nc", "--force")[0] == 0
    assert (tmp_path / "a.nc").read_bytes() == before


def test_from_runs_again_what_a_result_was_made_by(run):
    words = ("--inputs", "point", "--layers", "0,3,6", "--orders", "1,3", "--keep", "6")
    assert run(*POWER, *words, "--observe", "norm,activity", "--seed", "7", "--out", "a.nc")[0] == 0
    assert run("simulate", "--from", "a.nc", "--out", "b.nc")[0] == 0
    assert sigprop.load("a.nc").identical(sigprop.load("b.nc"))


def test_options_of_the_run_override_from(run):
    run(*POWER, "--seed", "7", "--out", "a.nc")
    words = ("--seed", "8", "--replicas", "30", "--orders", "3", "--out", "b.nc")
    assert run("simulate", "--from", "a.nc", *words)[0] == 0
    made = sigprop.load("b.nc")
    assert (made.attrs["seed"], made.attrs["replicas"]) == (8, 30)
    assert made.order.values.tolist() == [3.0]
    assert made.attrs["ensemble"] == sigprop.load("a.nc").attrs["ensemble"]


def test_workers_do_not_change_a_bit(run):
    run(*POWER, "--workers", "1", "--out", "one.nc")
    run(*POWER, "--workers", "3", "--out", "three.nc")
    assert sigprop.load("one.nc").identical(sigprop.load("three.nc"))


def test_widths_and_given_inputs(run):
    np.save("inputs.npy", np.array([[1.0, 2, 3], [3, 2, 1], [0, 1, 0]]))
    words = ("--widths", "3,50,40", "--scheme", "he", "--inputs", "inputs.npy", "--out", "a.nc")
    status, out, _ = run("simulate", *words, "--replicas", "40")
    assert status == 0
    assert "block plain" in out and "widths 3-50-40, depth 2" in out and "3 given inputs" in out
    assert sigprop.load("a.nc").pair.values.tolist() == ["0-1", "0-2", "1-2"]


# ------------------------------------------------------------------------- formats


def test_json_and_csv_are_all_of_stdout(run):
    status, out, _ = run(*POWER, "--out", "a.nc", "--format", "json")
    read = json.loads(out)
    assert status == 0 and read["attrs"]["replicas"] == 40
    assert run("show", "a.nc", "--format", "json")[1] == out
    rows = list(csv.DictReader(io.StringIO(run("show", "a.nc", "--format", "csv")[1])))
    assert [row["layer"] for row in rows] == [str(layer) for layer in range(7)]


def test_show_prints_what_simulate_printed(run):
    out = run(*POWER, "--out", "a.nc")[1]
    assert run("show", "a.nc") == (0, out, "")


# ----------------------------------------------------------------------- what there is


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("schemes", ("fixup", "depth^-beta", "arXiv:1901.09321", "--beta (required)")),
        ("blocks", ("res3", "h' = skip h + branch V phi(W h)")),
        ("activations", ("leaky_relu", "--slope (default 0.01)")),
        ("laws", ("student_t", "--dof (required)")),
        ("inputs", ("pair", "--cosine (default 0.5)", "FILE.npy")),
        ("samplers", ("chain", "conditional", "dense", "reference")),
        ("observables", ("norm", "displacement", "gradient", "separability", "activity")),
    ],
)
def test_list_says_what_there_is(run, family, words):
    status, out, err = run("list", family)
    assert (status, err) == (0, "")
    for word in words:
        assert word in out
    assert max(map(len, out.splitlines())) <= 100


def test_every_scheme_is_listed_with_formula_and_source(run):
    import sigprop.schemes  # noqa: F401  fills the registry
    from sigprop.spec import Scheme

    out = " ".join(run("list", "schemes")[1].split())
    for scheme in Scheme.family.values():
        assert scheme.formula in out and scheme.source in out


def test_every_process_is_listed_with_formula_and_source(run):
    import sigprop.processes  # noqa: F401  fills the registry
    from sigprop.spec import Process

    out = " ".join(run("list", "processes")[1].split())
    for process in Process.family.values():
        if process.source != "the user":
            assert process.formula in out and process.source in out
    assert "--hurst (required)" in out and "--inner-hurst" in out


def test_list_alone_lists_the_families(run):
    status, out, _ = run("list")
    assert status == 0 and len(out.splitlines()) == 8


# ------------------------------------------------------------------------- bad input

BAD = [
    (("simulat",), "Did you mean 'simulate'"),
    (("show", "a.nc", "--formt", "json"), "Did you mean '--format'"),
    (("--verson",), "Did you mean '--version'"),
    (("show",), "missing argument 'RESULT'"),
    (("show", "absent.nc"), "absent.nc does not exist"),
    (("list", "scheme"), "Did you mean 'schemes'"),
    (("simulate",), "no scheme was given"),
    (("simulate", "--scheme", "he"), "no depth was given"),
    ((*FIXUP, "--depth", "0"), "depth must be"),
    ((*FIXUP, "--depth", "-3"), "depth must be"),
    ((*FIXUP, "--depth", "1.5"), "--depth"),
    ((*FIXUP, "--width", "0"), "width must be"),
    ((*FIXUP, "--width", "99999999999"), "width must be below 2**32"),
    ((*FIXUP, "--depth", "99999999999999"), "depth must be below 2**32"),
    ((*FIXUP, "--replicas", str(2**32)), "replicas must be below 2**32"),
    ((*FIXUP, "--width", "4000000000"), "GiB of memory by estimate"),
    ((*FIXUP, "--width", "100000", "--law", "uniform"), "addresses of its draws end"),
    ((*FIXUP, "stray"), "Write --option value"),
    ((*FIXUP, "--skip", "inf"), "in (-inf, inf), got inf"),
    ((*FIXUP, "--replicas", "0"), "replicas must be"),
    ((*FIXUP, "--seed", "-1"), "seed must be"),
    ((*FIXUP, "--seed", str(2**64)), "seed must be"),
    ((*FIXUP, "--workers", "0"), "workers must be"),
    ((*FIXUP, "--orders", "5"), "orders must be"),
    ((*FIXUP, "--orders", "0"), "orders must be"),
    ((*FIXUP, "--orders", "one"), "--orders must be numbers"),
    ((*FIXUP, "--layers", "7"), "layers names layer 7"),
    ((*FIXUP, "--layers", "-1"), "layers must be"),
    ((*FIXUP, "--layers", "a"), "--layers must be layers"),
    ((*FIXUP, "--keep", "9"), "keep names layer 9"),
    ((*FIXUP, "--observe", "nrm"), "Did you mean 'norm'"),
    ((*FIXUP, "--cosine", "1"), "cosine must be"),
    ((*FIXUP, "--cosine", "nan"), "cosine must be"),
    ((*FIXUP, "--inner-layers", "3"), "does not fit block"),
    ((*FIXUP, "--inner-width", "0"), "inner_width must be"),
    ((*FIXUP, "--widths", "3,3,3,3,3,3,3"), "leave out --width"),
    ((*FIXUP, "--block", "res4"), "Did you mean 'res"),
    ((*FIXUP, "--block", "plain"), "not defined for block 'plain'"),
    ((*FIXUP, "--activation", "rleu"), "Did you mean 'relu'"),
    ((*FIXUP, "--law", "gausian"), "Did you mean 'gaussian'"),
    ((*FIXUP, "--law", "student_t"), "--dof"),
    ((*FIXUP, "--law", "student_t", "--dof", "-1"), "dof must be"),
    ((*FIXUP, "--sampler", "chian"), "Did you mean 'chain'"),
    ((*FIXUP, "--sampler", "chain"), "sampler 'chain' cannot do this"),
    ((*FIXUP, "--beta", "1"), "--beta is no option"),
    ((*FIXUP, "--varient", "fixup"), "Did you mean '--variant'"),
    ((*FIXUP, "--variant", "unscald"), "Did you mean 'unscaled'"),
    ((*FIXUP, "--variant"), "--variant needs a value"),
    ((*FIXUP, "--bias-variance", "-1"), "bias_variance must be"),
    ((*FIXUP, "--inputs", "nan.npy"), "nan"),
    ((*FIXUP, "--inputs", "pont"), "Did you mean 'point'"),
    ((*FIXUP, "--out", "absent/a.nc"), "no directory"),
    ((*FIXUP, "--out", "."), "exists"),
    ((*FIXUP, "--out", ".", "--force"), "is a directory"),
    ((*FIXUP, "--resume", "--force"), "Give one of the two"),
    ((*FIXUP, "--format", "xml"), "'xml' is not one of 'table', 'json', 'csv'"),
    ((*FIXUP, "--from", "absent.nc"), "would change it"),
    (("simulate", "--from", "absent.nc"), "absent.nc does not exist"),
    ((*SMALL, "--scheme", "fxup"), "Did you mean 'fixup'"),
    ((*SMALL, "--scheme", "power"), "no default for --beta"),
    ((*SMALL, "--scheme", "power", "--beta", "much"), "beta must be a number"),
    (("plot", "absent.nc"), "absent.nc does not exist"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=[" ".join(words[-3:]) for words, _ in BAD])
def test_bad_input_is_one_clear_error_before_any_work(run, tmp_path, words, says):
    np.save(tmp_path / "nan.npy", np.array([[1.0, np.nan, 1, 1, 1]]))
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and says in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["nan.npy"]


def test_a_truncated_or_foreign_result_is_refused(run, tmp_path):
    run(*FIXUP, "--out", "a.nc")
    whole = (tmp_path / "a.nc").read_bytes()
    (tmp_path / "half.nc").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nc").write_text("no netCDF")
    for name in ("half.nc", "text.nc"):
        for words in (("show", name), ("plot", name), ("simulate", "--from", name)):
            status, out, err = run(*words)
            assert (status, out) == (2, "") and err.startswith(f"error: {name}")


# --------------------------------------------------------------------- how it ends


class Command:
    """An entry point that raises."""

    name = "fail"

    def __init__(self, error):
        self.error = error

    def load(self):
        def fail():
            """Fail."""
            raise self.error

        return fail


def test_numbers_that_stop_being_finite_end_with_status_4(run, monkeypatch):
    error = NonFinite("stopped being finite.")
    monkeypatch.setattr(cli, "entry_points", lambda group: [Command(error)])
    assert run("fail") == (4, "", "error: stopped being finite.\n")


def test_memory_that_ends_on_the_way_is_told_without_a_traceback(run, monkeypatch):
    error = MemoryError("Unable to allocate 9. TiB")
    monkeypatch.setattr(cli, "entry_points", lambda group: [Command(error)])
    status, out, err = run("fail")
    assert (status, out) == (2, "")
    assert err.startswith("error: not enough memory: Unable to allocate 9. TiB. Use a smaller")


def test_an_interrupt_says_how_to_go_on(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sigprop", "simulate", "--depth", "9", "--force"])
    (tmp_path / "a.nc.part").touch()
    with pytest.raises(typer.Exit) as caught, commands._resumable(tmp_path / "a.nc"):
        raise Interrupted("interrupted. a.nc.part keeps 64 of 100 replicas.")
    assert caught.value.exit_code == 130
    said = capsys.readouterr().err
    assert said.startswith("error: interrupted.")
    assert said.endswith("that is: sigprop simulate --depth 9 --resume\n")


def test_version(run):
    assert run("--version") == (0, f"sigprop {sigprop.__version__}\n", "")


def test_no_words_at_all_print_the_help(run):
    assert run() == run("--help")
    assert "simulate" in run()[1] and run()[0] == 0


@pytest.mark.parametrize("words", [["--help"], ["simulate", "--help"]], ids=" ".join)
def test_help_takes_less_than_0_4_seconds_of_the_processor(words):
    """The least of a dozen starts at most: what else runs on the machine only adds to it."""
    spent = [math.inf]
    while min(spent) >= 0.4 and len(spent) <= 12:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = "import sys; from sigprop.cli import main; sys.exit(main())"
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4


def test_a_reader_that_leaves_is_no_error():
    code = "import sys; from sigprop.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "list", "schemes"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait() == 0


def test_networks_that_die_are_counted_and_their_angle_is_left_out(run):
    words = ("--block", "plain", "--depth", "20", "--width", "3", "--scheme", "he")
    status, out, _ = run("simulate", *words, "--replicas", "200", "--out", "a.nc")
    assert status == 0
    assert "% of the networks are dead" in " ".join(out.split())
    dead = sigprop.load("a.nc").isel(layer=-1)
    assert 0 < float(dead.norm_zero_fraction.min()) < 1
    assert -1 <= float(dead.cosine_mean[0]) <= 1


# ------------------------------------------------------------------- images and batches


def test_an_image_makes_a_convolutional_network_that_the_headline_names(run, tmp_path):
    status, out, _ = run(
        *("simulate", "--depth", "2", "--scheme", "risotto", "--image", "3,4", "--kernel", "3"),
        *("--width", "6", "--input-width", "3", "--padding", "circular", "--replicas", "40"),
    )
    assert status == 0
    head = " ".join(out.split())
    assert "block projection" in head and "images 3x4, kernel 3, circular borders" in head
    assert "sampler batch" in head
    path = only(tmp_path)
    assert "-d6-3x4-L2-" in path.name
    law = json.loads(sigprop.load(path).attrs["ensemble"])["network"]
    assert (law["image"], law["kernel"], law["padding"], law["stride"]) == (
        [3, 4],
        3,
        "circular",
        1,
    )


def test_a_batch_is_normalised_and_swept_over_images(run):
    words = ("--depth", "2", "--scheme", "batch_norm", "--width", "5", "--replicas", "40")
    status, out, _ = run("simulate", *words, "--inputs", "batch", "--count", "6")
    assert status == 0 and "a batch of 6 inputs" in out
    status, out, _ = run("sweep", *words, "--image", "2,3", "--kernel", "1")
    assert status == 0 and "image" in out


def test_a_stride_that_breaks_a_promise_or_stands_alone_is_bad_input(run, tmp_path):
    words = (
        "simulate",
        "--depth",
        "2",
        "--scheme",
        "risotto",
        "--width",
        "6",
        "--input-width",
        "3",
    )
    status, out, err = run(*words, "--image", "4", "--stride", "2,1")
    assert status == 2 and out == "" and "of 16 pixels 4 are left" in err and "--lossy true" in err
    status, _, err = run(*words, "--stride", "2")
    assert status == 2 and "without an image" in err
    status, out, _ = run(*words, "--image", "4", "--stride", "2,1", "--lossy", "true")
    assert status == 0 and "stride 2-1" in " ".join(out.split())
