"""run_report.py from finished runs to the page, as a user calls it."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import run_report
from tests.analysis.synthetic import random_traces, write_run

ROOT = Path(run_report.__file__).parent
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, ids and references, and fails where tags do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.references.append(value)
            if "url(" in (value or ""):
                self.references += re.findall(r"url\(([^)]*)\)", value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multirun")
    for number, guidance in enumerate(("none", "warmup", "move", "warmup_move")):
        for searcher in ("random", "evolution"):
            write_run(
                folder / f"searcher={searcher},guidance={guidance}",
                random_traces(trials=6, mean=70 + number, seed=number),
                searcher=searcher,
                guidance=guidance,
                proxy="synflow",
                targets=(71.0, 72.5),
                overrides=[f"searcher={searcher}", f"guidance={guidance}", "note='<b> & it''s'"],
            )
    write_run(folder / "val only", random_traces(test=False), dataset="<cifar&10>")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "journal.jsonl").write_text("{}\n")
    return folder


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    assert run_report.main([str(runs), "--out", str(out), "--steps", "5,10"]) == 0
    return out


def test_the_report_files_are_there_and_no_others(report):
    names = sorted(path.relative_to(report).as_posix() for path in report.rglob("*.*"))
    stems = [
        *(f"nasbench201-cifar100-{p}" for p in ("test_of_best_val", "best_test_so_far")),
        *(f"nasbench201-cifar100-models_to_{t}" for t in ("71.0", "72.5")),
        *("nasbench201-cifar-10-best_val", "nasbench201-cifar-10-models_to_71.0"),
    ]
    figures = [f"figures/{stem}.{kind}" for stem in stems for kind in ("png", "svg")]
    assert names == sorted([*figures, "index.html", "table.csv", "table.md"])


def test_the_page_asks_for_nothing(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    assert "@import" not in text
    page = read(report / "index.html")
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert not {"link", "img", "iframe", "script"} & set(page.tags)


def test_ids_on_the_page_are_unique_and_every_reference_is_met(report):
    page = read(report / "index.html")
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)


def test_the_page_says_what_was_compared_and_how(report):
    page = read(report / "index.html")
    words = " ".join(" ".join(page.text).split())
    assert "9 runs, 52 trials, 1,560 trained models. Passed over: 1 unfinished" in words
    assert "the protocol to judge by" in words
    assert "This benchmark has validation values alone" in words
    assert "reaches 72.5 % first" in words
    assert "<cifar&10>" in words
    assert "Mean ranks" in words
    assert "Friedman's test" in words
    assert "python run_search.py searcher=random guidance=none" in words
    assert page.tags.count("svg") == 6
    assert page.tags.count("section") == 2


def test_tables_have_a_row_for_each_run(report):
    assert len((report / "table.csv").read_text().splitlines()) == 1 + 9
    assert (report / "table.md").read_text().count(" | random | ") == 5


def test_the_command_prints_its_table_and_warns_on_the_other_stream(runs, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "run_report.py", runs, "--out", tmp_path / "report"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "evolution + warmup" in done.stdout
    assert "test of best val" in done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("warning: passed over")
    assert "unfinished" in done.stderr


def test_a_second_report_replaces_the_first_and_leaves_other_files(runs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "index.html").write_text("old")
    assert run_report.main([str(runs), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "index.html").read_text() != "old"


def test_nothing_to_report_is_one_sentence_and_status_2(tmp_path, capsys):
    empty, out = tmp_path / "empty", tmp_path / "report"
    empty.mkdir()
    for place in (empty, tmp_path / "nowhere"):
        assert run_report.main([str(place), "--out", str(out)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert str(place) in printed.err
    assert not out.exists()


def test_only_damaged_runs_is_status_2_and_says_what_is_wrong(tmp_path, capsys):
    folder = write_run(tmp_path / "run", random_traces())
    (folder / "summary.json").write_text("{")
    assert run_report.main([str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "summary.json is damaged" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_status_2(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_report.main([str(runs), "--out", str(tmp_path / "file")]) == 2
    assert "--out=" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["0", "-5", "ten", "10,x"])
def test_impossible_steps_are_status_2(runs, steps, capsys):
    with pytest.raises(SystemExit) as stop:
        run_report.main([str(runs), f"--steps={steps}"])
    assert stop.value.code == 2
    assert "give positive numbers of trained models" in capsys.readouterr().err


def test_help_needs_no_heavy_import():
    code = (
        "import sys, run_report\n"
        "try: run_report.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'matplotlib', 'scipy', 'torch', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
