"""The table of speeds is made by one command; how fast is for the machine to say."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="the baseline is written in torch", exc_type=ImportError)


def test_the_table_of_speeds_is_printed(capsys):
    from benchmarks import speed

    speed.main(["--quick", "--no-start"])
    shown = capsys.readouterr().out
    for line in ("baseline, plain torch", "chain", "conditional", "dense, uniform weights"):
        row = next(row for row in shown.splitlines() if row.startswith(f"{line}  "))
        assert float(row.removeprefix(line).split()[0]) != 0, row
    assert "cores" in shown.splitlines()[0]


@pytest.mark.parametrize(
    "value, more, verdict",
    [
        (7, True, "MISSED"),
        (8, True, "met, aim missed"),
        (10, True, "aim met"),
        (11, False, "MISSED"),
        (9, False, "aim met"),
    ],
)
def test_a_line_says_whether_it_holds(value, more, verdict):
    from benchmarks.speed import Line

    required, aim = (8, 10) if more else (10, 9)
    line = Line("name", value, "x", required, aim, more)
    assert line.row()[5] == verdict
    assert Line("name", value, "x").row()[5] == ""


def test_the_program_is_timed_from_outside():
    from benchmarks.speed import program_seconds

    assert 0 < program_seconds(("--version",), None) < 60
    with pytest.raises(subprocess.CalledProcessError):
        program_seconds(("simulate", "--depth", "0"), None)


def test_the_command_is_that_of_the_makefile():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "--quick" in done.stdout


def test_the_table_of_regimes_is_printed(capsys):
    from benchmarks import regimes

    regimes.main(["--quick"])
    shown = capsys.readouterr().out
    for line in ("Figure 2, full budget", "Figure 7, full budget", "oracle, depth 50"):
        row = next(row for row in shown.splitlines() if row.startswith(f"{line}  "))
        assert float(row.removeprefix(line).split()[0]) > 0, row


def test_the_table_of_moments_is_printed(capsys):
    from benchmarks import moments

    moments.main(["--quick"])
    shown = capsys.readouterr().out
    for line in ("sigma, width 1024", "sigma, width 10^6", "tilted nets, width 1024, a layer"):
        row = next(row for row in shown.splitlines() if row.startswith(f"{line}  "))
        assert float(row.removeprefix(line).split()[0]) > 0, row


def test_the_plain_noise_is_fractional():
    """Variances of sums are N^2H: one in 10^5 false alarms, sees an error of 12%."""
    import numpy as np

    from benchmarks.baseline_paths import fractional_noise

    generator = np.random.default_rng(2)
    sums = np.array([fractional_noise(16, 0.8, generator).sum() for _ in range(6000)])
    spread = sums.var() / 16**1.6
    assert abs(spread - 1) < 4.4 * (2 / 6000) ** 0.5
