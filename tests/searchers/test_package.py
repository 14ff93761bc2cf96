from __future__ import annotations

import subprocess
import sys

import pytest

import searchers


def test_importing_the_package_loads_no_searcher():
    code = (
        "import sys, searchers\n"
        "loaded = {'scipy', 'sklearn', 'torch', 'searchers.evolution', 'searchers.touchstone'}\n"
        "assert not loaded & set(sys.modules), loaded & set(sys.modules)\n"
        "from searchers import Evolution, search\n"
        "assert callable(search) and Evolution.edits\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", searchers.__all__)
def test_every_public_name_is_there(name):
    assert getattr(searchers, name).__name__ == name


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'Nonesuch'"):
        _ = searchers.Nonesuch


def test_names_of_searchers_are_listed_before_they_are_loaded():
    assert {"RandomSearch", "Touchstone", "search"} <= set(dir(searchers))
