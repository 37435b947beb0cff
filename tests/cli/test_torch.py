"""Sampler torch from the command line: devices, precision, what is told of them."""

from __future__ import annotations

import pytest

from sigprop import cli

torch = pytest.importorskip("torch", reason="sampler torch needs it", exc_type=ImportError)

JOB = ("--scheme", "he", "--law", "uniform", "--width", 20, "--depth", 3, "--replicas", 6)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the program in an empty folder: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_a_result_tells_device_block_and_method(run):
    status, out, _ = run("simulate", *JOB, "--sampler", "torch", "--device", "cpu")
    assert status == 0
    assert "sampler torch (block 8, device cpu, method dense, precision float32)" in words(out)


def test_a_lower_precision_is_told_with_its_error_and_made_again_from_the_file(run):
    asked = ("--sampler", "torch", "--device", "cpu", "--precision", "bf16", "--out", "a.nc")
    status, out, _ = run("simulate", *JOB, *asked)
    assert status == 0 and "precision bf16: off float32 by at most 0." in words(out)
    status, again, _ = run("simulate", "--from", "a.nc", "--out", "b.nc")
    assert status == 0 and again == out


def test_a_sweep_takes_a_device(run):
    job = ("--scheme", "he,fixup", "--law", "uniform", "--depth", 3, "--replicas", 6)
    status, out, _ = run("sweep", *job, "--sampler", "torch", "--device", "cpu")
    assert status == 0 and "sampler torch" in words(out)


@pytest.mark.parametrize(
    "asked, said",
    [
        (("--device", "cpu"), "add --sampler torch"),
        (("--sampler", "torch", "--device", "gpu"), "device must be one of auto, cpu, cuda"),
        (("--sampler", "torch", "--precision", "fp8"), "precision must be one of float32, tf32"),
        pytest.param(
            ("--sampler", "torch", "--device", "cuda"),
            "finds no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_bad_input_is_one_line_of_status_2_and_writes_nothing(run, tmp_path, asked, said):
    status, out, err = run("simulate", *JOB, *asked)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def words(text):
    return " ".join(text.split())
