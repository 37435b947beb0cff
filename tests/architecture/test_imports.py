"""The contracts of ARCHITECTURE.md, checked by importing and by reading."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
import figures
import sigprop

ROOT = Path(sigprop.__file__).parents[1]
PACKAGES = (sigprop, analysis, figures)


def modules():
    for package in PACKAGES:
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            yield found.name


def loaded_by(statement):
    code = f"import sys\n{statement}\nprint(*(name for name in sys.modules if '.' not in name))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_import_contracts_hold():
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_import_sigprop_loads_nothing_heavy():
    heavy = {"torch", "matplotlib", "numba", "numpy", "scipy", "xarray", "pandas", "typer", "rich"}
    assert not loaded_by("import sigprop") & heavy


@pytest.mark.parametrize("module", ["sigprop.cli", "sigprop.commands", "figures.commands"])
def test_the_command_line_loads_nothing_heavy_before_it_runs(module):
    heavy = {"torch", "matplotlib", "numba", "numpy", "scipy", "xarray", "pandas"}
    assert not loaded_by(f"import {module}") & heavy


def test_every_public_name_is_there_and_lazy():
    for name in sigprop.__all__:
        assert getattr(sigprop, name) is not None
    assert set(sigprop.__all__) <= set(dir(sigprop))
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        sigprop.simulat  # noqa: B018


def test_simulate_is_the_function_whoever_imports_its_module():
    code = (
        "import sigprop.simulate\nassert callable(sigprop.simulate)\n"
        "from sigprop.simulate import simulate\nassert sigprop.simulate is simulate"
    )
    loaded_by(code)


def test_no_module_is_a_drawer_for_odds_and_ends():
    vague = {"utils", "util", "helpers", "common", "misc", "core"}
    found = [name for name in modules() if vague & set(name.split("."))]
    assert not found


@pytest.mark.parametrize("name", list(modules()))
def test_every_module_and_every_public_function_is_documented(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} does not say what it is for"
    for public in getattr(module, "__all__", ()):
        member = inspect.getattr_static(module, public, None)
        if inspect.isfunction(member) or inspect.isclass(member):
            assert (member.__doc__ or "").strip(), f"{name}.{public} has no docstring"


def test_setup_lists_every_package_that_exists():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = setup["options.packages.find"]["include"].split()
    assert listed == [f"{package.__name__}*" for package in PACKAGES]


def test_the_modules_that_documents_name_need_no_import_of_their_own():
    """As in ``sigprop.activations.function(..)`` after ``import sigprop`` alone."""
    names = sigprop._MODULES
    code = f"import sigprop\nfor name in {names!r}: getattr(sigprop, name).__all__"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(names) <= set(dir(sigprop))
