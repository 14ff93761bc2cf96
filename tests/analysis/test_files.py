import json

import numpy as np
import pytest

from analysis.files import replacing, write_json, write_text


def test_text_is_written_whole_and_nothing_else_is_left(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "ä\nb\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "ä\nb\n".encode()
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    write_text(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode == plain.stat().st_mode


def test_json_has_null_for_what_json_lacks_and_plain_numbers_for_numpy(tmp_path):
    content = {
        "a": float("nan"),
        "b": [np.float32(0.5), np.inf, np.int64(3), (1, np.nan)],
        73.0: np.array([1.0, np.nan]),
        "c": np.bool_(True),
        "d": None,
    }
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [0.5, None, 3, [1, None]],
        "73.0": [1.0, None],
        "c": True,
        "d": None,
    }
