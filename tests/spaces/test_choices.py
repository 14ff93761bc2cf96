from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces import Choices
from tests.spaces.conformance import SpaceConformance

VALUES = st.one_of(
    st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text())
)
OPTIONS = {"depth": [2, 4], "width": [16, 32, 64], "activation": ["relu", "gelu"], "fixed": [None]}


class TestConformance(SpaceConformance):
    @pytest.fixture
    def space(self):
        return Choices(**OPTIONS)


class Ascending(Choices):
    """Only choices that ascend."""

    name = "ascending"

    @property
    def size(self):
        return len(list(self.enumerate()))

    def are_valid(self, archs):
        return np.array([list(arch) == sorted(arch) for arch in archs], np.bool_)


class TestConformanceOfSomeProducts(SpaceConformance):
    @pytest.fixture
    def space(self):
        return Ascending(a=range(3), b=range(4), c=range(4))


class Impossible(Choices):
    def are_valid(self, archs):
        return np.zeros(len(archs), np.bool_)


class Apart(Choices):
    """Two architectures, two edits apart."""

    def are_valid(self, archs):
        return np.array([len(set(arch)) == 1 for arch in archs], np.bool_)


def test_an_architecture_without_neighbours_says_so():
    space = Apart(a=range(2), b=range(2))
    assert space.neighbours((0, 0)) == []
    with pytest.raises(UsageError, match="no edit leads from 0,0 to another of choices"):
        space.mutate((0, 0), np.random.default_rng(0))


def test_a_space_without_architectures_says_so():
    with pytest.raises(UsageError, match="hardly any architecture"):
        Impossible(a=range(3)).sample(np.random.default_rng(0), 1)


def test_size_and_enumeration():
    space = Choices(**OPTIONS)
    assert space.size == 12
    assert len(list(space.enumerate())) == 12


def test_values_keep_their_types():
    space = Choices(**OPTIONS)
    values = space.values((1, 2, 0, 0))
    assert values == {"depth": 4, "width": 64, "activation": "relu", "fixed": None}


def test_notation_is_the_choices_joined_by_commas():
    space = Choices(**OPTIONS)
    assert space.format((1, 2, 0, 0)) == "4,64,relu,None"
    assert space.parse("4,64,relu,None") == (1, 2, 0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4,64,relu", "it needs 4 comma-separated choices"),
        ("4,128,relu,None", "width can be 16, 32, 64, not '128'"),
    ],
)
def test_parse_says_what_is_legal(text, message):
    with pytest.raises(UsageError, match=message):
        Choices(**OPTIONS).parse(text)


@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_any_values_round_trip_or_are_refused(options, data):
    try:
        space = Choices(**{f"d{i}": values for i, values in enumerate(options)})
    except UsageError as error:
        assert "alike" in str(error)
        return
    arch = tuple(data.draw(st.integers(0, len(values) - 1)) for values in options)
    text = space.format(arch)
    assert space.parse(text) == space.parse(f" {text}\n") == arch
    assert len(text.splitlines()) <= 1
    chosen = [values[choice] for values, choice in zip(options, arch, strict=True)]
    assert list(space.values(arch).values()) == chosen


def test_commas_of_values_are_written_as_semicolons():
    space = Choices(kernel=[(3, 3), (5, 5)], width=[32])
    assert space.format((0, 0)) == "(3; 3),32"


@pytest.mark.parametrize("values", [[1, 1], [1, "1"], ["a,b", "a;b"], ["a", " a "]])
def test_values_of_one_text_are_refused(values):
    with pytest.raises(UsageError, match="writes two values of depth alike"):
        Choices(depth=values)


@pytest.mark.parametrize("options", [{}, {"depth": []}, {"depth": [1], "width": []}])
def test_empty_options_are_refused(options):
    with pytest.raises(UsageError, match="at least one"):
        Choices(**options)


def test_the_canonical_form_is_the_architecture_itself():
    space = Choices(**OPTIONS)
    assert all(space.canonical(arch) == arch for arch in space.enumerate())


def test_has_no_table():
    with pytest.raises(UsageError, match="benchmark=training"):
        Choices(**OPTIONS).table()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_neighbour_relation_is_symmetric(widths, random):
    space = Choices(**{f"d{i}": list(range(w)) for i, w in enumerate(widths)})
    arch = tuple(random.randrange(w) for w in widths)
    neighbours = space.neighbours(arch)
    assert len(neighbours) == sum(w - 1 for w in widths)
    assert all(arch in space.neighbours(n) for n in neighbours)
