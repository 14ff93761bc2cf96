import subprocess
import sys
import timeit

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


def test_a_name_of_assays_own_is_refused_from_the_first_line_on():
    code = """
from proxies import register, registry
for name in ("zen", "synaptic_flow", "vote"):
    try:
        @register(name, reads="synflow", paper="none")
        def mine(record):
            "Stand in for it."
    except ValueError as error:
        print(error)
@register("mine", reads="synflow", paper="none")
def mine(record):
    "Stand for itself."
print(len(registry.names()), registry.get("mine").function is mine, registry.get("zen").paper)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        *(f"there is already a proxy called '{n}'" for n in ("zen", "synaptic_flow", "vote")),
        f"{len(registry.names()) + 1} True {registry.get('zen').paper}",
    ]


@pytest.mark.parametrize("name", ["zen", "naswot_eval", "tse(epochs=3)", "synaptic_flow"])
def test_getting_a_proxy_takes_microseconds(name):
    assert registry.get(name) is registry.get(name)
    assert min(timeit.repeat(lambda: registry.get(name), number=100)) < 100 * 15e-6


def test_a_setting_that_must_be_given_is_told(scaled):
    @registry.register("strict", reads="weights", paper="none")
    def strict(record, *, factor: float):
        """Read nothing."""

    with pytest.raises(UsageError, match=r"proxy\.factor is missing"):
        registry.get("strict")
    assert registry.get("strict(factor=2.0)").settings == {"factor": 2.0}


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


# -- settings ---------------------------------------------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """A proxy with settings, registered for one test."""
    registry.names()
    for known in ("_PROXIES", "_NAMES", "_VARIANTS"):
        monkeypatch.setattr(registry, known, dict(getattr(registry, known)))

    @registry.register("scaled", reads="weights", paper="none", aliases=("stretched",))
    def scaled(record, *, factor: float = 2.0, term: str = "w", last: int | None = None):
        """Read nothing."""
        return factor

    return "scaled"


def test_settings_are_the_keyword_only_parameters(scaled):
    assert registry.get(scaled).settings == {"factor": 2.0, "term": "w", "last": None}
    assert registry.get("scaled(last=3)").settings == {"factor": 2.0, "term": "w", "last": 3}
    assert registry.get("synflow").settings == {}


def test_a_variant_is_a_proxy_of_its_own(scaled):
    plain, variant = registry.get(scaled), registry.get(scaled, factor=3.0)
    assert (plain.name, variant.name) == ("scaled", "scaled(factor=3.0)")
    assert (plain.function(None), variant.function(None)) == (2.0, 3.0)
    assert scaled in registry.names()
    assert variant.name not in registry.names()


@pytest.mark.parametrize(
    "name",
    [
        "scaled(last=3,term='a,(b)=\"c\"')",
        "stretched( term = 'a,(b)=\"c\"', last = 3 )",
        "scaled(factor=2.0,last=3,term='a,(b)=\"c\"')",
    ],
)
def test_one_name_for_the_same_settings(scaled, name):
    found = registry.get(name)
    assert found.name == "scaled(term='a,(b)=\"c\"',last=3)"
    assert registry.get(found.name) is found
    assert registry.get(scaled, last=3, term='a,(b)="c"') is found
    assert registry.canonical(name) == found.name


def test_settings_given_beside_a_name_come_first(scaled):
    assert registry.get("scaled(factor=3.0,last=1)", factor=4.0).name == "scaled(factor=4.0,last=1)"


def test_the_default_written_out_is_the_default(scaled):
    assert registry.get("scaled(factor=2,last=None)") is registry.get(scaled)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "scaled(factr=3)",
            "proxy.factr is no setting of proxy; its settings are: factor, term, last",
        ),
        ("scaled(factor='3')", "proxy.factor=3 must be a number"),
        ("scaled(last=1.5)", "proxy.last=1.5 must be a whole number or null"),
        ("scaled(3)", "proxy=scaled(3) cannot be read"),
        ("scaled(factor=3", "proxy=scaled(factor=3 cannot be read"),
        ("scaled(factor=open)", "cannot be read; write settings as in"),
        ("scaled(factor=3)(term='a')", "cannot be read"),
        ("scaled(**{'factor': 3})", "is no setting of proxy"),
        ("scaldd(factor=3)", "proxy=scaldd is unknown"),
        ("synflow(factor=3)", "proxy=synflow has no settings"),
        ("vote(factor=3)", "vote is an ensemble, without settings"),
    ],
)
def test_impossible_settings_are_told_in_one_sentence(scaled, name, sentence):
    with pytest.raises(UsageError) as caught:
        registry.canonical(name)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variant_survives_the_way_to_a_worker():
    import pickle

    variant = registry.get("tse(epochs=3,last=1)")
    arrived = pickle.loads(pickle.dumps(variant))
    assert arrived.name == variant.name
    assert arrived.settings == variant.settings


def test_the_example_of_settings_can_be_read():
    with pytest.raises(UsageError, match="write settings as in") as caught:
        registry.get("reduced_training(epochs)")
    example = str(caught.value).removesuffix(".").rpartition(" ")[2]
    assert registry.get(example).settings["batch_size"] == 32
