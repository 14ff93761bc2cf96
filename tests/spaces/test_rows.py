from __future__ import annotations

import pickle

import numpy as np
import pytest

from conf.errors import UsageError
from spaces import Choices
from spaces.rows import check_epochs, find_rows, read_columns, unknown_times

SPACE = Choices(depth=[1, 2], width=[16, 32, 64])
LISTED = np.array([(1, 2), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, test=np.arange(6.0), seeds=np.ones((6, 3), int), names=np.array(list("abcdef")))
    return path


def test_rows_of_architectures(file):
    rows = find_rows(SPACE, LISTED, file, "ops")
    assert rows([(0, 0), (1, 2), (0, 0)]).tolist() == [1, 0, 1]
    assert rows([tuple(a) for a in LISTED]).tolist() == list(range(6))
    assert rows([]).tolist() == []
    assert pickle.loads(pickle.dumps(rows))([(0, 2)]).tolist() == [3]


@pytest.mark.parametrize(
    "change",
    [
        lambda listed: listed[:-1],
        lambda listed: listed[:, :1],
        lambda listed: listed[:, [0, 1, 1]],
        lambda listed: listed + 1,
        lambda listed: listed - 1,
        lambda listed: listed[[0, 1, 2, 3, 4, 4]],
    ],
)
def test_each_architecture_must_be_listed_once(file, change):
    with pytest.raises(UsageError, match=r"own\.npz .*: ops must list each of 6 architectures onc"):
        find_rows(SPACE, change(LISTED), file, "ops")


def test_columns(file):
    columns = read_columns(file, 6, {"seeds": 3, "test": None})
    assert set(columns) == {"seeds", "test"}
    np.testing.assert_array_equal(columns["test"], np.arange(6))


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (6, {"val": None, "test": None, "time": None}, r"own\.npz .*: it lacks val, time"),
        (7, {"test": None}, r"test has the shape \(6,\)"),
        (6, {"test": 3}, r"test has the shape \(6,\)"),
        (6, {"seeds": None}, r"seeds has the shape \(6, 3\)"),
        (6, {"seeds": 2}, r"seeds has the shape \(6, 3\)"),
        (6, {"names": None}, "names is of type <U1"),
    ],
)
def test_wrong_columns_are_refused(file, rows, columns, message):
    with pytest.raises(UsageError, match=message):
        read_columns(file, rows, columns)


def test_epochs():
    assert check_epochs(None, [90]) == check_epochs(90, [90]) == 90
    assert check_epochs(None, {90, 108, 12}) == 108
    with pytest.raises(UsageError, match=r"epochs=1 is not in the table; choose one of: 12, 90\."):
        check_epochs(1, {90, 12})
    with pytest.raises(
        UsageError, match=r"^benchmark\.epochs=12 is not in the table; choose 90\.$"
    ):
        check_epochs(12, [90])


def test_unknown_times_are_nan():
    times = unknown_times(4)
    assert times.shape == (4,)
    assert times.dtype == np.float32
    assert np.isnan(times).all()
