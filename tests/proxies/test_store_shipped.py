"""Scores that come with a space."""

import importlib
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import UsageError
from proxies import ScoringService, registry
from proxies.batch import gaussian
from proxies.store import Row, Shipped, open_store
from proxies.store.shipped import export, table_of
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.cell import CELLS
from tests.proxies.tiny_space import TinySpace

ROWS = {
    "a": Row(1 / 3, 0.5),
    "b": Row(7.7e61, 0.5),
    "c": Row(math.nan, 0.5, "RuntimeError: it's broken"),
    "ü|~0|": Row(-0.0, 0.5),
}
TABLES = [
    ({"network": {"space": "s"}, "proxy": "one", "seed": 0}, ROWS),
    ({"network": {"space": "s"}, "proxy": "one", "seed": 1}, ROWS | {"d": Row(2.0, 0.5)}),
    ({"network": {"space": "s"}, "proxy": "two"}, {k: Row(5e-324, 1.5) for k in ROWS}),
]
ALL = list(TinySpace().enumerate())


def written(path, tables=TABLES):
    export(tables, path, command="the command", versions={"assay": "1"})
    return path


def exact(rows):
    return {k: (float.hex(r.value), *r[1:]) for k, r in rows.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return written(tmp_path_factory.mktemp("table") / "scores.npz")


def test_rows_come_back_as_they_were(table):
    with Shipped(table) as shipped:
        for number, (key, rows) in enumerate(TABLES):
            assert exact(shipped.rows(dict(reversed(key.items())))) == exact(rows)
            assert exact(shipped.get_many(number)) == exact(rows)
            assert exact(shipped.get_many(number, ["c", "x"])) == exact({"c": rows["c"]})
        assert shipped.rows({"proxy": "one"}) == {}
        assert shipped.about["command"] == "the command"
        assert shipped.about["versions"] == {"assay": "1"}
        assert [tuple(context)[2:] for context in shipped.contexts()] == [
            (4, 1, 0.5),
            (5, 1, 0.5),
            (4, 0, 1.5),
        ]


def test_seconds_are_means(tmp_path):
    rows = {"a": Row(1.0, 1.0), "b": Row(2.0, 4.0)}
    shipped = Shipped(written(tmp_path / "scores.npz", [({}, rows)]))
    assert shipped.rows({}) == {"a": Row(1.0, 2.5), "b": Row(2.0, 2.5)}


def test_equal_lists_of_architectures_are_kept_once(table):
    with np.load(table, allow_pickle=False) as file:
        assert sum(name.startswith("architectures/") for name in file.files) == 2


def test_the_same_scores_make_the_same_file(table, tmp_path):
    assert written(tmp_path / "again.npz").read_bytes() == table.read_bytes()


def test_a_failed_export_leaves_the_old_file(table, tmp_path):
    path = written(tmp_path / "scores.npz")
    with pytest.raises(TypeError):
        written(path, [*TABLES, ({"proxy": object()}, ROWS)])
    assert [p.name for p in tmp_path.iterdir()] == ["scores.npz"]
    assert path.read_bytes() == table.read_bytes()


@pytest.mark.parametrize("kind", ["text", "array", "other", "missing", "folder"])
def test_a_file_of_another_kind_is_refused(kind, tmp_path):
    path = tmp_path / "scores.npz"
    if kind == "text":
        path.write_text("these are no scores")
    elif kind == "array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "other":
        np.savez(path, ops=np.ones(3))
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(UsageError, match=r"scores\.npz (cannot be read|does not exist)") as caught:
        Shipped(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_as_it_was(table, tmp_path_factory, data):
    content = bytearray(table.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "scores.npz"
    path.write_bytes(content)
    try:
        shipped = Shipped(path)
        found = [shipped.rows(key) for key, _ in TABLES]
        shipped.contexts()
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert [exact(rows) for rows in found] == [exact(rows) for _, rows in TABLES]


def test_a_search_does_not_wait_for_it(tmp_path):
    space, values = NASBench201(), np.random.default_rng(0).normal(size=(30, 5044)).tolist()
    names = [space.format(cell) for cell in sorted(set(map(space.canonical, CELLS)))]
    tables = [
        ({"proxy": str(n)}, {a: Row(v, 1.0) for a, v in zip(names, row, strict=True)})
        for n, row in enumerate(values)
    ]
    path = written(tmp_path / "scores.npz", tables)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        shipped = Shipped(path)
        rows = shipped.rows({"proxy": "7"})
        times.append(time.perf_counter() - began)
        shipped.close()
    assert exact(rows) == exact(tables[7][1])
    assert min(times) < 0.05
    assert path.stat().st_size < 30 * 5044 * 8 + 50_000


# -- with a space ----------------------------------------------------------------------------


@pytest.fixture
def space(tmp_path, monkeypatch):
    """Make a space in a package of its own, and the scores that two proxies give it."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "space.py").write_text(
        "from tests.proxies.tiny_space import TinySpace\nclass Mine(TinySpace): name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = importlib.import_module("mine.space").Mine()
    service = ScoringService(found, store=tmp_path / "own.sqlite")
    assert table_of(found) is None
    service.score(ALL, ["synflow", "params"])
    with open_store(tmp_path / "own.sqlite") as store:
        tables = [(c.key, store.get_many(c.number)) for c in store.contexts()]
    written(package / "scores.npz", tables)
    yield found
    for name in ("mine", "mine.space"):
        del sys.modules[name]


def test_a_space_finds_its_table(space, tmp_path):
    assert table_of(space) == tmp_path / "mine" / "scores.npz"
    service = ScoringService(space, store="memory")
    table = service.score(ALL, ["synflow", "params"])
    assert service.computed == 0
    assert service.hits == service.shipped_hits == 2 * len(ALL)
    own = ScoringService(space, store=tmp_path / "own.sqlite")
    assert np.array_equal(own.score(ALL, ["synflow", "params"]).values, table.values)
    assert own.mean_seconds("synflow") == pytest.approx(service.mean_seconds("synflow"))
    assert (
        service.account()
        == f"0 scores computed, 0 from the store, {2 * len(ALL)} shipped with mine"
    )
    service.values(ALL[:5], "params")
    assert service.shipped_hits == 2 * len(ALL) + 5
    service.close()


def test_ones_own_store_comes_first(space, tmp_path):
    own = ScoringService(space, store=tmp_path / "own.sqlite")
    own.score(ALL, ["synflow"])
    assert (own.hits, own.shipped_hits) == (len(ALL), 0)
    assert own.account() == f"0 scores computed, {len(ALL)} from the store"
    store = open_store(tmp_path / "other.sqlite")
    key = own.key(registry.get("params"))
    store.put_many(store.context(key), {space.format(ALL[3]): Row(-1.0, 0.1)})
    both = ScoringService(space, store=tmp_path / "other.sqlite")
    values = both.values(ALL, "params")
    assert values[3] == -1
    assert (values[:3] > 0).all()
    assert (both.hits, both.shipped_hits, both.computed) == (len(ALL), len(ALL) - 1, 0)


def test_shipped_scores_are_only_read(space, tmp_path):
    path = tmp_path / "mine" / "scores.npz"
    before = path.read_bytes()
    service = ScoringService(space, store=tmp_path / "new.sqlite")
    service.values(ALL, "synflow")
    service.values(ALL, "flops")
    assert service.shipped_hits == len(ALL)
    assert service.computed == len(ALL)
    assert path.read_bytes() == before
    assert [c.key["proxy"] for c in service.store.contexts()] == ["flops"]
    assert sorted(p.name for p in path.parent.glob("*.*")) == [
        "__init__.py",
        "scores.npz",
        "space.py",
    ]


@pytest.mark.parametrize("other", [{"seed": 1}, {"running_stats": True}, {"shipped": False}])
def test_other_settings_do_not_find_it(space, other):
    service = ScoringService(space, store="memory", **other)
    service.values(ALL[-1:], "synflow")
    assert (service.computed, service.shipped_hits) == (1, 0)


def test_a_proxy_that_reads_data_is_found_by_its_minibatch(space, tmp_path):
    def service(seed, store="memory"):
        return ScoringService(space, store=store, batch=lambda s: gaussian(s, size=4, seed=seed))

    made = service(0, tmp_path / "data.sqlite")
    made.values(ALL[-4:], "snip")
    context = made.store.contexts()[0]
    written(tmp_path / "mine" / "scores.npz", [(context.key, made.store.get_many(context.number))])
    for seed, computed in ((0, 0), (1, 4)):
        again = service(seed)
        again.values(ALL[-4:], "snip")
        assert again.computed == computed


def test_what_is_shipped_needs_no_torch(space, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from proxies import ScoringService
from mine.space import Mine
service = ScoringService(Mine(), store="memory")
service.score(list(Mine().enumerate()), ["synflow", "params"])
assert service.computed == 0 and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_space_outside_a_package_has_none(tmp_path, monkeypatch):
    (tmp_path / "lonely.py").write_text(
        "from tests.proxies.tiny_space import TinySpace\nclass Lonely(TinySpace): pass\n"
    )
    (tmp_path / "scores.npz").write_text("of another program")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert table_of(importlib.import_module("lonely").Lonely()) is None
    del sys.modules["lonely"]
