"""``python -m proxies.store`` on stores of a few rows."""

import json
import math
import subprocess
import sys

import pytest

from proxies.store import Row, Shipped, default_path, open_store
from proxies.store.__main__ import main
from proxies.store.base import encode

KEYS = [
    {"network": {"space": "one", "classes": 10}, "proxy": "snip", "version": 1, "seed": 0},
    {"network": {"space": "one", "classes": 10}, "proxy": "snip", "version": 2, "seed": 0},
    {"network": {"space": "two", "classes": 10}, "proxy": "params", "version": 1},
    {
        "network": {"space": "two"},
        "proxy": "grasp(n=1,m=2)",
        "version": 1,
        "seed": 1,
        "batch": "ab",
    },
]
ROWS = {"a": Row(1 / 3, 0.5), "b": Row(math.nan, 1.5, "RuntimeError: no [bold] luck")}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """One's own store: the default one."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("COLUMNS", "120")
    with open_store() as store:
        for key in KEYS:
            store.put_many(store.context(key), ROWS)
    return default_path()


@pytest.fixture
def run(capsys):
    """Run a command that must succeed, and return what it prints."""

    def finish(*arguments):
        assert main([str(a) for a in arguments]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        return printed.out

    return finish


@pytest.fixture
def refused(capsys):
    """Run a command that must end in one sentence and status 2."""

    def finish(*arguments):
        assert main([str(a) for a in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err

    return finish


def content(address):
    with open_store(address) as store:
        return {
            encode(context.key): {
                arch: repr(row) for arch, row in store.get_many(context.number).items()
            }
            for context in store.contexts()
        }


def test_show_has_a_line_for_each_context(run, own):
    lines = run("show").splitlines()
    assert lines[-1] == "8 scores of 4 contexts"
    (line,) = (line for line in lines if "grasp" in line)
    assert line.split() == [
        "two",
        "-",
        "grasp(n=1,m=2)",
        "1",
        "-",
        "-",
        "1",
        "ab",
        "2",
        "1",
        "1e+03",
    ]
    assert run("show", own) == run("show")


def test_show_cuts_nothing_off(run, own, monkeypatch):
    name = f"reduced_training({','.join(f'setting{n}={n}' for n in range(20))})"
    with open_store(own) as store:
        store.put_many(store.context({"proxy": name, "batch": "0123456789abcdef"}), ROWS)
    monkeypatch.setenv("COLUMNS", "40")
    (line,) = (line for line in run("show").splitlines() if "reduced_training" in line)
    assert line.split() == ["-", "-", name, "-", "-", "-", "-", "01234567", "2", "1", "1e+03"]


@pytest.mark.parametrize(
    "picking,count",
    [
        ("--space=one", 2),
        ("--space=two,one", 4),
        ("--proxy=snip", 2),
        ("--proxy=snip,params --version=1", 2),
        ("--proxy=grasp", 1),
        ("--seed=0", 2),
        ("--batch=a", 1),
    ],
)
def test_contexts_are_picked_by_all_options_at_once(run, picking, count):
    assert f"{2 * count} scores of {count} context" in run("show", *picking.split())


def test_show_as_json_has_whole_keys(run):
    contexts = [json.loads(line) for line in run("show", "--json").splitlines()]
    assert [context["key"] for context in contexts] == KEYS
    assert {(c["scores"], c["failed"], c["seconds"]) for c in contexts} == {(2, 1, 1.0)}


def test_export_makes_a_table_that_can_be_shown_and_merged(run, own, tmp_path):
    out = tmp_path / "new" / "scores.npz"
    printed = run("export", "--out", out, "--space=one,two", "--command", "run_score.py archs=2")
    assert printed.startswith(f"8 scores of 4 contexts -> {out}")
    with Shipped(out) as shipped:
        assert shipped.about["command"] == "run_score.py archs=2"
        assert {"assay", "python", "torch"} <= set(shipped.about["versions"])
    assert run("show", out) == run("show")
    run("merge", out, "--into", tmp_path / "back.sqlite")
    rows = {arch: repr(row._replace(seconds=1.0)) for arch, row in ROWS.items()}
    assert content(tmp_path / "back.sqlite") == {encode(key): rows for key in KEYS}


def test_export_of_a_part(run, tmp_path):
    run("export", "--out", tmp_path / "scores.npz", "--proxy=grasp")
    with Shipped(tmp_path / "scores.npz") as shipped:
        assert [context.key for context in shipped.contexts()] == [KEYS[3]]


def test_merge_adds_what_is_missing_and_says_what_differs(run, own, tmp_path):
    other = tmp_path / "other.sqlite"
    with open_store(other) as store:
        rows = {"a": Row(0.5, 9.0), "b": ROWS["b"], "c": Row(2.0, 1.0)}
        store.put_many(store.context(KEYS[0]), rows)
        store.put_many(store.context({"proxy": "new"}), ROWS)
    before = content(own)
    printed = run("merge", other)
    assert printed == (
        f"3 scores added to {own}; 2 were there already, 1 of them with another value, "
        "which stays.\n"
    )
    after = content(own)
    new = after.pop(encode({"proxy": "new"}))
    assert set(new) == {"a", "b"}
    assert after[encode(KEYS[0])].pop("c") == repr(Row(2.0, 1.0))
    assert after == before


def test_merge_of_many_into_a_new_store(run, own, tmp_path):
    other = tmp_path / "other.sqlite"
    with open_store(other) as store:
        store.put_many(store.context({"proxy": "new"}), ROWS)
    run("merge", own, other, "--into", tmp_path / "deep" / "all.sqlite")
    assert content(tmp_path / "deep" / "all.sqlite") == content(own) | content(other)
    part = run("merge", own, "--into", tmp_path / "part.sqlite", "--space=one")
    assert part.startswith("4 scores added")


def test_prune_says_what_it_would_delete_and_deletes_with_yes(run, own):
    before = content(own)
    printed = run("prune", "--proxy=snip", "--version=1")
    assert f"2 scores of 1 context would be deleted from {own}; repeat with --yes." in printed
    assert content(own) == before
    assert "2 scores of 1 context deleted" in run("prune", "--proxy=snip", "--version=1", "--yes")
    del before[encode(KEYS[0])]
    assert content(own) == before


def test_prune_needs_to_know_what(refused, own, tmp_path):
    before = own.read_bytes()
    message = refused("prune", "--yes")
    assert "give one or more of: --space, --proxy, --version, --init, --seed, --batch." in message
    assert own.read_bytes() == before


def test_prune_leaves_a_shipped_table_alone(run, refused, tmp_path):
    out = tmp_path / "scores.npz"
    run("export", "--out", out)
    before = out.read_bytes()
    assert "only read" in refused("prune", out, "--proxy=snip", "--yes")
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    "command", ["show", "merge", "prune --proxy=snip --yes", "export --out=x.npz"]
)
@pytest.mark.parametrize(
    "kind", ["missing.sqlite", "missing.npz", "text.sqlite", "text.npz", "folder"]
)
def test_missing_and_foreign_files_are_refused(refused, command, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("text.sqlite", "text.npz"):
        (tmp_path / name).write_text("these are no scores" * 100)
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert kind in refused(*command.split(), kind)
    assert sorted(p for p in tmp_path.rglob("*") if "own" not in p.parts) == sorted(
        p for p in before if "own" not in p.parts
    )


@pytest.mark.parametrize(
    "command", ["show {own}", "merge {own}", "prune {own}", "export {own} --out=x.npz"]
)
def test_nothing_to_work_on_is_a_mistake(refused, own, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(*command.format(own=own).split(), "--proxy=synflow,zen", "--version=1")
    assert "there are no scores of --proxy=synflow,zen --version=1" in message
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    "picking",
    ["--batch=b", "--space=one --proxy=params", "--proxy=synflwo", "--seed=abc", "--version=x"],
)
def test_show_refuses_what_nothing_meets(refused, own, picking):
    assert f"there are no scores of {picking}" in refused("show", own, *picking.split())


def test_impossible_places_for_a_table(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "must end in .npz" in refused("export", "--out", tmp_path / "scores.sqlite")
    assert "cannot be written" in refused("export", "--out", tmp_path / "file" / "scores.npz")


def test_help_needs_no_heavy_import():
    code = (
        "import sys\nfrom proxies.store.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'sqlalchemy', 'torch', 'rich', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "{" not in done.stdout
    assert all(name in done.stdout for name in ("show", "export", "merge", "prune"))
    assert done.stdout.splitlines()[-1] == "[]"
