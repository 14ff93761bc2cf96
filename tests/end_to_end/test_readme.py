"""The commands and code of README and docs are true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import run_score
import run_search
from conf import app
from proxies import registry

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Every indented or inline ``python run_search.py`` and ``run_score.py`` line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"(?:^ {4}|`)python (run_(?:search|score)\.py [^\n`]*)", text, re.M)
    return list(dict.fromkeys(" ".join(c.split("#")[0].split()) for c in found))


def blocks() -> list[str]:
    return [
        block
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    ]


def test_there_are_commands_and_code_to_test():
    assert len(commands()) > 5
    assert len(blocks()) >= 2


@pytest.mark.parametrize("command", commands())
def test_every_command_composes(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    script, *arguments = shlex.split(command)
    task = {"run_search.py": run_search.search, "run_score.py": run_score.score}[script]
    if "-m" in arguments:  # --cfg shows one job: the first of the sweep
        arguments = [a if "[" in a else a.split(",")[0] for a in arguments if a != "-m"]
    monkeypatch.setattr("sys.argv", [script, *arguments, "--cfg", "job"])
    app.run(task, {"run_search.py": "config", "run_score.py": "score"}[script])
    assert "space:" in capsys.readouterr().out or "--list" in arguments


@pytest.mark.parametrize("block", blocks())
def test_every_block_of_code_runs(block, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    registry.names()
    for known in ("_PROXIES", "_NAMES"):  # what a block registers, it registers for itself
        monkeypatch.setattr(registry, known, dict(getattr(registry, known)))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    exec(compile(block, "README", "exec"), {"__name__": "readme"})
