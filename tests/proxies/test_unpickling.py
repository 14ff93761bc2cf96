import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxies import unpickling
from tests.proxies import pickles


@pytest.mark.parametrize("writer", pickles.WRITERS)
def test_arrays_lists_and_text_of_every_writer(tmp_path, writer):
    content = pickles.examples(3, 7, 5, 4)
    pickles.write(tmp_path / "file", content, writer)
    found = unpickling.load(tmp_path / "file")
    assert set(found) == {"data", "labels"}
    assert found["data"].dtype == np.uint8
    assert np.array_equal(found["data"], content["data"])
    assert found["labels"] == content["labels"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["u1", "<i8", ">i4", "f4", "?"])
@pytest.mark.parametrize("order", "CF")
def test_arrays_of_every_type_and_order(tmp_path, protocol, kind, order):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=kind, order=order)
    (tmp_path / "file").write_bytes(pickle.dumps({"a": array}, protocol))
    found = unpickling.load(tmp_path / "file")["a"]
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "function", [os.mkdir, exec, eval, getattr, __import__, np.memmap, np.load]
)
def test_nothing_that_a_pickle_names_is_run(tmp_path, monkeypatch, protocol, function):
    monkeypatch.chdir(tmp_path)
    text = "trap" if function is os.mkdir else "__import__('os').mkdir('trap')"
    (tmp_path / "file").write_bytes(pickle.dumps({"data": Calls(function, text)}, protocol))
    with pytest.raises(pickle.UnpicklingError, match=r"it names .*, which is no array of numbers"):
        unpickling.load(tmp_path / "file")
    assert not (tmp_path / "trap").exists()


def test_the_trap_is_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Calls(os.mkdir, "trap")))
    assert (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    "content",
    [
        np.array([os.mkdir], object),
        np.zeros(2, [("a", "u1")]),
        np.array(["text"]),
        np.array(["2020-01-01"], "datetime64[D]"),
    ],
    ids=["object", "record", "text", "date"],
)
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(pickle.dumps({"data": content}, 2))
    with pytest.raises(pickle.UnpicklingError, match=r"it names|not of numbers"):
        unpickling.load(tmp_path / "file")


def test_a_pickle_changes_no_later_one(tmp_path):
    """BUILD sets attributes: of what is found, it may set none that matter."""
    for name in (
        "numpy.core.multiarray\n_reconstruct",
        "numpy._core.numeric\n_frombuffer",
        "numpy\ndtype",
        "numpy\nndarray",
        "_codecs\nencode",
    ):
        for attribute in ("__code__", "__defaults__", "__setstate__", "fill", "values", "__doc__"):
            key = b"X" + struct.pack("<I", len(attribute)) + attribute.encode()
            for state in (b"(N}" + key + b"Nst", b"}" + key + b"Ns"):
                program = b"\x80\x02c" + name.encode() + b"\n" + state + b"b."
                (tmp_path / "bad").write_bytes(program)
                with pytest.raises(pickle.UnpicklingError, match="attribute"):
                    unpickling.load(tmp_path / "bad")
    test_arrays_lists_and_text_of_every_writer(tmp_path, "python2")


def test_an_array_longer_than_its_bytes_is_refused(tmp_path):
    pickles.write(tmp_path / "file", {"data": np.zeros((2, 3), np.uint8)})
    content = (tmp_path / "file").read_bytes()
    longer = content.replace(b"J\x03\x00\x00\x00\x86", b"J\x04\x00\x00\x00\x86")
    assert longer != content
    (tmp_path / "file").write_bytes(longer)
    with pytest.raises(pickle.UnpicklingError, match="cannot reshape"):
        unpickling.load(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x02]."])
def test_what_is_no_mapping_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(pickle.UnpicklingError) as caught:
        unpickling.load(tmp_path / "file")
    assert str(caught.value)


WHOLE = {
    writer: pickles.examples(0, 3, 3, 2) | {"writer": writer} for writer in ("python2", "protocol3")
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.floats(0, 1, exclude_max=True), st.binary(max_size=3))
def test_damage_is_refused_or_harmless(tmp_path_factory, writer, share, garbage):
    path = tmp_path_factory.mktemp("damage") / "file"
    pickles.write(path, WHOLE[writer], writer)
    content = path.read_bytes()
    at = int(share * len(content))
    path.write_bytes(content[:at])
    with pytest.raises(pickle.UnpicklingError):
        unpickling.load(path)
    path.write_bytes(content[:at] + garbage + content[at + len(garbage) :])
    try:
        assert isinstance(unpickling.load(path), dict)
    except pickle.UnpicklingError as error:
        assert "\n" not in str(error)


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        unpickling.load(tmp_path / "file")
