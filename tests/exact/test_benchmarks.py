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


def test_the_benchmark_of_images_runs_and_its_baseline_draws_the_same_law(capsys):
    """Mean square of the plain network of convolutions against the exact one, borders included.

    Fires by chance once in 10^6; sees a fifth.
    """
    import numpy as np
    import torch

    import sigprop
    from analysis.theory import image_log_mean_square
    from benchmarks import images
    from tests.stat import assert_agrees

    images.main(["--quick"])
    out = capsys.readouterr().out
    assert "64 channels, 8x8" in out and out.count("against plain torch") == 2

    torch.manual_seed(0)
    law = sigprop.Ensemble(sigprop.Network(depth=2, width=64, image=8), sigprop.He())
    exact = np.exp(image_log_mean_square(law)[-1])
    ratios = []
    for _ in range(24):
        states = images.plain_images(2)
        first, last = (states[at].detach().flatten(1).norm(dim=1) ** 2 for at in (0, -1))
        ratios.append(float((last / first).mean()) / exact)
    se = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
    assert_agrees(np.mean(ratios), 1.0, se, resolution=0.2)


def test_the_benchmark_of_wide_networks_runs(capsys):
    from benchmarks import wide

    wide.main(["--quick", "--device", "cpu"])
    out = capsys.readouterr().out
    assert out.count("share of the floor") == 2 and "width 256, 64 inputs" in out


def test_the_table_of_gradinit_is_printed(capsys):
    from benchmarks import gradinit

    gradinit.main(["--quick"])
    shown = capsys.readouterr().out
    for line in ("case o, MLP", "case c, MLP", "a whole run"):
        row = next(row for row in shown.splitlines() if row.startswith(line))
        assert row.split()[-1] in ("met", "MISSED")
    assert gradinit.Line("x", 2.3, "passes", 2.2).row().endswith("MISSED")
