"""The promises of reproducibility, kept by the real samplers through the public driver.

`test_driver` proves the driver's logic on a sampler made for it; here every compiled sampler
goes the whole way, since a kernel that looked at its neighbours would pass there.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import sigprop
from sigprop.schemes import GivenScheme

CASES = {
    "chain": (sigprop.Point(), sigprop.Gaussian(), 700),
    "conditional": (sigprop.Pair(cosine=0.3), sigprop.Gaussian(), 300),
    "dense": (sigprop.Pair(cosine=0.3), sigprop.Uniform(), 40),
}


def ensemble(name):
    inputs, law, _ = CASES[name]
    scheme = GivenScheme(
        skip=0.9, branch=0.6, variance=1.1, variance_over_fan_in=True, bias_variance=0.01, law=law
    )
    return sigprop.Ensemble(
        sigprop.Network(depth=12, width=9, inner_width=7, activation="leaky_relu"), scheme, inputs
    )


def run(name, replicas=None, **options):
    replicas = CASES[name][2] if replicas is None else replicas
    options = {"seed": 3, "sampler": name, "keep": (12,), **options}
    return sigprop.simulate(ensemble(name), replicas=replicas, **options)


def assert_bits(one, other):
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_threads_do_not_matter(name):
    alone = run(name, workers=1)
    for workers in (2, 8):
        assert_bits(run(name, workers=workers), alone)


def test_processes_do_not_matter():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert_bits(run("conditional", executor=pool), run("conditional"))


@pytest.mark.parametrize("name", CASES)
def test_a_longer_run_extends_a_shorter_one(name, tmp_path):
    out, whole = tmp_path / "a.nc", CASES[name][2]
    short = run(name, whole // 2 + 1, out=out)
    long = run(name, out=out, resume=True)
    assert_bits(long, run(name))
    for field in (v for v in short.variables if str(v).startswith("replica_")):
        shared = long[field].values[: whole // 2 + 1]
        np.testing.assert_array_equal(shared, short[field].values, err_msg=str(field))


@pytest.mark.parametrize("name", CASES)
def test_the_seed_and_nothing_else_is_random(name):
    one, again, other = run(name), run(name), run(name, seed=4)
    assert_bits(one, again)
    assert (one.log_norm_mean[-1] != other.log_norm_mean[-1]).all()


KILLED = """
import importlib, os, signal
from tests.exact import test_reproducible as here
importlib.import_module("sigprop.simulate").CHECKPOINT_SECONDS = 0
def progress(done, total):
    if done >= {when}:
        os.kill(os.getpid(), signal.SIGKILL)
here.run({name!r}, out={out!r}, progress=progress, workers=2)
"""


@pytest.mark.parametrize("name, when", [("chain", 512), ("conditional", 256), ("dense", 32)])
def test_a_run_that_was_killed_ends_in_the_same_bits(name, when, tmp_path):
    """SIGKILL from within, when some blocks are done and more are on their way."""
    out = tmp_path / "a.nc"
    script = KILLED.format(when=when, name=name, out=str(out))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = subprocess.run([sys.executable, "-c", script], env=environment).returncode
    assert code == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["a.nc.part"]
    assert_bits(run(name, out=out, resume=True), run(name))
    assert os.listdir(tmp_path) == ["a.nc"]


DEEP = """
import resource
import numpy as np
import sigprop
peaks = []
for depth in (10, {depth}):
    law = sigprop.Ensemble(
        sigprop.Network(depth=depth, width=4), sigprop.Power(beta=0.0), sigprop.Point()
    )
    result = sigprop.simulate(
        law, ["norm", "gradient"], replicas=1, sampler={name!r}, layers=[0, depth], workers=1
    )
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
assert result.log_norm_mean.values[-1] > 1e4, result.log_norm_mean
assert result.log_gradient_mean.values[0] > 1e4, result.log_gradient_mean
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize(
    "name, depth, megabytes", [("conditional", 1_000_000, 350), ("chain", 100_000, 200)]
)
def test_a_million_layers_back_stay_finite_and_small(name, depth, megabytes):
    """beta = 0: the norm ends far beyond e^700. All states at once would take 0.6 GB (conditional)
    and 1.4 GB (chain, 256 replicas abreast); the table of the scheme takes most of what is seen.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", DEEP.format(name=name, depth=depth)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < megabytes
