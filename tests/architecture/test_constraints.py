"""Every package that the tests pull in is pinned, once."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sigprop

ROOT = Path(sigprop.__file__).parents[1]


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(len(r.specifier) == 1 and "==" in str(r.specifier) for r in requirements)
    return [canonicalize_name(r.name) for r in requirements]


def pulled(name, extras, found):
    """Add the names of all that an installed package requires, directly or not."""
    for text in metadata.requires(name) or ():
        need = Requirement(text)
        wanted = any(need.marker.evaluate({"extra": e}) for e in extras) if need.marker else True
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if wanted and key not in found:
            found.add(key)
            try:
                pulled(need.name, ("", *need.extras), found)
            except metadata.PackageNotFoundError:
                continue  # not needed on this machine, or named by another build of it
    return found


def test_no_package_is_pinned_twice():
    names = pinned()
    assert len(names) == len(set(names))


def test_every_package_of_the_tests_is_pinned():
    ours = canonicalize_name("sigprop")
    names = {name for name, _ in pulled("sigprop", ("", "test"), set())} - {ours}
    here = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    assert len(names) > 50
    assert sorted(names & here - set(pinned())) == []
