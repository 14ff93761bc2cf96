"""Run the command lines as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conf import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A store of scores shared by the commands of one test session, empty at first."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def command(cache, tmp_path):
    """Start a script of the project in a directory of its own."""

    def start(script: str, *arguments: str, **options) -> subprocess.Popen[str]:
        environment = os.environ | {"ASSAY_CACHE": str(cache), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, str(ROOT / script), *arguments],
            cwd=tmp_path,
            env=environment | options.pop("env", {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(command):
    """Run a script to its end and return it with ``stdout`` and ``stderr`` as text."""

    def finish(script: str, *arguments: str, status: int = 0, **options):
        process = command(script, *arguments, **options)
        out, err = process.communicate(timeout=280)
        assert process.returncode == status, out + err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return finish


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run a command in this process that must end in one sentence and leave nothing behind."""

    def finish(task, config: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("sys.argv", [config, "hydra.run.dir=run", *arguments])
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(SystemExit) as caught:
            app.run(task, config)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        after = {path for path in tmp_path.iterdir() if path.name != "cache"}
        assert after == set(before), "something half-written was left"
        assert all(path.read_bytes() == content for path, content in before.items())
        return error

    return finish
