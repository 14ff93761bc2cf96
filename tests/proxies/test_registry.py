import subprocess
import sys

import pytest

from conf.errors import UsageError
from proxies import registry


def test_lists_every_proxy_with_a_line():
    assert registry.names() == sorted(registry.names())
    assert {"synflow", "params", "flops"} <= set(registry.names())
    lines = registry.describe()
    assert list(lines) == sorted([*registry.names(), *registry.ensembles()])
    assert all(line and "\n" not in line for line in lines.values())


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"proxy=synflwo is unknown; .*flops, .*synflow"):
        registry.get("synflwo")


def test_aliases_name_the_same_proxy():
    assert registry.get("synaptic_flow") is registry.get("synflow")
    assert "synaptic_flow" not in registry.names()


@pytest.mark.parametrize("name", ["synflow", "synaptic_flow"])
def test_duplicates_are_refused(name):
    registry.names()
    with pytest.raises(ValueError, match="already a proxy"):

        @registry.register(name, reads="synflow", paper="none")
        def again(record):
            """Do it again."""

    assert registry.get("synflow").function.__name__ == "synflow"


def test_a_proxy_without_docstring_is_refused():
    with pytest.raises(ValueError, match="docstring"):

        @registry.register("silent", reads="synflow", paper="none")
        def silent(record):
            return record

    assert "silent" not in registry.names()


def test_listing_and_importing_need_no_torch():
    code = (
        "import sys; import proxies; from proxies import registry, ScoringService, ProxyScorer;"
        "registry.describe(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
